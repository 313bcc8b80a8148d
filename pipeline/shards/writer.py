"""Committing a shard: data file, then failures file, then the marker that makes both exist."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import PipelineError
from pipeline.shards import atomic
from pipeline.storage import storage_errors
from schemas.layout import marker_path, shard_name
from schemas.marker import FileEntry, Marker, MarkerError, file_sha256, read_marker
from schemas.tables import SCHEMA_VERSION, key_of, schema_hash, schema_of
from schemas.validate import validate

log = logging.getLogger(__name__)

ROW_GROUP_ROWS = 10_000


class AccountingError(PipelineError):
    """Rows and failures of a shard do not add up to its plan: nothing is committed."""


def write_parquet(data: pa.Table, target: Path) -> FileEntry:
    """Write a Parquet file atomically and return the entry a marker needs."""
    with atomic.temporary(target) as path:
        pq.write_table(data, path, compression="zstd", row_group_size=ROW_GROUP_ROWS)
        entry = FileEntry(
            name=target.name, rows=len(data), size=path.stat().st_size, sha256=file_sha256(path)
        )
        atomic.publish(path, target)
    return entry


def check_accounts(
    table: str, shard: int, planned: Sequence[str], rows: pa.Table, failures: pa.Table
) -> None:
    """Check that every planned key ended in exactly one row or one failure.

    Raises:
        AccountingError: Naming the first key that is missing, unplanned or there twice.
    """
    ended = rows.column(key_of(table)[0]).to_pylist() + failures.column("key").to_pylist()
    plan = set(planned)
    seen: set[str] = set()
    for key in ended:
        if key not in plan:
            raise AccountingError(f"{table} shard {shard}: key {key!r} was not planned for it")
        if key in seen:
            raise AccountingError(f"{table} shard {shard}: key {key!r} ended twice")
        seen.add(key)
    for key in planned:
        if key not in seen:
            raise AccountingError(f"{table} shard {shard}: planned key {key!r} ended nowhere")


def committed_marker(version: Path, shard: int) -> Marker | None:
    """Return the marker of a shard, or None when the shard is not done.

    A marker that does not hold means "not done", with a warning: never a crash.
    """
    path = marker_path(version, shard)
    if not path.exists():
        return None
    try:
        return read_marker(path)
    except MarkerError as error:
        log.warning("%s; the shard counts as not done and is made again", error)
        return None


def commit_shard(
    version: Path,
    table: str,
    shard: int,
    *,
    fingerprint: str,
    planned: Sequence[str],
    rows: pa.Table,
    failures: pa.Table | None = None,
    stats: dict[str, Any] | None = None,
) -> bool:
    """Commit a shard; the marker is written last, and only if no other attempt's marker stands.

    Args:
        version: Folder of the table's version.
        table: Name of the table.
        shard: Number of the shard.
        fingerprint: What made the rows, 64 hex digits.
        planned: The shard's keys.
        rows: Rows with a text, schema of ``table``.
        failures: Rows of the ``failures`` schema for the other keys.
        stats: Seconds, tokens and the like, kept in the marker.

    Returns:
        True when this attempt's marker stands; False when another attempt had committed the shard first (this
        attempt's files are then removed).

    Raises:
        AccountingError: Rows and failures do not add up to the plan.
        SchemaError: A row breaks the table's contract.
        StorageError: The disk is full or cannot be written; the shard is left undone.
    """
    rows = validate(rows, table)
    failures = validate(failures if failures is not None else schema_of("failures").empty_table(), "failures")
    check_accounts(table, shard, planned, rows, failures)
    attempt = atomic.attempt_id()
    committed = False
    try:
        with storage_errors(version):
            committed = _commit(
                version, table, shard, attempt, fingerprint, planned, rows, failures, stats or {}
            )
        return committed
    finally:
        if not committed:
            _discard(version, shard, attempt)


def _commit(
    version: Path,
    table: str,
    shard: int,
    attempt: str,
    fingerprint: str,
    planned: Sequence[str],
    rows: pa.Table,
    failures: pa.Table,
    stats: dict[str, Any],
) -> bool:
    data_path, failures_path = _paths(version, shard, attempt)
    data = write_parquet(rows, data_path)
    failure_data = write_parquet(failures, failures_path) if len(failures) else None
    keys = rows.column(key_of(table)[0])
    bounds = pc.min_max(keys).as_py() if len(rows) else {"min": None, "max": None}
    marker = Marker(
        table=table,
        shard=shard,
        fingerprint=fingerprint,
        schema_version=SCHEMA_VERSION,
        schema_hash=schema_hash(schema_of(table)),
        planned=len(planned),
        rows=len(rows),
        failures=len(failures),
        quarantined=0,
        data=data,
        failure_data=failure_data,
        key_min=bounds["min"],
        key_max=bounds["max"],
        stats=stats,
    )
    return _place_marker(version, shard, marker, attempt)


def _paths(version: Path, shard: int, attempt: str) -> tuple[Path, Path]:
    return (
        version / f"{shard_name(shard)}-{attempt}.parquet",
        version / f"failures-{shard:05d}-{attempt}.parquet",
    )


def _discard(version: Path, shard: int, attempt: str) -> None:
    """Remove an attempt's files, as a full disk needs the room, unless its marker stands after all."""
    standing = committed_marker(version, shard)
    named = {entry.name for entry in standing.files()} if standing is not None else set()
    for path in _paths(version, shard, attempt):
        if path.name not in named:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _place_marker(version: Path, shard: int, marker: Marker, attempt: str) -> bool:
    path = marker_path(version, shard)
    if atomic.create_bytes(path, marker.to_json()):
        return True
    standing = committed_marker(version, shard)
    if standing is not None:
        if standing.data == marker.data:
            # Network file systems may repeat a request whose answer was lost: the first one had succeeded.
            return True
        log.info(
            "shard %d of %s was committed by another worker; this attempt is dropped", shard, marker.table
        )
        return False
    # The marker there does not hold. It is moved aside, not overwritten, so that a valid one which another
    # worker places at this very moment cannot be lost: only the mover of the bad one goes on to create.
    aside = path.with_name(f"{path.name}.invalid-{attempt}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
    return atomic.create_bytes(path, marker.to_json())
