"""Shards begun ahead: with an engine that begins at once, and only with such a one."""

from __future__ import annotations

import pytest

from pipeline.config import load_config
from pipeline.engines import get_engine
from pipeline.engines.base import one_result_each
from pipeline.errors import Interrupted
from pipeline.generating import ShardsAhead, generate_shard
from pipeline.run import prepare
from schemas import open_table
from tests.builders import write_echo_config, write_samples


class Eager:
    """The fake engine's answers, from an engine that notes when it is asked, read and given up."""

    begins_at_once = True

    def __init__(self, engine):
        self.engine, self.notes, self.calls = engine, [], 0

    def generate(self, requests):
        call, self.calls = self.calls, self.calls + 1
        self.notes.append(f"ask {call}")
        return one_result_each(requests, Answers(self, call, self.engine.generate(requests)))


class Answers:
    def __init__(self, engine, call, results):
        self.engine, self.call, self.results, self.read, self.ended = engine, call, results, 0, False

    def __iter__(self):
        return self

    def __next__(self):
        if not self.read:
            self.engine.notes.append(f"read {self.call}")
        self.read += 1
        return next(self.results)

    def close(self):
        if not self.ended:
            self.engine.notes.append(f"end {self.call}")
        self.ended = True


@pytest.fixture
def work(tmp_path):
    write_samples(tmp_path / "out", 35)
    return prepare("explanations", load_config(write_echo_config(tmp_path)), tmp_path / "out")


@pytest.fixture
def engine(work):
    return Eager(get_engine(work.job.model))


def nothing(result):
    pass


def in_order(shards):
    return dict(zip(shards, shards[1:], strict=False)).get


def test_the_next_shard_is_asked_for_before_the_present_one_is_read(work, engine):
    shards = ShardsAhead(work, in_order(work.plan.pending()))
    reports = [shards.write(shard, engine, nothing) for shard in work.plan.pending()]
    assert engine.notes == [
        *("ask 0", "ask 1", "read 0", "end 0"),
        *("ask 2", "read 1", "end 1"),
        *("ask 3", "read 2", "end 2"),
        *("read 3", "end 3"),
    ]
    assert [report.rows for report in reports] == [10, 10, 10, 5]
    assert open_table(work.plan.version.parent.parent, "explanations").num_rows == 35


def test_an_engine_that_waits_to_be_read_is_asked_for_one_shard_at_a_time(work, engine):
    engine.begins_at_once = False
    shards = ShardsAhead(work, in_order(work.plan.pending()))
    for shard in work.plan.pending():
        shards.write(shard, engine, nothing)
    assert engine.notes[:6] == ["ask 0", "read 0", "end 0", "ask 1", "read 1", "end 1"]


def test_a_stop_gives_up_the_present_shard_and_the_next(work, engine):
    def stop(result):
        raise Interrupted("stopped")

    shards = ShardsAhead(work, in_order(work.plan.pending()))
    with pytest.raises(Interrupted):
        shards.write(0, engine, stop)
    assert engine.notes == ["ask 0", "ask 1", "read 0", "end 1", "end 0"]
    assert work.plan.pending() == [0, 1, 2, 3]


def test_a_shard_that_another_process_committed_meanwhile_is_given_up_or_not_asked_for(work, engine):
    other = get_engine(work.job.model)
    shards = ShardsAhead(work, in_order([0, 1, 2, 3]))
    generate_shard(work, 2, other)
    shards.write(0, engine, nothing)
    generate_shard(work, 1, other)
    assert shards.write(1, engine, nothing).skipped and shards.write(2, engine, nothing).skipped
    assert not shards.write(3, engine, nothing).skipped
    assert [note for note in engine.notes if note.startswith("ask")] == ["ask 0", "ask 1", "ask 2"]
    assert "end 1" in engine.notes and "read 1" not in engine.notes


def test_what_a_closed_engine_began_is_asked_for_again(work, engine):
    shards = ShardsAhead(work, in_order([0, 1]))
    shards.write(0, engine, nothing)
    anew = Eager(engine.engine)
    assert shards.write(1, anew, nothing).rows == 10
    assert engine.notes[-1] == "end 1" and anew.notes == ["ask 0", "read 0", "end 0"]
