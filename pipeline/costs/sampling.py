"""Which of the pending keys a pilot generates: at random, the same in every run, prompts of all lengths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.carrying import Carrier, divide
from pipeline.engines.base import Request
from pipeline.jobs import Job
from pipeline.jobs.base import Row
from pipeline.run import Identity
from pipeline.shards.plan import PLAN_SCHEMA, Plan
from schemas import Table

CANDIDATES_PER_ROW = 10
FEWEST_CANDIDATES = 2000
SHARDS_LOOKED_AT = 20
"""Shards in which is counted what need not be generated."""


def pending_entries(job: Job, samples: Table, plan: Plan | None) -> Iterator[pa.Table]:
    """Yield the plan's entries of every shard that has no marker; without a plan, of all to be planned."""
    if plan is None:
        yield from job.plan(samples)
    else:
        yield from (plan.entries(shard) for shard in plan.pending())


@dataclass(frozen=True)
class Pending:
    """The pending entries of a plan, as far as a forecast has to know them.

    Attributes:
        rows: How many they are.
        shards: How many shards they are in.
        looked_at: Entries of whole shards drawn at random, ``SHARDS_LOOKED_AT`` at most, one table each.
        candidates: Entries drawn at random, those that the pilot chooses from, in the order of the plan.
    """

    rows: int
    shards: int
    looked_at: list[pa.Table]
    candidates: pa.Table


def walk(entries: Iterable[pa.Table], rows: int, seed: int) -> Pending:
    """Go through the pending entries once, since making them may mean to read all samples.

    Each shard and each entry draws a lot, and those with the smallest lots stay; so nothing has to be known
    of their number beforehand, and the memory does not grow with it.

    Args:
        entries: The pending entries, one table per shard.
        rows: How many rows the pilot is to have.
        seed: Another one draws others.
    """
    shard_lots, row_lots = (np.random.default_rng([seed, of]) for of in range(2))
    most = max(CANDIDATES_PER_ROW * rows, FEWEST_CANDIDATES)
    looked: list[tuple[float, int, pa.Table]] = []
    kept: list[pa.Table] = []
    lots, bar = np.empty(0), 1.0
    total = shards = 0
    for shard in entries:
        lot = float(shard_lots.random())
        if len(looked) < SHARDS_LOOKED_AT or lot < looked[-1][0]:
            # Copied: a slice would keep the whole table that it was cut from.
            looked.append((lot, shards, shard.take(pa.array(range(len(shard))))))
            looked = sorted(looked, key=lambda one: one[:2])[:SHARDS_LOOKED_AT]
        mine = row_lots.random(len(shard))
        good = np.flatnonzero(mine < bar)
        if len(good):
            kept.append(shard.take(pa.array(good)))
            lots = np.concatenate([lots, mine[good]])
        if len(lots) > 2 * most:
            kept, lots = _smallest(kept, lots, most)
            bar = float(lots.max())
        total, shards = total + len(shard), shards + 1
    kept, _ = _smallest(kept, lots, most)
    looked_at = [table for _, _, table in sorted(looked, key=lambda one: one[1])]
    return Pending(total, shards, looked_at, pa.concat_tables(kept) if kept else PLAN_SCHEMA.empty_table())


def _smallest(kept: list[pa.Table], lots: np.ndarray, most: int) -> tuple[list[pa.Table], np.ndarray]:
    """Return the entries with the smallest lots and these lots, in the order they had."""
    if len(lots) <= most:
        return kept, lots
    places = np.sort(np.argpartition(lots, most - 1)[:most])
    return [pa.concat_tables(kept).take(pa.array(places)).combine_chunks()], lots[places]


def generated_share(
    identity: Identity, carrier: Carrier | None, shards: Iterable[pa.Table], image_root: Path
) -> float:
    """Return the share of the pending keys that the engine will be asked for, from a few whole shards.

    The others have a text in an older version that still holds, or the same prompt as another key.

    Args:
        identity: The table.
        carrier: Where older texts are looked for; None: nowhere.
        shards: The entries of some shards, one table each.
        image_root: Folder of the images.

    Returns:
        From 0 (also without any shard) to 1.
    """
    asked = rows = 0
    for shard in shards:
        samples = identity.job.samples_of(identity.samples, shard)
        requests = [identity.job.request(sample, image_root) for sample in samples]
        division = divide(identity.job, samples, requests, identity.inputs, carrier)
        asked, rows = asked + len(division.asked), rows + len(shard)
    return asked / rows if rows else 0.0


def draw_rows(
    job: Job, samples: Table, candidates: pa.Table, rows: int, image_root: Path, *, seed: int
) -> list[tuple[Row, Request]]:
    """Return samples of some of the candidates, with their requests, in the order of the plan.

    Of the candidates every k-th is taken in the order of the prompts' lengths, so that short and long prompts
    stand in the pilot as they do in the table.

    Args:
        job: The job.
        samples: The samples.
        candidates: Entries drawn at random from the pending ones.
        rows: How many to take.
        image_root: Folder of the images.
        seed: Another one gives other rows.
    """
    draw = np.random.default_rng(seed)
    found = job.samples_of(samples, candidates)
    requests = [job.request(sample, image_root) for sample in found]
    chosen = _every_kth([len(request.prompt) for request in requests], min(rows, len(found)), draw)
    return [(found[place], requests[place]) for place in chosen]


def _every_kth(lengths: list[int], rows: int, draw: np.random.Generator) -> list[int]:
    """Return places spread evenly over the order of the lengths, equal ones in random order."""
    order = np.lexsort((draw.permutation(len(lengths)), np.asarray(lengths)))
    places = (np.arange(rows) + draw.random()) * len(lengths) / rows
    return sorted(int(place) for place in order[places.astype(int)])
