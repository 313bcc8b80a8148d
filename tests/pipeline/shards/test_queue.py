"""The order in which shards are handed out, alone and beside another worker."""

from __future__ import annotations

import pytest

from pipeline.config import load_config
from pipeline.engines import get_engine
from pipeline.errors import Interrupted
from pipeline.generating import generate_shard
from pipeline.run import prepare
from pipeline.shards.claims import Claims
from pipeline.shards.queue import ShardQueue
from tests.builders import write_echo_config, write_samples


@pytest.fixture
def work(tmp_path):
    write_samples(tmp_path / "out", 35)
    return prepare("explanations", load_config(write_echo_config(tmp_path)), tmp_path / "out")


@pytest.fixture
def two(work):
    """Two workers' queues over the same four shards, and what the first one heard of the other's."""
    heard: list[int] = []
    folder = work.plan.version / "claims"
    with Claims(folder) as mine, Claims(folder) as theirs:
        pending = work.plan.pending()
        first = ShardQueue(work.plan, pending, mine, heard.append)
        yield first, ShardQueue(work.plan, pending, theirs), heard


def write(work, shard):
    generate_shard(work, shard, get_engine(work.job.model))


def test_each_shard_goes_to_one_of_them_the_one_begun_ahead_too(two):
    first, second, _ = two
    assert first.take() == 0
    assert first.following(0) == 1 and first.following(0) == 1
    assert second.take() == 2 and second.following(2) == 3
    assert first.following(1) is None, "all are claimed"
    assert first.take() == 1 and second.take() == 3
    assert first.take() is None and second.take() is None
    assert first.left == 2 and not first.complete
    assert "waiting for shard 2 and 1 more, held by process" in first.waiting_for()


def test_what_the_other_committed_is_heard_of_and_what_it_gave_up_is_taken(two, work):
    first, second, heard = two
    assert (first.take(), second.take()) == (0, 1)
    write(work, 0)
    first.finish(0)
    assert first.take() == 2 and second.take() == 3
    assert first.take() is None
    write(work, 1)
    second.finish(1)
    second.finish(3)  # not committed: it is free again
    write(work, 2)
    first.finish(2)
    assert first.take() == 3 and heard == [1]
    write(work, 3)
    first.finish(3)
    assert first.take() is None and first.left == 0 and first.complete


def test_a_shard_that_was_given_up_is_not_tried_again_by_the_same_worker(two):
    first, second, _ = two
    assert first.take() == 0
    first.finish(0, given_up=True)
    assert [first.take(), first.take(), first.take(), first.take()] == [1, 2, 3, None]
    assert first.left == 0 and not first.complete
    assert second.take() == 0


def test_waiting_ends_by_what_the_check_raises(two):
    first, second, _ = two
    assert [second.take() for _ in range(4)] == [0, 1, 2, 3]
    looked = []

    def check():
        looked.append(1)
        if len(looked) == 3:
            raise Interrupted("enough")

    with pytest.raises(Interrupted):
        first.next(check)
    assert len(looked) == 3
