"""How a table's speed grows with its workers: ``make bench-scaling`` or ``python -m benchmarks.scaling``.

The flow ``explanations`` writes one table with 1, 2 and 4 worker processes, once with a fake engine that
takes a fixed time per text, as a GPU of its own would, and once with the demo's models on this machine's
cores. Rows per second are over the whole run, starting the workers and loading their models included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.record import save
from benchmarks.scale_tables import write_samples

ROOT = Path(__file__).resolve().parent.parent

FIXED = """
captions: {{model: captioner}}
explanations: {{model: chat, shard_size: {shard}}}
models:
  captioner: {{kind: instructblip, engine: echo}}
  chat: {{kind: chat, engine: echo, echo: {{latency_s: {latency}}}}}
"""


def main(argv: list[str] | None = None) -> None:
    """Measure, print, and save with ``--save``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 2, 4], help="numbers of workers (1 2 4)"
    )
    parser.add_argument("--rows", type=int, default=4000, help="samples with the fake engine (4000)")
    parser.add_argument(
        "--latency", type=float, default=0.05, help="seconds the fake engine takes a text (0.05)"
    )
    parser.add_argument("--shard", type=int, default=50, help="rows per shard (50)")
    parser.add_argument("--demo", type=int, default=1600, help="samples of the demo world; 0: none (1600)")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    args = parser.parse_args(argv)
    results = {
        "fixed_latency": [fixed(args, workers) for workers in args.workers],
        "demo_models": [demo(args, workers) for workers in args.workers] if args.demo else [],
    }
    for name, runs in results.items():
        _print(name, runs)
    if args.save:
        command = f"python -m benchmarks.scaling {' '.join(argv if argv is not None else sys.argv[1:])}"
        print(save("scaling", command.strip(), results))


def fixed(args: argparse.Namespace, workers: int) -> dict[str, Any]:
    """Run with the fake engine."""
    with tempfile.TemporaryDirectory(prefix="bench-scaling-") as folder:
        out = Path(folder) / "out"
        write_samples(out, args.rows)
        config = Path(folder) / "fixed.yaml"
        config.write_text(FIXED.format(shard=args.shard, latency=args.latency))
        return _run(config, out, workers)


def demo(args: argparse.Namespace, workers: int) -> dict[str, Any]:
    """Run with the demo's chat model, one core per worker."""
    with tempfile.TemporaryDirectory(prefix="bench-scaling-") as folder:
        world, out = Path(folder) / "world", Path(folder) / "out"
        _call("demo.newsroom", "--quiet", "--out", world, "--samples", args.demo, "--seed", 21)
        _call("pipeline", "ingest", "--data", world, "--out", out)
        shard = f"explanations.shard_size={args.shard}"
        return _run(ROOT / "configs" / "demo.yaml", out, workers, "--set", shard)


def _run(config: Path, out: Path, workers: int, *more: str) -> dict[str, Any]:
    arguments = ["--config", config, "--out", out, "--set", f"workers={workers}", "--json", *more]
    summary = json.loads(_call("flows.explanations", *arguments))
    bill = summary["bill"]
    return {
        "workers": workers,
        "rows": summary["written"],
        "generated": summary["generated"],
        "seconds": summary["seconds"],
        "rows_per_second": round(summary["generated"] / summary["seconds"], 2),
        "shares": bill["shares"],
    }


def _call(module: str, *arguments: Any) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return done.stdout


def _print(name: str, runs: list[dict[str, Any]]) -> None:
    if not runs:
        return
    print(f"\n{name.replace('_', ' ')}")
    print(f"{'workers':>7} {'texts':>7} {'s':>8} {'texts/s':>8} {'times':>6} {'efficiency':>10}")
    first = runs[0]["rows_per_second"] / runs[0]["workers"]
    for run in runs:
        rate = run["rows_per_second"]
        run["efficiency"] = round(rate / run["workers"] / first, 3)
        print(
            f"{run['workers']:>7} {run['generated']:>7,} {run['seconds']:>8.1f} {rate:>8.1f} "
            f"{rate / first:>6.2f} {run['efficiency']:>10.1%}"
        )


if __name__ == "__main__":
    main()
