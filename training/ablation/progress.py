"""How far the runs are, and how long the rest will take."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path

from training.config import Config

_TAIL = 16384


def share_done(run_dir: Path, config: Config) -> float:
    """Return how much of a run's training is done, 0 to 1, from the last whole record of its log."""
    for record in reversed(_last_records(run_dir / "log.jsonl")):
        step, epoch = record.get("step"), record.get("epoch")
        shares = []
        if isinstance(epoch, int | float):
            shares.append(epoch / config.train.epochs)
        if isinstance(step, int) and config.train.max_steps is not None:
            shares.append(step / config.train.max_steps)
        if shares:
            return min(1.0, max(shares))
    return 0.0


def _last_records(log: Path) -> list[dict[str, object]]:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
            lines = stream.read().splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        # The first line may begin, and the last end, in the middle of a record.
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


class Forecast:
    """Seconds that are left, from what the runs of this start have taken."""

    def __init__(self) -> None:
        self._rates: list[float] = []

    def finished(self, seconds: float, share: float) -> None:
        """Note a run that ended.

        Args:
            seconds: Its time in this start.
            share: Part of the run that was done in that time, 0 to 1.
        """
        if share > 0:
            self._rates.append(seconds / share)

    def seconds_left(
        self, running: Iterable[tuple[float, float, float]], waiting: int, jobs: int
    ) -> float | None:
        """Return the seconds until all runs are done, or None while nothing is known.

        Args:
            running: Of each running one: its seconds, its share when it started, its share now.
            waiting: Runs that have not started.
            jobs: Runs at the same time.
        """
        now = list(running)
        # Start-up makes the first minute's rate useless.
        rates = self._rates or [
            seconds / (share - before) for seconds, before, share in now if share - before > 0.05
        ]
        if not rates:
            return None
        work = waiting + sum(1 - share for _, _, share in now)
        return max(0.0, math.fsum(rates) / len(rates) * work / jobs)


def for_people(seconds: float | None) -> str:
    """Return a duration such as ``about 14 min``."""
    if seconds is None:
        return "time left not known yet"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"
