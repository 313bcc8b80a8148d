"""What became no text or no sample: failures by class, rejected source rows by reason, with examples."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.inspection.figures import count_by
from pipeline.inspection.sampling import Lowest, Row, rank
from pipeline.inspection.words import clip
from schemas import Table
from schemas.vocabulary import ERROR_CLASSES, QUARANTINE_REASONS

EXAMPLES = 5
"""Examples of one failure class or quarantine reason."""

MOST_RAW = 3000
"""Characters of a raw source row that the page shows."""


@dataclass(frozen=True)
class FailureGroup:
    """Failures of one stage and class.

    Attributes:
        stage: Table the keys were planned for.
        error_class: Code of the failure.
        meaning: The code in words.
        count: Keys that ended so.
        permanent: How many of them another attempt cannot help.
        examples: Some of them, columns of ``failures``.
    """

    stage: str
    error_class: str
    meaning: str
    count: int
    permanent: int
    examples: tuple[Row, ...]


@dataclass(frozen=True)
class Rejections:
    """Source rows set aside at ingest for one reason.

    Attributes:
        reason: Code of the defect.
        meaning: The code in words.
        count: Rows.
        examples: Some of them, columns of ``quarantine``, ``raw`` as indented JSON.
    """

    reason: str
    meaning: str
    count: int
    examples: tuple[Row, ...]


def failure_groups(failures: Table | None, seed: int) -> list[FailureGroup]:
    """Return the failures by stage and class, most frequent first."""
    if failures is None:
        return []
    counts = count_by(failures, "stage", "error_class", "permanent")
    examples = _examples(failures, ("stage", "error_class"), ("key",), seed)
    groups = []
    for stage, error_class in {(stage, error_class) for stage, error_class, _ in counts}:
        permanent = counts[stage, error_class, True]
        groups.append(
            FailureGroup(
                stage=stage,
                error_class=error_class,
                meaning=ERROR_CLASSES.get(error_class, ""),
                count=permanent + counts[stage, error_class, False],
                permanent=permanent,
                examples=tuple(_shown(row) for row in examples[stage, error_class]),
            )
        )
    return sorted(groups, key=lambda group: (-group.count, group.stage, group.error_class))


def rejections(quarantine: Table | None, seed: int) -> list[Rejections]:
    """Return the rejected source rows by reason, most frequent first."""
    if quarantine is None:
        return []
    counts = count_by(quarantine, "reason")
    examples = _examples(quarantine, ("reason",), ("source_file", "source_row"), seed)
    groups = [
        Rejections(
            reason=reason,
            meaning=QUARANTINE_REASONS.get(reason, ""),
            count=count,
            examples=tuple(_shown(row) for row in examples[(reason,)]),
        )
        for (reason,), count in counts.items()
    ]
    return sorted(groups, key=lambda group: (-group.count, group.reason))


def _examples(
    table: Table, group: tuple[str, ...], key: tuple[str, ...], seed: int
) -> dict[tuple[Any, ...], list[Row]]:
    """Return some rows of each group, chosen by hash in one pass that keeps only those."""
    kept: dict[tuple[Any, ...], Lowest] = defaultdict(lambda: Lowest(EXAMPLES))
    rows: dict[tuple[Any, ...], Row] = {}
    for batch in table.batches():
        groups = zip(*(batch.column(name).to_pylist() for name in group), strict=True)
        keys = zip(*(batch.column(name).to_pylist() for name in key), strict=True)
        for index, (name, parts) in enumerate(zip(groups, keys, strict=True)):
            text = "\0".join(str(part) for part in parts)
            if kept[name].offer(rank(seed, text), text):
                rows[(*name, text)] = batch.slice(index, 1).to_pylist()[0]
    return {name: [rows[(*name, text)] for text in lowest.keys()] for name, lowest in kept.items()}  # noqa: SIM118


def _shown(row: Row) -> Row:
    """Return a row whose strings can be put on the page."""
    shown = {name: clip(value, 600) if isinstance(value, str) else value for name, value in row.items()}
    if "raw" in row:
        shown["raw"] = clip(_indented(row["raw"]), MOST_RAW)
    if isinstance(row.get("last_attempt"), datetime):
        shown["last_attempt"] = row["last_attempt"].strftime("%Y-%m-%d %H:%M UTC")
    return shown


def _indented(raw: str) -> str:
    try:
        return json.dumps(json.loads(raw), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return raw
