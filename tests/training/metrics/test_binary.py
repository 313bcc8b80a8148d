from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score, roc_curve

from training.metrics.binary import binary_metrics


def measure(margin, is_fake):
    margin = np.asarray(margin, dtype=np.float32)
    notes: list[str] = []
    logits = np.stack([np.zeros_like(margin), margin], axis=1)
    return binary_metrics(logits, np.asarray(is_fake, dtype=bool), notes), notes


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [6, 0])
def test_auc_and_eer_equal_the_published_libraries_also_with_ties(seed, digits):
    random = np.random.default_rng(seed)
    is_fake = random.random(301) < 0.6
    margin = np.round(random.normal(size=301) + is_fake, digits).astype(np.float32)
    found, notes = measure(margin, is_fake)
    assert found["auc"] == pytest.approx(roc_auc_score(is_fake, margin), abs=1e-12)
    curve = interp1d(*roc_curve(is_fake, margin)[:2])
    assert found["eer"] == pytest.approx(brentq(lambda x: 1 - x - curve(x), 0, 1), abs=1e-9)
    assert notes == []


def test_a_perfect_and_a_reversed_order():
    assert measure([-2, -1, 1, 2], [0, 0, 1, 1])[0] == {"auc": 1, "acc": 1, "eer": 0}
    assert measure([2, 1, -1, -2], [0, 0, 1, 1])[0] == {"auc": 0, "acc": 0, "eer": 1}


def test_equal_scores_are_chance_and_mean_real():
    assert measure([0, 0, 0, 0], [0, 1, 1, 1])[0] == {"auc": 0.5, "acc": 0.25, "eer": 0.5}


def test_confident_scores_are_still_told_apart():
    assert measure([100, 200, 300, 400], [0, 0, 1, 1])[0]["auc"] == 1


@pytest.mark.parametrize(
    ("margin", "is_fake", "accuracy", "words"),
    [
        ([1, -1], [1, 1], 0.5, "fake rows only"),
        ([1, -1], [0, 0], 0.5, "real rows only"),
        ([], [], 0.0, "no rows"),
    ],
)
def test_one_class_or_no_rows_have_defined_values_and_a_note(margin, is_fake, accuracy, words):
    found, notes = measure(margin, is_fake)
    assert found == {"auc": 0.5, "acc": accuracy, "eer": 0.5}
    assert len(notes) == 1 and words in notes[0]
