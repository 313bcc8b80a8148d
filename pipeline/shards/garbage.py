"""What can be removed from an output folder: versions that nothing refers to, and what stopped attempts left.

A version is kept when it is current; when a kept one names it, as captions name the samples they were made
from; while the current one of its table is not finished, as texts may be copied from it; and while a worker
is writing it. Of what a kept version holds, only files that no marker names are removed, and only once they
are a day old: until then they may belong to an attempt that is still at work.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.shards import atomic
from pipeline.shards.folder import ASIDE, file_names, shard_of, unnamed
from pipeline.shards.plan import Plan
from schemas import layout
from schemas.history import read_history
from schemas.tables import GENERATED_TABLES, TABLES

DAY_S = 86_400.0
RECENT_S = 3_600.0
"""A version whose claims changed within this time is being written."""

_VERSION_NAME = re.compile(rb"v-[0-9a-f]{12}")


@dataclass(frozen=True)
class Item:
    """A file or folder that can be removed.

    Attributes:
        table: Table that it belongs to.
        path: Where it is.
        bytes: Its size, with everything in it.
        why: Why it is not needed.
    """

    table: str
    path: str
    bytes: int
    why: str


@dataclass
class Garbage:
    """What was found in an output folder.

    Attributes:
        versions: Versions that nothing refers to.
        leftovers: What stopped attempts left, a day old or older.
        kept: Versions that are not current and stay, each with the reason.
    """

    versions: list[Item] = field(default_factory=list)
    leftovers: list[Item] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of all that can be removed."""
        return sum(item.bytes for item in self.versions + self.leftovers)


def find_garbage(out: Path) -> Garbage:
    """Look for what can be removed; nothing is removed yet.

    Raises:
        TableError: A ``current.json`` or a ``version.json`` is damaged: what is needed cannot be told then.
    """
    found = Garbage()
    versions = {
        (table, path.name): path for table in _tables(out) for path in layout.list_versions(out, table)
    }
    kept = _referred_to(out, versions)
    for (table, name), path in versions.items():
        if path in kept:
            if kept[path]:
                found.kept[f"{table}/{name}"] = kept[path]
            found.leftovers += _leftovers(table, path)
        elif _being_written(path):
            found.kept[f"{table}/{name}"] = "a worker is writing it"
        else:
            found.versions.append(Item(table, str(path), _size(path), "nothing refers to this version"))
    for table in _tables(out):
        for path in sorted((out / table).iterdir()):
            if path.name.startswith(atomic.TEMPORARY_PREFIX) and _old(path):
                found.leftovers.append(Item(table, str(path), _size(path), "left by a stopped attempt"))
    return found


def remove(found: Garbage) -> None:
    """Remove what was found.

    A version is renamed before it is emptied, so that none is ever seen half-removed.
    """
    for item in found.versions:
        path = Path(item.path)
        doomed = path.with_name(f"{atomic.TEMPORARY_PREFIX}{atomic.attempt_id()}-{path.name}")
        os.rename(path, doomed)
        shutil.rmtree(doomed)
    for item in found.leftovers:
        path = Path(item.path)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _tables(out: Path) -> list[str]:
    return [table for table in TABLES if (out / table).is_dir()]


def _referred_to(out: Path, versions: dict[tuple[str, str], Path]) -> dict[Path, str]:
    """Return the versions to keep, each with who refers to it; nothing for the current ones."""
    kept: dict[Path, str] = {}
    todo: list[Path] = []
    for table in _tables(out):
        try:
            current = layout.current_version(out, table)
        except layout.NoSuchTable:
            # Interrupted before its first version was made current: the next run does that.
            todo += (fresh := [path for (name, _), path in versions.items() if name == table])
            kept |= dict.fromkeys(fresh, "no version is current yet")
            continue
        kept[current] = ""
        todo.append(current)
        if table in GENERATED_TABLES and Plan(table, current).pending():
            others = [path for (name, _), path in versions.items() if name == table and path != current]
            kept |= dict.fromkeys(others, f"{current.name} is not finished and may copy its texts")
            todo += others
    while todo:
        path = todo.pop()
        layout.read_version(path)
        named = {match.decode() for match in _VERSION_NAME.findall((path / layout.VERSION_FILE).read_bytes())}
        for (_, name), other in versions.items():
            if name in named and other not in kept:
                kept[other] = f"{path.parent.name}/{path.name} was made from it"
                todo.append(other)
    return kept


def _being_written(version: Path) -> bool:
    claims = version / layout.CLAIMS_DIR
    return claims.is_dir() and any(not _old(path, RECENT_S) for path in claims.iterdir())


def _leftovers(table: str, version: Path) -> Iterator[Item]:
    """Yield the old files of a kept version that no marker names, and what was moved aside."""
    named: set[str] = set()
    unsure: set[int] = set()
    for number, attempts in layout.list_attempts(version).items():
        shard, broken = read_history(attempts)
        if broken is not None:
            # Its files may be whole, and its marker only out of reach at the moment.
            unsure.add(number)
        if shard is not None:
            named |= {entry.name for marker in shard.markers for entry in marker.files()}
            named |= {attempts[marker.retry].name for marker in shard.markers}
    names = [name for name in file_names(version) if not unsure & {shard_of(name), layout.shard_number(name)}]
    for name in unnamed(names, named)[0]:
        path = version / name
        if _old(path):
            yield Item(table, str(path), _size(path), "left by a stopped attempt")
    aside = version / ASIDE
    for path in sorted(aside.iterdir()) if aside.is_dir() else ():
        if _old(path):
            yield Item(table, str(path), _size(path), "moved aside by a repair")


def _old(path: Path, age: float = DAY_S) -> bool:
    try:
        return time.time() - path.stat().st_mtime > age
    except FileNotFoundError:
        return False


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
