"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

_TEMPORARY = ".tmp-"
_STALE_SECONDS = 3600.0


@contextlib.contextmanager
def placed(target: Path) -> Iterator[Path]:
    """Yield a path to write to; on success the file is flushed and renamed to ``target``.

    The temporary name is unique and hidden, so that several writers never meet and what a killed one leaves
    is never taken for the file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.parent / f"{_TEMPORARY}{uuid.uuid4().hex}-{target.name}"
    try:
        yield path
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(path, target)
        _flush_folder(target.parent)
    finally:
        path.unlink(missing_ok=True)


def remove_stale(folder: Path, pattern: str) -> None:
    """Remove what killed writers of files named like the glob ``pattern`` left.

    Only files untouched for an hour: a younger one may belong to a writer on another machine.
    """
    for path in folder.glob(f"{_TEMPORARY}*-{pattern}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()


def _flush_folder(folder: Path) -> None:
    # Some network file systems cannot open or flush a folder; they order renames themselves.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
