"""A simulated engine that takes some rows at a time and dies of some of them."""

from __future__ import annotations

import random

import pytest

from pipeline.engines.isolation import MOST_DEATHS, Isolation


class Simulation:
    """An engine that computes ``width`` of its rows at once, in order, and dies as ``deadly`` says."""

    def __init__(self, rows, deadly, width=8):
        self.isolation, self.deadly, self.width = Isolation(), deadly, width
        self.finished, self.failed, self.deaths, self.largest = [], [], 0, []
        self.given = list(self.isolation.add(rows).run)

    def run(self):
        """Return True at the end, False when the engine is given up."""
        while self.isolation.unfinished:
            flying = self.given[: self.width]
            assert flying, f"nothing runs, but {self.isolation.unfinished} are unfinished"
            if self.deadly(flying):
                self.deaths += 1
                orders = self.isolation.died()
                if orders.give_up:
                    return False
                self.given = []
            else:
                row = self.given.pop(0)
                self.finished.append(row)
                orders = self.isolation.done(row)
            self.failed += orders.failed
            self.given += orders.run
        return True


def poison(*rows):
    return lambda flying: bool(set(rows) & set(flying))


def test_nothing_is_held_back_from_an_engine_that_lives():
    simulation = Simulation(range(100), poison())
    assert simulation.run() and simulation.finished == list(range(100)) and simulation.deaths == 0


@pytest.mark.parametrize("bad", [0, 5, 31, 32, 50, 99])
@pytest.mark.parametrize("width", [1, 8, 200])
def test_one_poison_row_fails_alone_and_every_other_row_gets_its_result(bad, width):
    simulation = Simulation(range(100), poison(bad), width)
    assert simulation.run()
    assert simulation.failed == [bad]
    assert sorted(simulation.finished) == [row for row in range(100) if row != bad]
    assert simulation.deaths <= 2 + 7


@pytest.mark.parametrize("seed", range(20))
def test_several_poison_rows_are_each_found(seed):
    rng = random.Random(seed)
    bad = rng.sample(range(400), 4)
    simulation = Simulation(range(400), poison(*bad), rng.choice([1, 16, 500]))
    assert simulation.run()
    assert sorted(simulation.failed) == sorted(bad)
    assert sorted(simulation.finished) == sorted(set(range(400)) - set(bad))


def test_deaths_that_do_not_come_back_fail_no_row():
    left = [3, 9]

    def twice(flying):
        if left and flying[0] >= left[0]:
            left.pop(0)
            return True
        return False

    simulation = Simulation(range(100), twice)
    assert simulation.run() and simulation.deaths == 2 and simulation.failed == []
    assert sorted(simulation.finished) == list(range(100))


def test_deaths_far_apart_are_not_counted_together():
    left = [10, 60, 110, 160]

    def now_and_then(flying):
        if left and flying[0] >= left[0]:
            left.pop(0)
            return True
        return False

    simulation = Simulation(range(0), now_and_then)
    for start in range(0, 200, 50):
        simulation.given += simulation.isolation.add(range(start, start + 50)).run
        assert simulation.run()
    assert simulation.deaths == 4 and simulation.finished == list(range(200))


@pytest.mark.parametrize("rows", [2, 3, 40, 3000])
def test_an_engine_that_dies_whatever_it_gets_is_given_up_and_no_row_is_blamed(rows):
    simulation = Simulation(range(rows), lambda flying: True)
    assert not simulation.run()
    assert simulation.failed == [] and simulation.deaths <= 14


def test_an_engine_that_dies_of_every_third_row_is_given_up_in_the_end():
    simulation = Simulation(range(3000), poison(*range(0, 3000, 3)), width=1)
    assert not simulation.run()
    assert MOST_DEATHS < simulation.deaths < MOST_DEATHS + 10
    assert all(row % 3 == 0 for row in simulation.failed)


