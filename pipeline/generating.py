"""Writing shards: one at a time, and in order with the next one begun while one is finished."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.carrying import Division, divide
from pipeline.costs.times import ShardClock, Times
from pipeline.engines import Engine
from pipeline.engines.base import Request, Result
from pipeline.gates.policy import Judged
from pipeline.identity import identity
from pipeline.jobs import Job
from pipeline.jobs.base import Row
from pipeline.shards.writer import commit_shard, committed_marker
from schemas import schema_of
from schemas.marker import Marker

if TYPE_CHECKING:
    from pipeline.run import Work


@dataclass(frozen=True)
class ShardReport:
    """What became of one shard.

    Attributes:
        shard: Number of the shard.
        rows: Rows with a text.
        failed: Keys that ended in the failures ledger.
        quarantined: Keys whose rows a gate set aside.
        skipped: The shard was committed before, so nothing was generated.
        seconds: Time spent on it, this time.
        tokens_in: Prompt tokens read.
        tokens_out: Tokens generated, those of texts that were made anew included.
        gates: What the gates noticed and did, per flag; see ``pipeline.gates.policy.Judged``.
        times: Where the time went.
        bytes: Size of the shard's data files.
        carried: Rows copied from an older version, as what they are made from is the same.
        shared: Rows and failures that share the engine's answer to another key of the shard.
    """

    shard: int
    rows: int
    failed: int
    quarantined: int
    skipped: bool
    seconds: float
    tokens_in: int
    tokens_out: int
    gates: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    times: Times = Times()
    bytes: int = 0
    carried: int = 0
    shared: int = 0


@dataclass
class BegunShard:
    """A shard whose rows an engine was asked for.

    Attributes:
        engine: The engine; None when no row needs one.
        planned: Its keys, in the order of the plan.
        samples: Its samples, in the same order.
        requests: What its texts are made from, in the same order.
        division: Which of the requests the engine was asked.
        results: The answers, in any order.
    """

    engine: Engine | None
    planned: list[str]
    samples: list[dict[str, Any]]
    requests: list[Request]
    division: Division
    results: Iterator[Result]

    def give_up(self) -> None:
        """Tell the engine that the answers are not wanted any more."""
        close = getattr(self.results, "close", None)
        if close is not None:
            close()


def begin_shard(work: Work, shard: int, engine: Engine | None) -> BegunShard:
    """Read a shard's samples and ask an engine for the texts that are not known; None asks for nothing."""
    return begin_rows(work, work.plan.entries(shard), engine)


def begin_rows(work: Work, entries: pa.Table, engine: Engine | None) -> BegunShard:
    """Read the samples of entries of the plan and ask an engine for the texts that are not known."""
    samples = work.job.samples_of(work.samples, entries)
    requests = [work.job.request(sample, work.image_root) for sample in samples]
    division = divide(work.job, samples, requests, work.inputs, work.carrier)
    planned = entries.column("key").to_pylist()
    results = engine.generate(division.asked) if engine is not None and division.first else iter(())
    return BegunShard(engine, planned, samples, requests, division, results)


def generate_shard(
    work: Work,
    shard: int,
    engine: Engine | None,
    *,
    on_result: Callable[[Result], None] | None = None,
    begun: BegunShard | None = None,
    check: Callable[[], None] = lambda: None,
) -> ShardReport:
    """Write one shard, unless it is committed already.

    Args:
        work: The prepared table.
        shard: Number of the shard.
        engine: What generates; it stays loaded. None when ``begun`` needs none.
        on_result: Called with every result of the engine as it comes, e.g. to show progress or to stop by
            raising.
        begun: The shard's rows, when the engine was asked for them before.
        check: Called with every text that the gates had generated again; stops by raising.

    Raises:
        AccountingError: The engine left a key without a result; nothing is committed.
    """
    plan, job = work.plan, work.job
    marker = committed_marker(plan.version, shard)
    if marker is not None:
        counts = (marker.rows, marker.failures, marker.quarantined)
        return ShardReport(shard, *counts, True, 0.0, 0, 0)
    started = time.monotonic()
    begun = begun or begin_shard(work, shard, engine)
    made = make_texts(job, begun, on_result, check)
    division, judged = begun.division, made.judged
    parts = texts_of(job, begun.samples, begun.requests, division, judged)
    seconds = time.monotonic() - started
    stats = stats_of(made.results.values(), judged, division, seconds, made.times)
    rows, failures, quarantined = parts
    won = commit_shard(
        plan.version,
        plan.table,
        shard,
        fingerprint=plan.fingerprint,
        planned=begun.planned,
        rows=rows,
        failures=failures,
        quarantined=quarantined,
        stats=stats,
    )
    marker = committed_marker(plan.version, shard) if won else None
    return report_of(shard, parts, marker, stats, judged, made.clock.written(made.times))


@dataclass(frozen=True)
class Made:
    """The texts of some begun rows.

    Attributes:
        results: The engine's answers, by the keys that it was asked.
        judged: What the gates made of them.
        times: Where the time went so far.
        clock: Goes on to measure the writing.
    """

    results: Mapping[str, Result]
    judged: Judged
    times: Times
    clock: ShardClock


