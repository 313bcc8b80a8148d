"""What the flows ``captions`` and ``explanations`` share: prepare, write the missing shards, sum up."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.states import Cancelled, Completed, State

from flows.artifacts import ProgressArtifact, WorkersArtifact, bill_artifact, table_artifact
from flows.fleet import fleet_seats, write_with_workers
from flows.logs import pipeline_logs_to_runs
from flows.runs import failed, rename_flow_run, run_name
from flows.shards import TableRun, write_pending
from flows.stopping import run_stop
from pipeline.carrying.whole import carry_shards
from pipeline.cli.generate import exit_code, render
from pipeline.config import RunConfig, load_config
from pipeline.costs.bill import metered
from pipeline.engines import get_engine
from pipeline.errors import EXIT_OK, Interrupted, PipelineError, TooManyFailures
from pipeline.fleet.accounts import bill_of
from pipeline.fleet.order import Order
from pipeline.fleet.seats import Seat
from pipeline.fleet.watching import WorkersSeen
from pipeline.identity import identity, working_at
from pipeline.progress import Progress
from pipeline.run import Work, prepare, summarize
from pipeline.stopping import StopRequest

log = logging.getLogger(__name__)


class TableHasTooManyFailures(TooManyFailures):
    """All rows are accounted for, but more failed than the configuration allows.

    Attributes:
        summary: The run's summary.
    """

    def __init__(self, message: str, summary: dict[str, Any]) -> None:
        super().__init__(message)
        self.summary = summary


def write_table(
    name: str,
    config: str,
    out: str,
    overrides: list[str] | None,
    new_version: bool,
    image_root: str | None,
    *,
    carry: bool = True,
    follow_samples: bool = False,
    workers: int | str | None = None,
    hours: float | None = None,
) -> State[dict[str, Any]]:
    """Write what is missing of a table, inside a flow run.

    Args:
        name: ``captions`` or ``explanations``.
        config: YAML file of the configuration.
        out: Output folder with the ``samples`` table.
        overrides: ``a.b=value`` each, applied to the configuration in order.
        new_version: Allow a new version beside one made with other settings.
        image_root: Folder of the images, when they were moved since ingest.
        carry: Copy texts of older versions that were made from the same.
        follow_samples: Start a new version by itself when nothing but the samples has changed.
        workers: Worker processes, or ``auto``; None leaves it to the configuration.
        hours: Stop at the next row after so many hours.

    Returns:
        The flow run's final state. Completed: its data is the summary. Cancelled: a signal came, the same
        call resumes. Failed: its data is the ``PipelineError`` that says why.
    """
    started = time.monotonic()
    pipeline_logs_to_runs()
    overrides = [*(overrides or ()), *([] if workers is None else [f"workers={workers}"])]
    with run_stop(hours) as stop, working_at(run=run_name(), table=name):
        try:
            checked = load_config(config, overrides)
            seats = fleet_seats(checked, name)
            root = Path(image_root) if image_root else None
            with stop.nothing_in_hand():
                work = prepare(
                    name,
                    checked,
                    Path(out),
                    new_version=new_version,
                    image_root=root,
                    follow_samples=follow_samples,
                    carry=carry,
                )
            rename_flow_run(f"{name} {work.plan.version.name}")
            if seats is None:
                summary = _write_missing(work, stop, started)
            else:
                order = Order.of(
                    *(name, config, out, identity().run),
                    overrides=tuple(overrides),
                    image_root=root,
                    carry=carry,
                )
                summary = _write_with_workers(work, checked, order, seats, stop, started)
        except Interrupted as error:
            return Cancelled(message=str(error))
        except PipelineError as error:
            return failed(error)
    table_artifact(f"{name}-table", [summary], render(summary))
    if exit_code(summary) != EXIT_OK:
        message = (
            f"{name}: {summary['failed_total']:,} of {summary['planned']:,} rows have no text, more than "
            f"max_failed_share {summary['max_failed_share']:g} allows"
        )
        return failed(TableHasTooManyFailures(message, summary))
    return Completed(message=render(summary).splitlines()[0], data=summary)


def _write_with_workers(
    work: Work, config: RunConfig, order: Order, seats: list[Seat], stop: StopRequest, started: float
) -> dict[str, Any]:
    carry_shards(work, work.plan.pending(), stop)
    reports = write_with_workers(work, config, order, seats, stop)
    seconds = time.monotonic() - started
    bill = bill_of(work, order.run, seconds)
    if bill is not None:
        bill_artifact(f"{work.plan.table}-bill", bill)
    return summarize(work, reports, seconds, bill).as_dict()


def _write_missing(work: Work, stop: StopRequest, started: float) -> dict[str, Any]:
    plan = work.plan
    carried = carry_shards(work, plan.pending(), stop)
    pending = plan.pending()
    done = plan.planned - sum(plan.shard_size(shard) for shard in pending)
    with stop.nothing_in_hand():
        load_model(work)  # before the clock of the progress starts
    with (
        Progress(plan.planned, plan.table, done=done) as progress,
        TableRun(work, pending, progress, stop, carried) as run,
        metered(work, run.reports, started) as meter,
    ):
        artifact = ProgressArtifact(plan.table, plan.version.name, progress)
        seen = WorkersSeen(plan)
        watched = WorkersArtifact(plan.table, seen)

        def tick() -> None:
            artifact.update()
            watched.update()

        if pending:
            write_pending(run, tick)
        else:
            get_run_logger().info("all %d rows are there already, nothing to do", plan.planned)
        artifact.update(now=True)
        run.raise_errors()
    if pending:
        seen.look()
        seen.settle()
        watched.update(now=True)
    if meter.bill is not None:
        bill_artifact(f"{plan.table}-bill", meter.bill)
    return summarize(work, run.reports, time.monotonic() - started, meter.bill).as_dict()


def load_early(work: Work) -> None:
    """Load the model while a server starts, unless older versions may hold all of the texts."""
    if work.carrier is None or not work.carrier.sources:
        load_model(work)


def load_model(work: Work) -> None:
    """Load the model of a table whose shards need it; what is unexpected is left to their tasks' retries.

    Raises:
        UsageError: The model cannot be loaded as configured.
    """
    if not work.plan.pending():
        return
    try:
        get_engine(work.job.model)
    except PipelineError:
        raise
    except Exception:
        log.warning("the model could not be loaded; the first shard tries again", exc_info=True)
