"""Planning, status and verify on 10^4 and 10^5 samples: ten times the rows, ten times the work, same memory.

By counts of files and bytes and by what was allocated, never by the clock: benchmarks.scale does that.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from benchmarks.scale_tables import commit_all, write_samples
from pipeline.shards.plan import open_plan
from schemas import open_table

ROWS = (10_000, 100_000)
TABLES = ("captions", "explanations")
MARKERS = {10_000: 1 + 5 + 10, 100_000: 2 + 50 + 100}
"""Shards of samples, captions and explanations."""


@pytest.fixture(scope="module")
def outs(tmp_path_factory):
    """Complete tables of both sizes, and what planning each took."""
    folder = tmp_path_factory.mktemp("scale")
    planned = {}
    for rows in ROWS:
        write_samples(folder / str(rows), rows)
        for table in TABLES:
            planned[rows, table] = measure(folder / str(rows), f"plan-{table}")
            commit_all(folder / str(rows), table, workers=1)
    yield {rows: folder / str(rows) for rows in ROWS}, planned
    shutil.rmtree(folder)


def measure(out, what):
    command = [sys.executable, "-m", "benchmarks.scale_measure", what, str(out), "trace"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def test_the_tables_are_what_they_say(outs):
    out = outs[0][100_000]
    assert [open_table(out, table).num_rows for table in ("samples", *TABLES)] == [100_000, 50_000, 100_000]
    plan = open_plan(out, "captions")
    keys = [key for shard in range(plan.shards) for key in plan.keys(shard)]
    assert len(set(keys)) == len(keys) == 50_000


@pytest.mark.parametrize(
    ("what", "shards"),
    [
        ("status", lambda rows: MARKERS[rows]),
        ("verify", lambda rows: MARKERS[rows]),
        ("plan-captions", lambda rows: rows // 2000 + rows // 100_000),
        ("plan-explanations", lambda rows: rows // 1000 + rows // 100_000),
    ],
)
def test_each_marker_is_read_once_and_memory_holds_no_rows(outs, what, shards):
    small, large = (measure(outs[0][rows], what) for rows in ROWS)
    more = shards(100_000) - shards(10_000)
    assert large["opened"] - small["opened"] == more
    assert large["opened"] >= shards(100_000)
    assert large["bytes_read"] - small["bytes_read"] < 2_000 * more
    assert large["python_mb"] - small["python_mb"] < 0.01 * more
    assert large["arrow_mb"] - small["arrow_mb"] < 1


@pytest.mark.parametrize("table", TABLES)
def test_a_plan_reads_the_keys_twice_and_holds_their_hashes(outs, table):
    small, large = (outs[1][rows, table] for rows in ROWS)
    assert large["result"]["planned"] == (50_000 if table == "captions" else 100_000)
    per_row = (large["bytes_read"] - small["bytes_read"]) / 90_000
    # 16 bytes of key twice, compressed from hex, and a footer per file.
    assert per_row < 60
    # The marker of one more shard of samples; Arrow's own opening of the files is not seen.
    assert large["opened"] - small["opened"] == 1
    # Below BUCKET_ROWS, 24 bytes a key and their sorted copies; above it, no more than at it.
    assert (large["python_mb"] - small["python_mb"]) * 1e6 / 90_000 < 150
