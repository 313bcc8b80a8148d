"""What the callers hear when processes die, with processes that do nothing but keep what they are sent."""

from __future__ import annotations

import threading
import time

from pipeline.engines.base import Failure, Request, Result
from pipeline.engines.vllm_lives import Lives


class IdleHost:
    """Has of ``HostProcess`` what ``Lives`` asks for."""

    facts = {"in_flight": 8}
    waited_s = 0.0
    why = ""

    def __init__(self, on_results, on_death):
        self.on_results, self.on_death = on_results, on_death
        self.dead, self.given = threading.Event(), []

    def send(self, message):
        kind, content = message
        self.given += [number for number, _ in content] if kind == "rows" else []

    def last_words(self):
        return "killed"

    def close(self):
        pass


def die(lives):
    """End the present process and wait for the next one to have its rows."""
    before = lives.host
    before.dead.set()
    before.on_death(before)
    deadline = time.monotonic() + 10
    while lives.host is before or not lives.host.given:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def two_calls():
    """Return lives in which the row of call 1 has killed the engine alone and that of call 2 is asked."""
    lives, heard = Lives(IdleHost), {1: [], 2: []}
    for call in heard:
        lives.open_call(call, {(call, 0): Request(f"row {call}", "?")}, heard[call].append)
    for _ in range(4):
        die(lives)
    assert lives.host.given == [(2, 0)]
    return lives, heard


def test_a_caller_hears_of_its_row_when_the_call_that_should_clear_the_engine_ends():
    lives, heard = two_calls()
    lives.end_call(2)
    (result,) = heard[1]
    assert result.failure.error_class == "engine_error" and not heard[2]


def test_a_refused_row_convicts_no_other_while_rows_are_left():
    lives, heard = two_calls()
    lives.open_call(3, {(3, 0): Request("row 3", "?")}, lambda result: None)
    refused = Result.failed("row 2", Failure("prompt_too_long", True, "too long"))
    lives.host.on_results([((2, 0), refused)])
    assert heard[2] == [refused] and not heard[1] and lives.host.given[-1] == (3, 0)
    lives.host.on_results([((3, 0), Result("row 3", "text", "stop", 1, 1))])
    assert heard[1][0].failure.error_class == "engine_error"
