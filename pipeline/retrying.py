"""Trying failed rows again: only those, and without touching a row that is good.

Failures are few and lie in many shards, so the rows of several shards are generated together. Each shard
then gets a marker of its own for the retry (see ``schemas.history``), so that a retry that is stopped or
killed has mended some shards whole and the others not at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import RunConfig
from pipeline.costs.bill import metered
from pipeline.engines import Engine, get_engine
from pipeline.engines.base import Result
from pipeline.errors import FingerprintMismatch, UsageError
from pipeline.generating import ShardReport, begin_rows, make_texts, report_of, stats_of, texts_of
from pipeline.progress import Progress
from pipeline.retry_summary import RetrySummary
from pipeline.run import Work, prepare
from pipeline.shards.ledger import read_ledger
from pipeline.shards.writer import commit_retry, standing_retry
from pipeline.stopping import stop_on_signal
from schemas import NoSuchTable, Shard
from schemas.layout import current_version
from schemas.reader import committed
from schemas.tables import schema_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """Which failures are tried again.

    Attributes:
        classes: Codes of the failures, permanent ones included; empty: all that may pass by themselves.
        permanent: Try all failures, whatever their class.
    """

    classes: tuple[str, ...] = ()
    permanent: bool = False

    def of(self, ledger: pa.Table) -> pa.Table:
        """Return the rows of a ledger that are tried again."""
        if self.permanent:
            return ledger
        if self.classes:
            return ledger.filter(pc.is_in(ledger.column("error_class"), value_set=pa.array(self.classes)))
        return ledger.filter(pc.invert(ledger.column("permanent")))


@dataclass(frozen=True)
class _Part:
    """The failures of one shard that are tried again.

    Attributes:
        shard: The shard as it was read.
        ledger: All its failures.
        keys: The failed keys that are tried, to their error class so far.
    """

    shard: Shard
    ledger: pa.Table
    keys: dict[str, str]


def retry_failed(
    name: str,
    config: RunConfig,
    out: Path,
    *,
    choice: Choice = Choice(),
    image_root: Path | None = None,
) -> RetrySummary:
    """Generate the failed rows of a table's current version again, with progress on stderr.

    Args:
        name: ``captions`` or ``explanations``.
        config: The run's configuration; it must be the one that made the version.
        out: Output folder.
        choice: Which failures are tried.
        image_root: Folder of the images, when they were moved since ingest.

    Raises:
        UsageError: There is no such table yet, or a ledger cannot be read.
        FingerprintMismatch: The current version was made with other settings.
        Interrupted: SIGINT or SIGTERM came; the shards mended so far stand, the same command goes on.
    """
    started = time.monotonic()
    reports: list[ShardReport] = []
    with stop_on_signal() as stop:

        def check() -> None:
            stop.check(f"{name}: {len(reports)} shards were mended; the same command goes on")

        with stop.nothing_in_hand():
            work = _open(name, config, out, image_root)
            plan = work.plan
            # Only counted here: the ledgers of a large table would not all fit the memory at once.
            counted = [
                (shard, len(_read_part(work, shard, choice).keys))
                for shard in committed(plan.version, name)[0]
                if shard.ledger is not None
            ]
            tried = [(shard, count) for shard, count in counted if count]
            check()
            if tried:
                engine = get_engine(work.job.model)
        summary = RetrySummary(
            name, plan.version.name, str(plan.version), plan.planned, work.job.config.max_failed_share, {}
        )
        if tried:
            with (
                metered(work, reports, started) as meter,
                Progress(sum(count for _, count in tried), f"{name}, failed rows") as progress,
            ):

                def on_result(result: Result) -> None:
                    check()
                    progress.update(tokens=result.tokens_out, failed=int(result.failure is not None))

                for group in _groups(tried, work.job.config.shard_size):
                    parts = [
                        _read_part(work, shard, choice)
                        for shard in group
                        if standing_retry(plan.version, shard) is None
                    ]
                    if parts:
                        for report in _retry_group(work, parts, engine, on_result, check, summary):
                            reports.append(report)
                            progress.update(report.carried + report.shared)
            summary.bill = meter.bill
        else:
            log.info("%s: no failed rows to try again in %s", name, plan.version.name)
    shards, _ = committed(plan.version, plan.table)
    summary.failed_total = sum(shard.failures for shard in shards)
    summary.left = max(0, summary.failed_total - summary.failed)
    summary.seconds = round(time.monotonic() - started, 2)
    return summary


def _open(name: str, config: RunConfig, out: Path, image_root: Path | None) -> Work:
    try:
        current_version(out, name)
    except NoSuchTable as error:
        raise UsageError(f"{error}. Run `python -m pipeline {name} --out {out}` first") from error
    try:
        return prepare(name, config, out, image_root=image_root)
    except FingerprintMismatch as error:
        message = f"{error}\nFailed rows are tried again with the settings of their version only."
        raise FingerprintMismatch(message, error.changed) from error


def _read_part(work: Work, shard: Shard, choice: Choice) -> _Part:
    """Read a shard's ledger.

    Raises:
        UsageError: The ledger cannot be read.
    """
    ledger = read_ledger(work.plan.version, shard.ledger)
    tried = choice.of(ledger)
    keys = dict(zip(*(tried.column(name).to_pylist() for name in ("key", "error_class")), strict=True))
    return _Part(shard, ledger, keys)


def _groups(shards: Sequence[tuple[Shard, int]], rows: int) -> Iterator[list[Shard]]:
    """Yield shards together that have about ``rows`` keys to try; each comes with the number of its own."""
    group: list[Shard] = []
    count = 0
    for shard, keys in shards:
        group.append(shard)
        count += keys
        if count >= rows:
            yield group
            group, count = [], 0
    if group:
        yield group


def _retry_group(
    work: Work,
    group: Sequence[_Part],
    engine: Engine,
    on_result: Callable[[Result], None],
    check: Callable[[], None],
    summary: RetrySummary,
) -> Iterator[ShardReport]:
    """Generate failed rows of some shards together; commit each shard's and yield what became of them."""
    begun = begin_rows(work, pa.concat_tables([_entries(work, part) for part in group]), engine)
    started = time.monotonic()
    try:
        made = make_texts(work.job, begun, on_result, check)
    finally:
        begun.give_up()
    seconds = time.monotonic() - started
    first = 0
    for part in group:
        mine = slice(first, first + len(part.keys))
        first += len(part.keys)
        keys, division = begun.planned[mine], begun.division.part(mine)
        own, share = made.judged.part(keys), len(keys) / len(begun.planned)
        parts = texts_of(work.job, begun.samples[mine], begun.requests[mine], division, own)
        # A text may have been carried over, or be shared with a row of the same prompt.
        answers = [made.results[key] for key in keys if key in made.results]
        times = made.times.scaled(share)
        stats = {
            **stats_of(answers, own, division, seconds * share, times),
            "retried": len(keys),
        }
        rows, failures, quarantined = parts
        won = commit_retry(
            work.plan.version,
            part.shard,
            ledger=part.ledger,
            rows=rows,
            failures=_remaining(part, failures),
            quarantined=quarantined,
            stats=stats,
        )
        if not won:
            continue
        summary.add(part.keys, rows, failures, quarantined)
        summary.tokens_in += stats["tokens_in"]
        summary.tokens_out += stats["tokens_out"]
        marker = standing_retry(work.plan.version, part.shard)
        yield report_of(part.shard.number, parts, marker, stats, own, made.clock.written(times))


def _entries(work: Work, part: _Part) -> pa.Table:
    """Return the plan's entries of the keys that are tried."""
    entries = work.plan.entries(part.shard.number)
    return entries.filter(pc.is_in(entries.column("key"), value_set=pa.array(part.keys)))


def _remaining(part: _Part, failures: pa.Table) -> pa.Table:
    """Return the ledger after the retry: keys that failed again, one attempt older, and those not tried."""
    again = {row["key"]: row for row in failures.to_pylist()}
    rows = []
    for row in part.ledger.to_pylist():
        if row["key"] not in part.keys:
            rows.append(row)
        elif row["key"] in again:
            rows.append({**again[row["key"]], "attempts": row["attempts"] + 1})
    return pa.Table.from_pylist(rows, schema=schema_of("failures"))
