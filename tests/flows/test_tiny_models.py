"""The flows on the tiny models that ship with the project: the whole way from images to both tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.captions import captions
from flows.explanations import explanations
from pipeline.engines import close_engines, load_count
from schemas import open_table
from tests.builders import write_samples


@pytest.mark.slow
def test_the_tiny_models_are_loaded_once_each_for_all_shards(api, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_samples(out, 10, images=6)
    config = str(root / "configs/demo.yaml")
    close_engines()
    before = load_count()
    assert captions(config, str(out), ["captions.shard_size=2"])["written"] == 6
    assert explanations(config, str(out), ["explanations.shard_size=3"])["written"] == 10
    assert load_count() - before == 2
    assert len(open_table(out, "captions").files) == 3
    assert len(open_table(out, "explanations").files) == 4
    for table, column in (("captions", "caption"), ("explanations", "explanation")):
        texts = open_table(out, table).to_polars()[column]
        assert texts.str.len_chars().min() > 0
