"""One Prefect task per shard that is missing, and the loop that hands them out a few at a time."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, State
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

from flows.settings import (
    MAX_FAILED_SHARDS,
    SHARD_RETRIES,
    SHARD_RETRY_DELAYS_S,
    SUBMITTED_AHEAD,
)
from pipeline.engines import EngineDead, close_engines, get_engine
from pipeline.errors import Interrupted, PipelineError
from pipeline.generating import ShardReport
from pipeline.progress import Progress
from pipeline.run import Work
from pipeline.shards.queue import SAY_EVERY_S
from pipeline.sharing import SharedWork
from pipeline.stopping import StopRequest

log = logging.getLogger(__name__)

# A model fills its device: two flows in one process take turns, shard by shard.
_turn = threading.Lock()


class ShardsFailed(RuntimeError):
    """Shards whose tasks raised in every attempt; the others are committed."""


class TableRun:
    """A table being written: what the flow's thread and the thread of the shard tasks share.

    It is a context: leaving it gives back the shards that are claimed. Not a dataclass, so that Prefect does
    not look into it for futures when it is given to a task.

    Attributes:
        work: The prepared table.
        shared: Says which shards this worker writes and which others hold.
        reports: What became of the shards so far.
        errors: Shard to the error that ended its last attempt.
        dead: Why the engine died, until one that was loaded anew has written a shard.
    """

    def __init__(
        self,
        work: Work,
        pending: list[int],
        progress: Progress,
        stop: StopRequest,
        reports: Sequence[ShardReport] = (),
    ) -> None:
        """Begin nothing yet.

        Args:
            work: The prepared table.
            pending: The shards that are missing.
            progress: Counts the rows.
            stop: Through which a signal asks for a stop.
            reports: Shards that this run has written before.
        """
        self.work, self.stop = work, stop
        self._pending = len(pending)
        self.shared = SharedWork(work, pending, progress, stop, self.check)
        self.reports: list[ShardReport] = list(reports)
        self.errors: dict[int, Exception] = {}
        self.dead: EngineDead | None = None

    @property
    def table(self) -> str:
        """Name of the table."""
        return self.work.plan.table

    def check(self) -> None:
        """Raise ``Interrupted`` if a signal asked for a stop."""
        self.stop.check(f"{self.table}: {len(self.reports)} shards were written; the same command resumes")

    def write(self, shard: int) -> ShardReport | None:
        """Write a shard with this process's engine and note what became of it.

        Returns:
            What became of it; None when another worker took it over.

        Raises:
            Interrupted: A signal asked for a stop; the shard is left undone.
            EngineDead: The engine is gone; the next attempt loads it anew, where the device allows it.
        """
        with _turn:
            try:
                self.check()
                report = self.shared.write(shard, get_engine(self.work.job.model))
            except BaseException as error:
                self.shared.give_up()
                if isinstance(error, EngineDead):
                    self._bury(error)
                raise
        self.errors.pop(shard, None)
        self.dead = None
        if report is not None:
            self.reports.append(report)
        return report

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _turn:
            self.shared.__exit__(kind, error, trace)

    def _bury(self, error: EngineDead) -> None:
        self.dead = error
        try:
            close_engines()
        except Exception:
            log.warning("the dead engine could not be closed", exc_info=True)

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
            left, kind = len(self.work.plan.pending()), type(error).__name__
            raise ShardsFailed(
                f"{self.table}: {left} of {self._pending} shards could not be written; shard "
                f"{shard} ended with {kind}: {error}. The others are committed, the same command tries again"
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
    get_run_logger().info("%s", _told(report))
    # The report stays with the run: Prefect would keep a state for every result it can tell apart.
    return None


def _told(report: ShardReport | None) -> str:
    if report is None:
        return "was taken over by another worker"
    if report.skipped:
        return "was committed by another worker meanwhile"
    rate = (report.rows + report.failed + report.quarantined) / max(report.seconds, 1e-9)
    return (
        f"{report.rows} rows, {report.failed} failed, {report.quarantined} quarantined, "
        f"{report.tokens_out} tokens in {report.seconds:.1f} s ({rate:.1f} rows/s)"
    )


def write_pending(run: TableRun, tick: Callable[[], None]) -> None:
    """Submit a task for every shard that no other worker holds, a few at a time, and wait for all shards.

    Args:
        run: The table being written.
        tick: Called about once a second, e.g. to update an artifact.
    """
    submitted: deque[tuple[int, PrefectFuture[Any]]] = deque()
    try:
        _write_pending(run, tick, submitted)
    except BaseException:
        # Prefect ends a run from this thread, e.g. a cancelled one: the other thread stops at its next row.
        run.stop.signal = run.stop.signal or signal.SIGTERM
        wait([future for _, future in submitted])
        raise


def _write_pending(
    run: TableRun, tick: Callable[[], None], submitted: deque[tuple[int, PrefectFuture[Any]]]
) -> None:
    queue, said = run.shared.queue, float("-inf")
    while True:
        while len(submitted) < SUBMITTED_AHEAD and not run.halted and (shard := queue.take()) is not None:
            submitted.append((shard, write_shard.submit(run, run.table, shard)))
        if submitted:
            shard, future = submitted[0]
            if future in wait([future], timeout=1.0).done:
                submitted.popleft()
                queue.finish(shard, given_up=shard in run.errors)
        elif run.halted or not queue.left:
            return
        else:
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                get_run_logger().info("%s", queue.waiting_for())
            time.sleep(0.5)
        tick()
