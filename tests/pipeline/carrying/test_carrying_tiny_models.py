"""Carrying over with the models that ship with the project, on the demo world, through real ingest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo.newsroom.cli import main as draw
from pipeline.__main__ import main
from pipeline.config import load_config
from pipeline.run import generate_table
from tests.pipeline.killing import rows_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


NAMES = ("captions", "explanations")


def ingest(world: Path, out: Path, capsys) -> dict:
    capsys.readouterr()
    assert main(["ingest", "--data", str(world), "--out", str(out), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_new_rows_and_a_changed_picture_cost_their_own_texts_only(root, tmp_path, capsys):
    world, out = tmp_path / "world", tmp_path / "out"
    assert draw(["--out", str(world), "--samples", "48", "--seed", "5", "--quiet"]) == 0
    metadata = world / "metadata" / "train.json"
    rows = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(rows[:-4]))
    ingest(world, out, capsys)
    config = load_config(root / "configs" / "demo.yaml")
    before = {}
    for name in NAMES:
        generate_table(name, config, out)
        before[name] = set(rows_of(out, name)["input_hash"])

    metadata.write_text(json.dumps(rows))
    picture = world / str(rows[0]["image"]).removeprefix("DGM4/")
    picture.write_bytes(picture.read_bytes() + b"\n")
    summary = ingest(world, out, capsys)
    assert summary["images"]["checked"] <= 5 and summary["images"]["from_cache"] >= 35
    ingest(world, tmp_path / "scratch", capsys)
    for name in NAMES:
        again = generate_table(name, config, out, follow_samples=True)
        generate_table(name, config, tmp_path / "scratch")
        scratch = rows_of(tmp_path / "scratch", name)
        assert rows_of(out, name).equals(scratch)
        # New texts may repeat old ones; an added original text gives old rows another prompt.
        new = len(scratch.filter(~scratch["input_hash"].is_in(list(before[name]))))
        assert again.generated + again.shared == new and 1 <= new <= 10
        assert again.carried == again.planned - new
