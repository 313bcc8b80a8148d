"""Rows made ready ahead of the model, in threads, a bounded number at a time; nothing here knows vLLM."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Generic, TypeVar

from pipeline.stopwatch import Stopwatch

Row = TypeVar("Row")
Ready = TypeVar("Ready")


class Feed(Generic[Row, Ready]):
    """Takes rows from one thread, prepares them in others, hands them to a third as they become ready.

    Waiting rows cost little (a text and a path); prepared ones hold a picture, so only ``ahead`` of them
    exist at a time.

    Attributes:
        waited: Time that ``take`` waited while rows were being prepared.
    """

    def __init__(self, prepare: Callable[[Row], Ready], threads: int, ahead: int) -> None:
        """Start with no rows.

        Args:
            prepare: Called in a thread. What it raises is handed over in place of what it would return, so
                that no row is lost.
            threads: Number of threads.
            ahead: Most rows prepared, or being prepared, and not taken yet.
        """
        self._prepare = prepare
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
        self._changed = threading.Condition()
        self._waiting: deque[Row] = deque()
        self._ready: deque[tuple[Row, Ready | Exception]] = deque()
        self._open = 0
        self._woken = False
        self.waited = Stopwatch()

    def add(self, rows: Iterable[Row]) -> None:
        """Queue rows behind those that wait already."""
        with self._changed:
            self._waiting.extend(rows)
            self._submit()
            self._changed.notify()

    def take(self, *, wait: bool) -> tuple[Row, Ready | Exception] | None:
        """Return the next row that is ready; None when none is, after waiting for one or for ``wake``."""
        with self._changed:
            while wait and not self._ready and not self._woken:
                # Without rows there is nothing to wait for but the next call.
                with self.waited.running() if self._open else nullcontext():
                    self._changed.wait()
            self._woken = False
            if not self._ready:
                return None
            self._open -= 1
            self._submit()
            return self._ready.popleft()

    def wake(self) -> None:
        """End the wait of ``take``, now or when it is called next."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def drop(self, unwanted: Callable[[Row], bool]) -> None:
        """Forget rows that are not taken yet; those in a thread just now are still handed over."""
        with self._changed:
            self._waiting = deque(row for row in self._waiting if not unwanted(row))
            kept = deque(item for item in self._ready if not unwanted(item[0]))
            self._open -= len(self._ready) - len(kept)
            self._ready = kept
            self._submit()

    def _submit(self) -> None:
        while self._waiting and self._open < self._ahead:
            self._open += 1
            self._pool.submit(self._work, self._waiting.popleft())

    def _work(self, row: Row) -> None:
        ready: Ready | Exception
        try:
            ready = self._prepare(row)
        except Exception as error:
            ready = error
        with self._changed:
            self._ready.append((row, ready))
            self._changed.notify()
