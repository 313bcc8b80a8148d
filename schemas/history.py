"""A shard's history: the marker of its first attempt, and the retries of its failures that follow.

A retry never rewrites a good row. It has a marker of its own, ``shard-00003.retry-01.marker.json``, which
names a file of the rows that it recovered and the ledger of what still fails. The ledger is complete, so that
the last marker alone says what is missing; the earlier ones stay and show how it came about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.marker import FileEntry, Marker, MarkerError, read_marker


@dataclass(frozen=True, slots=True)
class Shard:
    """A committed shard.

    Attributes:
        base: The marker of the attempt that committed it.
        retries: The markers of the retries since, in order.
    """

    base: Marker
    retries: tuple[Marker, ...] = ()

    @property
    def number(self) -> int:
        """Number of the shard."""
        return self.base.shard

    @property
    def markers(self) -> tuple[Marker, ...]:
        """Every marker, in order."""
        return (self.base, *self.retries)

    @property
    def planned(self) -> int:
        """Keys planned for the shard."""
        return self.base.planned

    @property
    def rows(self) -> int:
        """Rows with a text, those that retries recovered included."""
        return sum(marker.rows for marker in self.markers)

    @property
    def failures(self) -> int:
        """Keys that have failed in every attempt."""
        return self.markers[-1].failures

    @property
    def quarantined(self) -> int:
        """Keys whose rows a gate set aside."""
        return sum(marker.quarantined for marker in self.markers)

    @property
    def ledger(self) -> FileEntry | None:
        """The file of the keys that have failed in every attempt; None when there are none."""
        return self.markers[-1].failure_data

    def row_files(self) -> Iterator[FileEntry]:
        """Yield the files of rows that have any."""
        return (marker.data for marker in self.markers if marker.rows)

    def quarantine_files(self) -> Iterator[FileEntry]:
        """Yield the files of rows that a gate set aside."""
        return (marker.quarantine_data for marker in self.markers if marker.quarantine_data is not None)

    def total(self, stat: str) -> float:
        """Return the sum of a number in the markers' ``stats``, e.g. ``seconds``."""
        return sum(float(marker.stats.get(stat, 0)) for marker in self.markers)


def read_history(attempts: Mapping[int, Path]) -> tuple[Shard | None, tuple[int, MarkerError] | None]:
    """Read the markers of one shard.

    A retry counts when it holds, and when the ledger that it worked off is the one of the marker before it.
    One whose predecessor was written anew since does not: the new attempt made those rows again.

    Args:
        attempts: Marker files of the shard by round, 0 the first attempt (see ``layout.list_attempts``).

    Returns:
        The shard, None when it is not done; and the round of the first marker that does not hold, with the
        reason, None when there is no such marker.
    """
    if 0 not in attempts:
        return None, None
    try:
        base = read_marker(attempts[0])
    except MarkerError as error:
        return None, (0, error)
    shard = Shard(base)
    while (path := attempts.get(len(shard.retries) + 1)) is not None:
        try:
            retry = read_marker(path)
        except MarkerError as error:
            return shard, (len(shard.retries) + 1, error)
        if not follows(retry, shard):
            break
        shard = Shard(base, (*shard.retries, retry))
    return shard, None


def follows(retry: Marker, shard: Shard) -> bool:
    """Return whether a retry worked off the ledger that a shard has."""
    latest = shard.markers[-1]
    same = (retry.table, retry.shard, retry.fingerprint, retry.schema_hash) == (
        latest.table,
        latest.shard,
        latest.fingerprint,
        latest.schema_hash,
    )
    return same and shard.ledger is not None and retry.replaces == shard.ledger.name
