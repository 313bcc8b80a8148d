"""Small random predictions, and the golden ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from schemas.vocabulary import FAKE_CLS
from training.metrics import Predictions
from training.metrics.reading import load

GOLDEN = Path(__file__).parents[2] / "golden" / "dgm4_metrics.npz"


def golden() -> tuple[Predictions, dict[str, Any]]:
    return load(GOLDEN)[0], json.loads(GOLDEN.with_suffix(".json").read_text())


def some(rows: int = 40, places: int = 9, seed: int = 0, **changes: Any) -> Predictions:
    """Every class in turn; words of one to three tokens between a begin token and padding."""
    random = np.random.default_rng(seed)
    fake_cls = np.array([FAKE_CLS[row % 9] for row in range(rows)], dtype=str)
    face = np.array(["face" in name for name in fake_cls], dtype=bool)
    word = np.full((rows, places), -1)
    for row in range(rows):
        used = random.integers(3, places)
        word[row, 1:used] = np.sort(random.integers(0, 4, used - 1))
    manipulated = random.random((rows, 4)) < 0.4
    text = np.array(["text" in name for name in fake_cls], dtype=bool)
    label = np.where(word >= 0, np.take_along_axis(manipulated, np.maximum(word, 0), 1) & text[:, None], -100)
    true = np.concatenate([random.uniform(0.3, 0.7, (rows, 2)), random.uniform(0.1, 0.5, (rows, 2))], 1)
    values: dict[str, Any] = {
        "fake_cls": fake_cls,
        "logits_binary": random.normal(size=(rows, 2)).astype(np.float32),
        "logits_multilabel": random.normal(size=(rows, 4)).astype(np.float32),
        "box_pred_cxcywh": (true + random.normal(0, 0.1, (rows, 4))).astype(np.float32),
        "box_true_cxcywh": (true * face[:, None]).astype(np.float32),
        "logits_token": random.normal(size=(rows, places, 2)).astype(np.float32),
        "token_label": label,
        "token_word": word,
        "index": np.arange(rows),
        "image_size": random.integers(32, 640, (rows, 2)).astype(np.float32),
    }
    return Predictions(**(values | changes))
