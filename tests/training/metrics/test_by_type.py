from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from schemas.vocabulary import FAKE_CLS
from tests.training.metrics.cases import golden
from training.metrics import by_type, evaluate


def test_each_fake_belongs_to_one_group_and_each_row_to_one_class():
    predictions, _ = golden()
    found = by_type(predictions)
    assert list(found["groups"]) == ["text_only", "image_only", "joint"]
    assert list(found["classes"]) == list(FAKE_CLS)
    assert sum(group["rows"] for group in found["groups"].values()) == predictions.is_fake.sum()
    assert sum(group["rows"] for group in found["classes"].values()) == len(predictions)


def test_a_groups_auc_is_against_all_real_rows():
    predictions, _ = golden()
    rows = np.isin(predictions.fake_cls, ["text_swap", "text_attribute", "orig"])
    margin = predictions.logits_binary[:, 1] - predictions.logits_binary[:, 0]
    expected = roc_auc_score(predictions.is_fake[rows], margin[rows])
    assert by_type(predictions)["groups"]["text_only"]["auc"] == pytest.approx(expected, abs=1e-6)


def test_what_a_group_cannot_have_is_none():
    found = by_type(golden()[0])
    assert found["groups"]["text_only"]["iou_face_mean"] is None
    assert found["groups"]["image_only"]["word_f1"] is None
    assert None not in found["groups"]["joint"].values()
    assert found["classes"]["orig"]["auc"] is None and found["classes"]["orig"]["acc"] > 0


def test_the_groups_add_up_to_the_whole():
    predictions, _ = golden()
    found, whole = by_type(predictions)["classes"], evaluate(predictions)
    rows = np.array([group["rows"] for group in found.values()])
    accuracy = np.dot(rows, [group["acc"] for group in found.values()]) / rows.sum()
    assert accuracy == pytest.approx(whole["acc"])
    faces = [group for group in found.values() if group["iou_face_mean"] is not None]
    total = sum(group["rows"] * group["iou_face_mean"] for group in faces)
    assert total / sum(group["rows"] for group in faces) == pytest.approx(whole["iou_face_mean"])
