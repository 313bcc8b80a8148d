"""Stopping on a signal between two rows, so that nothing half-written is left and the next run resumes."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.errors import Interrupted

log = logging.getLogger(__name__)


class StopRequest:
    """Remembers that a signal asked for a stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def check(self, message: str) -> None:
        """Raise ``Interrupted`` with ``message`` if a stop was asked for."""
        if self.signal is not None:
            raise Interrupted(f"stopped by {signal.Signals(self.signal).name}. {message}")


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a stop at the next row; a second signal ends the process at once.

    Outside the main thread, where Python allows no handlers, signals are left to whoever owns them.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.signal = number
        log.warning("%s: stopping at the next row; once more stops at once", signal.Signals(number).name)

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
