"""``python -m pipeline COMMAND``: ingest, generate, look after and look at the tables."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType

import orjson

from pipeline.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, PipelineError
from pipeline.logs import FORMATS, set_up, wanted_format
from pipeline.stopping import terminate_like_ctrl_c
from pipeline.storage import explain
from schemas.layout import TableError

COMMANDS = (
    "ingest",
    "captions",
    "explanations",
    "retry-failed",
    "forecast",
    "status",
    "verify",
    "repair",
    "gc",
    "export",
    "inspect",
    "examples",
)

# A data pipeline does not phone home, and on a machine without a network the attempts only delay it.
TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}

# Idle threads of torch otherwise spin: beside another process, captions took up to ten times longer.
THREADS_SLEEP = {"OMP_WAIT_POLICY": "passive"}


def command_module(name: str) -> ModuleType:
    """Return the module of a command; only the one that runs is imported, so ``status`` never loads torch."""
    return importlib.import_module(f"pipeline.cli.{name.replace('-', '_')}")


def build_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return the parser with the sub-commands ``names``."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Write captions and explanations of a DGM4-shaped data set into Parquet shards.",
        epilog="Exit codes: 0 done; 2 bad usage or input; 3 interrupted, the same command resumes; "
        "4 more rows failed than the configuration allows.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in names:
        sub = command_module(name).add_parser(commands)
        sub.add_argument_group("output").add_argument(
            "--json", action="store_true", help="machine-readable result on stdout, logs on stderr"
        )
        sub.add_argument("-v", "--verbose", action="store_true", help="log more, and tracebacks of errors")
        sub.add_argument(
            "--log-format", choices=FORMATS, help="json: one object a line with run, worker, table and shard"
        )
        sub.set_defaults(command=name)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for name, value in (TELEMETRY_OFF | THREADS_SLEEP).items():
        os.environ.setdefault(name, value)
    # Parsing needs all commands only for the list of them; one that is named is enough by itself.
    names = (argv[0],) if argv and argv[0] in COMMANDS else COMMANDS
    args = build_parser(names).parse_args(argv)
    set_up(verbose=args.verbose, wanted=wanted_format(args.log_format))
    module = command_module(args.command)
    try:
        with terminate_like_ctrl_c():
            result = module.run(args)
    except (PipelineError, TableError) as error:
        if args.verbose:
            logging.exception("the command failed")
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, PipelineError) else EXIT_USAGE
    except OSError as error:
        message = explain(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("error: interrupted; what is committed stands, the same command resumes", file=sys.stderr)
        return EXIT_INTERRUPTED
    if args.json:
        sys.stdout.buffer.write(orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
    else:
        print(module.render(result))
    return module.exit_code(result) if hasattr(module, "exit_code") else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