def test_a_single_row_that_kills_every_engine_is_the_cause():
    simulation = Simulation([7], poison(7))
    assert simulation.run() and simulation.failed == [7] and simulation.deaths == 3


def test_rows_that_come_meanwhile_wait_until_the_cause_is_found():
    isolation = Isolation()
    isolation.add(range(4))
    isolation.died()
    assert isolation.died().run == [0, 1, 2, 3]
    assert isolation.add([4, 5]).run == []
    assert isolation.died().run == [0, 1]
    assert isolation.died().run == [0]
    orders = isolation.died()
    assert (orders.run, orders.failed) == ([1], [])
    orders = isolation.done(1)
    assert orders.failed == [0] and orders.run == [2, 3, 4, 5]


def test_rows_that_nobody_waits_for_are_forgotten_and_the_next_group_runs():
    isolation = Isolation()
    isolation.add(range(4))
    isolation.died(), isolation.died()
    assert isolation.died().run == [0, 1]
    assert isolation.drop(lambda row: row < 2).run == [2, 3]
    assert isolation.unfinished == [2, 3]


def accused():
    """Return an isolation of rows 0 and 1 in which 0 has killed the engine alone, and 1 is asked next."""
    isolation = Isolation()
    isolation.add([0, 1])
    isolation.died(), isolation.died(), isolation.died()
    orders = isolation.died()
    assert (orders.run, orders.failed) == ([1], [])
    return isolation


def test_the_last_row_fails_when_the_one_that_should_clear_the_engine_is_dropped():
    isolation = accused()
    orders = isolation.drop(lambda row: row == 1)
    assert (orders.run, orders.failed) == ([], [0]) and isolation.unfinished == []


def test_a_row_that_was_refused_is_no_proof_that_the_device_lives():
    isolation = accused()
    isolation.add([2])
    orders = isolation.done(1, computed=False)
    assert (orders.run, orders.failed) == ([2], [])
    assert isolation.died().give_up, "two rows in a row killed it, and none was computed"


def test_refused_rows_forget_no_death():
    isolation = Isolation()
    for row in range(0, 300, 3):
        isolation.add(range(row, row + 3))
        if isolation.died().give_up:
            break
        for each in range(row, row + 3):
            isolation.done(each, computed=False)
    assert row == 3 * MOST_DEATHS


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_something_runs_until_every_row_has_ended(seed):
    rng = random.Random(seed)
    isolation, given, ended, new = Isolation(), [], [], 0
    computed = False
    for _ in range(rng.randint(1, 60)):
        # What a living engine holds; a dead one's successor gets what the orders say and nothing else.
        kind = rng.choice(["add", "died", "died", "done", "refused", "drop"])
        if kind == "add":
            rows = range(new, new + rng.randint(1, 5))
            new = rows.stop
            orders = isolation.add(rows)
        elif kind == "died" and given:
            orders, given = isolation.died(), []
        elif kind in ("done", "refused") and given:
            row = given.pop(rng.randrange(len(given)))
            ended.append(row)
            orders = isolation.done(row, computed=kind == "done")
            computed = computed or kind == "done"
        elif kind == "drop":
            unwanted = {row for row in isolation.unfinished if rng.random() < 0.4}
            orders = isolation.drop(unwanted.__contains__)
            given = [row for row in given if row not in unwanted]
            ended += unwanted
        else:
            continue
        if orders.give_up:
            return
        assert not orders.failed or computed or not isolation.unfinished
        ended += orders.failed
        given += orders.run
        unfinished = set(isolation.unfinished)
        assert len(given) == len(set(given)) and set(given) <= unfinished
        assert given or not unfinished, f"nothing runs, but {unfinished} are unfinished"
        assert not unfinished & set(ended)
    while given:
        row = given.pop()
        orders = isolation.done(row)
        ended += [row, *orders.failed]
        given += orders.run
    assert sorted(ended) == list(range(new)) and isolation.unfinished == []
