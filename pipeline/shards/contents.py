"""Deep checks of one shard: every byte, every row, and every key against the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.shards.writer import AccountingError, check_accounts
from schemas.history import Shard
from schemas.marker import FileEntry, Marker, file_sha256
from schemas.tables import empty_table, key_of, schema_at, schema_hash
from schemas.validate import SchemaError, validate

Fault = tuple[int, Path, str]
"""Round of the attempt (0: the first), the file at fault, and what is wrong with it."""


def content_faults(version: Path, shard: Shard, keys: Sequence[str] | None) -> Iterator[Fault]:
    """Yield the first thing that is wrong with the files of a shard; the rest mostly follows from it.

    Args:
        version: Folder of the version.
        shard: The shard, whose markers hold.
        keys: Keys planned for the shard; None for a table that is written whole.
    """
    table = shard.base.table
    planned = keys
    for number, marker in enumerate(shard.markers):
        parts: list[pa.Table] = []
        for entry, name in _parts(marker):
            if entry is None:
                parts.append(empty_table(name))
                continue
            fault, data = _read(version / entry.name, entry, name, marker.schema_version)
            if fault:
                yield number, version / entry.name, fault
                return
            parts.append(data)
        rows, failures, _ = parts
        if planned is None:
            if len(rows) != len(rows.group_by(list(key_of(table))).aggregate([])):
                yield number, version / marker.data.name, "a key stands twice"
            return
        try:
            check_accounts(table, shard.number, planned, *parts)
        except AccountingError as error:
            yield number, version / marker.data.name, str(error)
            return
        planned = failures.column("key").to_pylist()


def _parts(marker: Marker) -> tuple[tuple[FileEntry | None, str], ...]:
    """Return the files of rows, failures and rows set aside, each with the table whose schema it has."""
    table = marker.table
    return (marker.data, table), (marker.failure_data, "failures"), (marker.quarantine_data, table)


def _read(path: Path, entry: FileEntry, table: str, schema_version: int) -> tuple[str, pa.Table]:
    """Return what is wrong with a file, or nothing and its rows."""
    if file_sha256(path) != entry.sha256:
        return "its bytes are not those that were written (sha256 differs)", None
    try:
        with pq.ParquetFile(path) as file:
            data = file.read()
        if len(data) != entry.rows:
            return f"has {len(data)} rows, its marker says {entry.rows}", None
        if schema_hash(data.schema) != schema_hash(schema_at(table, schema_version)):
            return f"does not have the schema of {table}", None
        return "", validate(data, table, schema_version)
    except (OSError, pa.ArrowInvalid, SchemaError) as error:
        return str(error), None
