"""``retry-failed``: generate failed rows again and merge them into their tables."""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.cli import generate
from pipeline.costs.telling import bill_lines
from pipeline.errors import EXIT_OK, EXIT_TOO_MANY_FAILURES, UsageError
from pipeline.progress import duration
from schemas.tables import GENERATED_TABLES
from schemas.vocabulary import ERROR_CLASSES

_COUNTS = ("retried", "recovered", "quarantined", "failed", "left", "failed_total", "tokens_out")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "retry-failed",
        help="generate failed rows again, and only those",
        description="Generate failed rows again and merge them into their tables; good rows are not touched. "
        "By default every failure that may pass by itself is tried: all but the permanent ones.",
    )
    generate.add_configuration(parser)
    parser.add_argument(
        "--table", choices=GENERATED_TABLES, help="only this table (default: each one that is there)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--class",
        dest="classes",
        action="append",
        default=[],
        choices=list(ERROR_CLASSES),
        metavar="NAME",
        help="only failures of this class, permanent ones included; may be given several times: "
        + ", ".join(ERROR_CLASSES),
    )
    which.add_argument("--all", action="store_true", help="all failures, permanent ones included")
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Retry the tables one after the other and return one summary for each, and their sums."""
    from pipeline.config import engine_overrides, load_config
    from pipeline.retrying import Choice, retry_failed
    from schemas import NoSuchTable
    from schemas.layout import current_version

    tables = []
    for table in [args.table] if args.table else GENERATED_TABLES:
        try:
            current_version(args.out, table)
        except NoSuchTable:
            continue
        tables.append(table)
    if not tables:
        wanted = args.table or " or ".join(GENERATED_TABLES)
        raise UsageError(f"{args.out}: no {wanted} here yet, so nothing failed; make them first")
    overrides = engine_overrides(args.config, args.overrides, tables, args.engine)
    config = load_config(args.config, overrides)
    choice = Choice(tuple(args.classes), args.all)
    summaries = {
        table: retry_failed(table, config, args.out, choice=choice, image_root=args.image_root).as_dict()
        for table in tables
    }
    totals = {name: sum(summary[name] for summary in summaries.values()) for name in _COUNTS}
    return {**totals, "tables": summaries}


def render(result: dict[str, Any]) -> str:
    """Return a few lines per table."""
    lines = []
    for table, summary in result["tables"].items():
        lines.append(
            f"{table}: {summary['retried']:,} tried again = {summary['recovered']:,} recovered + "
            f"{summary['failed']:,} failed again + {summary['quarantined']:,} quarantined "
            f"in {duration(summary['seconds'])}"
        )
        for error_class, counts in sorted(summary["by_class"].items()):
            lines.append(f"  {error_class}: {counts['recovered']:,} of {counts['retried']:,} recovered")
        if summary["left"]:
            lines.append(
                f"  {summary['left']:,} failures were not tried; --class NAME or --all tries permanent ones"
            )
        if summary["failed_total"]:
            lines.append(
                f"  {summary['failed_total']:,} of {summary['planned']:,} rows have no text; "
                "`export --table failures` lists the reasons"
            )
        if summary["bill"] is not None:
            lines += bill_lines(summary["bill"])
    return "\n".join(lines)


def exit_code(result: dict[str, Any]) -> int:
    """Return 4 when a table still has more failures than the configuration allows, else 0."""
    codes = [generate.exit_code(summary) for summary in result["tables"].values()]
    return EXIT_TOO_MANY_FAILURES if EXIT_TOO_MANY_FAILURES in codes else EXIT_OK
