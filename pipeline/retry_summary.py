"""What a retry of failed rows did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import EXIT_OK, EXIT_TOO_MANY_FAILURES
from schemas.tables import key_of


@dataclass
class RetrySummary:
    """What a retry did; ``retried = recovered + quarantined + failed``.

    Attributes:
        table: ``captions`` or ``explanations``.
        version: Name of the version's folder.
        path: The version's folder.
        planned: Keys in the plan.
        retried: Failed keys that were tried again.
        recovered: Keys that have a text now.
        quarantined: Keys that have a text now, which a gate set aside.
        failed: Keys that failed again.
        left: Failed keys that were not tried: of another class, or mended by another retry at the same time.
        failed_total: Keys in the failures ledger now.
        shards: Shards that were mended or tried.
        by_class: Error class to how many keys of it were tried and how many have a text now.
        max_failed_share: Share of failures above which the exit code is 4.
        seconds: Time the retry took.
        tokens_in: Prompt tokens read.
        tokens_out: Tokens generated.
        bill: What the retry cost; None when nothing was generated.
    """

    table: str
    version: str
    path: str
    planned: int
    max_failed_share: float
    by_class: dict[str, dict[str, int]]
    retried: int = 0
    recovered: int = 0
    quarantined: int = 0
    failed: int = 0
    left: int = 0
    failed_total: int = 0
    shards: int = 0
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    bill: dict[str, Any] | None = None

    @property
    def exit_code(self) -> int:
        """0, or 4 when more keys failed than the configuration allows."""
        too_many = self.failed_total > self.max_failed_share * self.planned
        return EXIT_TOO_MANY_FAILURES if too_many else EXIT_OK

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for ``--json``."""
        return asdict(self)

    def add(self, classes: Mapping[str, str], rows: pa.Table, failures: pa.Table, aside: pa.Table) -> None:
        """Count a shard that was mended.

        Args:
            classes: The keys that were tried, to the error class they had.
            rows: The rows they got.
            failures: Those that failed again.
            aside: Rows they got that a gate set aside.
        """
        self.shards += 1
        self.retried += len(classes)
        self.recovered += len(rows)
        self.quarantined += len(aside)
        self.failed += len(failures)
        recovered = set(rows.column(key_of(self.table)[0]).to_pylist())
        for key, error_class in classes.items():
            counts = self.by_class.setdefault(error_class, {"retried": 0, "recovered": 0})
            counts["retried"] += 1
            counts["recovered"] += key in recovered
