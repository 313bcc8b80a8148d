"""``python -m flows.refresh``: ingest, then captions and explanations, as one Prefect flow."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.states import Cancelled, Completed, Failed, State

from flows.artifacts import table_artifact
from flows.captions import captions
from flows.explanations import explanations
from flows.fan_out import fan_out
from flows.ingesting import ingest, ingest_arguments
from flows.logs import pipeline_logs_to_runs
from flows.runs import RETRIES, RETRY_DELAY_S, failed
from flows.shards import one_at_a_time
from flows.stopping import run_stop
from flows.tables import TableHasTooManyFailures
from pipeline.cli import generate
from pipeline.cli import ingest as ingest_command
from pipeline.config import load_config
from pipeline.errors import PipelineError, UsageError


@flow(
    name="refresh",
    flow_run_name="refresh {out}",
    task_runner=one_at_a_time(),
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAY_S,
    persist_result=False,
)
def refresh(
    config: str,
    out: str,
    data: str | None = None,
    metadata: list[str] | None = None,
    image_root: str | None = None,
    overrides: list[str] | None = None,
    new_version: bool = False,
    carry: bool = True,
    workers: int | Literal["auto"] | None = None,
    hours: float | None = None,
    deployment: str | None = None,
    runs: int = 1,
) -> Any:
    """Read the annotations into the samples table, then write what is missing of captions and explanations.

    When only the data has changed, new versions are started by themselves, and texts whose inputs are the
    same are copied from the old ones; so a schedule can run this.

    Args:
        config: YAML file with models, prompts and generation parameters, e.g. configs/demo.yaml
        out: Output folder for all tables; relative to the checkout
        data: A DGM4 folder with metadata/*.json and the images; or leave it out and give metadata
        metadata: Annotation files, where they do not lie in one DGM4 folder
        image_root: Folder that the image paths start at; found by itself in a DGM4 folder
        overrides: Values of the configuration to replace, each as a.b=value, e.g. models.glm.batch_size=4
        new_version: When prompts, models or other settings have changed, start new versions of the tables
        carry: Copy texts of older versions that were made from the same; else all are made anew
        workers: Worker processes per table, each with the model loaded; auto is one per visible GPU; empty
            leaves it to the configuration
        hours: Stop at the next row after so many hours; the next run goes on from there
        deployment: Have each table written by flow runs of its deployment of this name, e.g. gpus, on the
            workers of that pool; empty: write here
        runs: With a deployment: how many of its flow runs, as many as the pool has GPUs
    """
    pipeline_logs_to_runs()
    started = time.monotonic()
    summaries: dict[str, Any] = {}
    state: Any
    with run_stop(hours) as stop:
        try:
            load_config(config, overrides or ())
            arguments = ingest_arguments(out, data, metadata, image_root)
        except PipelineError as error:
            return failed(error)
        state = ingest(stop, out, arguments, return_state=True)
        if (ended := _not_completed(state)) is not None:
            return ended
        summaries["ingest"] = state.result()
        get_run_logger().info("%s", ingest_command.render(summaries["ingest"]))
        too_many: list[str] = []
        for table, table_flow in (("captions", captions), ("explanations", explanations)):
            if stop.signal is not None:
                return Cancelled(message=f"stopped before {table}; the same command resumes")
            # This run is tried again as a whole, which passes over what is done.
            if deployment is None:
                state = table_flow.with_options(retries=0)(
                    config,
                    out,
                    overrides,
                    new_version,
                    carry=carry,
                    follow_samples=True,
                    workers=workers,
                    hours=_left(hours, started),
                    return_state=True,
                )
            else:
                state = fan_out.with_options(retries=0)(
                    table,
                    config,
                    out,
                    runs,
                    deployment,
                    overrides,
                    new_version,
                    carry=carry,
                    follow_samples=True,
                    hours=_left(hours, started),
                    return_state=True,
                )
            result = None if state.is_cancelled() else state.result(raise_on_failure=False)
            if isinstance(result, TableHasTooManyFailures):
                too_many.append(str(result))
                result = result.summary
            elif (ended := _not_completed(state)) is not None:
                return ended
            summaries[table] = result
    if deployment is None:
        tables = [summaries["captions"], summaries["explanations"]]
        table_artifact("refresh-table", tables, render(summaries))
    if too_many:
        return failed(TableHasTooManyFailures("; ".join(too_many), summaries))
    return Completed(message=f"{out} is up to date", data=summaries)


def _not_completed(state: State[Any]) -> State[Any] | None:
    """Return the state that the whole run ends with when a part did not complete."""
    if state.is_completed():
        return None
    if state.is_cancelled():
        return Cancelled(message=state.message)
    result = state.result(raise_on_failure=False)
    if isinstance(result, PipelineError):
        return failed(result)
    return Failed(message=state.message, data=result)


def _left(hours: float | None, started: float) -> float | None:
    return None if hours is None else max(0.0, hours - (time.monotonic() - started) / 3600)


def render(summaries: dict[str, Any]) -> str:
    """Return the summaries of the three steps as text."""
    parts = [ingest_command.render(summaries["ingest"])]
    parts += [generate.render(summaries[table]) for table in ("captions", "explanations")]
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the flow as a command and return its exit code."""
    from flows.api import prefect_api
    from flows.command import add_flow_arguments, command, outcome

    parser = argparse.ArgumentParser(
        prog="python -m flows.refresh",
        description="Ingest, then captions and explanations, as a Prefect flow.",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="a DGM4 folder: metadata/*.json and images")
    parser.add_argument(
        "--metadata",
        type=Path,
        nargs="+",
        metavar="F",
        default=[],
        help="annotation files, instead of --data",
    )
    generate.add_arguments(parser)
    add_flow_arguments(parser)
    args = parser.parse_args(argv)

    def body(stop: Any) -> tuple[int, Any]:
        tables = ["captions", "explanations"]
        overrides = generate.overrides_of(args, tables)
        load_config(args.config, overrides)
        if (args.data is None) == (not args.metadata):
            raise UsageError("name the data: either --data DIR, a DGM4 folder, or --metadata F...")

        def check() -> None:
            stop.check("refresh: nothing was written yet; the same command starts again")

        with prefect_api(lambda: None, check):
            state: Any = refresh.with_options(retries=0)(
                config=str(args.config),
                out=str(args.out),
                data=str(args.data) if args.data else None,
                metadata=[str(path) for path in args.metadata] or None,
                image_root=str(args.image_root) if args.image_root else None,
                overrides=overrides,
                new_version=args.new_version,
                carry=not args.no_carry,
                hours=args.hours,
                return_state=True,
            )
        return outcome(state)

    return command(body, render, args)


if __name__ == "__main__":
    sys.exit(main())
