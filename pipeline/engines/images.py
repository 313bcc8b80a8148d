"""Images decoded ahead of the model, in threads, a bounded number at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from PIL import Image

from pipeline.engines.base import Failure, Request
from pipeline.images import DecompressionBomb, ImageError, MissingImage, open_rgb
from pipeline.stopwatch import Stopwatch

Row = TypeVar("Row")


def read_ahead(
    rows: Iterable[Row],
    load: Callable[[Row], Any],
    threads: int,
    window: int,
    waited: Stopwatch | None = None,
) -> Iterator[tuple[Row, Any]]:
    """Yield (row, load(row)) in the order of ``rows``, loading up to ``window`` rows ahead in threads.

    Args:
        rows: Consumed only as far as the window reaches.
        load: Called in a thread; it must return failures, not raise them.
        threads: Number of threads.
        window: Most rows loaded or loading but not yet taken; bounds the memory.
        waited: Gets the time that the taker of the rows waited for one.
    """
    waited = waited or Stopwatch()
    waiting: deque[tuple[Row, Future[Any]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for row in rows:
            waiting.append((row, pool.submit(load, row)))
            if len(waiting) >= window:
                ready, future = waiting.popleft()
                with waited.running():
                    loaded = future.result()
                yield ready, loaded
        while waiting:
            ready, future = waiting.popleft()
            with waited.running():
                loaded = future.result()
            yield ready, loaded
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def load_pixels(request: Request, preprocess: Callable[[Image.Image], Any]) -> Any:
    """Return the preprocessed image of a request, or a ``Failure`` that says why there is none.

    A missing file and an error of the disk may pass, so they are not permanent; bytes that do not decode are.
    """
    path = request.image
    if path is None:
        return Failure(
            "image_missing", True, f"request {request.key!r} has no image, and this model needs one"
        )
    try:
        return preprocess(open_rgb(path))
    except MissingImage as error:
        return Failure("image_missing", False, str(error))
    except ImageError as error:
        return Failure("image_unreadable", error.lasting or isinstance(error, DecompressionBomb), str(error))
    except Exception as error:  # the picture decoded, but its shape defeats the resizing
        return Failure("image_unreadable", True, f"{path}: {type(error).__name__} while resizing: {error}")
