"""Finding the row that kills the engine, when the process that runs it dies again and again.

One death may have any cause, so all rows are given again. After a second one, the rows that were unfinished
both times are suspects: they are run in groups, and a group that the engine dies on is halved, until a row
stands alone. The others are held back meanwhile. A row that the engine died on alone is convicted once
another row is computed: until then the device may be at fault. Only where no other row is left to ask is it
convicted without that proof, so that the run can end. Nothing here knows of processes, so it is tested with
plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Row = TypeVar("Row")

FIRST_GROUP = 32
"""Suspects in the first group; each further one is twice as large; one that goes well costs nothing."""

MOST_DEATHS = 48
"""Deaths after which the engine is given up; to find a row among thousands takes about ten."""

ROWS_PER_DEATH = 50
"""Finished rows for which one death is forgotten."""


@dataclass
class Orders(Generic[Row]):
    """What is to be done next.

    Attributes:
        run: Rows to give to the engine now.
        failed: Rows that kill the engine: they get no text.
        give_up: The engine dies whatever it is given; nothing else is to be done.
    """

    run: list[Row] = field(default_factory=list)
    failed: list[Row] = field(default_factory=list)
    give_up: bool = False


class Isolation(Generic[Row]):
    """Keeps the unfinished rows of an engine, and says which of them to run."""

    def __init__(self) -> None:
        self._deaths = 0.0
        self._open: dict[Row, None] = {}
        self._witnesses: set[Row] = set()
        # While suspects are run in groups: those that wait, the next one last; and what of one is unfinished.
        self._groups: list[list[Row]] | None = None
        self._running: set[Row] = set()
        # A row that killed the engine alone, until another one shows that the engine can work at all.
        self._accused: list[Row] = []
        self._proven = False

    @property
    def unfinished(self) -> list[Row]:
        """Rows without a result, in the order in which they came."""
        return [*self._open, *self._accused]

    def add(self, rows: Iterable[Row]) -> Orders[Row]:
        """Take in rows; they wait while suspects are run."""
        new = list(rows)
        self._open |= dict.fromkeys(new)
        return Orders(new if self._groups is None else [])

    def done(self, row: Row, *, computed: bool = True) -> Orders[Row]:
        """Note that a row has its result.

        Args:
            row: The row.
            computed: Whether the model wrote it. A row that was refused before says nothing of the device.
        """
        self._open.pop(row, None)
        self._witnesses.discard(row)
        self._running.discard(row)
        if computed:
            self._deaths = max(0.0, self._deaths - 1 / ROWS_PER_DEATH)
        if self._groups is None:
            return Orders()
        if computed:
            self._proven = True
            if self._accused:
                return self._convict()
        return Orders() if self._running else self._next()

    def drop(self, unwanted: Callable[[Row], bool]) -> Orders[Row]:
        """Forget rows whose results nobody waits for any more."""
        for row in [row for row in self._open if unwanted(row)]:
            del self._open[row]
        self._witnesses &= self._open.keys()
        self._running &= self._open.keys()
        self._accused = [row for row in self._accused if not unwanted(row)]
        if self._groups is None or self._running:
            return Orders()
        return self._next()

    def died(self) -> Orders[Row]:
        """Note that the engine died; the rows to run are for the next one."""
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            return Orders(give_up=True)
        if self._groups is not None:
            return self._died_on_a_group()
        suspects = [row for row in self._open if row in self._witnesses]
        self._witnesses = set(self._open)
        if not suspects:
            return Orders(list(self._open))
        self._groups = _growing(suspects)
        self._proven = False
        return self._next()

    def _died_on_a_group(self) -> Orders[Row]:
        assert self._groups is not None
        group = [row for row in self._open if row in self._running]
        if len(group) > 1:
            middle = len(group) // 2
            self._groups += [group[middle:], group[:middle]]
        elif group:
            del self._open[group[0]]
            self._witnesses.discard(group[0])
            self._accused.append(group[0])
            if self._proven:
                return self._convict()
            if len(self._accused) > 1:
                return Orders(give_up=True)
        return self._next()

    def _convict(self) -> Orders[Row]:
        """Fail the row that killed the engine alone, and give the others all at once again."""
        failed, self._accused = self._accused, []
        # One more death is enough to suspect these again, as there may be a second row of that kind.
        self._witnesses = {row for group in self._groups or () for row in group} | self._running
        waiting = [row for row in self._open if row not in self._running]
        self._groups, self._running = None, set()
        return Orders(waiting, failed)

    def _next(self) -> Orders[Row]:
        """Run the next group of suspects; when there is none, all rows that were held back."""
        assert self._groups is not None
        while self._groups:
            group = [row for row in self._groups.pop() if row in self._open]
            if group:
                self._running = set(group)
                return Orders(group)
        if self._accused and not self._open:  # no row is left that could show whether the engine can work
            return self._convict()
        if self._accused:  # nothing else was suspected: any other row shows it
            self._running = set(self._open)
            return Orders(list(self._open))
        self._groups, self._witnesses = None, set()
        return Orders(list(self._open))


def _growing(rows: Sequence[Row]) -> list[list[Row]]:
    """Return rows in groups, each twice as large as the one before it; the first group is last."""
    groups, start, size = [], 0, FIRST_GROUP
    while start < len(rows):
        groups.append(list(rows[start : start + size]))
        start, size = start + size, 2 * size
    return groups[::-1]
