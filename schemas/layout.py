"""Where a table's files lie, and which version of it is current.

::

    OUT/captions/current.json                  {"version": "v-1a2b3c4d5e6f"}
    OUT/captions/v-1a2b3c4d5e6f/version.json   what made this version: fingerprint fields, counts
    OUT/captions/v-1a2b3c4d5e6f/plan.parquet   the keys of every shard (generated tables)
    OUT/captions/v-1a2b3c4d5e6f/claims/        who is at which shard, while somebody is; for writers only
    OUT/captions/v-1a2b3c4d5e6f/bills/         what each run cost; read by status only
    OUT/captions/v-1a2b3c4d5e6f/aside/         damaged files that repair moved away; no reader looks there
    OUT/captions/v-1a2b3c4d5e6f/shard-00000.marker.json, and the Parquet files that the marker names
    OUT/captions/v-1a2b3c4d5e6f/shard-00000.retry-01.marker.json, the same for a retry of its failures
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from schemas.tables import TABLES

CURRENT = "current.json"
VERSION_FILE = "version.json"
PLAN_FILE = "plan.parquet"
CLAIMS_DIR = "claims"
MARKER_SUFFIX = ".marker.json"
_VERSION = re.compile(r"v-[0-9a-f]{12}")
_MARKER = re.compile(r"shard-(\d{5,})(?:\.retry-(\d{2,}))?\.marker\.json")


class TableError(Exception):
    """A table cannot be opened; the message names the file and the remedy."""


class NoSuchTable(TableError):
    """The output folder holds no such table yet."""


class CorruptVersion(TableError):
    """A file that names or describes a version is damaged."""


def table_dir(out: str | Path, table: str) -> Path:
    """Return the folder of a table.

    Raises:
        TableError: ``table`` is not a table of the contract.
    """
    if table not in TABLES:
        raise TableError(f"no table {table!r}; the tables are {', '.join(TABLES)}")
    return Path(out) / table


def version_name(fingerprint: str) -> str:
    """Return the folder name of the version with this fingerprint (64 hex digits)."""
    return f"v-{fingerprint[:12]}"


def shard_name(shard: int) -> str:
    """Return the stem of a shard's files."""
    return f"shard-{shard:05d}"


def marker_path(version: Path, shard: int, retry: int = 0) -> Path:
    """Return where the marker of a shard lies, or that of a retry of its failures, counted from 1."""
    attempt = f".retry-{retry:02d}" if retry else ""
    return version / f"{shard_name(shard)}{attempt}{MARKER_SUFFIX}"


def shard_number(name: str) -> int | None:
    """Return the number of the shard that a marker's file name belongs to; None for other names."""
    match = _MARKER.fullmatch(name)
    return int(match[1]) if match else None


def list_attempts(version: Path) -> dict[int, dict[int, Path]]:
    """Return the marker files of a version: shard number, in order, to round to path; round 0 is no retry.

    The folder is listed once: a stat per shard would take minutes on a network file system.
    """
    found: dict[int, dict[int, Path]] = {}
    with os.scandir(version) as entries:
        for entry in entries:
            match = _MARKER.fullmatch(entry.name)
            if match is not None:
                found.setdefault(int(match[1]), {})[int(match[2] or 0)] = version / entry.name
    return dict(sorted(found.items()))


def list_versions(out: str | Path, table: str) -> list[Path]:
    """Return the folders of every version of a table, oldest name first."""
    folder = table_dir(out, table)
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if _VERSION.fullmatch(p.name) and p.is_dir())


def current_version(out: str | Path, table: str) -> Path:
    """Return the folder of a table's current version.

    Raises:
        NoSuchTable: There is none.
        CorruptVersion: ``current.json`` is damaged or names a folder that is not there.
    """
    folder = table_dir(out, table)
    pointer = folder / CURRENT
    if not pointer.exists():
        raise NoSuchTable(f"{folder}: no table {table!r} here yet ({CURRENT} is missing)")
    name = read_json(pointer).get("version")
    if not isinstance(name, str) or not _VERSION.fullmatch(name) or not (folder / name).is_dir():
        versions = ", ".join(p.name for p in list_versions(out, table)) or "none"
        raise CorruptVersion(
            f"{pointer}: names version {name!r}, which is not there; versions here: {versions}. "
            f"Run the command that writes {table!r} again, or write one of them into {pointer.name}"
        )
    return folder / name


def read_version(version: Path) -> dict[str, Any]:
    """Return the description of a version (``version.json``).

    Raises:
        CorruptVersion: The file is missing or damaged.
    """
    return read_json(version / VERSION_FILE)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CorruptVersion: The file cannot be read, or is not a JSON object; the message names it.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CorruptVersion(f"{path}: the file is missing") from error
    except (OSError, ValueError) as error:
        raise CorruptVersion(f"{path}: cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise CorruptVersion(f"{path}: not a JSON object")
    return value
