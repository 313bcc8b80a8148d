"""``status``: where each table stands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.costs.telling import bill_sum
from pipeline.errors import UsageError
from pipeline.progress import duration
from pipeline.shards.roster import at_work
from pipeline.shards.status import all_status
from pipeline.shards.versions import field_value, shard_history, versions_of
from schemas.layout import current_version
from schemas.tables import GENERATED_TABLES


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser("status", help="where each table stands")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--all-versions", action="store_true", help="also count the rows of versions that are not current"
    )
    parser.add_argument(
        "--shard",
        type=int,
        metavar="N",
        help="show the attempts and failures of this shard of --table instead",
    )
    parser.add_argument("--table", choices=GENERATED_TABLES, help="the table that --shard belongs to")
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Return the status of every table in the output folder, or the history of one shard."""
    if (args.shard is None) != (args.table is None):
        raise UsageError("--shard and --table go together, e.g. --table captions --shard 3")
    if args.shard is not None:
        return shard_history(args.out, args.table, args.shard)
    tables = {}
    for status in all_status(args.out):
        versions: list[dict[str, Any]] = []
        if status.other_versions:
            found = versions_of(args.out, status.table, count=args.all_versions)
            versions = [version.as_dict() for version in found]
        workers = [one.as_dict() for one in at_work(current_version(args.out, status.table))]
        tables[status.table] = {**status.as_dict(), "versions": versions, "workers": workers}
    return {"out": str(args.out), "tables": tables}


def render(result: dict[str, Any]) -> str:
    """Return a table for the terminal."""
    if "shard" in result:
        return _history(result)
    if not result["tables"]:
        out = result["out"]
        return f"{out}: no tables yet; start with `python -m pipeline ingest --data DIR --out {out}`"
    head = ("table", "version", "shards", "rows", "failures", "quarantined", "time left")
    lines = [head]
    for table, status in result["tables"].items():
        done = status["shards_done"] == status["shards_planned"]
        eta = status["eta_seconds"]
        left = "done" if done else "unknown" if eta is None else f"{duration(eta)} on one worker"
        damaged = f" ({status['damaged']} damaged)" if status["damaged"] else ""
        lines.append(
            (
                table,
                status["version"],
                f"{status['shards_done']}/{status['shards_planned']}{damaged}",
                f"{status['rows']:,}/{status['planned']:,}",
                f"{status['failures']:,}",
                f"{status['quarantined']:,}",
                left,
            )
        )
    text = _columns(lines)
    for table, status in result["tables"].items():
        if status["carried"] or status["shared"]:
            text.append(
                f"{table}: {status['carried']:,} rows carried over from older versions, {status['shared']:,} "
                "shared with a row of the same prompt"
            )
        if status["bill"] is not None:
            text.append(f"{table}: {bill_sum(status['bill'])}")
        text += [_worker(table, worker) for worker in status["workers"]]
        text += [_version(table, version) for version in status["versions"] if not version["current"]]
    return "\n".join(text)


def _worker(table: str, worker: dict[str, Any]) -> str:
    """Return one line about a worker that is at a table."""
    figures = worker["figures"]
    shard = figures.get("shard")
    at = "between shards" if shard is None else f"shard {shard}"
    name = figures.get("name", worker["worker"])
    return (
        f"{table}: {name} (process {worker['pid']} on {worker['host']}) at {at}, "
        f"{figures.get('rows', 0):,} rows and {figures.get('failed', 0):,} failures in "
        f"{figures.get('shards', 0):,} shards, {worker['rows_per_second']:,.1f} rows/s, last sign of life "
        f"{worker['silent_s']:.0f} s ago"
    )


def _columns(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _version(table: str, version: dict[str, Any]) -> str:
    """Return one line about a version that is not current: what it holds and what made it another."""
    if version["rows"] is None:
        holds = f"{version['planned']:,} rows planned"
    else:
        holds = (
            f"{version['rows']:,}/{version['planned']:,} rows, {version['failures']:,} failures, "
            f"{version['shards_done']}/{version['shards_planned']} shards"
        )
    differs = ", ".join(
        f"{name} {field_value(theirs)} (now {field_value(now)})"
        for name, (theirs, now) in version["differs"].items()
    )
    return f"{table} also has {version['version']}: {holds}; {differs or 'made alike'}"


def _history(result: dict[str, Any]) -> str:
    """Return the attempts at a shard and what still fails in it."""
    lines = [
        f"{result['table']} {result['version']} shard {result['shard']}: {result['planned']:,} planned = "
        f"{result['rows']:,} rows + {result['failures']:,} failures + {result['quarantined']:,} quarantined"
        if result["done"]
        else f"{result['table']} {result['version']} shard {result['shard']}: not written yet"
    ]
    if result["damaged"]:
        lines.append(f"DAMAGED {result['damaged']}")
    table: list[tuple[str, ...]] = []
    table.append(("attempt", "when", "host", "tried", "rows", "failures", "quarantined", "failed by class"))
    for attempt in result["attempts"]:
        classes = ", ".join(f"{name} {count:,}" for name, count in attempt["failures_by_class"].items())
        counts = [f"{attempt[name]:,}" for name in ("tried", "rows", "failures", "quarantined")]
        name = f"retry {attempt['retry']}" if attempt["retry"] else "first"
        table.append((name, attempt["committed"] or "-", attempt["host"] or "-", *counts, classes or "-"))
    if result["attempts"]:
        lines += _columns(table)
    for row in result["failed"]:
        lasting = "permanent" if row["permanent"] else "may pass"
        lines.append(
            f"  {row['key']}: {row['error_class']} ({lasting}, {row['attempts']} attempts): {row['message']}"
        )
    if result["failures"] > len(result["failed"]):
        lines.append(f"  and {result['failures'] - len(result['failed']):,} more")
    return "\n".join(lines)
