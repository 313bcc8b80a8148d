"""Worker processes on this machine, one per seat, without Prefect."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from pipeline.carrying.whole import carry_shards
from pipeline.fleet.accounts import bill_of, reports_of
from pipeline.fleet.order import Order, WorkerEnd
from pipeline.fleet.process import WorkerProcess
from pipeline.fleet.seats import Seat
from pipeline.fleet.supervise import supervise
from pipeline.fleet.watching import FleetView
from pipeline.identity import identity
from pipeline.progress import Progress
from pipeline.run import Summary, Work, summarize
from pipeline.sharing import clear_claims
from pipeline.stopping import StopRequest, stop_on_signal

log = logging.getLogger(__name__)


class ThreadedWorker:
    """A worker process whose log a thread passes on."""

    def __init__(self, order: Order, seat: Seat) -> None:
        self._process = WorkerProcess(order, seat)
        self._end: WorkerEnd | None = None
        threading.Thread(target=self._wait, daemon=True, name=seat.name).start()

    def _wait(self) -> None:
        try:
            self._end = self._process.wait()
        except Exception as error:
            log.exception("a worker's end was not understood")
            self._end = WorkerEnd(self._process.seat.name, 1, f"{type(error).__name__}: {error}")

    def poll(self) -> WorkerEnd | None:
        """Return how it ended, None while it works."""
        return self._end

    def stop(self) -> None:
        """Tell it to stop at the next row."""
        self._process.stop()


def write_with_workers(work_of: Callable[[], Work], order: Order, seats: list[Seat]) -> Summary:
    """Write every shard of a table that is missing with several worker processes.

    Args:
        work_of: Prepares the table: opens its version or creates it, so that the workers find it.
        order: What the workers are told.
        seats: One per worker.

    Raises:
        UsageError: A worker found bad usage or bad input.
        FleetFailed: Workers died again and again in every seat.
        Interrupted: SIGINT or SIGTERM came; the workers have stopped at their next rows.
    """
    started = time.monotonic()
    with stop_on_signal() as stop:
        with stop.nothing_in_hand():
            work = work_of()
        pending = carry_first(work, stop)
        plan = work.plan
        if pending:
            done = plan.planned - sum(map(plan.shard_size, pending))
            with Progress(plan.planned, plan.table, done=done) as progress:
                view = FleetView(plan, progress)
                log.info("%s: %d workers, %d shards", plan.table, len(seats), len(pending))
                with stop.patient():
                    supervise(
                        seats,
                        lambda seat: ThreadedWorker(order, seat),
                        left=lambda: len(plan.pending()),
                        check=lambda: stop.check(
                            f"{plan.table}: the workers have stopped; the same command resumes"
                        ),
                        tick=view.look,
                    )
                view.look(now=True)
        clear_claims(plan)
    seconds = time.monotonic() - started
    run = identity().run
    return summarize(work, reports_of(work, run), seconds, bill_of(work, run, seconds))


def carry_first(work: Work, stop: StopRequest) -> list[int]:
    """Copy the shards that need no model, once for all workers; return those that are left."""
    carry_shards(work, work.plan.pending(), stop)
    return work.plan.pending()
