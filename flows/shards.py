"""One Prefect task per shard that is missing, and the loop that hands them out a few at a time."""

from __future__ import annotations

import logging
import signal
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, State
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

from flows.settings import MAX_FAILED_SHARDS, SHARD_RETRIES, SHARD_RETRY_DELAYS_S, SUBMITTED_AHEAD
from pipeline.engines import EngineDead, Result, close_engines, get_engine
from pipeline.errors import Interrupted, PipelineError
from pipeline.generating import ShardReport, ShardsAhead
from pipeline.progress import Progress
from pipeline.run import Work
from pipeline.stopping import StopRequest

log = logging.getLogger(__name__)

# A model fills its device: two flows in one process take turns, shard by shard.
_turn = threading.Lock()


class ShardsFailed(RuntimeError):
    """Shards whose tasks raised in every attempt; the others are committed."""


class TableRun:
    """A table being written: what the flow's thread and the thread of the shard tasks share.

    Not a dataclass, so that Prefect does not look into it for futures when it is given to a task.

    Attributes:
        work: The prepared table.
        pending: Shards to write.
        reports: What became of the shards so far.
        errors: Shard to the error that ended its last attempt.
        dead: Why the engine died, until one that was loaded anew has written a shard.
    """

    def __init__(self, work: Work, pending: list[int], progress: Progress, stop: StopRequest) -> None:
        self.work, self.pending, self.progress, self.stop = work, pending, progress, stop
        self.shards = ShardsAhead(work, pending, self.check)
        self.reports: list[ShardReport] = []
        self.errors: dict[int, Exception] = {}
        self.dead: EngineDead | None = None

    @property
    def table(self) -> str:
        """Name of the table."""
        return self.work.plan.table

    def check(self) -> None:
        """Raise ``Interrupted`` if a signal asked for a stop."""
        self.stop.check(f"{self.table}: {len(self.reports)} shards were written; the same command resumes")

    def write(self, shard: int) -> ShardReport:
        """Write a shard with this process's engine and note what became of it.

        Raises:
            Interrupted: A signal asked for a stop; the shard is left undone.
            EngineDead: The engine is gone; the next attempt loads it anew, where the device allows it.
        """
        counted = [0, 0, 0]

        def on_result(result: Result) -> None:
            self.check()
            step = (1, result.tokens_out, int(result.failure is not None))
            self._count(*step)
            counted[:] = [total + new for total, new in zip(counted, step, strict=True)]

        with _turn:
            try:
                self.check()
                engine = get_engine(self.work.job.model)
                report = self.shards.write(shard, engine, on_result)
            except BaseException as error:
                self.shards.give_up()
                self._count(*(-number for number in counted))
                if isinstance(error, EngineDead):
                    self._bury(error)
                raise
        if report.skipped:
            # Another process committed it meanwhile.
            self._count(self.work.plan.shard_size(shard) - counted[0], 0, 0)
        self.reports.append(report)
        self.errors.pop(shard, None)
        self.dead = None
        return report

    def _bury(self, error: EngineDead) -> None:
        self.dead = error
        try:
            close_engines()
        except Exception:
            log.warning("the dead engine could not be closed", exc_info=True)

    def _count(self, rows: int, tokens: int, failed: int) -> None:
        if rows:
            self.progress.update(rows, tokens=tokens, failed=failed)

    @property
    def halted(self) -> bool:
        """Whether no further shard should be begun."""
        fatal = self.dead is not None or any(
            isinstance(error, PipelineError) for error in self.errors.values()
        )
        return self.stop.signal is not None or fatal or len(self.errors) >= MAX_FAILED_SHARDS

    def raise_errors(self) -> None:
        """Raise what kept shards from being written, if anything did.

        Raises:
            Interrupted: A signal asked for a stop.
            EngineDead: The engine died and none could be loaded in its place.
            PipelineError: The first one that a shard ended with, e.g. a model folder that is not there.
            ShardsFailed: Shards raised something else in every attempt.
        """
        if self.dead is not None:
            raise self.dead
        for error in self.errors.values():
            if isinstance(error, PipelineError):
                raise error
        self.check()
        if self.errors:
            shard, error = next(iter(self.errors.items()))
            left, kind = len(self.pending) - len(self.reports), type(error).__name__
            raise ShardsFailed(
                f"{self.table}: {left} of {len(self.pending)} shards could not be written; shard {shard} "
                f"ended with {kind}: {error}. The others are committed, the same command tries again"
            ) from error


def one_at_a_time() -> Any:
    """Return the flows' task runner: one thread, as the engine of a process takes one shard at a time."""
    return ThreadPoolTaskRunner(max_workers=1)


def worth_retrying(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether another attempt can help: yes for a dead engine and the unexpected, no for bad usage."""
    error = state.data
    return isinstance(error, EngineDead) or not isinstance(error, PipelineError)


@task(
    name="shard",
    task_run_name="{table} shard {shard:05d}",
    retries=SHARD_RETRIES,
    retry_delay_seconds=list(SHARD_RETRY_DELAYS_S),
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def write_shard(run: TableRun, table: str, shard: int) -> State[None] | None:
    """Write one shard; when it is committed already, this does nothing.

    Args:
        run: The table being written.
        table: Its name, for the name of the task run.
        shard: Number of the shard.
    """
    try:
        report = run.write(shard)
    except Interrupted as error:
        return Cancelled(message=str(error))
    except Exception as error:
        run.errors[shard] = error
        raise
    rate = (report.rows + report.failed + report.quarantined) / max(report.seconds, 1e-9)
    get_run_logger().info(
        *(
            ("was committed by another process meanwhile",)
            if report.skipped
            else (
                "%d rows, %d failed, %d quarantined, %d tokens in %.1f s (%.1f rows/s)",
                report.rows,
                report.failed,
                report.quarantined,
                report.tokens_out,
                report.seconds,
                rate,
            )
        )
    )
    # The report stays with the run: Prefect would keep a state for every result it can tell apart.
    return None


def write_pending(run: TableRun, tick: Callable[[], None]) -> None:
    """Submit a task for every pending shard, a few at a time, and wait for them.

    Args:
        run: The table being written.
        tick: Called about once a second, e.g. to update an artifact.
    """
    submitted: deque[PrefectFuture[Any]] = deque()
    try:
        _write_pending(run, tick, submitted)
    except BaseException:
        # Prefect ends a run from this thread, e.g. a cancelled one: the other thread stops at its next row.
        run.stop.signal = run.stop.signal or signal.SIGTERM
        wait(list(submitted))
        raise


def _write_pending(run: TableRun, tick: Callable[[], None], submitted: deque[PrefectFuture[Any]]) -> None:
    shards = iter(run.pending)
    while True:
        while len(submitted) < SUBMITTED_AHEAD and not run.halted:
            shard = next(shards, None)
            if shard is None:
                break
            submitted.append(write_shard.submit(run, run.table, shard))
        if not submitted:
            return
        if submitted[0] in wait([submitted[0]], timeout=1.0).done:
            submitted.popleft()
        tick()
