"""A pilot: some of the pending rows, really generated, judged and written, but not into the table."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.carrying import TextInputs, divide
from pipeline.costs.times import ShardClock, Times
from pipeline.engines.base import Engine, Request, Result
from pipeline.generating import texts_of
from pipeline.jobs import Job
from pipeline.jobs.base import Row
from pipeline.shards import atomic
from pipeline.shards.writer import write_parquet
from pipeline.stopping import StopRequest
from schemas.tables import empty_table

log = logging.getLogger(__name__)

MOST_BATCHES = 40
MARKER_BYTES = 1500
"""About the size of a shard's marker, which is written and flushed too."""


@dataclass
class Pilot:
    """What a pilot measured.

    Attributes:
        rows: Rows of each measured batch.
        seconds: Time of each batch; what is done once per shard is spread over the shard's rows.
        warm_up: Seconds of the first batch, which is generated once more than measured.
        times: Where the time went.
        sizes: Bytes of each row's text.
        data_bytes: Bytes of the written files.
        empty_bytes: Bytes of a file without rows.
        files: How many files with rows were written.
        tokens_out: Tokens generated.
        failed: Rows without a text.
        quarantined: Rows that a gate set aside.
        gates: What the gates noticed and did.
    """

    rows: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    warm_up: float = 0.0
    times: Times = Times()
    sizes: list[int] = field(default_factory=list)
    data_bytes: int = 0
    empty_bytes: int = 0
    files: int = 0
    tokens_out: int = 0
    failed: int = 0
    quarantined: int = 0
    gates: list[Any] = field(default_factory=list)


def run_pilot(
    job: Job,
    inputs: TextInputs,
    engine: Engine,
    drawn: Sequence[tuple[Row, Request]],
    folder: Path,
    stop: StopRequest,
) -> Pilot:
    """Generate, judge and write the drawn rows in shards of the configured size, and measure it.

    Args:
        job: The job.
        inputs: What the texts are made from beside the requests.
        engine: Its engine, loaded.
        drawn: The rows.
        folder: On the disk of the tables; a folder in it is made and removed again.
        stop: Asked between two rows.

    Raises:
        Interrupted: A signal asked for a stop.
    """
    pilot = Pilot()
    work = folder / f"{atomic.TEMPORARY_PREFIX}forecast-{atomic.attempt_id()}"
    work.mkdir(parents=True)
    try:
        pilot.empty_bytes = write_parquet(empty_table(job.table), work / "empty.parquet").size
        batch = job.model.batch_size if job.model.engine == "transformers" else 1
        pilot.warm_up = _warm_up(engine, [request for _, request in drawn[:batch]], stop)
        # An engine that works ahead computes the end of a shard together with the start of the next.
        size = len(drawn) if getattr(engine, "begins_at_once", False) else job.config.shard_size
        for start in range(0, len(drawn), size):
            _one_shard(pilot, job, inputs, engine, drawn[start : start + size], work, stop)
            log.info("pilot: %d of %d rows", min(start + size, len(drawn)), len(drawn))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return pilot


def _warm_up(engine: Engine, requests: Sequence[Request], stop: StopRequest) -> float:
    started = time.monotonic()
    for _ in engine.generate(requests):
        _check(stop)
    return time.monotonic() - started


def _one_shard(
    pilot: Pilot,
    job: Job,
    inputs: TextInputs,
    engine: Engine,
    drawn: Sequence[tuple[Row, Request]],
    work: Path,
    stop: StopRequest,
) -> None:
    samples, requests = [sample for sample, _ in drawn], [request for _, request in drawn]
    division = divide(job, samples, requests, inputs, None)
    clock, started = ShardClock(engine), time.monotonic()
    results: dict[str, Result] = {}
    arrived = []
    for result in engine.generate(requests):
        _check(stop)
        results[result.key] = result
        arrived.append(time.monotonic() - started)
    clock.generated()
    judged = job.judge(samples, requests, results, engine, lambda: _check(stop))
    times = clock.judged(judged.seconds)
    rows, failures, quarantined = texts_of(job, samples, requests, division, judged)
    for start in range(0, len(samples), job.config.shard_size):
        for name, whole in (("rows", rows), ("failures", failures), ("quarantined", quarantined)):
            part = whole.slice(start, job.config.shard_size)
            if len(part) or (name == "rows" and not start):
                pilot.data_bytes += write_parquet(part, work / f"{name}-{pilot.files}.parquet").size
        atomic.write_bytes(work / f"marker-{pilot.files}.json", b" " * MARKER_BYTES)
        pilot.files += 1
    times = clock.written(times)
    pilot.times = Times.sum([pilot.times, times])
    once = max(0.0, time.monotonic() - started - arrived[-1])
    blocks = batches(arrived, most=max(1, MOST_BATCHES * job.config.shard_size // 1000))
    pilot.rows += [count for count, _ in blocks]
    pilot.seconds += [seconds + once * count / len(arrived) for count, seconds in blocks]
    pilot.sizes += _text_sizes(rows) + _text_sizes(failures) + _text_sizes(quarantined)
    pilot.tokens_out += sum(result.tokens_out for result in results.values()) + judged.tokens_out
    pilot.failed += len(failures)
    pilot.quarantined += len(quarantined)
    pilot.gates.append(judged.counts)


def batches(arrived: Sequence[float], *, most: int, gap: float = 1e-3) -> list[tuple[int, float]]:
    """Return (rows, seconds) of the batches in which results came.

    Results that come together were computed together; where an engine answers row by row, neighbours are
    taken together so that no more than ``most`` batches are left.

    Args:
        arrived: When each result came, in seconds from the start, rising.
        most: Most batches.
        gap: Seconds between two results of the same batch, at most.
    """
    ends = [
        place
        for place, at in enumerate(arrived)
        if place + 1 == len(arrived) or arrived[place + 1] - at > gap
    ]
    step = -(-len(ends) // max(4, most))
    ends = [*ends[step - 1 : -1 : step], ends[-1]] if step > 1 else ends
    out, before, done = [], 0.0, -1
    for end in dict.fromkeys(ends):
        out.append((end - done, arrived[end] - before))
        before, done = arrived[end], end
    return out


def _text_sizes(table: pa.Table) -> list[int]:
    names = [name for name in ("caption", "explanation", "message") if name in table.column_names]
    return [len(text.encode()) for name in names for text in table.column(name).to_pylist()]


def _check(stop: StopRequest) -> None:
    stop.check("forecast: nothing was written; the same command starts again")
