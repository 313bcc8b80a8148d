"""A second process that shares the work of reading large annotation files.

Parsing JSON keeps Python's lock, so threads do not help. The process is started before the slow imports of
the first one, and imports at the same time. This module itself imports next to nothing.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

log = logging.getLogger(__name__)

Result = TypeVar("Result")

WORTH_BYTES = 12_000_000
"""Smaller inputs are read by one process before a second has started."""


class Helper:
    """Runs calls in a second process, or here if that would not be faster.

    Args:
        files: The annotation files; together they decide whether a process is worth its start.
    """

    def __init__(self, files: Sequence[Path] = ()) -> None:
        self._pool: ProcessPoolExecutor | None = None
        # Only JSON is shared: the other formats are read as one stream.
        size = sum(file.stat().st_size for file in files if file.suffix.lower() == ".json" and file.is_file())
        if size >= WORTH_BYTES and _processors() > 1:
            self._pool = ProcessPoolExecutor(
                1, mp_context=multiprocessing.get_context("spawn"), initializer=_start
            )
            self._pool.submit(len, ())  # the process starts with the first call

    def map_in_order(
        self, function: Callable[..., Result], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[Result]:
        """Yield ``function(*call)`` for each call, in order.

        This process works from the front while the other works from the back, so that whoever is faster does
        more. Calls must not depend on each other.
        """
        shared = _Shared(self._pool, function, calls)
        try:
            for i, call in enumerate(calls):
                future = shared.claim(i)
                try:
                    yield function(*call) if future is None else future.result()
                except BrokenProcessPool:
                    log.warning("the second reading process died; this one reads on alone")
                    self._pool = None
                    yield function(*call)
        finally:
            shared.close()

    def __enter__(self) -> Helper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)
            self._pool = None


class _Shared:
    """Calls that two processes take from both ends.

    At most two calls are handed over at a time and none is ever cancelled: an executor that breaks while it
    holds cancelled calls never ends the others (a fault of Python 3.11).
    """

    def __init__(
        self, pool: ProcessPoolExecutor | None, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
    ) -> None:
        self._pool, self._function, self._calls = pool, function, calls
        self._first, self._end = 0, len(calls)
        self._handed_over: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        for _ in range(2):
            self._hand_over()

    def claim(self, i: int) -> Future[Any] | None:
        """Return the future of call ``i`` if the other process has it; else it is the caller's to do."""
        with self._lock:
            self._first = i + 1
            return self._handed_over.pop(i, None)

    def close(self) -> None:
        """Hand over nothing more."""
        with self._lock:
            self._end = 0

    def _hand_over(self, _: object = None) -> None:
        with self._lock:
            if self._pool is None or self._end <= self._first:
                return
            try:
                future = self._pool.submit(self._function, *self._calls[self._end - 1])
            except RuntimeError:  # broken, or shut down meanwhile: the calls left are the caller's
                return
            self._end -= 1
            self._handed_over[self._end] = future
        future.add_done_callback(self._hand_over)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker() -> None:
    """Prepare a worker process: it leaves Ctrl-C to its parent, and ends when its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A parent that was killed tells nobody, and a worker would wait for its next task forever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _start() -> None:
    from pipeline.ingest.lean import without_pandas

    start_worker()
    with without_pandas():
        import pipeline.ingest.sources  # noqa: F401

    gc.disable()
