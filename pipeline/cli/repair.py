"""``repair``: move aside what does not hold, so that the next run makes it again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.errors import EXIT_OK, EXIT_USAGE


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "repair",
        help="move damaged shards aside, so that the next run makes them again",
        description="Check every file as `verify --deep` does, and move the shards that do not hold into the "
        "folder aside/ of their version. The next run makes exactly these again. Nothing is deleted.",
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be moved")
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Repair the current version of every table."""
    from pipeline.shards.repair import as_dict, repair

    return {"out": str(args.out), **as_dict(repair(args.out, dry_run=args.dry_run))}


def render(result: dict[str, Any]) -> str:
    """Return what was moved and what to run next."""
    if not result["problems"]:
        return "everything holds; nothing to repair"
    verb = "would be moved" if result["dry_run"] else "moved"
    lines = [f"{table}: shards {_listed(n)} are made again" for table, n in result["shards"].items()]
    lines += [
        f"{table}: retries of shards {_listed(n)} are made again" for table, n in result["retries"].items()
    ]
    lines.append(f"{len(result['moved'])} files {verb} aside")
    lines += [f"BY HAND {found}" for found in result["by_hand"]]
    if result["commands"]:
        lines.append("next: " + ", then ".join(f"`python -m pipeline {name}`" for name in result["commands"]))
    return "\n".join(lines)


def exit_code(result: dict[str, Any]) -> int:
    """Return 0 unless something is left that needs a person."""
    return EXIT_USAGE if result["by_hand"] else EXIT_OK


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return shown if len(numbers) <= 10 else f"{shown} and {len(numbers) - 10:,} more"
