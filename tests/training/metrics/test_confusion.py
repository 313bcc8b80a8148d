from __future__ import annotations

from dataclasses import replace

import numpy as np

from schemas.vocabulary import FAKE_CLS
from tests.training.metrics.cases import some
from training.metrics.confusion import confusion, predicted_classes
from training.metrics.predictions import empty


def test_right_answers_stand_on_the_diagonal():
    predictions = some(90)
    right = replace(predictions, logits_multilabel=predictions.types - 0.5)
    assert predicted_classes(right) == right.fake_cls.tolist()
    found = confusion(right)
    assert found["classes"]["labels"] == list(FAKE_CLS)
    assert np.array_equal(found["classes"]["counts"], 10 * np.eye(9, dtype=int))
    assert np.array_equal(found["image"]["counts"], 30 * np.eye(3, dtype=int))
    assert np.array_equal(found["text"]["counts"], 30 * np.eye(3, dtype=int))


def test_the_larger_logit_of_a_side_names_its_type():
    logits = np.array([[1.0, 2, -1, -2], [0, -1, -1, -1], [-1, -1, -1, -0.1], [3, -1, 0.5, 0.4]])
    called = predicted_classes(replace(some(4), logits_multilabel=logits))
    assert called == ["face_attribute", "face_swap", "orig", "face_swap&text_swap"]


def test_a_side_is_counted_whatever_the_other_says():
    # Rows 0 to 8 are the nine classes in order; every row is called a text swap, and no image is edited.
    predictions = replace(some(9), logits_multilabel=np.tile([-1.0, -1, 1, -1], (9, 1)))
    found = confusion(predictions)
    assert found["text"] == {
        "labels": ["none", "text_swap", "text_attribute"],
        "counts": [[0, 3, 0], [0, 3, 0], [0, 3, 0]],
    }
    assert [row[0] for row in found["image"]["counts"]] == [3, 3, 3]


def test_no_rows_give_zeros():
    found = confusion(empty())
    assert np.sum(found["classes"]["counts"]) == 0 and np.shape(found["image"]["counts"]) == (3, 3)
