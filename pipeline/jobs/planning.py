"""Dealing the keys of ``samples`` into shards, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.shards.distinct import first_of_each
from pipeline.shards.plan import PLAN_SCHEMA
from schemas import Table


def plan_shards(samples: Table, key: str, size: int, together: str | None = None) -> Iterator[pa.Table]:
    """Yield a plan, one table of schema ``PLAN_SCHEMA`` per shard: each distinct key once.

    Keys follow the order of ``samples``; within each of its files, those with equal values of ``together``
    stand where the first of them does. Over more than a file they are not brought together, as a shard would
    then read its samples from everywhere.

    Args:
        samples: The samples.
        key: Column of the keys.
        size: Keys in a shard.
        together: Column whose equal values make equal prompts likely.

    Raises:
        UsageError: There are no samples, one has no key yet, or a file cannot be read.
    """
    if not samples.files:
        raise UsageError(
            f"{samples.version}: there are no samples; look into the quarantine table for the reasons"
        )
    first = _first_of_each_key(samples, key)
    held: list[pa.Table] = []
    start = count = 0
    for number, read in enumerate(_read_ahead(samples, [key, together] if together else [key])):
        new = np.flatnonzero(first[start : start + len(read)])
        start += len(read)
        # Picking all rows in their order would only copy them.
        rows = read if len(new) == len(read) else read[new]
        order = _grouped(rows.get_column(together)) if together else None
        if order is not None:
            new, rows = new[order], rows[order]
        shards = (np.arange(count, count + len(new)) // size).astype(np.int32)
        count += len(new)
        columns = {"shard": shards, "key": rows.get_column(key), "input_file": number, "input_row": new}
        entries = pa.concat_tables([*held, pl.DataFrame(columns).to_arrow().cast(PLAN_SCHEMA)])
        for cut in range(0, len(entries) - size + 1, size):
            yield entries.slice(cut, size)
        held = [entries.slice(len(entries) - len(entries) % size)]
    if len(held[0]):
        yield held[0]


def _grouped(values: pl.Series) -> np.ndarray | None:
    """Return the order in which equal values stand where the first of them does; None when all differ."""
    hashes = values.hash().to_numpy()
    ordered = np.sort(hashes)
    if not np.any(ordered[1:] == ordered[:-1]):
        return None
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    return np.argsort(first[group], kind="stable")


def _first_of_each_key(samples: Table, key: str) -> np.ndarray:
    """Return which samples show their key first, bool[samples]."""
    missing = 0

    def pieces() -> Iterator[pl.Series]:
        nonlocal missing
        for rows in _read_ahead(samples, [key]):
            missing += rows.get_column(key).null_count()
            yield rows.get_column(key)

    first = first_of_each(pieces(), samples.num_rows, samples.version.parents[1] / "cache")
    if missing:
        raise UsageError(
            f"{samples.version}: {missing} of {samples.num_rows} samples have no {key}; "
            "run ingest again without --skip-images"
        )
    return first


def _read_ahead(samples: Table, columns: list[str]) -> Iterator[pl.DataFrame]:
    """Yield columns of each file of ``samples``; the next file is read meanwhile."""

    def read(file: Path) -> pl.DataFrame:
        try:
            return pl.read_parquet(file, columns=columns)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UsageError(f"{file}: cannot be read ({error}); run ingest again") from error

    with ThreadPoolExecutor(1) as pool:
        following = None
        for file in samples.files:
            present, following = following, pool.submit(read, file)
            if present is not None:
                yield present.result()
        if following is not None:
            yield following.result()
