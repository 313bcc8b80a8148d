from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from tests.training.data.building import write_rows, write_world
from tests.training.engine.running import cpu_accelerator, run_config, write_split_world
from training.config.sections import Config, LmaConfig, MgcaConfig
from training.data.loader import eval_loader
from training.engine.assembly import assemble, open_rows
from training.engine.evaluation import predict
from training.metrics import Predictions

MODES = get_args(MgcaConfig.model_fields["mode"].annotation)
TEXTS = get_args(LmaConfig.model_fields["text"].annotation)
PREDICTED = ("logits_binary", "logits_multilabel", "box_pred_cxcywh")


def altered(row: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a sample with another class, box and marked words; image and text stay."""
    fake_cls = ("face_attribute", "orig", "face_swap&text_swap", "text_attribute")[number % 4]
    face = "face" in fake_cls
    changed = row | {
        "fake_cls": fake_cls,
        "is_fake": fake_cls != "orig",
        "fake_image_box": [20.0, 2.0, 44.0, 20.0] if face else None,
        "fake_text_pos": [0, 4] if "text" in fake_cls else [],
        "original_text": None,
        "original_from": None,
    }
    return changed | {
        kind: kind in fake_cls for kind in ("face_swap", "face_attribute", "text_swap", "text_attribute")
    }


@pytest.fixture(scope="module")
def bare_world(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images and texts without captions and explanations, with other annotations."""
    out: Path = tmp_path_factory.mktemp("bare") / "out"
    rows = write_split_world(out, texts=False)
    write_rows(out, [altered(row, number) for number, row in enumerate(rows)])
    return out


def predictions(config: Config, out: Path, folder: Path) -> Predictions:
    accelerator = cpu_accelerator()
    config = config.model_copy(update={"data": config.data.model_copy(update={"out": out})})
    rows = open_rows(config, ("val",), folder, accelerator)
    run = assemble(config, accelerator, 21)
    found, given_up = predict(
        run.model, eval_loader(rows, run.tokenizer, config), accelerator, box_threshold=0.0
    )
    assert found is not None and not given_up
    return found


def differences(mine: Predictions, theirs: Predictions) -> list[str]:
    """Return what was predicted differently; texts may be padded to another length."""
    width = min(mine.logits_token.shape[1], theirs.logits_token.shape[1])
    pairs = {name: (getattr(mine, name), getattr(theirs, name)) for name in PREDICTED}
    assert mine.token_word is not None and theirs.token_word is not None
    words = mine.token_word[:, :width] >= 0
    pairs["words"] = (mine.logits_token[:, :width][words], theirs.logits_token[:, :width][words])
    return [name for name, pair in pairs.items() if not np.allclose(*pair, rtol=0, atol=1e-5)]


@pytest.mark.parametrize(("mode", "text"), list(product(MODES, TEXTS)))
def test_predictions_come_from_image_and_text_alone(
    towers: str, world: Path, bare_world: Path, tmp_path: Path, mode: str, text: str
) -> None:
    ied = 0.1 if text in ("explanation", "both") else 0.0
    loss = {
        "mgca": {"mode": mode, "guidance": "annotated" if mode == "none" else "predicted"},
        "lma": {"text": text, "ied": ied},
    }
    config = run_config(towers, world, loss=loss)
    full = predictions(config, world, tmp_path / "full")
    bare = predictions(config, bare_world, tmp_path / "bare")
    assert (full.fake_cls != bare.fake_cls).any() and not np.array_equal(full.token_label, bare.token_label)
    assert not np.array_equal(full.box_true_cxcywh, bare.box_true_cxcywh)
    assert differences(full, bare) == []


@pytest.mark.parametrize("mode", MODES)
def test_the_comparison_sees_another_image_or_text(
    towers: str, world: Path, tmp_path: Path, mode: str
) -> None:
    out = tmp_path / "other"
    rows = write_world(out, 8, split="val")
    for row in rows:
        row["words"] = [*row["words"][:-1], "Rome"]
        row["text"] = " ".join(row["words"])
    write_rows(out, rows)
    config = run_config(towers, world, loss={"mgca": {"mode": mode}})
    found = differences(
        predictions(config, world, tmp_path / "full"), predictions(config, out, tmp_path / "changed")
    )
    assert set(found) == {*PREDICTED, "words"}


def test_guided_attention_would_show_the_label_if_it_were_given(towers: str, world: Path) -> None:
    """In mode ``bias`` training adds the true mask: it must matter there, or the test above says nothing."""
    config = run_config(towers, world, loss={"mgca": {"mode": "bias"}})
    run = assemble(config, cpu_accelerator(), 21)
    torch.manual_seed(0)
    image, text = torch.randn(2, 3, 32, 32), torch.tensor([[2, 5, 6, 7], [2, 8, 9, 3]])
    patches = torch.zeros(2, 16, dtype=torch.bool)
    patches[:, 3:7] = True
    words = torch.tensor([[False, True, False, False]] * 2)
    rows = torch.ones(2, dtype=torch.bool)
    guided = run.model(image, text, patch_guidance=patches, token_guidance=words, guided_rows=rows)
    assert not torch.allclose(guided.binary, run.model(image, text).binary, atol=1e-4)