def make_texts(
    job: Job, begun: BegunShard, on_result: Callable[[Result], None] | None, check: Callable[[], None]
) -> Made:
    """Wait for the answers to begun rows and have the gates judge them; arguments as ``generate_shard``."""
    clock = ShardClock(begun.engine)
    results: dict[str, Result] = {}
    for result in begun.results:
        results[result.key] = result
        if on_result is not None:
            on_result(result)
    clock.generated()
    answered = begun.division.answered(results)
    judged = job.judge(begun.samples, begun.requests, answered, begun.engine, check)
    return Made(results, judged, clock.judged(judged.seconds), clock)


def stats_of(
    results: Iterable[Result], judged: Judged, division: Division, seconds: float, times: Times
) -> dict[str, Any]:
    """Return what a marker says about the work; the writing is still to come."""
    results, me = list(results), identity()
    return {
        "seconds": round(seconds, 3),
        "tokens_in": sum(result.tokens_in for result in results) + judged.tokens_in,
        "tokens_out": sum(result.tokens_out for result in results) + judged.tokens_out,
        "carried": division.carried,
        "shared": division.shared,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "run": me.run,
        "worker": me.worker,
        "committed": datetime.now(UTC).isoformat(timespec="seconds"),
        "times": times.as_dict(),
        **judged.stats(),
    }


def report_of(
    shard: int,
    parts: tuple[pa.Table, pa.Table, pa.Table],
    marker: Marker | None,
    stats: Mapping[str, Any],
    judged: Judged,
    times: Times,
) -> ShardReport:
    """Return what became of a shard, or of a retry of its failures.

    Args:
        shard: Its number.
        parts: Rows, failures and rows set aside.
        marker: The marker that was committed; None when another worker was faster.
        stats: Of the marker.
        judged: What the gates made of the texts.
        times: Where the time went, the writing included.
    """
    rows, failures, quarantined = map(len, parts)
    return ShardReport(
        shard,
        rows,
        failures,
        quarantined,
        skipped=marker is None,
        seconds=stats["seconds"],
        tokens_in=stats["tokens_in"],
        tokens_out=stats["tokens_out"],
        gates=judged.counts,
        times=times,
        bytes=0 if marker is None else sum(entry.size for entry in marker.files()),
        carried=stats["carried"],
        shared=stats["shared"],
    )


def texts_of(
    job: Job, samples: Sequence[Row], requests: Sequence[Request], division: Division, judged: Judged
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return rows, failures and rows set aside of some of a shard's requests, each in plan order.

    So a table's bytes do not depend on the order in which the engine answers.
    """
    rows: list[Row] = []
    failures: list[Row] = []
    set_aside: list[Row] = []
    now = datetime.now(UTC)
    for sample, request, digest in zip(samples, requests, division.hashes, strict=True):
        result = division.result(request.key, digest, judged.results)
        if result is None:
            continue  # The accounts are checked before anything is committed; that check names the key.
        if result.failure is None:
            part = set_aside if request.key in judged.set_aside else rows
            part.append(division.finish(job.row(sample, result, judged.flags.get(request.key, [])), digest))
        else:
            failures.append(
                {
                    "stage": job.table,
                    "key": request.key,
                    "error_class": result.failure.error_class,
                    "permanent": result.failure.permanent,
                    "message": result.failure.message,
                    "attempts": 1,
                    "last_attempt": now,
                }
            )
    return (
        pa.Table.from_pylist(rows, schema=schema_of(job.table)),
        pa.Table.from_pylist(failures, schema=schema_of("failures")),
        pa.Table.from_pylist(set_aside, schema=schema_of(job.table)),
    )


class ShardsAhead:
    """Writes shards of a table one after the other; not for several threads at once.

    At the end of a shard fewer and fewer rows are computed together, and the device idles. An engine that
    begins with the call of ``generate`` fills these places with the next shard's rows.
    """

    def __init__(
        self,
        work: Work,
        following: Callable[[int], int | None],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Write nothing yet.

        Args:
            work: The prepared table.
            following: Names the shard to be written after a given one, if there is one.
            check: Called with every text that the gates had generated again; stops by raising.
        """
        self._work = work
        self._check = check
        self._following = following
        self._begun: dict[int, BegunShard] = {}

    def write(self, shard: int, engine: Engine, on_result: Callable[[Result], None]) -> ShardReport:
        """Write a shard as ``generate_shard`` does, the next one begun where the engine begins at once."""
        begun = self._begun.pop(shard, None)
        if begun is not None and begun.engine is not engine:  # closed since, e.g. because it died
            begun.give_up()
            begun = None
        begun = begun or (begin_shard(self._work, shard, engine) if self._open(shard) else None)
        try:
            self._begin_next(shard, engine)
            return generate_shard(
                self._work, shard, engine, on_result=on_result, begun=begun, check=self._check
            )
        except BaseException:
            self.give_up()
            raise
        finally:
            if begun is not None:
                begun.give_up()  # after an error, or when another process was faster

    def give_up(self) -> None:
        """Give up what is begun and not written."""
        while self._begun:
            self._begun.popitem()[1].give_up()

    def _begin_next(self, shard: int, engine: Engine) -> None:
        if not getattr(engine, "begins_at_once", False):
            return
        following = self._following(shard)
        if following is not None and following not in self._begun and self._open(following):
            self._begun[following] = begin_shard(self._work, following, engine)

    def _open(self, shard: int) -> bool:
        return committed_marker(self._work.plan.version, shard) is None
