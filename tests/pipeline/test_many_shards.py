"""A version of 10,000 shards: no command holds a file per shard open, and each of them stays quick."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import load_config
from pipeline.run import Work, generate_table, prepare
from pipeline.shards.snapshot import write_snapshot
from schemas import layout, open_table
from schemas.marker import FileEntry, Marker, file_sha256
from schemas.tables import SCHEMA_VERSION, schema_hash, schema_of
from tests.builders import sample_row, write_echo_config

ROOT = Path(__file__).resolve().parents[2]
SHARDS, LEFT, FILES = 10_000, 20, 256

READ = """
import sys
from schemas import open_table
table = open_table(sys.argv[1], "explanations")
assert len(table.files) == table.num_rows == 10_000
assert table.to_arrow(columns=["sample_id"]).num_rows == 10_000
assert len(table.scan().select("sample_id").collect()) == 10_000
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A table whose shards hold a row each, all but a few committed."""
    folder = tmp_path_factory.mktemp("many")
    config = write_echo_config(folder)
    rows = [sample_row(n, None, f"{n}.png", width=None, height=None) for n in range(SHARDS)]
    samples = pa.Table.from_pylist(rows, schema=schema_of("samples"))
    for name in ("whole", "out"):
        write_snapshot(folder / name, "samples", [samples], info={"image_root": str(folder)})
    settings = [f"explanations.shard_size={SHARDS}"]
    generate_table("explanations", load_config(config, settings), folder / "whole")
    row = open_table(folder / "whole", "explanations").to_arrow().slice(0, 1)
    work = prepare("explanations", load_config(config, ["explanations.shard_size=1"]), folder / "out")
    assert work.plan.shards == SHARDS
    commit_all_alike(work, row)
    return folder / "out"


def commit_all_alike(work: Work, row: pa.Table) -> None:
    """Commit one row as every shard but the last ones: ten thousand real commits would take minutes."""
    version = work.plan.version
    first = version / f"{layout.shard_name(0)}-00000000.parquet"
    pq.write_table(row, first)
    size, sha256 = first.stat().st_size, file_sha256(first)
    for shard in range(SHARDS - LEFT):
        path = version / f"{layout.shard_name(shard)}-00000000.parquet"
        if shard:
            os.link(first, path)
        marker = Marker(
            table="explanations",
            shard=shard,
            fingerprint=work.plan.fingerprint,
            schema_version=SCHEMA_VERSION,
            schema_hash=schema_hash(schema_of("explanations")),
            planned=1,
            rows=1,
            failures=0,
            quarantined=0,
            data=FileEntry(name=path.name, rows=1, size=size, sha256=sha256),
            stats={"seconds": 0.1},
        )
        layout.marker_path(version, shard).write_bytes(marker.to_json())


def with_few_files(*arguments: str) -> float:
    """Run Python where 256 files may be open at once; return the seconds it took."""
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES)),
    )
    assert result.returncode == 0, result.stderr
    return time.monotonic() - started


@pytest.mark.slow
def test_ten_thousand_shards_need_few_open_files_and_little_time(out):
    config = str(out.parent / "echo.yaml")
    begin = with_few_files("-c", "import pipeline.run, pyarrow.dataset, polars")
    run = ["-m", "pipeline", "explanations", "--config", config, "--out", str(out)]
    seconds = {
        "run": with_few_files(*run, "--set", "explanations.shard_size=1"),
        "status": with_few_files("-m", "pipeline", "status", "--out", str(out)),
        "verify": with_few_files("-m", "pipeline", "verify", "--out", str(out)),
        "read": with_few_files("-c", READ, str(out)),
    }
    print({name: round(value, 1) for name, value in seconds.items()}, f"of which imports {begin:.1f}")
    assert max(seconds.values()) < 30 + begin
