"""The README's first command, run as a user runs it, on a small world in a folder with an awkward name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def make(root: Path, *arguments: str) -> str:
    command = ["make", *arguments]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def test_both_tables_are_written_verified_shown_and_not_written_twice(root: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "the editor's pictures", tmp_path / "tables & texts"
    world = [
        root / ".venv" / "bin" / "python",
        "-m",
        "demo.newsroom",
        "--samples",
        "24",
        "--seed",
        "11",
        "--quiet",
    ]
    subprocess.run([*world, "--out", data], cwd=root, check=True, capture_output=True)
    run = ("captions", "explanations", f"DATA={data}", f"OUT={out}")

    first = make(root, *run)
    for table in ("captions", "explanations"):
        assert f"{out}/{table}/v-" in first, "says where the table is"
    assert "verified" in first and "NOT verified" not in first
    ending = first[first.rindex("verified") :]
    assert ending.count("  caption  ") == 2
    assert ending.count("  explanation  ") == 2
    written = sorted(out.glob("*/v-*/shard-*.parquet"))

    second = make(root, *run)
    assert second.count("nothing to do") == 2
    assert sorted(out.glob("*/v-*/shard-*.parquet")) == written

    make(root, "export", f"OUT={out}")
    assert pq.read_table(out / "export" / "explanations.parquet").num_rows == 24
    make(root, "inspect", f"OUT={out}")
    assert (out / "inspect.html").stat().st_size > 10_000
    assert "done" in make(root, "status", f"OUT={out}")
