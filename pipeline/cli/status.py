"""``status``: where each table stands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.costs.telling import bill_sum
from pipeline.progress import duration
from pipeline.shards.status import all_status


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser("status", help="where each table stands")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Return the status of every table in the output folder."""
    return {
        "out": str(args.out),
        "tables": {status.table: status.as_dict() for status in all_status(args.out)},
    }


def render(result: dict[str, Any]) -> str:
    """Return a table for the terminal."""
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
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    for table, status in result["tables"].items():
        if status["bill"] is not None:
            text.append(f"{table}: {bill_sum(status['bill'])}")
    for table, status in result["tables"].items():
        if status["other_versions"]:
            text.append(f"{table} also has {', '.join(status['other_versions'])}")
    return "\n".join(text)
