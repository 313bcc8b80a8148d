"""One output folder that is killed again and again, and then finished."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.shards.verify import verify
from schemas import layout
from tests.builders import list_markers
from tests.pipeline.killing import rows_of, run, start
from tests.torture.world import World, failures_of, files_of, half_written, table_of

STEPS = ("fsync", "replace", "link", "rename")
"""The system calls that a commit is made of."""

MOMENT = "random moment"
CROWD = "three at once"


@dataclass
class Tally:
    """What was done and what was found.

    Attributes:
        kills: (job, where) to the number of kills.
        during_resume: Kills of runs that resumed after a kill.
        torn: Markers that were torn, as a power cut would.
        episodes: Output folders that were killed and finished.
        lost: Rows that were committed and went away, or are missing at the end.
        duplicated: Keys that stand twice at the end.
        leftovers: Files that no reader opens, left by killed processes, at the end.
        problems: Everything else that is not as it should be.
    """

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    during_resume: int = 0
    torn: int = 0
    episodes: int = 0
    lost: int = 0
    duplicated: int = 0
    leftovers: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All kills."""
        return sum(self.kills.values())

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, duplicated or wrong."""
        return not (self.lost or self.duplicated or self.problems)


class Episode:
    """Kills of one job's runs in one output folder.

    Attributes:
        over: A run came to its end, so there is nothing left to kill.
    """

    def __init__(self, world: World, job: str, name: str, rng: random.Random, tally: Tally) -> None:
        self.job, self.table, self.rng, self.tally = job, table_of(job), rng, tally
        self.expected = world.expected[job]
        self.out = world.copy(job, name)
        self.command = world.command(job, self.out)
        self.over = False
        self._torn: set[Path] = set()
        self._seen = 0
        self._killed_before = False

    def kill_at(self, call: str, after: bool) -> bool:
        """Kill a run at a call of ``os``; return whether it got as far as that call."""
        if call == "rename" and self._killed_before and not self._tear_a_marker():
            return False
        most = {"fsync": 9, "replace": 6, "link": 6, "rename": 1}[call]
        code = run(self.command, (call, self.rng.randint(1, most), after))
        return self._died(code, f"{'after' if after else 'before'} {call}")

    def kill_at_a_moment(self) -> bool:
        """Kill a run at a random moment; return whether it still ran."""
        child = start(self.command)
        child.join(self.rng.uniform(0.05, 1.0) * self.expected.seconds)
        child.kill()
        child.join()
        return self._died(child.exitcode, MOMENT)

    def kill_in_a_crowd(self) -> int:
        """Start three runs at once and kill some of them, all of them one time in three."""
        doomed = self.rng.choice((1, 2, 3))
        children: list[tuple[Any, float]] = []
        for number in range(3):
            step = self.rng.choice(STEPS[:3]), self.rng.randint(1, 8), self.rng.random() < 0.5
            moment = self.rng.uniform(0.1, 1.2) * self.expected.seconds
            at_step = number < doomed and self.rng.random() < 0.5
            child = start(self.command, step if at_step else None)
            children.append((child, moment if number < doomed and not at_step else float("inf")))
        started = time.monotonic()
        for child, moment in sorted(children, key=lambda pair: pair[1]):
            child.join(None if moment == float("inf") else max(0.0, started + moment - time.monotonic()))
            if child.exitcode is None:
                child.kill()
                child.join()
        expected = self.expected
        died = [child.exitcode == -9 for child, _ in children]
        self.over = not all(died)
        for child, _ in children:
            if child.exitcode not in (0, -9):
                self._wrong(f"one of three ended with {child.exitcode}")
        if (
            not all(died)
            and expected.files is not None
            and len(files_of(self.out, self.table)) != len(expected.files)
        ):
            self._wrong("a run that ended well left the table unfinished")
        self.tally.kills[self.job, CROWD] += sum(died)
        self._after_kill(any(died))
        return sum(died)

    def finish(self) -> None:
        """Run to the end and compare with the uninterrupted run."""
        code = run(self.command)
        if code != 0:
            self._wrong(f"the last run ended with {code}")
        rows, expected = rows_of(self.out, self.table), self.expected
        key = expected.rows.columns[0]
        self.tally.lost += (
            len(expected.rows.join(rows, on=key, how="anti")) if len(rows) else len(expected.rows)
        )
        self.tally.duplicated += len(rows) - rows[key].n_unique() if len(rows) else 0
        if not rows.equals(expected.rows):
            self._wrong("the rows are not those of an uninterrupted run")
        if expected.files is not None and files_of(self.out, self.table) != expected.files:
            self._wrong("the data files differ from an uninterrupted run's in a byte")
        if not failures_of(self.out).equals(expected.failures):
            self._wrong("the failures are not those of an uninterrupted run")
        report = verify(self.out, deep=True)
        for problem in report.problems:
            self._wrong(f"verify: {problem.where}: {problem.what}")
        self.tally.leftovers += len(report.leftovers)
        if (layout.current_version(self.out, self.table) / layout.CLAIMS_DIR).exists():
            self._wrong("claims are left in a finished table")
        self.tally.episodes += 1

    def _died(self, code: int, where: str) -> bool:
        if code not in (0, -9):
            self._wrong(f"a run that was to be killed {where} ended with {code}")
        if code == -9:
            self.tally.kills[self.job, where] += 1
        self.over = code == 0
        self._after_kill(code == -9)
        return code == -9

    def _after_kill(self, killed: bool) -> None:
        if killed:
            self.tally.during_resume += self._killed_before
            self._killed_before = True
        for where, wrong in half_written(self.out, self.table, self.expected):
            if where not in self._torn or "not a valid marker" not in wrong:
                self._wrong(wrong)
        now = len(rows_of(self.out, self.table))
        self.tally.lost += max(0, self._seen - now)
        self._seen = now

    def _tear_a_marker(self) -> bool:
        """Cut a marker in half, as a power cut may: the next run moves it aside and makes the shard again."""
        try:
            markers = list_markers(layout.current_version(self.out, self.table))
        except layout.NoSuchTable:
            return False
        if not markers:
            return False
        marker = self.rng.choice(markers)
        marker.write_bytes(marker.read_bytes()[:100])
        self._torn.add(marker)
        self.tally.torn += 1
        self._seen = len(rows_of(self.out, self.table))
        return True

    def _wrong(self, what: str) -> None:
        self.tally.problems.append(f"{self.job} in {self.out}: {what}")
