from __future__ import annotations

import pytest
import torch

from training.model.queue import FeatureQueue


def rows(start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.arange(start, start + count)
    return ids[:, None].float().expand(-1, 3), ids


def test_nothing_is_valid_before_it_was_filled() -> None:
    queue = FeatureQueue(4, 3)
    assert not queue.valid.any()
    queue.enqueue(*rows(0, 3))
    assert queue.valid.tolist() == [True, True, True, False]


@pytest.mark.parametrize("batch", [1, 3, 4, 7, 15, 16, 17, 40])
def test_the_newest_rows_stay_whatever_the_batch_size(batch: int) -> None:
    queue = FeatureQueue(16, 3)
    for start in range(0, 5 * batch, batch):
        queue.enqueue(*rows(start, batch))
    newest = range(max(0, 5 * batch - 16), 5 * batch)
    assert sorted(queue.ids[queue.valid].tolist()) == list(newest)
    assert torch.equal(queue.features[queue.valid][:, 0].long(), queue.ids[queue.valid])


def test_state_survives_a_checkpoint() -> None:
    queue, other = FeatureQueue(5, 3), FeatureQueue(5, 3)
    queue.enqueue(*rows(0, 7))
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.enqueue(*rows(7, 2))
    assert torch.equal(queue.ids, other.ids) and torch.equal(queue.valid, other.valid)


def test_an_empty_queue_and_an_empty_batch_change_nothing() -> None:
    none = FeatureQueue(0, 3)
    none.enqueue(*rows(0, 2))
    assert none.valid.shape == (0,)
    queue = FeatureQueue(2, 3)
    queue.enqueue(*rows(0, 0))
    assert not queue.valid.any()
