"""Writing a table whole: ``samples`` and ``quarantine``, whose rows all come from one pass over the input.

The version is named by the content of its rows, so the same input gives the same version and a second ingest
is a no-op for everything made from it. It is built in a temporary folder and renamed into place.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.shards import atomic
from pipeline.shards.writer import write_parquet
from schemas.layout import CURRENT, VERSION_FILE, marker_path, shard_name, table_dir, version_name
from schemas.marker import FileEntry, Marker, MarkerError, read_marker
from schemas.tables import SCHEMA_VERSION, schema_hash, schema_of
from schemas.validate import validate

_AHEAD = 2
"""Shards that are checked, or written, beside the one whose rows are hashed."""


class _HashSink:
    """A file object that only hashes; Arrow's IPC stream is a stable, type-aware form of the rows."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.closed = False

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def content_hash(shards: Iterable[pa.Table], schema: pa.Schema) -> str:
    """Return 64 hex digits over the rows (not the descriptions, not the compression) of some shards."""
    sink = _HashSink()
    bare = schema.remove_metadata()
    bare = pa.schema([field.remove_metadata() for field in bare])
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), bare) as stream:
        for shard in shards:
            # Copied, because a slice carries the larger array's offsets and padding into the stream.
            shard = shard.take(pa.array(range(len(shard)), pa.int64()))
            stream.write_table(pa.Table.from_arrays(shard.combine_chunks().columns, schema=bare))
    return sink.digest.hexdigest()


def write_snapshot(
    out: Path, table: str, batches: Iterable[pa.Table], *, info: dict[str, Any], rows_per_shard: int = 50_000
) -> Path:
    """Write a table whole and make it the current version.

    Args:
        out: Output folder.
        table: Name of the table.
        batches: Its rows, in order, in pieces of any size.
        info: Facts for ``version.json`` that are not part of the rows (e.g. ``image_root``).
        rows_per_shard: Rows in a shard.

    Returns:
        The folder of the version.

    Raises:
        SchemaError: A row breaks the table's contract; nothing is written.
    """
    folder = table_dir(out, table)
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / f"{atomic.TEMPORARY_PREFIX}{atomic.attempt_id()}"
    work.mkdir()
    try:
        pieces = _regroup(batches, rows_per_shard, schema_of(table))
        entries: list[FileEntry] = []
        fingerprint = content_hash(_written(pieces, table, work, entries), schema_of(table))
        for number, entry in enumerate(entries):
            _write_marker(work, table, number, fingerprint, entry)
        description = {
            **info,
            "table": table,
            "fingerprint": fingerprint,
            "schema_version": SCHEMA_VERSION,
            "shards": len(entries),
            "planned": sum(entry.rows for entry in entries),
        }
        atomic.write_bytes(work / VERSION_FILE, json.dumps(description, indent=1, sort_keys=True).encode())
        target = folder / version_name(fingerprint)
        _move_into_place(work, target, len(entries))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    atomic.write_bytes(folder / CURRENT, json.dumps({"version": target.name}).encode())
    return target


def _written(
    pieces: Iterable[pa.Table], table: str, work: Path, entries: list[FileEntry]
) -> Iterator[pa.Table]:
    """Yield each piece, checked, and append the entry of its file to ``entries``; holds a few at a time."""
    checked: deque[Future[pa.Table]] = deque()
    writing: deque[Future[FileEntry]] = deque()
    numbers = itertools.count()

    def write(shard: pa.Table) -> pa.Table:
        writing.append(pool.submit(write_parquet, shard, work / f"{shard_name(next(numbers))}.parquet"))
        while len(writing) > _AHEAD:
            entries.append(writing.popleft().result())
        return shard

    # Arrow works outside Python's lock: shards are checked, compressed and flushed while the hash is made.
    with ThreadPoolExecutor(_AHEAD) as pool:
        for piece in pieces:
            checked.append(pool.submit(validate, piece, table))
            if len(checked) > _AHEAD:
                yield write(checked.popleft().result())
        while checked:
            yield write(checked.popleft().result())
        entries += [each.result() for each in writing]


def _regroup(batches: Iterable[pa.Table], rows: int, schema: pa.Schema) -> Iterator[pa.Table]:
    """Cut pieces of any size into pieces of ``rows`` rows."""
    held: list[pa.Table] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += len(batch)
        while count >= rows:
            whole = pa.concat_tables(held)
            yield whole.slice(0, rows)
            held, count = [whole.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held)


def _write_marker(folder: Path, table: str, shard: int, fingerprint: str, data: FileEntry) -> None:
    marker = Marker(
        table=table,
        shard=shard,
        fingerprint=fingerprint,
        schema_version=SCHEMA_VERSION,
        schema_hash=schema_hash(schema_of(table)),
        planned=data.rows,
        rows=data.rows,
        failures=0,
        quarantined=0,
        data=data,
    )
    atomic.write_bytes(marker_path(folder, shard), marker.to_json())


def _move_into_place(work: Path, target: Path, shards: int) -> None:
    if target.is_dir():
        try:
            for shard in range(shards):
                read_marker(marker_path(target, shard))
        except MarkerError:
            # The same rows stand there damaged: the new copy takes their place.
            os.rename(target, target.parent / f"{atomic.TEMPORARY_PREFIX}damaged-{atomic.attempt_id()}")
        else:
            # The same rows stand there already; only the facts beside them may be new.
            atomic.write_bytes(target / VERSION_FILE, (work / VERSION_FILE).read_bytes())
            return
    os.rename(work, target)
    atomic.fsync_folder(target.parent)
