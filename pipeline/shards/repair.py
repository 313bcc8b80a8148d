"""Re-queueing what does not hold: shards are moved aside, so that the next run makes them again.

Nothing is deleted. A shard's marker is moved first: from then on the shard counts as not done, and whatever
dies afterwards leaves only files that no reader opens.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.shards.atomic import attempt_id, fsync_folder
from pipeline.shards.folder import ASIDE, shard_of
from pipeline.shards.problems import Problem
from pipeline.shards.verify import verify
from schemas import layout
from schemas.marker import MarkerError, parse_marker
from schemas.tables import GENERATED_TABLES

log = logging.getLogger(__name__)


@dataclass
class Repair:
    """What a repair did, or with ``dry_run`` would do.

    Attributes:
        dry_run: Nothing was moved.
        problems: How many problems were found.
        shards: Table to the shards that its command makes again, those never written included.
        retries: Table to the shards whose failures ``retry-failed`` tries again.
        moved: Files that were moved aside, as they were named before.
        by_hand: Problems that need a person.
        commands: What to run next, in this order.
    """

    dry_run: bool
    problems: int = 0
    shards: dict[str, list[int]] = field(default_factory=dict)
    retries: dict[str, list[int]] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)
    by_hand: list[Problem] = field(default_factory=list)

    @property
    def commands(self) -> list[str]:
        """What to run next, in this order."""
        generated = [table for table in GENERATED_TABLES if table in self.shards]
        whole = ["ingest"] if self.shards.keys() - set(generated) else []
        return whole + generated + (["retry-failed"] if self.retries else [])


def repair(out: Path, *, dry_run: bool = False) -> Repair:
    """Move aside what does not hold, so that the tables' commands make exactly that again.

    Every file is read and hashed first. A run that writes the same table meanwhile is not disturbed, but the
    shard that it is about to commit may have to be made once more.

    Args:
        out: Output folder.
        dry_run: Only say what would be done.
    """
    report = verify(out, deep=True)
    result = Repair(dry_run, len(report.problems))
    gone: set[Path] = set()
    for found in report.problems:
        if found.mend == "by hand":
            result.by_hand.append(found)
            continue
        version = layout.current_version(out, found.table)
        if found.shard is not None:
            queue = result.retries if found.mend == "retry" else result.shards
            numbers = queue.setdefault(found.table, [])
            if found.shard not in numbers:
                numbers.append(found.shard)
        files = [path for path in _concerned(version, found) if path not in gone]
        gone |= set(files)
        result.moved += [str(path) for path in files]
        if not dry_run:
            _move(version, files)
    return result


def _concerned(version: Path, found: Problem) -> list[Path]:
    """Return the files to move for a problem, in this order."""
    if found.mend == "run":
        return []
    if found.mend == "file":
        return _with_data(Path(found.where))
    assert found.shard is not None
    attempts = layout.list_attempts(version).get(found.shard, {})
    # The first marker goes first, and with it the shard; of retries the last, so that none is without the one
    # that it follows.
    rounds = [round_ for round_ in attempts if round_ >= found.retry]
    order = sorted(rounds, reverse=True) if found.retry else sorted(rounds)
    files = [path for round_ in order for path in _with_data(attempts[round_])]
    return sorted(files, key=lambda path: not path.name.endswith(layout.MARKER_SUFFIX))


def _with_data(path: Path) -> list[Path]:
    """Return a file and, if it is a marker, the files of its shard that it names and that are there.

    A marker under a wrong name, such as a copy, names files of another shard; those stay where they are.
    """
    number = layout.shard_number(path.name)
    if number is None:
        return [path]
    try:
        names = [entry.name for entry in parse_marker(path).files()]
    except MarkerError:
        names = []
    files = [path.parent / name for name in names if shard_of(name) == number]
    return [path, *(file for file in files if file.exists())]


def _move(version: Path, files: list[Path]) -> None:
    if not files:
        return
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    target = version / ASIDE / f"{stamp}-{attempt_id()}"
    target.mkdir(parents=True)
    for path in files:
        try:
            os.rename(path, target / path.name)
        except FileNotFoundError:
            log.warning("%s: is gone already", path)
    fsync_folder(target)
    fsync_folder(version)


def as_dict(result: Repair) -> dict[str, Any]:
    """Return a repair for ``--json``."""
    return {
        "dry_run": result.dry_run,
        "problems": result.problems,
        "shards": result.shards,
        "retries": result.retries,
        "moved": result.moved,
        "by_hand": [str(found) for found in result.by_hand],
        "commands": result.commands,
    }
