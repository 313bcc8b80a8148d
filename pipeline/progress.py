"""Progress of long work: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

log = logging.getLogger(__name__)


class Progress:
    """Counts rows and tokens; shows rows/s, tokens/s and the time left on stderr.

    Args:
        total: Rows in all.
        name: What is being made, e.g. ``captions``.
        done: Rows that were done before.
        unit: What is counted.
        every: Seconds between two lines in a log.
        shown: Show anything at all; otherwise it only counts.
    """

    def __init__(
        self,
        total: int,
        name: str,
        *,
        done: int = 0,
        unit: str = "rows",
        every: float = 10.0,
        shown: bool = True,
    ) -> None:
        self.total, self.name, self.unit, self.every = total, name, unit, every
        self.before, self.done, self.tokens, self.failed = done, done, 0, 0
        self.started = self.said = time.monotonic()
        self.shown = shown
        terminal = shown and sys.stderr.isatty()
        self.bar = (
            tqdm(total=total, initial=done, desc=name, unit=f" {unit}", dynamic_ncols=True)
            if terminal
            else None
        )

    def update(self, rows: int = 1, *, tokens: int = 0, failed: int = 0) -> None:
        """Count some more rows, the tokens they took and how many of them failed."""
        self.done += rows
        self.tokens += tokens
        self.failed += failed
        if self.bar is not None:
            seconds = max(time.monotonic() - self.started, 1e-9)
            if self.tokens or self.failed:
                self.bar.set_postfix_str(
                    f"{self.tokens / seconds:,.0f} tokens/s, {self.failed} failed", refresh=False
                )
            self.bar.update(rows)
        elif self.shown and time.monotonic() - self.said >= self.every:
            self.say()

    def say(self) -> None:
        """Write a line about the state to the log."""
        self.said = time.monotonic()
        seconds = max(self.said - self.started, 1e-9)
        rate = (self.done - self.before) / seconds
        left = duration((self.total - self.done) / rate) if rate > 0 else "unknown"
        tokens = f", {self.tokens / seconds:,.0f} tokens/s" if self.tokens else ""
        failed = f", {self.failed} failed" if self.failed else ""
        log.info(
            "%s: %s of %s %s, %.1f %s/s%s%s, %s left",
            *(
                self.name,
                f"{self.done:,}",
                f"{self.total:,}",
                self.unit,
                rate,
                self.unit,
                tokens,
                failed,
                left,
            ),
        )

    def close(self) -> None:
        """End the bar; in a log, write the last line."""
        if self.bar is not None:
            self.bar.close()
        elif self.shown and self.done > self.before:
            self.say()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def duration(seconds: float) -> str:
    """Return seconds as ``h:mm:ss``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
