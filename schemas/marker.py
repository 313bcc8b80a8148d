"""The commit marker: a shard exists when its marker exists and holds true.

A marker is a small JSON file beside the data files it names. It is written last, so a reader that goes by
markers never sees half a shard.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MARKER_VERSION = 1


class MarkerError(Exception):
    """A marker is damaged or disagrees with the files it names: the attempt counts as not done.

    Attributes:
        path: The file at fault, the marker or one that it names.
        what: What is wrong with it.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path, self.what = path, what


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A data file that a marker vouches for.

    Attributes:
        name: File name inside the version's folder.
        rows: Rows in the file.
        size: Size in bytes.
        sha256: Hex digest of the file's bytes.
    """

    name: str
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What a committed shard holds.

    Attributes:
        table: Name of the table.
        shard: Number of the shard.
        fingerprint: 64 hex digits that name the version (what made the rows).
        schema_version: Version of the table's schema.
        schema_hash: Hash of the table's columns and types.
        planned: Keys planned for the shard; equals ``rows + failures + quarantined``.
        rows: Rows with a text.
        failures: Keys that ended in the failures ledger.
        quarantined: Keys set aside by a gate.
        data: The data file.
        retry: 0, or the round of a retry of the shard's failures: ``planned`` are then the keys of the ledger
            that it worked off.
        replaces: Name of that ledger's file; None unless it is a retry.
        failure_data: The file of failures, or None when there are none.
        quarantine_data: The file of rows that a gate set aside, with the table's columns; None without any.
        key_min: Smallest key among the rows, or None without rows.
        key_max: Largest key among the rows, or None without rows.
        stats: Seconds, tokens and what else describes the work; not part of the contract.
    """

    table: str
    shard: int
    fingerprint: str
    schema_version: int
    schema_hash: str
    planned: int
    rows: int
    failures: int
    quarantined: int
    data: FileEntry
    retry: int = 0
    replaces: str | None = None
    failure_data: FileEntry | None = None
    quarantine_data: FileEntry | None = None
    key_min: str | None = None
    key_max: str | None = None
    stats: dict[str, Any] = field(default_factory=dict)

    def files(self) -> list[FileEntry]:
        """Return the files the marker names."""
        named = (self.data, self.failure_data, self.quarantine_data)
        return [entry for entry in named if entry is not None]

    def to_json(self) -> bytes:
        """Return the marker as JSON bytes, keys sorted."""
        return json.dumps(
            {"marker_version": MARKER_VERSION, **asdict(self)}, sort_keys=True, indent=1
        ).encode()


def read_marker(path: Path) -> Marker:
    """Read a marker and check that the files it names are there in the stated size.

    Raises:
        MarkerError: The marker is damaged, its counts do not add up, or a file is missing or of another size.
    """
    marker = parse_marker(path)
    for entry in marker.files():
        file = path.parent / entry.name
        try:
            size = file.stat().st_size
        except OSError as error:
            raise MarkerError(path, f"names {entry.name}, which is not there") from error
        if size != entry.size:
            raise MarkerError(file, f"has {size} bytes, its marker says {entry.size}")
    return marker


def parse_marker(path: Path) -> Marker:
    """Read a marker without looking at its data files.

    Raises:
        MarkerError: The marker is damaged or its counts do not add up.
    """
    try:
        raw = json.loads(path.read_bytes())
        if raw.pop("marker_version") != MARKER_VERSION:
            raise ValueError(f"marker_version is not {MARKER_VERSION}")
        raw["data"] = FileEntry(**raw["data"])
        for part in ("failure_data", "quarantine_data"):
            if raw.get(part) is not None:
                raw[part] = FileEntry(**raw[part])
        marker = Marker(**raw)
        if any(Path(entry.name).name != entry.name for entry in marker.files()):
            raise ValueError("a file name leaves the folder")
        accounted = marker.rows + marker.failures + marker.quarantined
        counts = (marker.rows, marker.failures, marker.quarantined)
        files = (marker.data, marker.failure_data, marker.quarantine_data)
        in_files = tuple(0 if entry is None else entry.rows for entry in files)
        if marker.planned != accounted or counts != in_files:
            raise ValueError("its counts do not add up")
        if (marker.retry > 0) != (marker.replaces is not None):
            raise ValueError("a retry, and only a retry, replaces a ledger")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise MarkerError(path, f"not a valid marker ({error})") from error
    return marker


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
