from __future__ import annotations

import itertools
import shutil

import pytest

from pipeline.config import RunConfig
from pipeline.engines import close_engines, load_count
from pipeline.run import generate_table
from schemas import open_table
from tests.builders import write_samples
from tests.pipeline.engines.conftest import BUILDERS

CAPTIONERS = sorted(name for name in BUILDERS if name.startswith("instructblip"))
CHATS = ["glm", "glm4"]


@pytest.fixture(autouse=True)
def _closed():
    close_engines()
    yield
    close_engines()


def run_config(bench, captioner, chat, batch_size=4):
    jobs = {"shard_size": 5}
    return RunConfig.model_validate(
        {
            "captions": jobs | {"model": "captioner"},
            "explanations": jobs | {"model": "chat"},
            "models": {
                "captioner": bench.config(captioner, batch_size=batch_size),
                "chat": bench.config(chat, batch_size=batch_size),
            },
        }
    )


@pytest.mark.parametrize(("captioner", "chat"), list(zip(CAPTIONERS, itertools.cycle(CHATS), strict=False)))
def test_every_architecture_writes_both_tables_from_its_real_format(bench, tmp_path, captioner, chat):
    root = write_samples(tmp_path, 12, images=7)
    for number in range(7):
        shutil.copy(bench.images[number], root / f"{number}.png")
    config, before = run_config(bench, captioner, chat), load_count()
    captions = generate_table("captions", config, tmp_path)
    explanations = generate_table("explanations", config, tmp_path)
    assert (captions.planned, captions.written, captions.failed) == (7, 7, 0)
    assert (explanations.planned, explanations.written, explanations.failed) == (12, 12, 0)
    assert load_count() == before + 2
    rows = open_table(tmp_path, "captions").to_polars()
    assert rows["caption"].n_unique() > 2 and set(rows["finish_reason"]) <= {"stop", "length"}
    rows = open_table(tmp_path, "explanations").to_polars()
    assert rows["explanation"].n_unique() > 2
    templates = set(rows["prompt_id"].str.split(":").list.first())
    assert templates == {"description-v1", "manipulation-pair-v1", "manipulation-marked-v1"}


def test_the_batch_size_changes_neither_the_texts_nor_the_version(bench, tmp_path):
    found = []
    for batch_size in (1, 7):
        out = tmp_path / str(batch_size)
        write_samples(out, 10)
        config = run_config(bench, "instructblip-llama-v5", "glm", batch_size)
        for table in ("captions", "explanations"):
            summary = generate_table(table, config, out)
            found.append((summary.version, open_table(out, table).to_polars().rows()))
    assert found[:2] == found[2:]
