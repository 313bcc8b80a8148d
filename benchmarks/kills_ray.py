"""``python -m benchmarks.kills_ray``: kill Ray nodes in the middle of a shard, and print what it cost.

The cluster is real and on this machine: a head without cores and two nodes with one core each. A kill ends a
node's raylet and everything below it at once, the worker process that writes the shard included.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import save
from tests.flows.building import make_table
from tests.flows.ray_nodes import TABLE, RayNodes, kill_in_a_shard, ray_nodes
from tests.pipeline.killing import assert_whole, rows_of

HEADER = """| killed | rows | before | lost | twice | flow runs | s without new rows | s to the whole table \
| s until its shard is claimed again |
|---|---:|---:|---:|---:|---:|---:|---:|---:|"""

ROOT = Path(__file__).resolve().parent.parent
NODES = 2
ROW_S = 0.4
"""Slow enough that the second worker comes before the first one has done everything."""
_TIMEOUT_S = 600.0


@dataclass(kw_only=True)
class RayOutcome:
    """What the kill of a Ray node did to a table; the fields are those of the other kills, and one more."""

    killed: str
    rows_planned: int
    rows_before: int
    """Rows committed when it was killed."""
    rows_lost: int
    """Planned rows that the finished table lacks, or that differ from an undisturbed run's."""
    rows_duplicated: int
    runs: int
    """Flow runs that it took."""
    seconds_to_recover: float
    """From the kill to the finished table."""
    seconds_without_rows: float
    """From the kill to the next committed rows."""
    seconds_to_claim: float
    """From the kill until another worker holds the shard that the killed one was writing."""


def ray_node_killed(folder: Path, nodes: RayNodes, *, rows: int, row_s: float, seed: int) -> RayOutcome:
    """Kill the node of one of two workers in the middle of a shard and see the table to its end.

    Args:
        folder: An empty folder.
        nodes: The cluster, with two nodes; gets another one for the killed one afterwards.
        rows: Rows of the table, shards of 5.
        row_s: Seconds that a row takes.
        seed: Chooses the worker and the moment.

    Raises:
        RuntimeError: The run did not end well.
        AssertionError: A file, a marker or a row is not what it should be.
    """
    draw = random.Random(seed)
    expected = _undisturbed_rows(folder / "undisturbed", rows)
    table = make_table(folder / "disturbed", samples=rows, latency_s=row_s)
    out = Path(table["out"])
    before = 0

    def cut_the_power(worker: int) -> None:
        nonlocal before
        nodes.kill(nodes.raylet_of(worker))
        before = len(rows_of(out, TABLE))

    with (folder / "log").open("w+") as log:
        run = subprocess.Popen(
            [
                *(sys.executable, "-m", f"flows.{TABLE}", "--config", table["config"], "--out", table["out"]),
                *("--set", "runner=ray", "--set", f"ray.address={nodes.address}"),
            ],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
        try:
            kill = kill_in_a_shard(
                out,
                cut_the_power,
                workers=NODES,
                row_s=row_s,
                rows=draw.uniform(1, 4),
                which=draw.randrange(NODES),
            )
            new = 0.0
            while (there := len(rows_of(out, TABLE))) < rows and run.poll() is None:
                if not new and there > before:
                    new = time.monotonic()
                if time.monotonic() > kill.at + _TIMEOUT_S:
                    raise RuntimeError(f"the table is not whole after {_TIMEOUT_S:.0f} s")
                time.sleep(0.1)
            seconds = time.monotonic() - kill.at
            code = run.wait(_TIMEOUT_S)
        finally:
            run.kill()
        if code != 0:
            log.seek(0)
            raise RuntimeError(f"the run ended with exit code {code}:\n{log.read()}")
    nodes.add()
    found = rows_of(out, TABLE)
    result = RayOutcome(
        killed=f"Ray node, seed {seed}",
        rows_planned=len(expected),
        rows_before=before,
        rows_lost=len(expected) - len(found.join(expected, on=found.columns, how="semi", nulls_equal=True)),
        rows_duplicated=len(found) - found["sample_id"].n_unique(),
        runs=1,
        seconds_to_recover=round(seconds, 1),
        seconds_without_rows=round(new - kill.at, 1),
        seconds_to_claim=round(kill.taken_s, 1),
    )
    if not result.rows_lost and not result.rows_duplicated:
        assert_whole(out, TABLE, expected)
    return result


def line(result: RayOutcome) -> str:
    """Return an outcome as a line of a Markdown table."""
    return (
        f"| {result.killed} | {result.rows_planned} | {result.rows_before} | {result.rows_lost} "
        f"| {result.rows_duplicated} | {result.runs} "
        f"| {result.seconds_without_rows:.1f} | {result.seconds_to_recover:.1f} "
        f"| {result.seconds_to_claim:.1f} |"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Kill nodes; return 0 when no row was lost or duplicated, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills_ray", description=__doc__)
    parser.add_argument("--times", type=int, default=3, metavar="N", help="kills (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first kill (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=100, help="rows of a table (default: %(default)s)")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    args = parser.parse_args(argv)
    results: list[RayOutcome] = []
    with ray_nodes() as nodes:
        nodes.add(NODES)
        for seed in range(args.seed, args.seed + args.times):
            with tempfile.TemporaryDirectory(prefix="kills-ray-") as folder:
                results.append(ray_node_killed(Path(folder), nodes, rows=args.rows, row_s=ROW_S, seed=seed))
                print(line(results[-1]), file=sys.stderr, flush=True)
    print("\n".join([HEADER, *map(line, results)]))
    if args.save:
        command = f"python -m benchmarks.kills_ray --times {args.times} --seed {args.seed} --rows {args.rows}"
        path = save("kills-ray", "kills_ray", [asdict(result) for result in results], command=command)
        print(f"saved: {os.path.relpath(path)}")
    return 1 if any(result.rows_lost or result.rows_duplicated for result in results) else 0


def _undisturbed_rows(folder: Path, rows: int) -> Any:
    from pipeline.config import load_config
    from pipeline.run import generate_table

    table = make_table(folder, samples=rows)
    generate_table(TABLE, load_config(table["config"]), Path(table["out"]))
    return rows_of(Path(table["out"]), TABLE)


if __name__ == "__main__":
    sys.exit(main())
