"""Compare evaluated runs: ``python -m training.report --runs A B [--names ...] [--to FILE]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.errors import TrainingError
from training.report.compare import as_markdown, compare
from training.report.compare_runs import read_runs

PAGE = Path("comparison.html")
"""Written where ``--to`` is not given."""


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
        metavar="FILE",
        help=f"a page (.html), Markdown (.md) or a plot (.png); without it {PAGE} is written into the "
        "current folder, and the table printed as Markdown",
    )
    args = parser.parse_args(argv)
    try:
        runs = read_runs(args.runs, args.names)
        compare(runs, args.to or PAGE)
        if args.to is None:
            print(as_markdown(runs))
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    # Standard output holds the Markdown alone where that was printed.
    print(args.to or PAGE, file=sys.stderr if args.to is None else sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
