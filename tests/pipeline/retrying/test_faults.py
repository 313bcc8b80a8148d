"""Faults of the real types in a run with the tiny models, and the retry that mends what they left."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from demo.newsroom.cli import main as draw
from pipeline.__main__ import main
from pipeline.config import load_config
from pipeline.engines import close_engines, get_engine
from pipeline.engines.choice import resolve_job
from pipeline.retrying import Choice, retry_failed
from pipeline.run import generate_table
from pipeline.shards.verify import verify
from schemas import open_table

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = 16
SETTINGS = ["captions.shard_size=6", "models.instructblip.batch_size=4"]


@pytest.fixture(scope="module")
def config():
    return load_config(ROOT / "configs" / "demo.yaml", SETTINGS)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    assert draw(["--out", str(folder / "w"), "--samples", str(SAMPLES), "--seed", "5", "--quiet"]) == 0
    return folder / "w"


@pytest.fixture(scope="module")
def expected(world, config, tmp_path_factory):
    """The captions of a run without faults."""
    out = tmp_path_factory.mktemp("expected")
    assert main(["ingest", "--data", str(world), "--out", str(out)]) == 0
    generate_table("captions", config, out)
    yield captions(out)
    close_engines()


@pytest.fixture
def out(world, tmp_path):
    assert main(["ingest", "--data", str(world), "--out", str(tmp_path)]) == 0
    return tmp_path


def captions(out):
    rows = open_table(out, "captions").to_polars().sort("image_key").to_dicts()
    return {row["image_key"]: row["caption"] for row in rows}


def failures(out):
    rows = open_table(out, "failures").to_polars().to_dicts()
    return {row["key"]: row for row in rows}


class Faulty:
    """The real adapter of the engine, on a device that raises for batches with one of some pictures."""

    def __init__(self, engine, bad, error):
        self.adapter, self.bad, self.error = engine.adapter, bad, error

    def __getattr__(self, name):
        return getattr(self.adapter, name)

    def generate(self, rows):
        if self.bad & {row.request.key for row in rows}:
            raise self.error
        return self.adapter.generate(rows)


FAULTS = {
    "memory of a GPU": (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        "out_of_memory",
    ),
    "memory of a CPU": (
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        "out_of_memory",
    ),
    "a kernel": (RuntimeError("CUDA error: an illegal instruction was encountered"), "engine_error"),
    "a shape": (IndexError("index out of range in self"), "engine_error"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_rows_at_fault_fail_alone_and_a_retry_without_the_fault_mends_them(
    out, config, expected, monkeypatch, name
):
    error, error_class = FAULTS[name]
    engine = get_engine(resolve_job(config, "captions").model_for("captions"))
    bad = set(sorted(expected)[2:10:4])
    with monkeypatch.context() as patch:
        patch.setattr(engine, "adapter", Faulty(engine, bad, error))
        summary = generate_table("captions", config, out)
        assert (summary.failed, summary.exit_code) == (2, 4)
        again = retry_failed("captions", config, out, choice=Choice((error_class,)))
        assert (again.retried, again.recovered, again.exit_code) == (2, 0, 4)
    found = failures(out)
    assert found.keys() == bad
    assert {(row["error_class"], row["attempts"]) for row in found.values()} == {(error_class, 2)}
    assert all(str(error)[:20] in row["message"] for row in found.values())
    same = captions(out)
    assert sum(same[key] != expected[key] for key in same) == 0 and len(same) == len(expected) - 2
    mended = retry_failed("captions", config, out)
    assert (mended.recovered, mended.failed_total, mended.exit_code) == (2, 0, 0)
    assert captions(out) == expected and not failures(out)
    assert verify(out, deep=True).ok


def test_pictures_that_come_back_get_their_captions(out, world, config, expected):
    path = next(world.rglob("*.png"), None) or next(world.rglob("*.jpg"))
    path.rename(path.with_suffix(".away"))
    try:
        summary = generate_table("captions", config, out)
    finally:
        path.with_suffix(".away").rename(path)
    (row,) = failures(out).values()
    assert (summary.failed, row["error_class"], row["permanent"]) == (1, "image_missing", False)
    assert path.name in row["message"]
    assert retry_failed("captions", config, out, choice=Choice(("out_of_memory",))).left == 1
    assert retry_failed("captions", config, out).recovered == 1
    assert captions(out) == expected


def test_a_full_disk_during_a_retry_leaves_the_ledger_as_it_was(out, world, config, expected, monkeypatch):
    path = next(world.rglob("*.png"), None) or next(world.rglob("*.jpg"))
    path.rename(path.with_suffix(".away"))
    try:
        generate_table("captions", config, out)
    finally:
        path.with_suffix(".away").rename(path)
    before = failures(out)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Exception, match="No space left"):
            retry_failed("captions", config, out)
    assert failures(out) == before
    report = verify(out, deep=True)
    assert report.ok and not report.leftovers
    assert retry_failed("captions", config, out).recovered == 1 and captions(out) == expected
