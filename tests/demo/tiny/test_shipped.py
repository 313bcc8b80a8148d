"""The checkpoints in demo/models: form, size, and a quick look at how good they are."""

import pytest

from demo.newsroom import generate_items
from demo.newsroom.writer import distinct_pictures
from demo.tiny.evaluate import model_config
from demo.tiny.measure import measure_captions, measure_explanations
from demo.tiny.train import MODELS
from pipeline.engines import get_engine

UNSEEN = 4711


def test_checkpoints_are_small_and_hold_safetensors_only():
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 6_000_000
    assert sorted(p.parent.name for p in files if p.suffix == ".safetensors") == ["glm", "instructblip"]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".md"}


@pytest.fixture(scope="module")
def items():
    return list(generate_items(300, UNSEEN))


def test_captions_describe_the_pixels_of_an_unseen_world(items, tmp_path):
    pictures = distinct_pictures(items)[:64]
    assert sum("face" in item.fake_cls for item in pictures) >= 15
    figures = measure_captions(pictures, get_engine(model_config(MODELS / "instructblip")), tmp_path)
    shares = figures.shares
    # 64 pictures: three standard errors below the shipped figures is still above these.
    assert shares["attributes right"].value >= 0.95, "\n".join(figures.mistakes[:3])
    assert shares["captions right"].value >= 0.75, "\n".join(figures.mistakes[:3])
    assert shares["attributes claimed"].value >= 0.99


def test_explanations_name_the_changed_words_of_an_unseen_world(items):
    manipulated = [item for item in items if "text" in item.fake_cls][:40]
    plain = [item for item in items if "text" not in item.fake_cls][:16]
    figures = measure_explanations(manipulated + plain, get_engine(model_config(MODELS / "glm")))
    assert figures.shares["changes named"].total == 80
    assert figures.shares["changes named"].value >= 0.95, "\n".join(figures.mistakes[:3])
    assert figures.shares["descriptions identical to the reference"].value >= 0.8
