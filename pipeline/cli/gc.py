"""``gc``: remove versions that nothing refers to, and what stopped attempts left behind."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "gc",
        help="remove old versions that nothing refers to, and leftovers of stopped attempts",
        description="Remove versions that are not current and that no kept version was made from, and files "
        "of stopped attempts that are older than a day. Asks first; without a terminal, --yes is needed.",
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Find what can be removed, ask, and remove it.

    Raises:
        UsageError: Something would be removed, nobody can be asked, and --yes was not given.
    """
    from pipeline.shards.garbage import find_garbage, remove

    found = find_garbage(args.out)
    result = {
        "out": str(args.out),
        "dry_run": args.dry_run,
        "removed": False,
        "versions": [asdict(item) for item in found.versions],
        "leftovers": [asdict(item) for item in found.leftovers],
        "kept": found.kept,
        "bytes": found.bytes,
    }
    if args.dry_run or not (found.versions or found.leftovers):
        return result
    if not args.yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(
                f"{args.out}: {_counts(result)} would be removed, and there is no terminal to ask on. "
                "--dry-run lists them, --yes removes them"
            )
        print("\n".join(_items(result)), file=sys.stderr)
        print(f"Remove {_counts(result)}? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return result
    remove(found)
    return {**result, "removed": True}


def render(result: dict[str, Any]) -> str:
    """Return what was removed, or would be."""
    if not (result["versions"] or result["leftovers"]):
        lines = ["nothing to remove"]
    elif result["removed"]:
        lines = [*_items(result), f"removed {_counts(result)}"]
    elif result["dry_run"]:
        lines = [*_items(result), f"{_counts(result)} would be removed"]
    else:
        lines = ["nothing was removed"]
    lines += [f"kept {version}: {why}" for version, why in result["kept"].items()]
    return "\n".join(lines)


def _items(result: dict[str, Any]) -> list[str]:
    items = [*result["versions"], *result["leftovers"]]
    return [f"{item['path']} ({item['bytes']:,} bytes): {item['why']}" for item in items]


def _counts(result: dict[str, Any]) -> str:
    return (
        f"{len(result['versions'])} versions and {len(result['leftovers'])} leftovers, "
        f"{result['bytes'] / 1e6:,.1f} MB,"
    )
