"""The original text of manipulated samples.

A manipulated sample gets the text of an ``orig`` row with its source id, in any split; failing that, of an
``orig`` row that shows the same image (rows with only the text manipulated keep an origin image). Where
several ``orig`` rows qualify with different texts, the one with the same image wins, else the one that shares
most words with the sample's text, else the first in the files. A sample whose face alone was edited has kept
its text, so it is joined only to an ``orig`` row of that very text. An ``orig`` row has no original: null.

Every ``orig`` row whose text passed the checks serves, even when its image turns out to be missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.columns import TEXT_FAKE
from schemas.vocabulary import FAKE_CLS, ORIGINAL_FROM

_ORIG = FAKE_CLS.index("orig")


@dataclass(frozen=True)
class Originals:
    """Where each row's original text stands.

    Attributes:
        row: Per row, the index of the ``orig`` row, or -1.
        joined: Per row, index into ``ORIGINAL_FROM``, or -1.
    """

    row: np.ndarray
    joined: np.ndarray


def find_originals(table: pa.Table) -> Originals:
    """Find the original of every manipulated row.

    Args:
        table: Columns of ``columns.CHECKED``, repeated rows removed, in source order.
    """
    classes = table.column("fake_cls").to_numpy()
    origs, rest = np.flatnonzero(classes == _ORIG), np.flatnonzero(classes != _ORIG)
    row = np.full(len(table), -1)
    joined = np.full(len(table), -1, np.int8)
    for how, column in (("id", "source_id"), ("image_path", "image")):
        if not len(rest) or not len(origs):
            break
        found = _join(table, column, rest, origs)
        # The text of the others was not touched, so a different text is not their original.
        strict = np.flatnonzero((found >= 0) & ~TEXT_FAKE[classes[rest]])
        found[strict[~_same_text(table, rest[strict], found[strict])]] = -1
        row[rest] = found
        joined[rest[found >= 0]] = ORIGINAL_FROM.index(how)
        rest = rest[found < 0]
    return Originals(row, joined)


def _same_text(table: pa.Table, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    text = table.column("text")
    return pc.equal(text.take(pa.array(rows)), text.take(pa.array(others))).to_numpy()


def _join(table: pa.Table, column: str, rows: np.ndarray, origs: np.ndarray) -> np.ndarray:
    """Return for each of ``rows`` the one of ``origs`` with the same value in ``column``, or -1."""
    wanted, known = _numbers(table.column(column), rows, origs)
    order = np.argsort(known, kind="stable")
    low, high = (np.searchsorted(known[order], wanted, side) for side in ("left", "right"))
    found = np.where(high > low, origs[order[np.minimum(low, len(order) - 1)]], -1)
    several = np.flatnonzero(high - low > 1).tolist()
    if several:
        groups = [origs[order[low[i] : high[i]]].tolist() for i in several]
        found[several] = _choose(table, rows[several].tolist(), groups)
    return found


def _numbers(column: pa.ChunkedArray, rows: np.ndarray, origs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values at ``rows`` and at ``origs``, texts as numbers that are equal where they are."""
    wanted, known = column.take(pa.array(rows)), column.take(pa.array(origs))
    if not pa.types.is_integer(column.type):
        distinct = known.unique()
        wanted, known = pc.fill_null(pc.index_in(wanted, distinct), -1), pc.index_in(known, distinct)
    return wanted.to_numpy(), known.to_numpy()


def _choose(table: pa.Table, fakes: Sequence[int], groups: Sequence[list[int]]) -> list[int]:
    """Choose for each manipulated row among several ``orig`` rows, given in source order."""
    rows = sorted({*fakes, *chain.from_iterable(groups)})
    texts, images = (
        dict(zip(rows, table.column(name).take(pa.array(rows)).to_pylist(), strict=True))
        for name in ("text", "image")
    )
    words: dict[int, frozenset[str]] = {}

    def shared(row: int, other: int) -> int:
        for each in (row, other):
            if each not in words:
                words[each] = frozenset(texts[each].lower().split())
        return len(words[row] & words[other])

    chosen = []
    for fake, group in zip(fakes, groups, strict=True):
        same_text = [row for row in group if texts[row] == texts[fake]]
        same_image = [row for row in group if images[row] == images[fake]]
        candidates = same_text or same_image or group
        if len({texts[row] for row in candidates}) > 1:
            candidates = [max(candidates, key=lambda row: shared(row, fake))]
        chosen.append(candidates[0])
    return chosen
