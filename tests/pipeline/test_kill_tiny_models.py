"""SIGKILL while a real model writes: the finished table holds the texts of an uninterrupted run."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo.newsroom.cli import main as draw
from pipeline.__main__ import main
from schemas import NoSuchTable, open_table
from tests.pipeline.killing import assert_nothing_half_written, assert_whole, rows_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).resolve().parents[2]


def ingest(world: Path, out: Path) -> None:
    assert main(["ingest", "--data", str(world), "--out", str(out)]) == 0


def command(out: Path) -> list[str]:
    settings = ["--config", str(ROOT / "configs" / "demo.yaml"), "--set", "explanations.shard_size=8"]
    return [sys.executable, "-m", "pipeline", "explanations", "--out", str(out), *settings]


def shards(out: Path) -> int:
    try:
        return len(open_table(out, "explanations").files)
    except NoSuchTable:
        return 0


def test_texts_after_two_kills_are_those_of_an_uninterrupted_run(tmp_path):
    world = tmp_path / "world"
    assert draw(["--out", str(world), "--samples", "48", "--seed", "3", "--quiet"]) == 0
    for name in ("whole", "killed"):
        ingest(world, tmp_path / name)
    subprocess.run(command(tmp_path / "whole"), cwd=ROOT, check=True, capture_output=True)
    expected = rows_of(tmp_path / "whole", "explanations")
    assert len(expected) == 48

    out = tmp_path / "killed"
    for wanted in (2, 4):
        child = subprocess.Popen(command(out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while shards(out) < wanted and child.poll() is None:
            time.sleep(0.005)
        child.kill()
        assert child.wait() == -9, "the run was over before it could be killed"
        assert wanted <= assert_nothing_half_written(out, "explanations", expected) / 8 < 6
    subprocess.run(command(out), cwd=ROOT, check=True, capture_output=True)
    assert_whole(out, "explanations", expected)
