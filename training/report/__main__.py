"""Compare evaluated runs: ``python -m training.report --runs A B [--names ...] --to FILE.html|.md|.png``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.errors import TrainingError
from training.report.compare import compare, read_runs


def main(argv: Sequence[str] | None = None) -> int:
    """Compare runs and return the exit code: 0 done, 2 bad usage or input."""
    parser = argparse.ArgumentParser(
        prog="python -m training.report",
        description="Put evaluated runs and the published figures into one table and one plot.",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="folders with metrics.json of training/evaluate.py, or runs",
    )
    parser.add_argument("--names", nargs="+", default=[], metavar="NAME", help="what to call them, one each")
    parser.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="FILE",
        help="a page (.html), Markdown (.md) or a plot (.png)",
    )
    args = parser.parse_args(argv)
    try:
        compare(read_runs(args.runs, args.names), args.to)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(args.to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
