"""Which workers are at a table now, and how far each has come, from their signs of life.

What stands there is a record to look at and nothing else: a worker without a file only is not shown.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from schemas.layout import CLAIMS_DIR


@dataclass
class Figures:
    """What one worker has done of a table in its run; it counts, its sign of life carries it.

    Attributes:
        run: The run it belongs to.
        name: Its name in the run.
        device: Devices that it sees (``CUDA_VISIBLE_DEVICES``); empty where none is chosen.
        shard: The shard in hand.
        in_hand: Rows of it that have a result.
        shards: Shards that it committed.
        rows: Keys of these, failures and rows set aside included.
        failed: Failures of these.
        tokens_out: Tokens generated for these.
        seconds: Time since it began with the table, its model loaded.
    """

    run: str
    name: str
    device: str = ""
    shard: int | None = None
    in_hand: int = 0
    shards: int = 0
    rows: int = 0
    failed: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    _began: float = field(default_factory=time.monotonic, repr=False)

    def add(self, rows: int, failed: int, tokens_out: int) -> None:
        """Count a shard that was committed."""
        self.shards += 1
        self.rows += rows
        self.failed += failed
        self.tokens_out += tokens_out

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON, the clock read now."""
        self.seconds = round(time.monotonic() - self._began, 1)
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}


@dataclass(frozen=True)
class AtWork:
    """A worker as others see it.

    Attributes:
        worker: Its id, 12 hex digits.
        host: Name of its machine.
        pid: Its process id there.
        silent_s: Seconds since its last sign of life, by the file system's clock: for people only.
        figures: What it says it has done; fields as in ``Figures``.
    """

    worker: str
    host: str
    pid: int
    silent_s: float
    figures: dict[str, Any]

    @property
    def rows_per_second(self) -> float:
        """Rows it has made per second since it began."""
        seconds = float(self.figures.get("seconds") or 0)
        rows = int(self.figures.get("rows", 0)) + int(self.figures.get("in_hand", 0))
        return rows / seconds if seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for ``status --json``."""
        return {**asdict(self), "rows_per_second": round(self.rows_per_second, 3)}


def at_work(version: Path) -> list[AtWork]:
    """Return the workers that have left a sign of life at a version and not taken it back, by name."""
    found, now = [], time.time()
    for path in (version / CLAIMS_DIR).glob("worker-*.json"):
        try:
            raw = json.loads(path.read_bytes())
            silent = max(0.0, now - path.stat().st_mtime)
            figures = raw.get("figures") or {}
            found.append(AtWork(raw["worker"], raw["host"], int(raw["pid"]), round(silent, 1), figures))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # it ended meanwhile, or is of another version of this program
    return sorted(found, key=lambda one: (str(one.figures.get("name", "")), one.host, one.pid))
