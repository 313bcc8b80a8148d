"""What a run leaves to look at in Prefect's pages: a progress bar while it runs, a table at its end.

These are records only: when the API does not answer, the run goes on and says so once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from flows.settings import PROGRESS_EVERY_S, PROGRESS_PAUSE_S
from pipeline.costs.telling import PARTS, bill_lines
from pipeline.fleet.watching import WorkersSeen
from pipeline.progress import Progress

log = logging.getLogger(__name__)

_COLUMNS = (
    "table",
    "version",
    "planned",
    "written",
    "generated",
    "carried",
    "shared",
    "failed",
    "quarantined",
    "skipped_existing",
    "tokens_in",
    "tokens_out",
    "seconds",
    "path",
)


@contextlib.contextmanager
def _best_effort(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        log.warning("%s could not be recorded (%s: %s)", what, type(error).__name__, error)


class ProgressArtifact:
    """Rows done of a table, a percentage with a sentence, under the key ``captions-progress`` or the like."""

    def __init__(self, table: str, version: str, progress: Progress) -> None:
        self._progress, self._version = progress, version
        self._id: UUID | None = None
        self._said: tuple[float, str] | None = None
        self._next = 0.0
        with _best_effort("the progress"):
            share, sentence = self._state()
            created: Any = create_progress_artifact(share, key=f"{table}-progress", description=sentence)
            self._id = created
            self._said = (share, sentence)

    def _state(self) -> tuple[float, str]:
        done, total = self._progress.done, self._progress.total
        sentence = (
            f"{self._version}: {done:,} of {total:,} rows, {self._progress.failed:,} failed in this run"
        )
        return (100.0 * done / total if total else 100.0), sentence

    def update(self, *, now: bool = False) -> None:
        """Send the state, at most every few seconds unless ``now``, and only when it has changed."""
        if self._id is None or not (now or time.monotonic() >= self._next):
            return
        # An API that has gone away costs minutes per attempt, so a failed one is followed by a long pause.
        self._next = time.monotonic() + PROGRESS_PAUSE_S
        state = self._state()
        if state != self._said:
            with _best_effort("the progress"):
                update_progress_artifact(self._id, progress=state[0], description=state[1])
                self._said = state
        if state == self._said:
            self._next = time.monotonic() + PROGRESS_EVERY_S


class WorkersArtifact:
    """What each worker of a table does, a row each, under the key ``captions-workers`` or the like.

    Workers of other runs, e.g. on other machines, are in it too: it shows who is at the table.
    """

    def __init__(self, table: str, workers: WorkersSeen) -> None:
        self._key, self._workers = f"{table}-workers", workers
        self._id: UUID | None = None
        self._said: list[dict[str, Any]] = []
        self._next = 0.0

    def update(self, *, now: bool = False) -> None:
        """Look at the workers and send what has changed, every few seconds; with ``now`` what was seen last."""
        if not (now or time.monotonic() >= self._next):
            return
        self._next = time.monotonic() + PROGRESS_PAUSE_S
        if not now:
            self._workers.look()
        rows = self._workers.rows()
        if rows and rows != self._said:
            with _best_effort("what the workers do"):
                self._send(rows)
                self._said = rows
        if rows == self._said:
            self._next = time.monotonic() + PROGRESS_EVERY_S

    def _send(self, rows: list[dict[str, Any]]) -> None:
        description = f"{len(rows)} workers, {sum(row['rows_per_second'] for row in rows):,.1f} rows/s"
        if self._id is None:
            created: Any = create_table_artifact(rows, key=self._key, description=description)
            self._id = created
            return
        with get_client(sync_client=True) as client:
            client.update_artifact(self._id, ArtifactUpdate(data=json.dumps(rows), description=description))


def table_artifact(key: str, summaries: Sequence[dict[str, Any]], description: str) -> None:
    """Record the summaries of one or more tables as a table, one row each, under ``key``."""
    with _best_effort("the summary"):
        rows = [{column: summary[column] for column in _COLUMNS} for summary in summaries]
        create_table_artifact(rows, key=key, description=description)


def bill_artifact(key: str, bill: dict[str, Any]) -> None:
    """Record a run's bill under ``key``: a row per part of its time, and the sums in words."""
    with _best_effort("the bill"):
        rows = [
            {"part": PARTS[name], "seconds": seconds, "share": f"{bill['shares'][name]:.1%}"}
            for name, seconds in bill["seconds"].items()
        ]
        create_table_artifact(rows, key=key, description="\n".join(bill_lines(bill)))
