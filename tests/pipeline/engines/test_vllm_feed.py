from __future__ import annotations

import threading
import time

import pytest

from pipeline.engines.vllm_feed import Feed


@pytest.fixture
def gate():
    return threading.Event()


def drain(feed, count):
    return [feed.take(wait=True) for _ in range(count)]


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_every_row_comes_out_once_with_what_was_made_of_it():
    feed = Feed(lambda row: row * row, threads=3, ahead=4)
    feed.add(range(50))
    feed.add(range(50, 60))
    assert sorted(drain(feed, 60)) == [(n, n * n) for n in range(60)]
    assert feed.take(wait=False) is None


def test_only_so_many_rows_are_prepared_ahead():
    begun = []
    feed = Feed(lambda row: begun.append(row), threads=4, ahead=5)
    feed.add(range(100))
    until(lambda: len(begun) == 5)
    time.sleep(0.05)
    assert len(begun) == 5
    feed.take(wait=True)
    until(lambda: len(begun) == 6)


def test_a_slow_row_does_not_hold_up_those_behind_it(gate):
    feed = Feed(lambda row: gate.wait(10) if row == 0 else row, threads=2, ahead=3)
    feed.add(range(4))
    assert [row for row, _ in drain(feed, 3)] == [1, 2, 3]
    gate.set()
    assert feed.take(wait=True)[0] == 0


def test_a_row_that_cannot_be_prepared_comes_out_with_the_reason():
    feed = Feed(lambda row: 1 // row, threads=2, ahead=2)
    feed.add([1, 0, 1])
    found = dict(drain(feed, 3))
    assert found[1] == 1 and isinstance(found[0], ZeroDivisionError)


def test_dropped_rows_do_not_come_out_and_make_room(gate):
    feed = Feed(lambda row: gate.wait(10) and row, threads=1, ahead=2)
    feed.add(["a0", "a1", "a2"])
    feed.add(["b0", "b1", "b2"])
    gate.set()
    until(lambda: len(feed._ready) == 2)
    feed.drop(lambda row: row.startswith("a"))
    assert sorted(row for row, _ in drain(feed, 3)) == ["b0", "b1", "b2"]
    assert feed.take(wait=False) is None


def test_a_wait_ends_when_it_is_woken_now_or_before():
    feed = Feed(lambda row: row, threads=1, ahead=1)
    feed.wake()
    assert feed.take(wait=True) is None
    found = []
    thread = threading.Thread(target=lambda: found.append(feed.take(wait=True)))
    thread.start()
    time.sleep(0.05)
    feed.wake()
    thread.join(10)
    assert found == [None]


def test_waiting_counts_only_while_a_row_is_being_prepared():
    feed = Feed(lambda row: time.sleep(0.2), threads=1, ahead=2)
    threading.Timer(0.3, feed.wake).start()
    assert feed.take(wait=True) is None and feed.waited.seconds < 0.05
    feed.add([1])
    feed.take(wait=True)
    assert 0.1 < feed.waited.seconds < 5
