from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.training.metrics.cases import golden, some
from training.errors import DataError
from training.metrics import by_type, concat, evaluate
from training.metrics.predictions import empty
from training.metrics.score import PARTS


def figures(metrics):
    return [value for name, value in metrics.items() if name not in ("ap", "notes")] + metrics["ap"]


def test_every_golden_figure_is_met():
    predictions, expected = golden()
    found = evaluate(predictions)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6, err_msg=name)


def test_the_order_of_rows_does_not_matter():
    predictions, _ = golden()
    shuffled = predictions.take(np.random.default_rng(1).permutation(len(predictions)))
    found, again = evaluate(predictions), evaluate(shuffled)
    np.testing.assert_allclose(figures(again), figures(found), rtol=0, atol=1e-9)


def test_the_score_is_the_mean_of_four_tasks():
    found = evaluate(some(90))
    assert found["score"] == pytest.approx(sum(found[name] for name in PARTS) / 4)


def test_perfect_predictions_score_1():
    predictions = some(90)
    label = predictions.token_label
    perfect = replace(
        predictions,
        logits_binary=np.stack([~predictions.is_fake, predictions.is_fake], 1).astype(float),
        logits_multilabel=predictions.types - 0.5,
        box_pred_cxcywh=predictions.box_true_cxcywh,
        logits_token=np.stack([label != 1, label == 1], -1).astype(float),
    )
    found = evaluate(perfect)
    assert found.pop("notes") == [] and found.pop("ap") == [1, 1, 1, 1] and found.pop("eer") == 0
    assert set(found.values()) == {1}


@pytest.mark.parametrize(
    "predictions",
    [empty(), some(1), some(9).take(np.array([0, 0, 0])), some(9).take(np.array([1])), some(0)],
    ids=["empty", "one row", "real only", "one fake", "no rows but places"],
)
def test_odd_inputs_give_numbers_and_notes(predictions):
    found = evaluate(predictions)
    assert all(math.isfinite(value) for value in figures(found))
    assert found["notes"]
    groups = by_type(predictions)
    assert sum(group["rows"] for group in groups["classes"].values()) == len(predictions)


def test_50_000_rows_take_less_than_a_second():
    predictions = some(500, places=40).take(np.arange(50_000) % 500)
    started = time.process_time()
    evaluate(predictions)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("name", "row", "value", "words"),
    [
        ("logits_binary", 3, np.nan, "logits_binary, row 3: .*nan.*finite"),
        ("box_pred_cxcywh", 2, np.inf, "box_pred_cxcywh, row 2"),
        ("box_true_cxcywh", 1, 200.0, "box_true_cxcywh, row 1: .*shares of the image"),
        ("token_label", 4, 2, "token_label, row 4: .*0, 1 or -100"),
        ("fake_cls", 5, "swapped", "fake_cls, row 5: .*swapped.*one of orig"),
    ],
)
def test_values_that_cannot_be_scored_name_array_row_and_remedy(name, row, value, words):
    predictions = some(9)
    array = getattr(predictions, name).copy()
    array[row] = value
    with pytest.raises(DataError, match=words):
        evaluate(replace(predictions, **{name: array}))


def test_logits_of_padding_may_be_anything_but_not_those_of_tokens():
    predictions = some(9)
    logits = predictions.logits_token.copy()
    logits[predictions.token_label == -100] = np.nan
    assert evaluate(replace(predictions, logits_token=logits)) == evaluate(predictions)
    logits[6, 1] = np.nan
    with pytest.raises(DataError, match="logits_token, row 6"):
        evaluate(replace(predictions, logits_token=logits))


def test_shapes_and_types_that_do_not_fit_are_named():
    with pytest.raises(DataError, match=r"logits_multilabel has shape \(9, 3\), not \(9, 4\)"):
        evaluate(some(9, logits_multilabel=np.zeros((9, 3))))
    with pytest.raises(DataError, match="token_word has type float64; it must hold whole numbers"):
        evaluate(some(9, token_word=np.zeros((9, 9))))
    with pytest.raises(DataError, match="token_label has shape"):
        evaluate(some(9, token_label=np.zeros(9, dtype=int)))


def test_parts_are_joined_with_padding_that_counts_for_nothing():
    parts = [some(9, places=5, seed=1), some(18, places=9, seed=2)]
    whole = concat(parts)
    assert whole.token_label.shape == (27, 9)
    assert (whole.token_label[:9, 5:] == -100).all() and (whole.token_word[:9, 5:] == -1).all()
    tokens = sum(int((part.token_label == 1).sum()) for part in parts)
    assert int((whole.token_label == 1).sum()) == tokens
    assert concat([parts[0], replace(parts[1], token_word=None)]).token_word is None
    assert len(concat([])) == 0
