"""Files that are whole or absent, whenever the process dies."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEMPORARY_PREFIX = ".tmp-"


def fsync_file(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk; best effort, since some network file systems refuse it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256(path: Path) -> str:
    """Return the hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Return values with None for NaN and infinity, for which JSON has no name."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file, replacing what stood there in one step."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a small text file, replacing what stood there in one step."""
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}"
    temporary.write_text(text, encoding="utf-8")
    fsync_file(temporary)
    os.replace(temporary, path)
    fsync_folder(path.parent)
