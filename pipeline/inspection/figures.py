"""Counts of whole tables for the page, by streaming scans: no text is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from pipeline.costs.sums import sum_gates
from schemas import Table, TableError
from schemas.reader import committed
from schemas.vocabulary import FAKE_CLS, SPLITS

TEXT_COLUMNS = {"captions": "caption", "explanations": "explanation"}
"""Generated table to the column that holds its text."""


@dataclass(frozen=True)
class SampleFigures:
    """Samples by class and split.

    Attributes:
        total: All samples.
        pictures: Distinct image paths.
        images: Distinct image contents, each of which gets one caption.
        without_image: Samples whose image was not read.
        with_original: Samples whose original text is known, of ``with_fake_text``.
        with_fake_text: Samples with a text manipulation.
        by: (fake_cls, split) to samples.
    """

    total: int = 0
    pictures: int = 0
    images: int = 0
    without_image: int = 0
    with_original: int = 0
    with_fake_text: int = 0
    by: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def captions_saved(self) -> int:
        """Samples that need no caption of their own, as an equal image has one."""
        return self.total - self.without_image - self.images

    @property
    def splits(self) -> list[str]:
        """Splits that have samples, in the usual order."""
        return [split for split in SPLITS if self.of(split=split)]

    @property
    def classes(self) -> list[str]:
        """Classes that have samples, in the usual order."""
        return [fake_cls for fake_cls in FAKE_CLS if self.of(fake_cls)]

    @property
    def largest(self) -> int:
        """Samples of the largest class."""
        return max((self.of(fake_cls) for fake_cls in FAKE_CLS), default=0)

    def of(self, fake_cls: str | None = None, split: str | None = None) -> int:
        """Return the samples of a class, a split, or both."""
        return sum(
            count
            for (one, other), count in self.by.items()
            if fake_cls in (None, one) and split in (None, other)
        )


@dataclass(frozen=True)
class TextFigures:
    """What stands in a generated table.

    Attributes:
        table: ``captions`` or ``explanations``.
        planned: Keys of the version's plan; the rows when there is no plan.
        rows: Keys with a text.
        failed: Keys in the failures ledger.
        quarantined: Keys whose rows a gate set aside.
        gates: Flag to what the gates noticed and did; see ``pipeline.gates.policy.Judged``.
        flagged: Rows with at least one flag.
        flags: Flag to rows.
        prompts: ``prompt_id`` to rows.
        kinds: Kind of explanation to rows; empty for captions.
        tokens_in: Prompt tokens of all rows.
        tokens_out: Generated tokens of all rows.
        words: Kind of text (the table's name for captions) to {words of a text: rows}.
        tokens: The same of generated tokens.
    """

    table: str
    planned: int
    rows: int
    failed: int
    quarantined: int
    gates: Mapping[str, Mapping[str, int]]
    flagged: int
    flags: Mapping[str, int]
    prompts: Mapping[str, int]
    kinds: Mapping[str, int]
    tokens_in: int
    tokens_out: int
    words: Mapping[str, Mapping[int, int]]
    tokens: Mapping[str, Mapping[int, int]]

    @property
    def waiting(self) -> int:
        """Keys of the plan that nothing was written for yet."""
        return max(0, self.planned - self.rows - self.failed - self.quarantined)


def sample_figures(samples: Table) -> SampleFigures:
    """Count the samples."""
    if not samples.num_rows:
        return SampleFigures()
    lazy = samples.scan()
    fake_text = pl.col("text_swap") | pl.col("text_attribute")
    groups, totals = pl.collect_all(
        [
            lazy.group_by("fake_cls", "split").len(),
            lazy.select(
                pl.len().alias("total"),
                pl.col("image_path").n_unique().alias("pictures"),
                pl.col("image_key").drop_nulls().n_unique().alias("images"),
                pl.col("image_key").null_count().alias("without_image"),
                fake_text.sum().alias("with_fake_text"),
                (fake_text & pl.col("original_text").is_not_null()).sum().alias("with_original"),
            ),
        ],
        engine="streaming",
    )
    by = {(fake_cls, split): count for fake_cls, split, count in groups.iter_rows()}
    return SampleFigures(by=by, **totals.row(0, named=True))


def text_figures(table: Table | None, failed: int) -> TextFigures | None:
    """Count a generated table.

    Args:
        table: ``captions`` or ``explanations``; None gives None.
        failed: Its keys in the failures ledger.
    """
    if table is None:
        return None
    shards, _ = committed(table.version, table.name)
    quarantined = sum(shard.quarantined for shard in shards)
    planned = max(_planned(table), table.num_rows + failed + quarantined)
    lazy = table.scan()
    kind = pl.col("kind") if "kind" in table.schema.names else pl.lit(table.name).alias("kind")
    words = pl.col(TEXT_COLUMNS[table.name]).str.count_matches(r"\S+").alias("words")
    flags, prompts, lengths, tokens, sums = pl.collect_all(
        [
            lazy.select("flags").explode("flags").drop_nulls().group_by("flags").len(),
            lazy.group_by("prompt_id").len(),
            lazy.group_by(kind, words).len(),
            lazy.group_by(kind, pl.col("tokens_out")).len(),
            lazy.select(
                pl.col("tokens_in").cast(pl.Int64).sum(),
                pl.col("tokens_out").cast(pl.Int64).sum(),
                (pl.col("flags").list.len() > 0).sum().alias("flagged"),
            ),
        ],
        engine="streaming",
    )
    by_words, by_tokens = _nested(lengths), _nested(tokens)
    kinds = {} if table.name == "captions" else {name: sum(c.values()) for name, c in by_words.items()}
    return TextFigures(
        table=table.name,
        planned=planned,
        rows=table.num_rows,
        failed=failed,
        quarantined=quarantined,
        gates=sum_gates(marker.stats.get("gates", {}) for shard in shards for marker in shard.markers),
        flags=_counts(flags),
        prompts=_counts(prompts),
        kinds=kinds,
        words=by_words,
        tokens=by_tokens,
        **sums.row(0, named=True),
    )


def count_by(table: Table | None, *columns: str) -> Counter[tuple[Any, ...]]:
    """Return how many rows of a table have each combination of values in ``columns``."""
    found: Counter[tuple[Any, ...]] = Counter()
    if table is not None and table.num_rows:
        for row in table.scan().group_by(*columns).len().collect(engine="streaming").iter_rows():
            found[row[:-1]] = row[-1]
    return found


def _planned(table: Table) -> int:
    try:
        return int(table.info.get("planned") or 0)
    except (TableError, TypeError, ValueError):
        return 0


def _counts(frame: pl.DataFrame) -> dict[str, int]:
    """Return name to count, most frequent first."""
    return dict(sorted(frame.iter_rows(), key=lambda pair: (-pair[1], pair[0])))


def _nested(frame: pl.DataFrame) -> dict[str, dict[int, int]]:
    """Return {kind: {value: rows}} of a frame of (kind, value, rows), sorted."""
    found: dict[str, dict[int, int]] = {}
    for kind, value, rows in sorted(frame.iter_rows()):
        found.setdefault(kind, {})[value] = rows
    return dict(sorted(found.items(), key=lambda item: (item[0] != "manipulation", item[0])))
