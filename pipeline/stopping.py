"""Stopping on a signal between two rows, so that nothing half-written is left and the next run resumes.

A batch or the load of a model may take minutes, in which Python runs no signal handler. The signal's number
is written into a pipe nevertheless; a thread reads it there, and when the process has not ended by itself in
time, the thread ends it. That drops the batch in hand and nothing else: what is not committed is not there,
however a process ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.errors import EXIT_INTERRUPTED, Interrupted

log = logging.getLogger(__name__)

GRACE_S = 12.0
"""Seconds between the signal and the end of a process that is busy with a batch."""

PATIENT_GRACE_S = 18.0
"""The same for one whose worker processes may each be busy with a batch."""

IDLE_GRACE_S = 1.0
"""The same for one that has no rows in hand, e.g. while its model is loaded."""


LAST_CALLS_S = 3.0
"""Seconds at most that ``before_exit`` may take."""


class StopRequest:
    """Remembers that a signal asked for a stop.

    Attributes:
        signal: Its number.
        reason: Why, where it was no signal from outside.
        before_exit: Called when the process is ended in the middle of a batch, e.g. to give claims back.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.reason = ""
        self.before_exit: list[Callable[[], None]] = []
        self._idle = self._patient = 0

    def check(self, message: str) -> None:
        """Raise ``Interrupted`` with ``message`` if a stop was asked for."""
        if self.signal is not None:
            raise Interrupted(f"{self.reason or f'stopped by {signal.Signals(self.signal).name}'}. {message}")

    @contextmanager
    def nothing_in_hand(self) -> Iterator[None]:
        """Say that there are no rows which a little patience could save."""
        self._idle += 1
        try:
            yield
        finally:
            self._idle -= 1

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Say that other processes have rows in hand, which have to stop first."""
        self._patient += 1
        try:
            yield
        finally:
            self._patient -= 1

    @property
    def grace_s(self) -> float:
        """Seconds after which the process need not be waited for."""
        if self._patient:
            return PATIENT_GRACE_S
        return IDLE_GRACE_S if self._idle else GRACE_S


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a stop at the next row; a second signal ends the process at once.

    Outside the main thread, where Python allows no handlers, signals are left to whoever owns them. Within
    another ``stop_on_signal`` it is that one's request.
    """
    global _present
    if threading.current_thread() is not threading.main_thread():
        yield StopRequest()
        return
    outer = _present
    _present = stop = outer or StopRequest()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.signal = number
        log.warning("%s: stopping at the next row; once more stops at once", signal.Signals(number).name)

    # Anew within another one too: what lies between, e.g. Prefect, may have put its own handlers there.
    for number in before:
        signal.signal(number, handle)
    try:
        with _end_in_time(stop) if outer is None else contextlib.nullcontext():
            yield stop
    finally:
        _present = outer
        for number, handler in before.items():
            signal.signal(number, handler)


def _call_all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        with contextlib.suppress(Exception):
            call()


_present: StopRequest | None = None


def _leave_signals_to_the_parent() -> None:
    """Keep a forked process from writing the signals it gets into the parent's pipe."""
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_leave_signals_to_the_parent)


@contextmanager
def terminate_like_ctrl_c() -> Iterator[None]:
    """Have SIGTERM raise ``KeyboardInterrupt``, outside ``stop_on_signal``, as SIGINT does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _end_in_time(stop: StopRequest) -> Iterator[None]:
    """End the process when it outlives a signal by the time of grace."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    left = threading.Event()
    watcher = threading.Thread(target=_watch, args=(read, stop, left), daemon=True, name="stop")
    watcher.start()
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before)
        os.close(write)
        watcher.join()
        os.close(read)


def _watch(read: int, stop: StopRequest, left: threading.Event) -> None:
    stops = (signal.SIGINT, signal.SIGTERM)
    number = next((byte for byte in iter(lambda: os.read(read, 1), b"") if byte[0] in stops), None)
    if number is None:
        return
    waited = 0.0
    while waited < stop.grace_s:
        if left.wait(0.1):
            return
        waited += 0.1
    # In a thread, as the one that is stuck may hold a lock that they need.
    last = threading.Thread(target=_call_all, args=(stop.before_exit,), daemon=True)
    last.start()
    last.join(timeout=LAST_CALLS_S)
    print(
        f"error: stopped by {signal.Signals(number[0]).name} in the middle of a batch, which is dropped; "
        "what is committed stands, the same command resumes",
        file=sys.stderr,
        flush=True,
    )
    os._exit(EXIT_INTERRUPTED)
