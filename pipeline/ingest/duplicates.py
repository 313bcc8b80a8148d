"""Rows that stand more than once: exact duplicates, leakage between splits, and contradictions.

Two rows are the same row when id, image, text, class, box and positions agree. It is kept once: in the split
that is evaluated (test before val before train), and there where it stands first. When only id, image and
text agree, the annotations contradict each other; the row that would be kept as a duplicate is kept, the
other is set aside.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.columns import KEY_BYTES
from schemas.vocabulary import SPLIT_PRIORITY, SPLITS

_PRIORITY = np.array([SPLIT_PRIORITY.index(split) for split in SPLITS])


@dataclass(frozen=True)
class Repeats:
    """What ``find_repeats`` found.

    Attributes:
        keep: Per row, whether it stays.
        duplicates: Number of rows that repeat a kept row.
        leaked: Number of those whose kept row is in another split, by (split it is taken from, split it stays
            in).
        conflicts: (row, kept row) where the annotations contradict each other.
    """

    keep: np.ndarray
    duplicates: int
    leaked: dict[tuple[str, str], int]
    conflicts: list[tuple[int, int]]


def find_repeats(table: pa.Table) -> Repeats:
    """Find the rows to drop.

    Args:
        table: Columns of ``columns.CHECKED`` plus ``split`` (index into ``SPLITS``), in source order.
    """
    keep = np.ones(len(table), bool)
    rows, keepers = _pairs(key_words(table.column("key")), table.column("split").to_numpy())
    if not len(rows):
        return Repeats(keep, 0, {}, [])
    keep[rows] = False
    same = _same_annotation(table, rows, keepers)
    split = table.column("split").to_numpy()
    moves = Counter(
        (SPLITS[a], SPLITS[b])
        for a, b in zip(split[rows[same]].tolist(), split[keepers[same]].tolist(), strict=True)
        if a != b
    )
    conflicts = list(zip(rows[~same].tolist(), keepers[~same].tolist(), strict=True))
    return Repeats(keep, int(same.sum()), dict(moves), conflicts)


def key_words(keys: pa.ChunkedArray) -> np.ndarray:
    """Return 16-byte keys as two 64-bit numbers each, uint64[n, 2]."""
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint64, 2 * len(chunk), chunk.offset * KEY_BYTES).reshape(-1, 2)
        for chunk in keys.chunks
        if len(chunk)
    ]
    return np.concatenate(parts) if parts else np.empty((0, 2), np.uint64)


def _pairs(keys: np.ndarray, split: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return every row that repeats another's key, and for each the row to keep."""
    first, second = keys.T
    # Most keys stand once, so half of the key sorts them out and only the rest is sorted in full.
    order = np.argsort(first)
    equal = first[order[1:]] == first[order[:-1]]
    suspects = order[np.append(equal, False) | np.insert(equal, 0, False)] if len(order) else order
    by = np.lexsort((suspects, _PRIORITY[split[suspects]], second[suspects], first[suspects]))
    rows = suspects[by]
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (keys[rows[1:]] != keys[rows[:-1]]).any(axis=1)
    start = np.maximum.accumulate(np.where(fresh, np.arange(len(rows)), 0))
    repeated = np.sort(np.flatnonzero(~fresh))
    return rows[repeated], rows[start[repeated]]


def _same_annotation(table: pa.Table, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return per pair whether class, box and positions agree."""
    classes = table.column("fake_cls").to_numpy()
    same = classes[rows] == classes[others]
    for name in ("fake_image_box", "fake_text_pos"):
        # Compared as (length, items): lists have no equality kernel.
        column = table.column(name)
        left, right = (column.take(pa.array(picked)).combine_chunks() for picked in (rows, others))
        lengths = [pc.fill_null(pc.list_value_length(side), -1).to_numpy() for side in (left, right)]
        same &= lengths[0] == lengths[1]
        both = pa.array(same)
        left, right = left.filter(both), right.filter(both)
        differing = np.flatnonzero(pc.list_flatten(left).to_numpy() != pc.list_flatten(right).to_numpy())
        parents = pc.list_parent_indices(left).to_numpy()[differing]
        same[np.flatnonzero(same)[parents]] = False
    return same
