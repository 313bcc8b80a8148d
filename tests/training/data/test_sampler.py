from __future__ import annotations

import logging

import pytest

from training.data.sampler import EffectiveBatches, EvalBatches
from training.errors import UsageError


def plan(n=23, batch=8, accumulate=1, world=1, rank=0, seed=0, epoch=0, **options):
    return EffectiveBatches(n, batch, accumulate, world, rank, seed, epoch, **options)


def steps(world, accumulate, **options):
    """Return the rows of each optimizer step, gathered in rank order."""
    parts = [plan(world=world, accumulate=accumulate, rank=rank, **options) for rank in range(world)]
    lists = [list(part) for part in parts]
    assert all(len(micro) == len(part) for micro, part in zip(lists, parts, strict=True))
    return [
        [row for micro in lists for chunk in micro[s * accumulate : (s + 1) * accumulate] for row in chunk]
        for s in range(parts[0].steps)
    ]


@pytest.mark.parametrize(("world", "accumulate"), [(1, 3), (2, 1), (2, 2), (3, 2)])
def test_processes_and_micro_batches_only_cut_the_steps_of_one_process(world, accumulate):
    expected = steps(1, 1)
    assert sorted(sum(expected, [])) == list(range(23))
    assert steps(world, accumulate) == expected


def test_chunks_of_a_step_differ_by_one_row_at_most():
    sizes = [len(chunk) for rank in range(2) for chunk in list(plan(accumulate=3, world=2, rank=rank))[:3]]
    assert sorted(sizes) == [1, 1, 1, 1, 2, 2]


def test_a_last_step_that_cannot_fill_every_chunk_is_dropped_and_said(caplog):
    with caplog.at_level(logging.INFO):
        short = plan(n=19, accumulate=4)
    assert (short.steps, short.dropped) == (2, 3)
    assert "last 3 rows" in caplog.text
    assert (plan(n=20, accumulate=4).steps, plan(n=20, accumulate=4).dropped) == (3, 0)


@pytest.mark.parametrize("start", [0, 1, 2, 3, 9])
def test_starting_later_equals_skipping(start):
    full = list(plan(accumulate=2, world=2, rank=1))
    late = plan(accumulate=2, world=2, rank=1, start=start)
    assert list(late) == full[start * 2 :]
    assert len(late) == len(full[start * 2 :]) and late.steps == 3


def test_order_follows_from_seed_and_epoch_only():
    order = list(plan())
    assert order == list(plan())
    assert order != list(plan(epoch=1)) != list(plan(seed=1))
    assert sum(plan(shuffle=False), []) == list(range(23))


def test_too_few_rows_for_the_chunks_is_refused_with_what_to_change():
    with pytest.raises(UsageError, match="train.batch_size 8 rows.*lower train.accumulate"):
        plan(accumulate=9)
    with pytest.raises(UsageError, match="training split has 3 rows"):
        plan(n=3, accumulate=2, world=2)


@pytest.mark.parametrize(("rows", "world"), [(10, 1), (10, 3), (2, 4), (0, 2)])
def test_evaluation_reads_every_row_once_and_in_order(rows, world):
    parts = [EvalBatches(rows, 3, world, rank) for rank in range(world)]
    lists = [list(part) for part in parts]
    assert [row for part in lists for batch in part for row in batch] == list(range(rows))
    assert [len(part) for part in parts] == [len(part) for part in lists]
    sizes = [sum(map(len, part)) for part in lists]
    assert max(sizes) - min(sizes) <= 1 and all(len(b) <= 3 for part in lists for b in part)
