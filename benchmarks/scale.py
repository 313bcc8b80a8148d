"""What planning, ``status`` and ``verify`` cost, by the length of the tables.

``python -m benchmarks.scale [--rows N...] [--runs N] [--save]`` writes tables of 10^4 to 10^7 samples through
the pipeline's own plan, shards and markers (only the texts are fake), with the shards of 1000 rows that every
configuration starts with, and measures each operation in fresh processes: seconds, most memory, files opened.
``--save`` writes the figures under ``benchmarks/results`` and the plot of ``docs/scale.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.record import save
from benchmarks.scale_tables import commit_all, write_samples

ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
ROOT = Path(__file__).resolve().parent.parent
PLOT = ROOT / "docs" / "images" / "scale.svg"
TABLES = ("captions", "explanations")

OPERATIONS = {
    "plan captions, new": "plan-captions",
    "plan explanations, new": "plan-explanations",
    "plan captions, complete": "plan-captions",
    "plan explanations, complete": "plan-explanations",
    "status": "status",
    "verify": "verify",
    "index of old texts": "index",
}
"""Title to what ``benchmarks.scale_measure`` is told."""


def main(argv: list[str] | None = None) -> None:
    """Measure and print; with ``--save`` also write the figures and the plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS), help="numbers of samples")
    parser.add_argument("--runs", type=int, default=3, help="runs of each; the best is reported")
    parser.add_argument(
        "--folder", type=Path, help="keep the tables here and use those that are complete (default: remove)"
    )
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/ and docs/images/")
    args = parser.parse_args(argv)
    results: list[dict[str, Any]] = []
    print(
        f"{'samples':>11} {'operation':<28} {'s':>8} {'CPU s':>8} {'peak MB':>8} {'files':>7} {'us/row':>8}"
    )
    for rows in args.rows:
        with _folder(args.folder) as folder:
            for result in measure(folder, rows, args.runs):
                results.append(result)
                print(
                    f"{rows:>11,} {result['operation']:<28} {result['seconds']:>8.2f} "
                    f"{result['processor_seconds']:>8.2f} {result['peak_mb']:>8,.0f} "
                    f"{result['opened']:>7,} {1e6 * result['seconds'] / rows:>8.2f}",
                    flush=True,
                )
    if args.save:
        from benchmarks.scale_plot import draw

        print(save("scale", "plan, status and verify by table length", results))
        draw(results, PLOT)
        print(PLOT)


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        yield Path(folder)


def measure(folder: Path, rows: int, runs: int) -> Iterator[dict[str, Any]]:
    """Write the tables of ``rows`` samples, where they are not there yet, and yield the figures."""
    out = folder / f"out{rows}"
    written = write_tables(out, rows)
    for title, what in OPERATIONS.items():
        timings = []
        for _ in range(runs):
            with _prepared(out, title) as where:
                timings.append(run_once(what, where))
        best = min(timings, key=lambda timing: float(timing["seconds"]))
        peak = max(timing["peak_mb"] for timing in timings)
        walls = [timing["seconds"] for timing in timings]
        yield {"rows": rows, "operation": title, **best, "peak_mb": peak, "runs": walls, **written}
        written = {}


def write_tables(out: Path, rows: int) -> dict[str, float]:
    """Write the tables of ``rows`` samples unless they are complete; return what it took."""
    stamp = out / ".complete"
    if stamp.exists():
        return {}
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    write_samples(out, rows)
    sampled = time.perf_counter()
    for table in TABLES:
        run_once(f"plan-{table}", out)
        commit_all(out, table)
    stamp.touch()
    done = time.perf_counter()
    return {"write_samples_s": round(sampled - started, 1), "write_texts_s": round(done - sampled, 1)}


@contextlib.contextmanager
def _prepared(out: Path, title: str) -> Iterator[Path]:
    """Yield the output folder in the state that an operation starts from."""
    if title.endswith("new"):
        # The samples alone, so that the plan has to be made.
        bare = out.parent / f"{out.name}-plan"
        bare.mkdir()
        try:
            (bare / "samples").symlink_to(out / "samples")
            yield bare
        finally:
            shutil.rmtree(bare)
        return
    if title.startswith("index"):
        shutil.rmtree(out / "cache", ignore_errors=True)
    yield out


def run_once(what: str, out: Path) -> dict[str, Any]:
    """Run an operation in a process of its own and return its figures.

    Raises:
        SystemExit: It failed.
    """
    command = [sys.executable, "-m", "benchmarks.scale_measure", what, str(out)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{what} ended with {done.returncode}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    main()
