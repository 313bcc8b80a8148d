from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from schemas.vocabulary import FAKE_CLS
from tests.training.engine.two import run_twice
from tests.training.metrics.cases import some
from tests.training.metrics.steps import ROWS, collect, share
from tests.training.metrics.steps import step as light_step
from training.errors import DataError
from training.metrics import evaluate
from training.metrics.collect import Collector, class_names
from training.metrics.predictions import Predictions
from training.metrics.reading import load
from training.model.outputs import Features, Fused, ModelOutput

UNREAD = torch.zeros(0)


def full_output(**read):
    return ModelOutput(
        features=Features(UNREAD, UNREAD, UNREAD, UNREAD, UNREAD),
        fused=Fused(UNREAD, UNREAD, UNREAD, UNREAD),
        patch_logits=UNREAD,
        patch_embedding=UNREAD,
        **read,
    )


step = partial(light_step, output=full_output)


def gathered(collector) -> Predictions:
    found = collector.gather()
    assert found is not None
    return found


def assert_equal(found, expected):
    assert found.arrays().keys() == expected.arrays().keys()
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], array, err_msg=name)


def test_batches_in_any_order_give_the_rows_in_order():
    found = gathered(collect(step([7, 3, 22]), step([*range(8, 22), 0, 1, 2]), step([4, 5, 6])))
    assert_equal(found, some(ROWS))
    assert evaluate(found) == evaluate(some(ROWS))


def test_a_row_that_was_evaluated_twice_counts_once():
    found = gathered(collect(step([2, 0]), step([1, 2, 0])))
    assert found.index.tolist() == [0, 1, 2]


def test_batches_of_different_lengths_are_padded():
    found = gathered(collect(step([0, 1], places=5), step([2], places=9)))
    assert found.token_label.shape == (3, 9)
    assert (found.token_label[:2, 5:] == -100).all()


def test_half_precision_is_widened():
    batch, output = step([0, 1])
    half = ModelOutput(**(vars(output) | {"binary": output.binary.bfloat16(), "box": output.box.bfloat16()}))
    found = gathered(collect((batch, half)))
    assert found.logits_binary.dtype == found.box_pred_cxcywh.dtype == np.float32


def test_no_box_where_a_face_manipulation_is_less_probable_than_the_threshold():
    batch, output = step([0, 1, 2, 3])
    # 1 - (1 - p)(1 - q) of the first two types: 0.10, 0.64, 0.73, 0.48.
    output.types[:] = torch.tensor([[-3, -3, 5, 5], [0, -1, -1, -1], [-1, 0.5, -1, -1], [-1, -1, 0, 0]])
    found = gathered(collect((batch, output), box_threshold=0.5))
    assert (found.box_pred_cxcywh == 0).all(axis=1).tolist() == [True, False, False, True]
    lower = gathered(collect((batch, output), box_threshold=0.4))
    assert (lower.box_pred_cxcywh == 0).all(axis=1).tolist() == [True, False, False, False]
    np.testing.assert_array_equal(found.box_pred_cxcywh[1:3], output.box[1:3].numpy())
    assert (gathered(collect((batch, output))).box_pred_cxcywh != 0).any(axis=1).all()


def test_nothing_collected_is_no_rows():
    assert len(gathered(Collector(0.5))) == 0


def test_each_class_has_its_types_and_back():
    rows = some(9)
    assert class_names(rows.types).tolist() == list(FAKE_CLS)


def test_types_that_no_class_stands_for_are_refused():
    with pytest.raises(DataError, match=r"row 1 of the batch has types \[1, 1, 0, 0\]"):
        class_names(np.array([[0, 0, 0, 0], [1, 1, 0, 0]]))


def test_rows_that_cannot_be_scored_are_named():
    with pytest.raises(DataError, match="row 5: its annotations are hidden"):
        collect(step([4, 5], labelled=torch.tensor([True, False])))
    with pytest.raises(DataError, match="row 1: class face_swap and is_fake contradict"):
        collect(step([0, 1], is_fake=torch.zeros(2, dtype=torch.bool)))


def test_two_processes_with_uneven_rows_give_what_one_gives(tmp_path):
    run_twice(share, tmp_path)
    alone = collect(light_step(range(13), places=7), light_step(range(13, 19)), light_step(range(19, ROWS)))
    assert_equal(load(tmp_path / "all.npz")[0], gathered(alone))
