"""Adding up the time that one thing takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Counts the seconds spent inside ``with stopwatch.running():``.

    Attributes:
        seconds: The sum so far, over all threads.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count the time until the block ends, however it ends."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - started
