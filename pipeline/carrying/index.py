"""Where the rows of a committed version stand, by their input hash: a sorted file, read through a memory map.

An Arrow file of record batches. Batch ``n`` holds the rows whose hash begins with the bits of ``n``, sorted
by the hash's first 64 bits, with the number of the data file and of the row in it: 16 bytes a row. Different
hashes rarely agree in 64 bits, so whoever reads a row compares the rest. Built bucket by bucket and searched
where it lies, so memory stays flat; it lives in ``OUT/cache`` and can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
import pyarrow as pa

from pipeline.shards import atomic

log = logging.getLogger(__name__)

BUCKET_ROWS = 1 << 20
"""About how many rows are sorted together, 16 MB."""

_FILES_AT_ONCE = 100

_RECORD = np.dtype([("hash", "<u8"), ("file", "<u4"), ("row", "<u4")])
_SCHEMA = pa.schema(
    [pa.field("hash", pa.uint64()), pa.field("file", pa.uint32()), pa.field("row", pa.uint32())]
)


def leading_bits(hashes: pl.Series) -> np.ndarray:
    """Return the first 16 of the hex digits as numbers, uint64[n]."""
    return hashes.str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64).to_numpy()


def build(files: Sequence[Path], rows: Sequence[int], target: Path) -> None:
    """Write the index of some data files; one that cannot be read is left out, with a warning.

    Args:
        files: Parquet files with a column ``input_hash``; the index names them by their place in this list.
        rows: Rows of each of them.
        target: The index file; it appears whole or not at all.
    """
    bits = max(0, (max(sum(rows), 1) - 1).bit_length() - (BUCKET_ROWS.bit_length() - 1))
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        buckets: list[IO[bytes]] = [
            stack.enter_context(tempfile.TemporaryFile(dir=target.parent)) for _ in range(1 << bits)
        ]
        for start in range(0, len(files), _FILES_AT_ONCE):
            some = slice(start, start + _FILES_AT_ONCE)
            _deal(_records(files[some], rows[some], start), bits, buckets)
        with atomic.temporary(target) as path:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
                for bucket in buckets:
                    bucket.seek(0)
                    records = np.frombuffer(bucket.read(), _RECORD)
                    records = records[np.argsort(records["hash"], kind="stable")]
                    columns = [pa.array(np.ascontiguousarray(records[name])) for name in _SCHEMA.names]
                    writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
            atomic.publish(path, target)


def _records(files: Sequence[Path], rows: Sequence[int], start: int) -> np.ndarray:
    """Return the records of some files, the first of which has the number ``start``."""
    try:
        # Together, as opening takes longer than reading.
        hashes = pl.read_parquet(list(files), columns=["input_hash"]).get_column("input_hash")
        if len(hashes) != sum(rows):
            raise ValueError(f"{len(hashes)} rows, the markers say {sum(rows)}")
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        if len(files) == 1:
            log.warning("%s: cannot be read (%s); its rows are made anew", files[0], error)
            return np.zeros(0, _RECORD)
        alone = zip(files, rows, itertools.count(start), strict=False)
        return np.concatenate([_records([file], [count], number) for file, count, number in alone])
    records = np.zeros(len(hashes), _RECORD)
    records["hash"] = leading_bits(hashes)
    records["file"] = np.repeat(np.arange(start, start + len(files)), rows)
    records["row"] = np.concatenate([np.arange(count) for count in rows])
    return records


def _deal(records: np.ndarray, bits: int, buckets: list[IO[bytes]]) -> None:
    if not bits:
        buckets[0].write(records.tobytes())
        return
    numbers = (records["hash"] >> np.uint64(64 - bits)).astype(np.uint16)  # 16 bits are sorted by radix
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers, minlength=len(buckets)))
    for bucket, part in zip(buckets, np.split(records[order], ends[:-1]), strict=True):
        bucket.write(part.tobytes())


class Index:
    """An index on disk, opened for looking up.

    Args:
        path: The file that ``build`` wrote.

    Raises:
        OSError, pyarrow.ArrowInvalid: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if not reader.schema.equals(_SCHEMA):
            raise pa.ArrowInvalid(f"{path}: not an index of input hashes")
        self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]

    def find(self, hashes: pl.Series) -> Iterator[tuple[int, int, int]]:
        """Yield (position in ``hashes``, file, row) for each of them that may be there."""
        wanted = leading_bits(hashes)
        bits = len(self._batches).bit_length() - 1
        bucket = (
            (wanted >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(wanted), np.int64)
        )
        for number in np.unique(bucket).tolist():
            here = np.flatnonzero(bucket == number)
            known, files, rows = (column.to_numpy() for column in self._batches[number].columns)
            place = np.searchsorted(known, wanted[here])
            there = place < len(known)
            there[there] = known[place[there]] == wanted[here][there]
            found = place[there]
            yield from zip(here[there].tolist(), files[found].tolist(), rows[found].tolist(), strict=True)
