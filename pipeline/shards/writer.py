"""Committing a shard: the files of rows, failures and rows set aside, then the marker that makes it exist."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import PipelineError
from pipeline.shards import atomic
from pipeline.storage import storage_errors
from schemas.history import Shard, follows
from schemas.layout import marker_path, shard_name
from schemas.marker import FileEntry, Marker, MarkerError, file_sha256, read_marker
from schemas.tables import SCHEMA_VERSION, empty_table, key_of, schema_hash, schema_of
from schemas.validate import validate

log = logging.getLogger(__name__)

ROW_GROUP_ROWS = 10_000


class AccountingError(PipelineError):
    """What a shard's keys ended in does not add up to its plan: nothing is committed."""


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
    table: str, shard: int, planned: Sequence[str], rows: pa.Table, failures: pa.Table, quarantined: pa.Table
) -> None:
    """Check that every planned key ended in exactly one of a row, a failure and a row set aside.

    Raises:
        AccountingError: Naming the first key that is missing, unplanned or there twice.
    """
    key_column = key_of(table)[0]
    ended = [
        key
        for part, column in ((rows, key_column), (failures, "key"), (quarantined, key_column))
        for key in part.column(column).to_pylist()
    ]
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
    quarantined: pa.Table | None = None,
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
        failures: Rows of the ``failures`` schema for the keys without a text.
        quarantined: Rows that a gate set aside, schema of ``table``: they are kept, but no part of the table.
        stats: Seconds, tokens and the like, kept in the marker.

    Returns:
        True when this attempt's marker stands; False when another attempt had committed the shard first (this
        attempt's files are then removed).

    Raises:
        AccountingError: Rows, failures and rows set aside do not add up to the plan.
        SchemaError: A row breaks the table's contract.
        StorageError: The disk is full or cannot be written; the shard is left undone.
    """
    return _commit(
        version,
        lambda attempt: _write_files(
            version, table, shard, attempt, fingerprint, planned, rows, failures, quarantined, stats
        ),
        lambda: committed_marker(version, shard),
    )


def commit_retry(
    version: Path,
    shard: Shard,
    *,
    ledger: pa.Table,
    rows: pa.Table,
    failures: pa.Table,
    quarantined: pa.Table | None = None,
    stats: dict[str, Any] | None = None,
) -> bool:
    """Commit a retry of a shard's failures beside its earlier markers; no earlier file is touched.

    Args:
        version: Folder of the table's version.
        shard: The shard as it was read before the retry.
        ledger: Its ledger, schema ``failures``.
        rows: The rows that the retry recovered.
        failures: The whole ledger from now on: keys that failed again and keys that were not tried.
        quarantined: Recovered rows that a gate set aside.
        stats: Seconds, tokens and the like, kept in the marker.

    Returns:
        True when this retry's marker stands; False when another retry of the same ledger was faster (this
        one's files are then removed).

    Raises:
        AccountingError: Rows, failures and rows set aside do not add up to the ledger.
        SchemaError: A row breaks the table's contract.
        StorageError: The disk is full or cannot be written; no retry is committed.
    """
    assert shard.ledger is not None
    base = shard.base
    keys = ledger.column("key").to_pylist()
    number, replaced = len(shard.retries) + 1, shard.ledger.name

    def write(attempt: str) -> Marker:
        marker = _write_files(
            version,
            base.table,
            shard.number,
            attempt,
            base.fingerprint,
            keys,
            rows,
            failures,
            quarantined,
            stats,
        )
        return replace(marker, retry=number, replaces=replaced)

    return _commit(version, write, lambda: standing_retry(version, shard))


def standing_retry(version: Path, shard: Shard) -> Marker | None:
    """Return the marker of a retry that was committed after the shard was read, None without one."""
    path = marker_path(version, shard.number, len(shard.retries) + 1)
    if not path.exists():
        return None
    try:
        marker = read_marker(path)
    except MarkerError:
        return None
    return marker if follows(marker, shard) else None


def _write_files(
    version: Path,
    table: str,
    shard: int,
    attempt: str,
    fingerprint: str,
    planned: Sequence[str],
    rows: pa.Table,
    failures: pa.Table | None,
    quarantined: pa.Table | None,
    stats: dict[str, Any] | None,
) -> Marker:
    """Check the accounts, write the data files and return the marker that names them."""
    rows = validate(rows, table)
    failures = validate(failures if failures is not None else empty_table("failures"), "failures")
    quarantined = validate(quarantined if quarantined is not None else empty_table(table), table)
    check_accounts(table, shard, planned, rows, failures, quarantined)
    data = write_parquet(rows, version / f"{shard_name(shard)}-{attempt}.parquet")
    failure_data = quarantine_data = None
    if len(failures):
        failure_data = write_parquet(failures, version / f"failures-{shard:05d}-{attempt}.parquet")
    if len(quarantined):
        quarantine_data = write_parquet(quarantined, version / f"quarantined-{shard:05d}-{attempt}.parquet")
    keys = rows.column(key_of(table)[0])
    bounds = pc.min_max(keys).as_py() if len(rows) else {"min": None, "max": None}
    return Marker(
        table=table,
        shard=shard,
        fingerprint=fingerprint,
        schema_version=SCHEMA_VERSION,
        schema_hash=schema_hash(schema_of(table)),
        planned=len(planned),
        rows=len(rows),
        failures=len(failures),
        quarantined=len(quarantined),
        data=data,
        failure_data=failure_data,
        quarantine_data=quarantine_data,
        key_min=bounds["min"],
        key_max=bounds["max"],
        stats=stats or {},
    )


def _commit(version: Path, write: Callable[[str], Marker], standing: Callable[[], Marker | None]) -> bool:
    """Write an attempt's files, then its marker; without a marker the files go again, as they hold room.

    Args:
        version: Folder of the table's version.
        write: Writes the data files of the attempt with the given id and returns the marker to be.
        standing: Returns the marker that holds in its place, if there is one.
    """
    attempt = atomic.attempt_id()
    committed = False
    try:
        with storage_errors(version):
            committed = _place_marker(version, write(attempt), standing)
        return committed
    finally:
        if not committed:
            _discard(version, attempt, standing())


def _discard(version: Path, attempt: str, standing: Marker | None) -> None:
    """Remove an attempt's files, unless its marker stands after all."""
    named = {entry.name for entry in standing.files()} if standing is not None else set()
    for path in version.glob(f"*-{attempt}.parquet"):
        if path.name not in named:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _place_marker(version: Path, marker: Marker, standing: Callable[[], Marker | None]) -> bool:
    """Create the marker unless one that holds stands in its place; return whether this one stands."""
    path = marker_path(version, marker.shard, marker.retry)
    if atomic.create_bytes(path, marker.to_json()):
        return True
    first = standing()
    if first is None:
        # The marker there does not hold. It is moved aside, not overwritten, so that a valid one which
        # another worker places at this very moment cannot be lost.
        aside = path.with_name(f"{path.name}.invalid-{atomic.attempt_id()}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, aside)
        if atomic.create_bytes(path, marker.to_json()):
            return True
    elif first.data == marker.data:
        # Network file systems may repeat a request whose answer was lost: the first one had succeeded.
        return True
    log.info(
        "shard %d of %s was committed by another worker; this attempt is dropped", marker.shard, marker.table
    )
    return False
