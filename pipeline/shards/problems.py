"""What verification finds, and what mends it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from schemas.tables import GENERATED_TABLES

Mend = Literal["run", "shard", "retry", "file", "by hand"]
"""What a problem needs: the table's command, a shard or its retries made anew, or a file moved away."""


@dataclass(frozen=True)
class Problem:
    """Something that does not hold.

    Attributes:
        table: Name of the table.
        where: The file.
        what: What is wrong with it.
        remedy: What to do.
        mend: The kind of remedy, for ``repair``.
        shard: Number of the shard concerned, if there is one.
        retry: First round of the shard's retries that does not hold; 0 when the shard itself does not.
    """

    table: str
    where: str
    what: str
    remedy: str
    mend: Mend
    shard: int | None = None
    retry: int = 0

    def __str__(self) -> str:
        return f"{self.table}: {self.where}: {self.what}. {self.remedy}"


@dataclass
class Report:
    """What verification found.

    Attributes:
        deep: Whether every file was hashed and read again.
        tables: Name of each table that was checked, to its version and counts.
        problems: What does not hold.
        leftovers: Files of attempts that were killed or lost a race; harmless, no reader opens them.
    """

    deep: bool
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there was something to check and all of it holds."""
        return bool(self.tables) and not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return the report for ``--json``."""
        return {**asdict(self), "ok": self.ok}


def problem(
    table: str,
    where: Path,
    what: str,
    mend: Mend,
    *,
    out: Path,
    shard: int | None = None,
    retry: int = 0,
    remedy: str = "",
) -> Problem:
    """Return a problem with the remedy that its kind has; ``remedy`` is needed for one by hand only."""
    generated = table in GENERATED_TABLES
    command = f"`python -m pipeline {table if generated else 'ingest'}`"
    repair = f"`python -m pipeline repair --out {out}`"
    remedies: dict[Mend, str] = {
        "run": f"Run {command} again",
        "shard": f"{repair} moves shard {shard} aside, then {command} makes it again",
        "retry": f"{repair} moves the retry aside, then `python -m pipeline retry-failed` makes it again",
        "file": f"No reader opens it; {repair} moves it aside",
        "by hand": remedy,
    }
    return Problem(table, str(where), what, remedies[mend], mend, shard, retry)
