"""Which of the pending keys a pilot generates: at random, the same in every run, prompts of all lengths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.carrying import Carrier, divide
from pipeline.engines.base import Request
from pipeline.jobs import Job
from pipeline.jobs.base import Row
from pipeline.run import Identity
from pipeline.shards.plan import Plan
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


def generated_share(
    identity: Identity,
    carrier: Carrier | None,
    entries: Iterable[pa.Table],
    shards: int,
    image_root: Path,
    seed: int,
) -> float:
    """Return the share of the pending keys that the engine will be asked for, from a few whole shards.

    The others have a text in an older version that still holds, or the same prompt as another key.

    Args:
        identity: The table.
        carrier: Where older texts are looked for; None: nowhere.
        entries: The pending entries of the plan, one table per shard.
        shards: How many shards they are.
        image_root: Folder of the images.
        seed: Another one looks at other shards.

    Returns:
        From 0 (also without any pending shard) to 1.
    """
    if not shards:
        return 0.0
    chosen = set(np.random.default_rng(seed).choice(shards, min(shards, SHARDS_LOOKED_AT), replace=False))
    asked = rows = 0
    for place, shard in enumerate(entries):
        if place in chosen:
            samples = identity.job.samples_of(identity.samples, shard)
            requests = [identity.job.request(sample, image_root) for sample in samples]
            division = divide(identity.job, samples, requests, identity.inputs, carrier)
            asked, rows = asked + len(division.asked), rows + len(shard)
    return asked / rows


def draw_rows(
    job: Job,
    samples: Table,
    entries: Iterable[pa.Table],
    pending: int,
    rows: int,
    image_root: Path,
    *,
    seed: int,
) -> list[tuple[Row, Request]]:
    """Return samples of some of the pending keys, with their requests, in the order of the plan.

    Candidates are drawn at random; of these every k-th is taken in the order of the prompts' lengths, so that
    short and long prompts stand in the pilot as they do in the table.

    Args:
        job: The job.
        samples: The samples.
        entries: The pending entries of the plan, one table per shard.
        pending: How many they are.
        rows: How many to take.
        image_root: Folder of the images.
        seed: Another one gives other rows.
    """
    draw = np.random.default_rng(seed)
    count = min(pending, max(CANDIDATES_PER_ROW * rows, FEWEST_CANDIDATES))
    places = np.sort(draw.choice(pending, count, replace=False))
    picked, start = [], 0
    for shard in entries:
        inside = places[(places >= start) & (places < start + len(shard))] - start
        if len(inside):
            picked.append(shard.take(pa.array(inside)))
        start += len(shard)
    candidates = pa.concat_tables(picked)
    found = job.samples_of(samples, candidates)
    requests = [job.request(sample, image_root) for sample in found]
    chosen = _every_kth([len(request.prompt) for request in requests], min(rows, count), draw)
    return [(found[place], requests[place]) for place in chosen]


def _every_kth(lengths: list[int], rows: int, draw: np.random.Generator) -> list[int]:
    """Return places spread evenly over the order of the lengths, equal ones in random order."""
    order = np.lexsort((draw.permutation(len(lengths)), np.asarray(lengths)))
    places = (np.arange(rows) + draw.random()) * len(lengths) / rows
    return sorted(int(place) for place in order[places.astype(int)])
