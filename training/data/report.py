"""What joined rows hold and what they lack, as one line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class RowsReport:
    """Counts over joined rows.

    Attributes:
        splits: Splits the rows come from.
        rows: Number of rows.
        captions: Rows with a caption that counts.
        explanations: Rows with an explanation that counts.
        caption_flags: Rows per flag of their caption, whether it counts or not.
        explanation_flags: The same of explanations.
        by_class: Rows per ``fake_cls``.
        missing_tables: Generated tables that do not exist.
    """

    splits: tuple[str, ...]
    rows: int
    captions: int
    explanations: int
    caption_flags: dict[str, int]
    explanation_flags: dict[str, int]
    by_class: dict[str, int]
    missing_tables: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{'+'.join(self.splits)}: {self.rows:,} rows"]
        for name, table, count, flags in (
            ("caption", "captions", self.captions, self.caption_flags),
            ("explanation", "explanations", self.explanations, self.explanation_flags),
        ):
            if table in self.missing_tables:
                parts.append(f"NO {table} table: every {name} is masked")
            else:
                parts.append(
                    f"{count:,} with and {self.rows - count:,} without {name}{_counts(flags, 'flagged ')}"
                )
        return "; ".join(parts) + _counts(self.by_class)


def count_rows(table: pa.Table, splits: tuple[str, ...], missing_tables: tuple[str, ...]) -> RowsReport:
    """Count joined rows.

    Args:
        table: The rows.
        splits: Splits they come from.
        missing_tables: Generated tables that do not exist.
    """
    return RowsReport(
        splits=splits,
        rows=table.num_rows,
        captions=table.num_rows - table.column("caption").null_count,
        explanations=table.num_rows - table.column("explanation").null_count,
        caption_flags=_frequencies(pc.list_flatten(table.column("caption_flags"))),
        explanation_flags=_frequencies(pc.list_flatten(table.column("explanation_flags"))),
        by_class=_frequencies(table.column("fake_cls")),
        missing_tables=missing_tables,
    )


def _frequencies(values: pa.ChunkedArray) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for entry in pc.value_counts(values).to_pylist():
        counted[entry["values"]] += entry["counts"]
    return dict(sorted(counted.items()))


def _counts(counts: dict[str, int], label: str = "") -> str:
    if not counts:
        return ""
    return f" ({label}{', '.join(f'{name} {count:,}' for name, count in counts.items())})"
