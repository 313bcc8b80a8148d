"""The plan: which keys belong to which shard, written once per version and never derived again.

``plan.parquet`` holds one row group per shard with the keys and, as a hint for fast lookup, the file and row
of ``samples`` each key came from. A worker reads one row group, so memory stays flat however long the table.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from collections.abc import Container, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.shards import atomic
from pipeline.shards.fingerprint import Fields, differences, fingerprint_of, refuse_to_mix
from pipeline.shards.writer import committed_marker
from pipeline.storage import storage_errors
from schemas import layout
from schemas.tables import SCHEMA_VERSION

PLAN_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("input_file", pa.int32(), nullable=False),
        pa.field("input_row", pa.int64(), nullable=False),
    ]
)

# Keys are distinct, so a dictionary of them only costs; the other columns are runs; nobody asks for bounds.
# In small row groups this is written and read nearly twice as fast as with the defaults.
_ENCODING: dict[str, Any] = {
    "use_dictionary": False,
    "write_statistics": False,
    "compression": {"key": "zstd", "shard": "none", "input_file": "none", "input_row": "none"},
    "column_encoding": dict.fromkeys(("shard", "input_file", "input_row"), "DELTA_BINARY_PACKED"),
}

_AHEAD = 64
"""Shards whose keys wait to be written."""


@dataclass(frozen=True)
class Plan:
    """The plan of one version of a generated table.

    Attributes:
        table: ``captions`` or ``explanations``.
        version: Folder of the version.
    """

    table: str
    version: Path

    @cached_property
    def info(self) -> dict[str, Any]:
        """The version's description."""
        return layout.read_version(self.version)

    @property
    def fingerprint(self) -> str:
        """What makes the rows, 64 hex digits."""
        return str(self.info["fingerprint"])

    @cached_property
    def _file(self) -> pq.ParquetFile:
        path = self.version / layout.PLAN_FILE
        try:
            return pq.ParquetFile(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise UsageError(
                f"{path}: the plan cannot be read ({error}). Restore it from a backup, or remove the folder "
                f"{self.version.name} and run again to make its rows anew"
            ) from error

    @property
    def shards(self) -> int:
        """Number of shards."""
        return int(self._file.metadata.num_row_groups)

    @property
    def planned(self) -> int:
        """Number of keys in all shards."""
        return int(self._file.metadata.num_rows)

    def shard_size(self, shard: int) -> int:
        """Return the number of keys planned for a shard."""
        return int(self._file.metadata.row_group(shard).num_rows)

    def entries(self, shard: int) -> pa.Table:
        """Return the keys of a shard with their input file and row, schema ``PLAN_SCHEMA``."""
        return self._file.read_row_group(shard)

    def keys(self, shard: int) -> list[str]:
        """Return the keys of a shard in plan order."""
        return self.entries(shard).column("key").to_pylist()

    def pending(self) -> list[int]:
        """Return the shards without a valid marker."""
        return [shard for shard in range(self.shards) if committed_marker(self.version, shard) is None]


def open_plan(out: Path, table: str) -> Plan:
    """Open the plan of a table's current version.

    Raises:
        NoSuchTable: There is no version yet.
    """
    return Plan(table, layout.current_version(out, table))


def open_or_create(
    out: Path,
    table: str,
    fields: Fields,
    shards: Iterable[pa.Table],
    *,
    info: Mapping[str, Any],
    new_version: bool,
    may_change: Container[str] = (),
) -> Plan:
    """Open the version that these fields name, or create it.

    Args:
        out: Output folder.
        table: Name of the table.
        fields: Everything that changes results.
        shards: The plan to write if the version is new: one table per shard; not consumed otherwise.
        info: Further facts for ``version.json``.
        new_version: Whether the current version may be replaced by one with other fields.
        may_change: Fields in which it may differ without ``new_version``.

    Raises:
        FingerprintMismatch: The current version has other fields, and neither allows it.
        StorageError: The version cannot be written.
    """
    folder = layout.table_dir(out, table)
    fingerprint = fingerprint_of(fields)
    version = folder / layout.version_name(fingerprint)
    try:
        current = layout.current_version(out, table)
    except layout.NoSuchTable:
        current = None
    if current is not None and current != version and not new_version:
        before = layout.read_version(current)["fields"]
        if any(name not in may_change for name in differences(before, fields)):
            refuse_to_mix(table, current.name, before, fields, exists=version.is_dir())
    with storage_errors(folder):
        if not version.is_dir():
            _create(version, table, fingerprint, fields, shards, info)
        if current != version:
            pointer = json.dumps({"version": version.name}).encode()
            atomic.write_bytes(folder / layout.CURRENT, pointer)
    return Plan(table, version)


def _write_plan(path: Path, shards: Iterable[pa.Table]) -> tuple[int, int]:
    """Write a row group per shard and return the number of shards and of keys."""
    count = rows = 0
    writing: deque[Future[None]] = deque()
    with (
        pq.ParquetWriter(path, PLAN_SCHEMA, **_ENCODING) as writer,
        # One thread, as row groups follow each other; it compresses while the next keys are read.
        ThreadPoolExecutor(1) as pool,
    ):
        for shard in shards:
            table = shard if shard.schema.equals(PLAN_SCHEMA) else shard.cast(PLAN_SCHEMA)
            writing.append(pool.submit(writer.write_table, table, max(1, len(table))))
            if len(writing) > _AHEAD:
                writing.popleft().result()
            count += 1
            rows += len(table)
        for each in writing:
            each.result()
    return count, rows


def _create(
    version: Path,
    table: str,
    fingerprint: str,
    fields: Fields,
    shards: Iterable[pa.Table],
    info: Mapping[str, Any],
) -> None:
    """Build the version's folder under a temporary name and rename it: a version always has its plan."""
    version.parent.mkdir(parents=True, exist_ok=True)
    work = version.parent / f"{atomic.TEMPORARY_PREFIX}{atomic.attempt_id()}"
    work.mkdir()
    try:
        path = work / layout.PLAN_FILE
        count, rows = _write_plan(path, shards)
        atomic.fsync_file(path)
        description = {
            **info,
            "table": table,
            "fingerprint": fingerprint,
            "fields": fields,
            "schema_version": SCHEMA_VERSION,
            "shards": count,
            "planned": rows,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        atomic.write_bytes(
            work / layout.VERSION_FILE, json.dumps(description, indent=1, sort_keys=True).encode()
        )
        try:
            os.rename(work, version)
        except OSError:
            # Another process made the same version first; its plan is the same by construction.
            if not version.is_dir():
                raise
        atomic.fsync_folder(version.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
