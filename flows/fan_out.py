"""``python -m flows.fan_out``: several flow runs of one deployment on one table, on as many machines.

A deployment's runs share the table by its claims. This flow starts as many as there are GPUs for, replaces
those that die, also where a whole machine went away and Prefect still takes them for running, and ends with
the table. It needs a core and no GPU.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed

from flows.artifacts import WorkersArtifact
from flows.logs import pipeline_logs_to_runs
from flows.remote_runs import RemoteRun, Watch
from flows.runs import RETRIES, RETRY_DELAY_S, failed, run_name
from flows.stopping import run_stop
from pipeline.cli import generate
from pipeline.config import load_config
from pipeline.errors import Interrupted, PipelineError, UsageError
from pipeline.fleet.order import WorkerEnd
from pipeline.fleet.seats import Seat
from pipeline.fleet.supervise import Running, supervise
from pipeline.identity import working_at
from pipeline.progress import duration
from pipeline.shards.status import table_status
from pipeline.stopping import StopRequest

log = logging.getLogger(__name__)

SAY_EVERY_S = 60.0


@flow(
    name="fan-out",
    flow_run_name="{runs} runs on {table} of {out}",
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAY_S,
    persist_result=False,
)
def fan_out(
    table: Literal["captions", "explanations"],
    config: str,
    out: str,
    runs: int,
    deployment: str = "gpus",
    overrides: list[str] | None = None,
    new_version: bool = False,
    image_root: str | None = None,
    carry: bool = True,
    follow_samples: bool = False,
    hours: float | None = None,
) -> Any:
    """Write a table with several flow runs of a deployment, each on a worker of its pool.

    Args:
        table: What to write
        config: YAML file with models, prompts and generation parameters, e.g. configs/dgm4.yaml
        out: Output folder that holds the samples table, on storage that all workers share
        runs: Flow runs to keep at work: as many as the pool has GPUs
        deployment: Name of the table's deployment whose runs are started, e.g. gpus for captions/gpus
        overrides: Values of the configuration to replace, each as a.b=value
        new_version: Start a new version beside one that was made with other settings
        image_root: Folder of the images, if they were moved since ingest
        carry: Copy texts of older versions that were made from the same; else all are made anew
        follow_samples: Start a new version by itself when nothing but the samples has changed
        hours: Stop all runs at their next rows after so many hours; the next run goes on from there
    """
    pipeline_logs_to_runs()
    started = time.monotonic()
    with run_stop(hours) as stop, working_at(run=run_name(), table=table):
        try:
            if runs < 1:
                raise UsageError(f"runs is {runs}; give how many flow runs to keep at work, 1 or more")
            lease_s = load_config(config, overrides or ()).job(table).lease_s
            watch = Watch(table, Path(out), lease_s)
            parameters = {
                "config": config,
                "out": out,
                "overrides": overrides,
                "new_version": new_version,
                "image_root": image_root,
                "carry": carry,
                "follow_samples": follow_samples,
            }
            ends = _run_all(f"{table}/{deployment}", parameters, runs, watch, stop)
        except Interrupted as error:
            return Cancelled(message=str(error))
        except PipelineError as error:
            return failed(error)
    summary = {**table_status(Path(out), table).as_dict(), "runs": len(ends)}
    summary["died"] = sum(not end.finished for end in ends)
    summary["seconds"] = round(time.monotonic() - started, 2)
    return Completed(message=render(summary), data=summary)


def _run_all(
    name: str, parameters: dict[str, Any], runs: int, watch: Watch, stop: StopRequest
) -> list[WorkerEnd]:
    places = [Seat(f"run-{number + 1}") for number in range(runs)]
    started: dict[str, RemoteRun] = {}
    artifact: WorkersArtifact | None = None
    said = time.monotonic()

    def start(seat: Seat) -> Running:
        try:
            run: Any = run_deployment(name, parameters=parameters, timeout=0)
        except ObjectNotFound as error:
            raise UsageError(
                f"there is no deployment {name!r} on this server; `prefect deployment ls` lists them, "
                "`prefect deploy --all --prefect-file deployments/cluster.yaml` makes those of a cluster"
            ) from error
        started[seat.name] = RemoteRun(run, seat, watch)
        return started[seat.name]

    def tick() -> None:
        nonlocal artifact, said
        watch.look()
        if artifact is None and watch.seen is not None:
            artifact = WorkersArtifact(name.partition("/")[0], watch.seen)
        if artifact is not None:
            artifact.update()
        if time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            states = Counter(run.state for run in started.values())
            counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            get_run_logger().info("%s: %d shards left; runs: %s", name, watch.left(), counted)

    def check() -> None:
        stop.check(f"{name}: its runs have stopped; the same run resumes")

    return supervise(places, start, left=watch.left, check=check, tick=tick)


def render(summary: dict[str, Any]) -> str:
    """Return the summary as a line."""
    return (
        f"{summary['table']}: {summary['rows']:,} of {summary['planned']:,} rows in {summary['version']}, "
        f"{summary['failures']:,} failures; {summary['runs']} flow runs, {summary['died']} of them replaced, "
        f"in {duration(summary['seconds'])}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the flow as a command and return its exit code."""
    from flows.api import configured_url, prefect_api
    from flows.command import add_flow_arguments, command, outcome

    parser = argparse.ArgumentParser(
        prog="python -m flows.fan_out",
        description="Write a table with several flow runs of a deployment, each on a worker of its pool.",
    )
    parser.add_argument("table", choices=["captions", "explanations"])
    parser.add_argument("--runs", type=int, required=True, metavar="N", help="flow runs to keep at work")
    parser.add_argument("--deployment", default="gpus", metavar="NAME", help="as in TABLE/NAME (gpus)")
    generate.add_arguments(parser)
    add_flow_arguments(parser)
    args = parser.parse_args(argv)

    def body(stop: StopRequest) -> tuple[int, Any]:
        if configured_url() is None:
            raise UsageError(
                "a fan-out needs a Prefect server with workers: set PREFECT_API_URL to its address, e.g. "
                "http://127.0.0.1:4200/api"
            )
        overrides = generate.overrides_of(args, [args.table])
        with prefect_api(lambda: None, lambda: stop.check("nothing was started yet")):
            state: Any = fan_out.with_options(retries=0)(
                table=args.table,
                config=str(args.config),
                out=str(args.out),
                runs=args.runs,
                deployment=args.deployment,
                overrides=overrides,
                new_version=args.new_version,
                image_root=str(args.image_root) if args.image_root else None,
                carry=not args.no_carry,
                hours=args.hours,
                return_state=True,
            )
        return outcome(state)

    return command(body, render, args)


if __name__ == "__main__":
    sys.exit(main())
