"""The demo's CLIP on pictures and captions of the demo world."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from demo.newsroom import caption, generate_items, render
from demo.tiny.train import MODELS
from pipeline.config import load_config
from pipeline.config.gates import ClipConfig
from pipeline.errors import UsageError
from pipeline.gates import Case
from pipeline.gates.image_mismatch import Scorer, clip_scores, mismatches
from pipeline.jobs import make_job
from pipeline.run import generate_table
from tests.builders import write_echo_config, write_samples

CLIP = ClipConfig(model=str(MODELS / "clip"), min_score=0.2, batch_size=7, device="cpu")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    out = []
    genuine = [item for item in generate_items(120, seed=77) if item.fake_cls == "orig"][:40]
    for number, item in enumerate(genuine):
        path = folder / f"{number}.png"
        render(item).save(path)
        out.append((caption(item.scene), path))
    return out


def test_captions_of_their_picture_pass_and_those_of_another_do_not(pairs):
    own = np.array(clip_scores(CLIP, pairs))
    others = [(text, pairs[(n + 17) % len(pairs)][1]) for n, (text, _) in enumerate(pairs)]
    cases = [Case(text, "?", "stop", image=image) for text, image in pairs + others]
    flagged = np.array(mismatches(CLIP, cases))
    assert flagged[: len(pairs)].mean() <= 0.025 and flagged[len(pairs) :].mean() > 0.6
    assert own.mean() - np.mean(clip_scores(CLIP, others)) > 0.4
    assert (np.abs(own) <= 1).all()


def test_a_score_does_not_depend_on_the_batch(pairs):
    together = clip_scores(CLIP, pairs)
    alone = [clip_scores(CLIP, [pair])[0] for pair in pairs[:10]]
    assert np.allclose(together[:10], alone, atol=1e-5)


def test_a_text_without_a_readable_picture_is_not_blamed(pairs, tmp_path, caplog):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    scores = clip_scores(CLIP, [("a man", None), ("a man", broken), pairs[0], ("", tmp_path / "no.png")])
    assert [score is None for score in scores] == [True, True, False, True]
    assert "broken.png" in caplog.text and clip_scores(CLIP, []) == []


@pytest.fixture
def scorer():
    return Scorer(CLIP.model, None, "cpu")


def test_a_picture_that_defeats_the_resizing_stops_nothing(scorer, pairs, monkeypatch, caplog):
    whole = scorer._preprocess

    def resize(image):
        if image.size == (3, 1):
            raise ValueError("height and width must be > 0")
        return whole(image)

    flat = pairs[0][1].with_name("flat.png")
    Image.new("RGB", (3, 1)).save(flat)
    monkeypatch.setattr(scorer, "_preprocess", resize)
    (none, score) = scorer.scores([("a man", flat), pairs[0]])
    assert none is None and score is not None
    assert "flat.png: ValueError while resizing: height and width must be > 0" in caplog.text


def test_a_device_without_room_for_a_batch_is_an_error_with_the_remedy(scorer, pairs, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(scorer._clip, "encode_image", full)
    with pytest.raises(UsageError, match=r"3 captions and pictures.* lower gates.clip.batch_size.*cpu"):
        scorer.scores(pairs[:3])


def test_a_clip_that_does_not_fit_the_device_is_an_error_with_the_remedy(monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", full)
    with pytest.raises(UsageError, match=r"does not fit the memory of cpu .*gates.clip.device: cpu"):
        Scorer(CLIP.model, None, "cpu")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "ViT-B-33"}, "no model 'ViT-B-33'; nearest: ViT-B-32"),
        ({"model": "ViT-B-32"}, "None is neither a weights file nor a tag of ViT-B-32"),
        ({"model": "ViT-B-32", "pretrained": "opnai"}, "its tags: openai"),
        ({"model": str(MODELS / "glm")}, "has no open_clip_config.json"),
        ({"pretrained": "openai"}, "has its own weights|with its own weights"),
    ],
)
def test_a_clip_that_is_not_there_is_named_with_the_remedy(pairs, changes, says):
    with pytest.raises(UsageError, match=says):
        clip_scores(CLIP.model_copy(update=changes), pairs[:1])


@pytest.mark.parametrize(
    ("clip", "says"),
    [
        ("{model: ViT-B-33}", "no model 'ViT-B-33'; nearest: ViT-B-32"),
        ("{model: ViT-B-32, pretrained: opnai}", "its tags: openai"),
        ("{model: 'local-dir:nowhere'}", "nowhere has no open_clip_config.json"),
    ],
)
def test_a_clip_that_is_not_there_is_refused_before_anything_is_made(tmp_path, clip, says):
    write_samples(tmp_path, 4)
    path = write_echo_config(tmp_path)
    with pytest.raises(UsageError, match=says):
        generate_table("captions", load_config(path, [f"captions.gates.clip={clip}"]), tmp_path)
    assert not (tmp_path / "captions").exists()


def test_a_folder_is_the_same_with_open_clips_prefix(tmp_path):
    (tmp_path / "clip").symlink_to(MODELS / "clip")
    path = write_echo_config(tmp_path)
    plain, prefixed = (
        load_config(path, [f"captions.gates.clip.model={name}"]) for name in ("clip", "local-dir:clip")
    )
    assert prefixed == plain and prefixed.captions.gates.clip.model == str(tmp_path / "clip")
    assert ClipConfig(model=f"local-dir:{MODELS / 'clip'}") == ClipConfig(model=str(MODELS / "clip"))
    make_job("captions", prefixed)
    with pytest.raises(UsageError, match="names no folder"):
        load_config(path, ["captions.gates.clip.model='local-dir:'"])


def test_open_clip_is_imported_only_when_the_gate_is_on():
    code = "import sys, pipeline.run; print(sorted({'open_clip', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
