"""Rows of equal prompts share an answer, and each is judged by its own changed words."""

from __future__ import annotations

import json

import pytest

from pipeline.config import load_config
from pipeline.run import generate_table
from schemas import open_table
from schemas.layout import current_version
from tests.builders import sample_row, write_echo_config
from tests.pipeline.carrying.test_carrying import key, write

POLICY = """
captions: {model: captioner}
explanations:
  model: chat
  shard_size: 40
  prompts: {marked: %s}
  gates: {policy: {misses_change: quarantine}}
models:
  captioner: {kind: instructblip, engine: echo}
  chat: {kind: chat, engine: echo}
"""


@pytest.fixture
def out(tmp_path):
    """Two samples of one text with different changed words, and a prompt that shows none of them."""
    prompt = tmp_path / "same.txt"
    prompt.write_text("What was changed in {{ text }}? {{ marked_text[:0] }}")
    config = load_config(write_echo_config(tmp_path, POLICY % prompt))
    changes = {
        "fake_cls": "text_swap",
        "text": "A man smiles in Lima",
        "words": "A man smiles in Lima".split(),
        "original_text": None,
        "original_from": None,
    }
    rows = [
        sample_row(n, key(n), f"{n}.png", fake_text_pos=[place], **changes) for n, place in enumerate((1, 4))
    ]
    for row in rows:
        row["text_swap"] = True
    write(tmp_path / "out", rows)
    return tmp_path / "out", config, rows


def test_each_of_two_equal_prompts_is_judged_by_its_own_changed_words(out, monkeypatch):
    folder, config, rows = out
    from pipeline.engines.base import Result
    from pipeline.engines.echo import EchoEngine

    def answer(self, request):
        return Result(request.key, "The man was put there.", "stop", 3, 5)

    monkeypatch.setattr(EchoEngine, "_answer", answer)
    summary = generate_table("explanations", config, folder)
    assert (summary.written, summary.quarantined, summary.failed) == (1, 1, 0)
    kept = open_table(folder, "explanations").to_polars()
    aside = open_table(folder, "explanations", part="quarantined").to_polars()
    assert kept["sample_id"].to_list() == [rows[0]["sample_id"]] and kept["flags"].to_list() == [[]]
    assert aside["sample_id"].to_list() == [rows[1]["sample_id"]]
    assert aside["flags"].to_list() == [["misses_change"]]
    # Their inputs differ by what they are judged by, so neither is carried over in the other's place.
    assert kept["input_hash"].to_list() != aside["input_hash"].to_list()
    marker = next((current_version(folder, "explanations")).glob("*.marker.json"))
    assert json.loads(marker.read_bytes())["planned"] == 2
