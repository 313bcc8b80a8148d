"""``python -m benchmarks.kills``: kill the parts of a cluster one after the other, print what it cost."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.kills.composed import running
from benchmarks.kills.postgres import REMEDY, programs
from benchmarks.kills.scenarios import SCENARIOS, Outcome, Size
from benchmarks.record import save

HEADER = """| killed | rows | before | lost | twice | flow runs | s without new rows | s to the whole table |
|---|---:|---:|---:|---:|---:|---:|---:|"""


def line(result: Outcome) -> str:
    """Return an outcome as a line of a Markdown table."""
    return (
        f"| {result.killed} | {result.rows_planned} | {result.rows_before} | {result.rows_lost} "
        f"| {result.rows_duplicated} | {result.runs} "
        f"| {result.seconds_without_rows:.1f} | {result.seconds_to_recover:.1f} |"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the scenarios; return 0 when no row was lost or duplicated, 1 otherwise, 2 without Postgres."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument(
        "scenarios", nargs="*", metavar="NAME", help=f"of {', '.join(SCENARIOS)} (default: all)"
    )
    parser.add_argument(
        "--rows", type=int, default=Size.rows, help="rows of each table (default: %(default)s)"
    )
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.scenarios) - set(SCENARIOS))
    if unknown:
        parser.error(f"no scenario is called {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    if programs() is None:
        print(f"error: {REMEDY}", file=sys.stderr)
        return 2
    results: list[Outcome] = []
    for name in args.scenarios or SCENARIOS:
        with tempfile.TemporaryDirectory(prefix="kills-") as folder:
            print(f"{name} ...", file=sys.stderr, flush=True)
            with running(Path(folder) / "stack") as stack:
                results.append(SCENARIOS[name](stack, Path(folder), Size(rows=args.rows)))
            print(line(results[-1]), file=sys.stderr, flush=True)
    print("\n".join([HEADER, *map(line, results)]))
    if args.save:
        command = " ".join(["python -m benchmarks.kills", *args.scenarios, f"--rows {args.rows}"])
        print(f"saved: {save('kills', 'kills', [asdict(result) for result in results], command=command)}")
    return 1 if any(result.rows_lost or result.rows_duplicated for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
