"""Which samples the page shows: the same ones for the same seed, every class, and what went wrong first.

A place on the page is drawn by a hash of (seed, key), not by a random generator: adding rows to a table then
moves few of the others. All passes stream, and what they keep is bounded by the size of the page, not of the
table.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import Table
from schemas.vocabulary import FAKE_CLS

NOTICED_SHARE = 0.5
"""Part of the page that samples with a flag or a failure may take before the classes get their places."""

KEPT_PER_CODE = 50_000
"""Most keys remembered for one flag or failure class; more would not change what a page can show."""

Row = dict[str, Any]


class Lowest:
    """The ``size`` keys of lowest rank among all that were offered.

    Args:
        size: Most keys to keep.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._heap: list[tuple[int, str]] = []

    def offer(self, rank: int, key: str) -> bool:
        """Take a key in if it ranks low enough, and return whether it was taken."""
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, (-rank, key))
            return True
        if self._heap and -rank > self._heap[0][0]:
            heapq.heapreplace(self._heap, (-rank, key))
            return True
        return False

    def keys(self) -> list[str]:
        """Return the keys, lowest rank first."""
        return [key for _, key in sorted(self._heap, key=lambda item: (-item[0], item[1]))]

    def __len__(self) -> int:
        return len(self._heap)


@dataclass(frozen=True)
class Noticed:
    """Keys with a flag or a failure.

    Attributes:
        images: ``image_key`` to codes such as ``captions:truncated``.
        samples: ``sample_id`` to codes such as ``explanations:engine_error``.
    """

    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    samples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def codes(self, sample_id: str, image_key: str | None) -> tuple[str, ...]:
        """Return every code of a sample, those of its picture's caption first."""
        return self.images.get(image_key or "", ()) + self.samples.get(sample_id, ())


@dataclass(frozen=True)
class Selection:
    """The samples of the page.

    Attributes:
        ids: ``sample_id`` of each, in page order.
        available: Samples there were to choose from.
        noticed: How many are shown because of a flag or a failure.
    """

    ids: tuple[str, ...]
    available: int
    noticed: int


def rank(seed: int, key: str) -> int:
    """Return the rank of a key under a seed: 64 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest(), "big")


def fair_shares(available: Mapping[str, int], total: int) -> dict[str, int]:
    """Deal ``total`` places out as evenly as the groups' sizes allow.

    Args:
        available: Group to its size.
        total: Places to deal out.

    Returns:
        Group to its places; at most its size, and ``total`` in all unless the groups are smaller together.
    """
    shares = dict.fromkeys(available, 0)
    left = min(total, sum(available.values()))
    while left:
        hungry = [group for group in available if shares[group] < available[group]]
        each = max(1, left // len(hungry))
        for group in hungry:
            taken = min(each, available[group] - shares[group], left)
            shares[group] += taken
            left -= taken
    return shares


def find_noticed(
    captions: Table | None,
    explanations: Table | None,
    failures: Table | None,
    seed: int,
    set_aside: Sequence[Table] = (),
) -> Noticed:
    """Return the keys that a gate flagged or that failed, at most ``KEPT_PER_CODE`` for each code.

    ``set_aside`` are the quarantined parts of captions and explanations.
    """
    kept: dict[tuple[str, str], Lowest] = defaultdict(lambda: Lowest(KEPT_PER_CODE))
    for stage, key, code in _notices(captions, explanations, failures, *set_aside):
        kept[stage, code].offer(rank(seed, key), key)
    found: dict[str, dict[str, tuple[str, ...]]] = {"captions": {}, "explanations": {}}
    for (stage, code), lowest in sorted(kept.items()):
        for key in lowest.keys():  # noqa: SIM118 - not a mapping: keys() is the list in rank order
            found[stage][key] = (*found[stage].get(key, ()), f"{stage}:{code}")
    return Noticed(found["captions"], found["explanations"])


def _notices(*tables: Table | None) -> Iterator[tuple[str, str, str]]:
    """Yield (stage, key, code) of every flag and failure."""
    for table in tables:
        if table is None:
            continue
        if table.name == "failures":
            for batch in table.batches(["stage", "key", "error_class"]):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
            continue
        key = "image_key" if table.name == "captions" else "sample_id"
        for batch in table.batches([key, "flags"]):
            flagged = batch.filter(pc.greater(pc.list_value_length(batch.column("flags")), 0))
            for row in flagged.to_pylist():
                yield from ((table.name, row[key], flag) for flag in row["flags"])


def choose(samples: Table, noticed: Noticed, *, limit: int, seed: int, split: str | None = None) -> Selection:
    """Choose the samples of the page.

    Up to ``NOTICED_SHARE`` of the places go to samples with a flag or a failure, dealt out evenly over the
    codes, so that a rare one is seen beside a frequent one. The rest is dealt out evenly over the classes.

    Args:
        samples: The samples.
        noticed: What ``find_noticed`` found.
        limit: Most samples to choose.
        seed: Another seed shows other samples.
        split: Only samples of this split.
    """
    by_class = {fake_cls: Lowest(limit) for fake_cls in FAKE_CLS}
    by_code: dict[str, Lowest] = defaultdict(lambda: Lowest(limit))
    available = 0
    for batch in samples.batches(["sample_id", "image_key", "fake_cls"], split=split):
        available += batch.num_rows
        for sample_id, image_key, fake_cls in zip(*(c.to_pylist() for c in batch.columns), strict=True):
            place = rank(seed, sample_id)
            by_class[fake_cls].offer(place, sample_id)
            for code in noticed.codes(sample_id, image_key):
                by_code[code].offer(place, sample_id)
    # With few samples there is room for all of them, and none needs to be preferred.
    share = limit if available <= limit else round(limit * NOTICED_SHARE)
    chosen = _deal(by_code, share, taken=())
    rest = _deal(by_class, limit - len(chosen), taken=chosen)
    order = sorted(chosen + rest, key=lambda sample_id: (rank(seed, sample_id), sample_id))
    return Selection(tuple(order), available, len(chosen))


def _deal(groups: Mapping[str, Lowest], total: int, taken: tuple[str, ...] | list[str]) -> list[str]:
    """Return ``total`` keys in fair shares of the groups; a key that stands in several groups counts once."""
    used = set(taken)
    dealt: list[str] = []
    # Rarest first: a key that carries a rare and a frequent code then fills the rare one's place.
    order = sorted(groups, key=lambda name: (len(groups[name]), name))
    free = {name: [key for key in groups[name].keys() if key not in used] for name in order}  # noqa: SIM118
    while len(dealt) < total and any(free.values()):
        shares = fair_shares({name: len(keys) for name, keys in free.items()}, total - len(dealt))
        for name in order:
            for key in free[name][: shares[name]]:
                if key not in used:
                    used.add(key)
                    dealt.append(key)
        free = {name: [key for key in keys if key not in used] for name, keys in free.items()}
    return dealt


def fetch(table: Table, column: str, keys: list[str]) -> list[Row]:
    """Return the rows of a table whose ``column`` is one of ``keys``, streamed; in the table's order."""
    if not keys:
        return []
    return table.dataset().to_table(filter=ds.field(column).isin(keys)).to_pylist()
