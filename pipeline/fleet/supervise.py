"""Keeping workers at work until the table is finished, whatever starts them: this machine, or Ray."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.errors import EXIT_BROKEN, Interrupted, PipelineError, UsageError
from pipeline.fleet.order import WorkerEnd
from pipeline.fleet.seats import Seat

log = logging.getLogger(__name__)

MAX_DEATHS = 3
"""Deaths of one seat's workers in a row, no shard committed meanwhile, after which the seat stays empty."""

RESTART_S = (2.0, 10.0, 30.0)
"""Seconds before a seat gets its next worker."""

LEAVE_S = 30.0
"""When the table is finished, the other workers see that within seconds; later than this they are stopped."""

LOOK_EVERY_S = 0.2


class Running(Protocol):
    """A worker that was started."""

    def poll(self) -> WorkerEnd | None:
        """Return how it ended, None while it works."""

    def stop(self) -> None:
        """Tell it to stop; ``poll`` sees it end."""


class FleetFailed(PipelineError):
    """Every seat's workers died again and again; what is committed stands."""

    exit_code = EXIT_BROKEN


@dataclass
class _State:
    seat: Seat
    running: Running | None = None
    deaths: int = 0
    next_start: float = 0.0
    left: int = 0
    ends: list[WorkerEnd] = field(default_factory=list)


def supervise(
    seats: Sequence[Seat],
    start: Callable[[Seat], Running],
    *,
    left: Callable[[], int],
    check: Callable[[], None],
    tick: Callable[[], None] = lambda: None,
) -> list[WorkerEnd]:
    """Start a worker in every seat and replace those that die, until the table is finished.

    Workers take over each other's shards by themselves, so an empty seat costs speed and nothing else.

    Args:
        seats: Where workers may sit.
        start: Starts a worker in a seat; may be called again for the same one.
        left: Shards that are not committed; asked when a worker died.
        check: Called all the time; raises to end the work, e.g. on a signal.
        tick: Called all the time, e.g. to show progress.

    Returns:
        How the workers ended, those that died among them.

    Raises:
        UsageError: A worker found bad usage or bad input.
        FleetFailed: No seat is left whose workers live.
        Interrupted: ``check`` raised it, or all workers were told to stop by somebody else.
    """
    states = [_State(seat, left=left()) for seat in seats]
    try:
        _loop(states, start, left, check, tick)
    except BaseException:
        _stop_all(states, tick)
        raise
    return [end for state in states for end in state.ends]


def _loop(
    states: list[_State],
    start: Callable[[Seat], Running],
    left: Callable[[], int],
    check: Callable[[], None],
    tick: Callable[[], None],
) -> None:
    finished: float | None = None
    while True:
        check()
        tick()
        now = time.monotonic()
        for state in states:
            if state.running is not None and (end := state.running.poll()) is not None:
                state.running = None
                state.ends.append(end)
                if end.finished:
                    finished = finished or now
                elif finished is None:
                    _after_death(state, end, left(), now)
            elif state.running is None and finished is None and now >= state.next_start:
                state.running = start(state.seat)
        at_work = [state for state in states if state.running is not None]
        if finished is not None:
            if not at_work:
                return
            if now - finished > LEAVE_S:
                _stop_all(states, tick)
                return
        elif not at_work and all(state.deaths >= MAX_DEATHS for state in states):
            _raise_what_ended_it(states)
        time.sleep(LOOK_EVERY_S)


def _after_death(state: _State, end: WorkerEnd, left: int, now: float) -> None:
    if end.hopeless:
        raise UsageError(end.message)
    if left < state.left:  # the table has moved since this seat's last death
        state.deaths = 0
    state.left = left
    state.deaths += 1
    if state.deaths >= MAX_DEATHS:
        state.next_start = float("inf")
        log.error("%s; its place stays empty, as %d workers in a row died there", end, MAX_DEATHS)
        return
    pause = RESTART_S[min(state.deaths, len(RESTART_S)) - 1]
    state.next_start = now + pause
    log.warning("%s; %d shards are left, the next worker takes its place in %.0f s", end, left, pause)


def _raise_what_ended_it(states: list[_State]) -> None:
    ends = [state.ends[-1] for state in states if state.ends]
    if all(end.stopped for end in ends):
        raise Interrupted("all workers were told to stop; what is committed stands, the same command resumes")
    last = "; ".join(dict.fromkeys(str(end) for end in ends))
    raise FleetFailed(
        f"workers died again and again: {last}. What is committed stands, the same command resumes"
    )


def _stop_all(states: list[_State], tick: Callable[[], None]) -> None:
    for state in states:
        if state.running is not None:
            state.running.stop()
    for state in states:
        while state.running is not None:
            end = state.running.poll()
            if end is not None:
                state.running = None
                state.ends.append(end)
            else:
                tick()
                time.sleep(LOOK_EVERY_S)
