from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from training.metrics.types import average_precision, type_metrics


def by_rank(scores, positive):
    hits = total = gained = 0.0
    for row in sorted(range(len(scores)), key=lambda row: -scores[row]):
        total += 1
        if positive[row]:
            hits += 1
            gained += hits / total
    return gained / hits


@pytest.mark.parametrize("seed", range(5))
def test_ap_is_the_precision_at_the_rank_of_each_positive(seed):
    random = np.random.default_rng(seed)
    scores, positive = random.normal(size=97).astype(np.float32), random.random(97) < 0.3
    assert average_precision(scores, positive) == pytest.approx(by_rank(scores, positive), abs=1e-12)


def test_tied_logits_share_a_rank_whatever_the_order_of_rows():
    random = np.random.default_rng(3)
    scores, positive = random.integers(0, 4, 60).astype(float), random.random(60) < 0.4
    expected = average_precision_score(positive, scores)
    for _ in range(3):
        order = random.permutation(60)
        assert average_precision(scores[order], positive[order]) == pytest.approx(expected, abs=1e-12)


def test_counts_by_hand():
    types = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)
    logits = np.array([[1, -1, 0, -1], [-1, 1, -1, 1], [1, 1, -1, -1], [-1, -1, -1, -1.0]])
    notes: list[str] = []
    found = type_metrics(logits, types, notes)
    # Correct 1, 1, 1, 1; predicted 2, 2, 1, 1; actual 2, 1, 1, 1.
    assert found["op"] == pytest.approx(4 / 6) and found["or_"] == pytest.approx(4 / 5)
    assert found["of1"] == pytest.approx(8 / 11)
    assert found["cp"] == pytest.approx(0.75) and found["cr"] == pytest.approx(0.875)
    assert found["cf1"] == pytest.approx(2 * 0.75 * 0.875 / 1.625)
    f1 = [found[f"f1_{name}"] for name in ("face_swap", "face_attribute", "text_swap", "text_attribute")]
    assert f1 == pytest.approx([1 / 2, 2 / 3, 1, 1])
    assert notes == []


def test_a_logit_of_zero_is_a_prediction():
    assert type_metrics(np.zeros((1, 4)), np.ones((1, 4), dtype=bool), [])["or_"] == 1


def test_a_type_that_is_never_predicted_has_precision_0_and_counts_once_as_published():
    types = np.ones((2, 4), dtype=bool)
    logits = np.array([[1, 1, 1, -1], [1, 1, 1, -1.0]])
    notes: list[str] = []
    found = type_metrics(logits, types, notes)
    assert found["cp"] == 0.75 and found["op"] == pytest.approx(6 / 7)
    assert notes == ["text_attribute is never predicted: its precision and f1 are 0"]
    assert found["f1_text_attribute"] == 0


def test_a_type_without_positives_is_left_out_of_map_and_cr():
    types = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
    logits = np.array([[1, 1, 1, 1], [-1, -1, -1, -1.0]])
    notes: list[str] = []
    found = type_metrics(logits, types, notes)
    assert found["ap"] == [1, 1, 1, 0] and found["map"] == 1 and found["cr"] == 1
    assert found["cp"] == 0.75
    assert found["f1_text_attribute"] == 0
    assert notes == [
        "no row has text_attribute: its ap is set to 0 and left out of map and cr; its f1 is set to 0"
    ]


@pytest.mark.parametrize("rows", [0, 3])
def test_no_positive_at_all_gives_zeros(rows):
    notes: list[str] = []
    found = type_metrics(np.ones((rows, 4)), np.zeros((rows, 4), dtype=bool), notes)
    assert found.pop("ap") == [0, 0, 0, 0]
    assert set(found.values()) == {0}
    assert len(notes) == 4
