"""Checking many image files in several processes.

A decoder that brings its process down must not bring down the run: what the dead worker had in hand is
checked again file by file, and the file that kills a worker twice is the defect.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from pipeline.ingest.facts import ImageDefect, Verdict
from pipeline.ingest.helper import start_worker
from pipeline.ingest.images import judge_images

log = logging.getLogger(__name__)


_LARGEST_CHUNK = 64
_WORTH_A_POOL = 200
"""Fewer files than this are checked faster than worker processes start."""


def default_workers() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def judge_all(
    paths: Sequence[str], max_pixels: int, workers: int | None = None
) -> Generator[tuple[str, Verdict], None, None]:
    """Check image files, in any order.

    Args:
        paths: Distinct paths.
        max_pixels: Largest width times height that is decoded.
        workers: Processes; None takes as many as there are processors, or none at all for a few files. With 1
            the files are checked in this process.

    Yields:
        Every path with its verdict.
    """
    if workers is None:
        workers = default_workers() if len(paths) >= _WORTH_A_POOL else 1
    workers = min(workers, len(paths))
    if workers <= 1:
        for path in paths:
            yield path, judge_images([path], max_pixels)[0]
        return
    size = max(1, min(_LARGEST_CHUNK, len(paths) // (workers * 4)))
    chunks = [list(paths[start : start + size]) for start in range(0, len(paths), size)]
    while chunks:
        in_hand, chunks = yield from _run_pool(chunks, max_pixels, workers)
        if in_hand:
            log.warning(
                "a worker process died while it checked images; the files in hand are checked one by one"
            )
            yield from _one_by_one([path for chunk in in_hand for path in chunk], max_pixels)


def _new_pool(workers: int) -> ProcessPoolExecutor:
    # Spawn, not fork: the caller may have threads, and a forked copy of a held lock hangs.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker)


def _run_pool(
    chunks: list[list[str]], max_pixels: int, workers: int
) -> Generator[tuple[str, Verdict], None, tuple[list[list[str]], list[list[str]]]]:
    """Yield verdicts; when the pool breaks, return the chunks its workers had in hand and those not begun."""
    waiting = deque(chunks)
    running: dict[Future[list[Verdict]], list[str]] = {}
    in_hand: list[list[str]] = []
    pool = _new_pool(workers)
    try:
        while running or (waiting and not in_hand):
            while waiting and len(running) < workers * 3 and not in_hand:
                try:
                    running[pool.submit(judge_images, waiting[0], max_pixels)] = waiting[0]
                except BrokenProcessPool:
                    break
                waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                chunk = running.pop(future)
                try:
                    yield from zip(chunk, future.result(), strict=True)
                except BrokenProcessPool:
                    in_hand.append(chunk)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return in_hand, list(waiting)


def _one_by_one(paths: list[str], max_pixels: int) -> Iterator[tuple[str, Verdict]]:
    """Check files alone in a worker process that each may bring down."""
    pool: ProcessPoolExecutor | None = None
    try:
        for number, path in enumerate(paths):
            if pool is None:
                pool = _new_pool(1)
                if not _starts(pool):
                    log.warning("worker processes do not start here; images are checked in this process")
                    yield from ((path, judge_images([path], max_pixels)[0]) for path in paths[number:])
                    return
            try:
                yield path, pool.submit(judge_images, [path], max_pixels).result()[0]
            except BrokenProcessPool:
                pool.shutdown(wait=True)
                pool = None
                message = f"{path}: the decoder crashed on it; fetch it again, or save it anew"
                # Not lasting: the system may have killed the worker for want of memory.
                yield path, ImageDefect("unreadable_image", message, lasting=False)
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def _starts(pool: ProcessPoolExecutor) -> bool:
    try:
        return pool.submit(len, ()).result() == 0
    except BrokenProcessPool:
        return False
