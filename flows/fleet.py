"""A table written by several workers: one Prefect task per worker, in processes here or on a Ray cluster.

The workers share the table by its claims; Prefect starts them, keeps their logs and shows what they do. A
worker that dies is replaced (``pipeline.fleet.supervise``), so its task runs have no retries of their own.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Completed, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner

from flows.artifacts import ProgressArtifact, WorkersArtifact
from flows.logs import pipeline_logs_to_runs
from pipeline.config import RunConfig
from pipeline.fleet.accounts import reports_of
from pipeline.fleet.order import Order, WorkerEnd
from pipeline.fleet.process import WorkerProcess
from pipeline.fleet.seats import Seat, seats_for
from pipeline.fleet.supervise import Running, supervise
from pipeline.fleet.watching import FleetView
from pipeline.generating import ShardReport
from pipeline.progress import Progress
from pipeline.run import Work
from pipeline.sharing import clear_claims
from pipeline.stopping import StopRequest

log = logging.getLogger(__name__)

_processes: dict[tuple[str, str], WorkerProcess] = {}
"""Run and seat to the worker that a task of this process waits for, so that it can be told to stop."""

Starter = Callable[[Seat], Running]


@task(
    name="worker",
    task_run_name="{table} {name}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def work_in_seat(table: str, name: str, devices: str | None, order: dict[str, Any]) -> State[dict[str, Any]]:
    """Start a worker process where this task runs and wait for its end, its log in the task run's.

    Args:
        table: For the name of the task run.
        name: The seat.
        devices: What the worker sees as ``CUDA_VISIBLE_DEVICES``; None: what this process sees, which Ray
            chooses.
        order: What the worker does, as ``Order.as_dict``.
    """
    pipeline_logs_to_runs()
    given = Order.from_dict(order)
    process = WorkerProcess(given, Seat(name, devices))
    _processes[given.run, name] = process
    try:
        end = _end_of_process(process)
    finally:
        _processes.pop((given.run, name), None)
        process.stop()
    if end.finished:
        return Completed(message=str(end), data=end.as_dict())
    return Failed(message=str(end), data=end.as_dict())


def _end_of_process(process: WorkerProcess) -> WorkerEnd:
    # Ray's cancel interrupts the main thread between two steps of Python and no read of a pipe, so the log is
    # read by another thread, as part of this task run.
    told = False
    with ThreadPoolExecutor(max_workers=1) as pool:
        end = pool.submit(contextvars.copy_context().run, process.wait)
        while not end.done():
            try:
                wait([end], timeout=0.2)
            except KeyboardInterrupt:
                # A second signal would end the worker in the middle of a row.
                if not told:
                    process.stop()
                told = True
        return end.result()


def end_of(state: State[Any], seat: Seat) -> WorkerEnd:
    """Return how a worker ended from the final state of its task run."""
    data = state.data if isinstance(state.data, dict) else state.result(raise_on_failure=False)
    if isinstance(data, dict):
        return WorkerEnd.from_dict(data)
    # The process of the task is gone, e.g. with its Ray node; or the task never began: a long traceback.
    lines = (state.message or str(data)).strip().splitlines() or [""]
    return WorkerEnd(seat.name, 1, " ... ".join(dict.fromkeys((lines[0], lines[-1]))))


class _InThread:
    """A worker whose task runs in a thread of this process."""

    def __init__(self, future: PrefectConcurrentFuture[Any], seat: Seat, run: str) -> None:
        self._future, self._seat, self._run = future, seat, run

    def poll(self) -> WorkerEnd | None:
        if not self._future.wrapped_future.done():
            return None
        self._future.wait()
        return end_of(self._future.state, self._seat)

    def stop(self) -> None:
        process = _processes.get((self._run, self._seat.name))
        if process is not None:
            process.stop()


@contextmanager
def local_starter(seats: list[Seat], order: Order) -> Iterator[Starter]:
    """Provide what starts workers as processes of this machine."""
    # A seat is filled again before the task of its last worker has quite ended.
    pool: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=2 * len(seats))
    with pool as runner:

        def start(seat: Seat) -> Running:
            future = runner.submit(work_in_seat, task_parameters(order, seat))
            return _InThread(future, seat, order.run)

        yield start


def task_parameters(order: Order, seat: Seat) -> dict[str, Any]:
    """Return the parameters of ``work_in_seat``."""
    return {"table": order.table, "name": seat.name, "devices": seat.devices, "order": order.as_dict()}


def fleet_seats(config: RunConfig, table: str) -> list[Seat] | None:
    """Return the seats of a run that needs a fleet, empty where Ray counts them; None where it needs none."""
    if config.runner == "ray":
        return []
    seats = seats_for(config, table)
    return seats if len(seats) > 1 else None


def write_with_workers(
    work: Work, config: RunConfig, order: Order, seats: list[Seat], stop: StopRequest
) -> list[ShardReport]:
    """Write the missing shards of a table with several workers, inside a flow run.

    Args:
        work: The prepared table; the shards that need no model are copied already.
        config: The run's configuration.
        order: What the workers are told.
        seats: Where they sit; empty with ``runner: ray``, whose cluster says how many there are.
        stop: Through which a signal asks for a stop.

    Returns:
        The shards that this run committed, those before its workers began included.

    Raises:
        UsageError: A worker found bad usage or bad input, or the Ray cluster cannot be used.
        FleetFailed: Workers died again and again in every seat.
        Interrupted: A signal asked for a stop.
    """
    plan, pending = work.plan, work.plan.pending()
    done = plan.planned - sum(map(plan.shard_size, pending))
    with Progress(plan.planned, plan.table, done=done) as progress:
        artifact = ProgressArtifact(plan.table, plan.version.name, progress)
        if pending:
            view = FleetView(plan, progress)
            watched = WorkersArtifact(plan.table, view.workers)

            def tick() -> None:
                view.look()
                artifact.update()
                watched.update()

            def check() -> None:
                stop.check(f"{plan.table}: the workers have stopped; the same command resumes")

            with _starter(work, config, order, seats) as (places, start), stop.patient():
                log.info("%s: %d workers, %d shards", plan.table, len(places), len(pending))
                supervise(places, start, left=lambda: len(plan.pending()), check=check, tick=tick)
            view.look(now=True)
            view.workers.settle()
            watched.update(now=True)
        clear_claims(plan)
        artifact.update(now=True)
    return reports_of(work, order.run)


@contextmanager
def _starter(
    work: Work, config: RunConfig, order: Order, seats: list[Seat]
) -> Iterator[tuple[list[Seat], Starter]]:
    if config.runner == "ray":
        from flows.on_ray import ray_starter

        with ray_starter(config, work.job.model, order) as found:
            yield found
    else:
        with local_starter(seats, order) as start:
            yield seats, start
