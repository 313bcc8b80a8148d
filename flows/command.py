"""``python -m flows.NAME``: arguments, exit codes, and what the terminal sees."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from prefect.exceptions import TerminationSignal
from prefect.flows import Flow
from prefect.states import State

from flows.api import configured_url, prefect_api
from flows.fleet import fleet_seats
from flows.logs import pipeline_logs_to_runs, quiet_terminal
from flows.tables import load_early
from pipeline.cli import generate
from pipeline.config import load_config
from pipeline.errors import (
    EXIT_BROKEN,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    Interrupted,
    PipelineError,
)
from pipeline.logs import FORMAT, FORMATS
from pipeline.run import prepare, summarize
from pipeline.sharing import clear_claims
from pipeline.stopping import StopRequest, stop_on_signal
from schemas.layout import TableError

log = logging.getLogger(__name__)

_STANDS = "what is committed stands, the same command resumes"

Summary = dict[str, Any]


def run_table(name: str, flow: Flow[..., Any], argv: Sequence[str] | None = None) -> int:
    """Run the flow of one table as a command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{name}",
        description=f"Write what is missing of the {name} table as a Prefect flow, one task per shard.",
        epilog="Runs on a temporary Prefect server, or on the one that PREFECT_API_URL names. Exit codes: "
        "0 done; 2 bad usage or input; 3 interrupted, the same command resumes; 4 more rows failed than "
        "allowed; 1 anything else.",
    )
    generate.add_arguments(parser)
    add_flow_arguments(parser)
    args = parser.parse_args(argv)
    return command(lambda stop: _table(name, flow, args, stop), generate.render, args)


def add_flow_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every command that runs a flow takes."""
    parser.add_argument(
        "--hours", type=float, metavar="H", help="stop at the next row after so many hours (exit code 3)"
    )
    parser.add_argument("--json", action="store_true", help="summary as JSON on stdout, logs on stderr")
    parser.add_argument(
        "--log-format", choices=FORMATS, help="json: one object a line with run, worker, table and shard"
    )


def command(
    body: Callable[[StopRequest], tuple[int, Any]], render: Callable[[Any], str], args: argparse.Namespace
) -> int:
    """Run ``body``, print its result and return the exit code; errors become one message each.

    Args:
        body: Does the work; returns the exit code and the result, None when there is nothing to print.
        render: The result as text for a person.
        args: The command's arguments, those of ``add_flow_arguments`` among them.
    """
    if args.log_format:
        os.environ[FORMAT] = args.log_format
    pipeline_logs_to_runs()
    quiet_terminal(pages=configured_url() is not None)
    with stop_on_signal() as stop:
        try:
            code, result = body(stop)
        except (PipelineError, TableError) as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code if isinstance(error, PipelineError) else EXIT_USAGE
        except (TerminationSignal, KeyboardInterrupt):
            # The signal came while Prefect, not the flow, was at work.
            print(f"error: interrupted; {_STANDS}", file=sys.stderr)
            return EXIT_INTERRUPTED
        except httpx.TransportError as error:
            print(f"error: the Prefect API went away ({error}); {_STANDS}", file=sys.stderr)
            # At a normal end Prefect would try for minutes to send the rest of its records.
            sys.stderr.flush()
            os._exit(EXIT_INTERRUPTED)
        except Exception as error:
            if stop.signal is not None:
                log.debug("after the signal", exc_info=True)
                print(f"error: stopped by signal {stop.signal}; {_STANDS}", file=sys.stderr)
                return EXIT_INTERRUPTED
            log.debug("the command failed", exc_info=True)
            print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
            return EXIT_BROKEN
    if result is not None:
        print(json.dumps(result, indent=2) if args.json else render(result), flush=True)
    return code


def _table(
    name: str, flow: Flow[..., Any], args: argparse.Namespace, stop: StopRequest
) -> tuple[int, Summary]:
    started = time.monotonic()
    # Before any server starts: wrong usage is said at once, and a finished table needs no server.
    overrides = generate.overrides_of(args, [name])
    config = load_config(args.config, overrides)
    seats = fleet_seats(config, name)
    carry = not args.no_carry
    with stop.nothing_in_hand():
        work = prepare(
            name, config, args.out, new_version=args.new_version, image_root=args.image_root, carry=carry
        )
    if not work.plan.pending() and configured_url() is None:
        clear_claims(work.plan)
        summary = summarize(work, [], time.monotonic() - started).as_dict()
        return generate.exit_code(summary), summary

    def check() -> None:
        stop.check(f"{name}: nothing was written yet; the same command starts again")

    def load() -> None:
        if seats is None:
            with stop.nothing_in_hand():
                load_early(work)

    with prefect_api(load, check):
        check()
        # At a terminal, whoever typed the command decides whether to try again.
        state: Any = flow.with_options(retries=0)(
            config=str(args.config),
            out=str(args.out),
            overrides=overrides,
            new_version=args.new_version,
            image_root=str(args.image_root) if args.image_root else None,
            carry=carry,
            hours=args.hours,
            return_state=True,
        )
    return outcome(state)


def outcome(state: State[Any]) -> tuple[int, Summary]:
    """Return exit code and summary from the final state of a flow.

    Raises:
        Interrupted: The run was cancelled.
        PipelineError: What the flow failed with, unless it still has a summary.
    """
    if state.is_cancelled():
        raise Interrupted(state.message or "the run was cancelled")
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        summary = getattr(result, "summary", None)
        if summary is None:
            raise result
        print(f"error: {result}", file=sys.stderr)
        return result.exit_code if isinstance(result, PipelineError) else EXIT_BROKEN, summary
    return EXIT_OK, result
