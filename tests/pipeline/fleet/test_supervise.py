"""Who gets another worker, who does not, and when a run gives up: decided on recorded ends of workers."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from pipeline.errors import Interrupted, UsageError
from pipeline.fleet import supervise as module
from pipeline.fleet.order import WorkerEnd
from pipeline.fleet.seats import Seat
from pipeline.fleet.supervise import MAX_DEATHS, FleetFailed, supervise


class Scripted:
    """A worker that ends after some looks at it; told to stop, it ends with 3."""

    def __init__(self, name, looks, code, message=""):
        self.looks, self.end = looks, WorkerEnd(name, code, message)
        self.stopped = False

    def poll(self):
        self.looks -= 1
        return self.end if self.looks < 0 else None

    def stop(self):
        self.stopped, self.looks, self.end = True, 1, WorkerEnd(self.end.name, 3)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(module, "RESTART_S", (0.0,))
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.001)


@pytest.fixture
def fleet():
    """Return a function that runs scripts, one list of (looks, exit code) per seat, and what was started."""
    started: list[Scripted] = []

    def run(*scripts, left=lambda: 9, check=lambda: None):
        seats = [Seat(f"worker-{n + 1}") for n in range(len(scripts))]
        queues = {seat.name: list(script) for seat, script in zip(seats, scripts, strict=True)}

        def start(seat):
            looks, code = queues[seat.name].pop(0)
            started.append(Scripted(seat.name, looks, code, f"it said {code}"))
            return started[-1]

        return supervise(seats, start, left=left, check=check), Counter(one.end.name for one in started)

    run.started = started
    return run


FOREVER = 10**9


def test_a_finished_table_ends_the_run_once_all_have_seen_it(fleet):
    ends, started = fleet([(2, 0)], [(30, 0)])
    assert [end.exit_code for end in ends] == [0, 0] and started == {"worker-1": 1, "worker-2": 1}


@pytest.mark.parametrize("code", [-9, -11, 1, 3, 137])
def test_a_worker_that_dies_or_is_preempted_is_replaced(fleet, code):
    ends, started = fleet([(2, code), (2, 0)], [(9, 0)])
    assert started == {"worker-1": 2, "worker-2": 1}
    assert sorted(end.exit_code for end in ends) == sorted([code, 0, 0])


def test_bad_usage_ends_the_run_at_once_with_what_the_worker_said(fleet):
    with pytest.raises(UsageError, match="it said 2"):
        fleet([(2, 2)], [(FOREVER, 0)])
    assert fleet.started[1].stopped and len(fleet.started) == 2


def test_a_seat_whose_workers_die_in_a_row_stays_empty_and_the_others_finish(fleet):
    ends, started = fleet([(1, -9)] * 9, [(400, 0)])
    assert started == {"worker-1": MAX_DEATHS, "worker-2": 1}
    assert [end.exit_code for end in ends] == [-9] * MAX_DEATHS + [0]


def test_deaths_between_which_shards_were_committed_are_not_in_a_row(fleet):
    left = itertools.count(100, -1)
    ends, started = fleet([(1, -9)] * 20 + [(1, 0)], left=lambda: next(left))
    assert started == {"worker-1": 21} and len(ends) == 21


def test_no_seat_left_fails_the_run_and_says_what_the_workers_died_of(fleet):
    with pytest.raises(
        FleetFailed, match=r"worker-1 ended with exit code 1: it said 1.*signal 9.*committed stands"
    ):
        fleet([(1, 1)] * 3, [(1, -9)] * 3)
    assert Counter(one.end.name for one in fleet.started) == {"worker-1": 3, "worker-2": 3}


def test_workers_that_somebody_else_stops_again_and_again_are_an_interruption(fleet):
    with pytest.raises(Interrupted, match="told to stop"):
        fleet([(1, 3)] * 3)


def test_a_stop_reaches_every_worker_and_waits_for_them(fleet):
    looks = itertools.count()

    def check():
        if next(looks) == 20:
            raise Interrupted("stopped by SIGTERM")

    with pytest.raises(Interrupted, match="SIGTERM"):
        fleet([(FOREVER, 0)], [(FOREVER, 0)], check=check)
    assert all(one.stopped and one.looks < 0 for one in fleet.started)


def test_a_worker_that_does_not_see_the_end_is_stopped(fleet, monkeypatch):
    monkeypatch.setattr(module, "LEAVE_S", 0.05)
    ends, _ = fleet([(2, 0)], [(FOREVER, 0)])
    assert [end.exit_code for end in ends] == [0, 3]
