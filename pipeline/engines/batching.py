"""How rows become batches: a size that follows the memory, and halving until a bad row stands alone.

Nothing here knows of a model or a device, so every path can be tested with plain functions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, TypeVar

log = logging.getLogger(__name__)

Row = TypeVar("Row")
Output = TypeVar("Output")
Trouble = Literal["out_of_memory", "engine_error"]

_FIRST_PATIENCE = 8
_LONGEST_PATIENCE = 64


class BatchSize:
    """The number of rows that fit, learnt while running.

    Halved when memory runs out; doubled again after a number of batches went well, up to the configured size.
    Each time memory runs out that number doubles, so that a size which does not fit is not tried over and
    over.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.now = most
        self._good = 0
        self._patience = _FIRST_PATIENCE // 2

    def shrink(self, failed: int) -> None:
        """Note that ``failed`` rows did not fit."""
        self.now = max(1, min(self.now, failed // 2))
        self._good = 0
        self._patience = min(2 * self._patience, _LONGEST_PATIENCE)
        log.warning("out of memory with %d rows; going on with batches of %d", failed, self.now)

    def grow(self) -> None:
        """Note that a batch of the present size went well."""
        self._good += 1
        if self.now < self.most and self._good >= self._patience:
            self.now = min(self.most, 2 * self.now)
            self._good = 0
            log.info("trying batches of %d again", self.now)


def run_batches(
    rows: Iterable[Row],
    size: BatchSize,
    run: Callable[[Sequence[Row]], Sequence[Output]],
    judge: Callable[[Exception], Trouble],
    release: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Row, Output | None, Trouble | None, str]]:
    """Run rows in batches; yield (row, output, None, ""), or (row, None, code, why) for a row at fault.

    A failing batch is halved, and its halves again, until the row at fault is alone; every other row still
    gets its output.

    Args:
        rows: In the order in which they are batched.
        size: Kept by the caller, so that what was learnt about memory outlives this call.
        run: Turns a batch into one output per row, in the same order. It may raise.
        judge: Names what an exception of ``run`` means for the batch; raises when nothing further can be run.
        release: Called after a failed batch, when its tensors are no longer referenced.

    Raises:
        RuntimeError: ``run`` returned another number of outputs than it got rows.
    """
    source = iter(rows)
    while batch := list(islice(source, size.now)):
        stack = [batch]
        while stack:
            part = stack.pop()
            if len(part) > size.now:
                stack += _halves(part)
                continue
            trouble: Trouble
            try:
                outputs = run(part)
            except Exception as error:
                # Kept as text: the exception's frames hold the batch's tensors.
                trouble, why = judge(error), f"{type(error).__name__}: {error}"
            else:
                if len(outputs) != len(part):
                    raise RuntimeError(f"the model gave {len(outputs)} texts for {len(part)} rows")
                if len(part) == size.now:
                    size.grow()
                for row, output in zip(part, outputs, strict=True):
                    yield row, output, None, ""
                continue
            release()
            if trouble == "out_of_memory":
                size.shrink(len(part))
            if len(part) == 1:
                yield part[0], None, trouble, why
            else:
                if trouble == "engine_error":
                    log.warning("a batch of %d failed and is halved: %s", len(part), why)
                stack += _halves(part)


def _halves(part: list[Row]) -> list[list[Row]]:
    middle = len(part) // 2
    # The first half is popped first, which keeps the order of the rows.
    return [part[middle:], part[:middle]]
