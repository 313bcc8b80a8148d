"""The files of a version's folder: what belongs to an attempt, what is left over, what has no place there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.shards.atomic import TEMPORARY_PREFIX
from schemas import layout

ASIDE = "aside"
"""Folder inside a version that ``repair`` moves files to; nothing reads it."""

_ATTEMPT = re.compile(r"(?:shard|failures|quarantined)-(\d{5,})(?:-[0-9a-f]{8})?\.parquet")


def file_names(version: Path) -> list[str]:
    """Return the names of the files in a version's folder, sorted; folders in it are left out."""
    with os.scandir(version) as entries:
        return sorted(entry.name for entry in entries if not entry.is_dir(follow_symlinks=False))


def shard_of(name: str) -> int | None:
    """Return the shard that a data file was written for; None when the name is not one of a data file."""
    match = _ATTEMPT.fullmatch(name)
    return int(match[1]) if match else None


def is_leftover(name: str) -> bool:
    """Return whether a file that nothing names is what a stopped attempt leaves behind."""
    written = shard_of(name) is not None or layout.shard_number(name) is not None
    return written or name.startswith(TEMPORARY_PREFIX) or ".invalid-" in name


def is_known(name: str) -> bool:
    """Return whether a file has a place in every version, or belongs to the file system (a hidden one)."""
    hidden = name.startswith(".") and not name.startswith(TEMPORARY_PREFIX)
    return hidden or name in (layout.PLAN_FILE, layout.VERSION_FILE)


def unnamed(names: Iterable[str], named: set[str]) -> tuple[list[str], list[str]]:
    """Return the leftovers and the files that have no place, among files that no marker in force names."""
    others = [name for name in names if name not in named and not is_known(name)]
    return [name for name in others if is_leftover(name)], [name for name in others if not is_leftover(name)]
