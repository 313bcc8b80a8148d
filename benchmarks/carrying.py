"""How fast texts of an older version are carried over: ``python -m benchmarks.carrying [--rows N]``.

Writes explanations of N samples with the fake engine, adds a hundredth more samples and writes the next
version: with texts carried over, and, for comparison, with all made anew by an engine that takes no time.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

from benchmarks.scale_tables import config, write_samples
from pipeline.run import Summary, generate_table


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.carrying", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000, help="samples of the first version")
    args = parser.parse_args(argv)
    logging.disable(logging.INFO)
    more = args.rows + max(1, args.rows // 100)
    with tempfile.TemporaryDirectory(prefix="bench-carrying-") as folder:
        out = Path(folder)
        write_samples(out, args.rows)
        first = _written(out)
        write_samples(out, more)
        second = _written(out, follow_samples=True)
    with tempfile.TemporaryDirectory(prefix="bench-carrying-") as folder:
        write_samples(Path(folder), more)
        anew = _written(Path(folder))
    print(f"{'version':<24} {'rows':>9} {'generated':>9} {'carried':>9} {'s':>7} {'rows/s':>8}")
    for name, (summary, seconds) in (("first", first), ("second", second), ("second, from scratch", anew)):
        print(
            f"{name:<24} {summary.planned:>9,} {summary.generated:>9,} {summary.carried:>9,} {seconds:>7.1f} "
            f"{summary.planned / seconds:>8,.0f}"
        )


def _written(out: Path, *, follow_samples: bool = False) -> tuple[Summary, float]:
    started = time.perf_counter()
    summary = generate_table("explanations", config(), out, follow_samples=follow_samples)
    return summary, time.perf_counter() - started


if __name__ == "__main__":
    main()
