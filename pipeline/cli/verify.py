"""``verify``: does everything on disk hold."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.errors import EXIT_OK, EXIT_USAGE


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "verify", help="check markers and files; exit code 0 only if everything holds"
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--deep", action="store_true", help="also hash every file and read every row again")
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Verify the current version of every table."""
    from pipeline.shards.verify import verify

    return verify(args.out, deep=args.deep).as_dict()


def render(result: dict[str, Any]) -> str:
    """Return what was checked and what is wrong, one line each."""
    lines = [
        f"{table}: {counts['version']}, {counts['done']}/{counts['shards']} shards, {counts['rows']:,} rows, "
        f"{counts['failures']:,} failures" + _set_aside(counts)
        for table, counts in result["tables"].items()
        if "shards" in counts
    ]
    lines += [
        f"PROBLEM in {p['table']}: {p['where']}: {p['what']}. {p['remedy']}" for p in result["problems"]
    ]
    if result["leftovers"]:
        lines.append(f"{len(result['leftovers'])} leftover files of stopped attempts; no reader opens them")
    how = (
        "every file hashed and read" if result["deep"] else "markers and file sizes checked; --deep reads all"
    )
    lines.append(f"verified: {how}" if result["ok"] else f"NOT verified: {len(result['problems'])} problems")
    return "\n".join(lines)


def _set_aside(counts: dict[str, Any]) -> str:
    return f", {counts['quarantined']:,} quarantined" if counts["quarantined"] else ""


def exit_code(result: dict[str, Any]) -> int:
    """Return 0 only if everything holds."""
    return EXIT_OK if result["ok"] else EXIT_USAGE
