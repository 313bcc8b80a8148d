"""The page from end to end: open the tables, choose samples, count, draw, write the file whole."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.inspection import figures, ledger, provenance, sampling
from pipeline.inspection.cards import Card, Written, make_card, written
from pipeline.inspection.charts import Histogram, histogram
from pipeline.inspection.page import render_page
from pipeline.inspection.pictures import load_all
from pipeline.shards import atomic
from schemas import NoSuchTable, Table, TableError, open_table

log = logging.getLogger(__name__)

DEFAULT_LIMIT = 200


@dataclass(frozen=True)
class Options:
    """What the page is made of.

    Attributes:
        out: Output folder of a run.
        to: The HTML file to write.
        limit: Most samples on the page; each takes up to about 35 kB.
        split: Show only samples of this split; figures are of the whole tables.
        seed: Another seed shows other samples.
        image_root: Folder of the images, when they were moved since ingest.
    """

    out: Path
    to: Path
    limit: int = DEFAULT_LIMIT
    split: str | None = None
    seed: int = 0
    image_root: Path | None = None


@dataclass(frozen=True)
class _Tables:
    samples: Table
    captions: Table | None
    explanations: Table | None
    failures: Table | None
    quarantine: Table | None
    set_aside: tuple[Table, ...] = ()


def write_page(options: Options) -> dict[str, Any]:
    """Write the page and return what is on it, for ``--json``.

    Raises:
        UsageError: There is no ``samples`` table, or the file cannot be written there.
    """
    _check(options)
    tables = _open(options.out)
    noticed = sampling.find_noticed(
        tables.captions, tables.explanations, tables.failures, options.seed, tables.set_aside
    )
    selection = sampling.choose(
        tables.samples, noticed, limit=options.limit, seed=options.seed, split=options.split
    )
    root = options.image_root or _image_root(tables.samples)
    cards = _cards(tables, selection, root)
    texts = _text_figures(tables)
    context = {
        "name": options.out.resolve().name,
        "split": options.split,
        "seed": options.seed,
        "selection": selection,
        "samples": figures.sample_figures(tables.samples),
        "texts": texts,
        "captions": next((text for text in texts if text.table == "captions"), None),
        "explanations": next((text for text in texts if text.table == "explanations"), None),
        "charts": _charts(texts),
        "chart_columns": sum(len(text.words) for text in texts),
        "cards": cards,
        "missing": sum(card.picture.uri is None for card in cards),
        "image_root": None if root is None else str(root),
        "failures": ledger.failure_groups(tables.failures, options.seed),
        "rejections": ledger.rejections(tables.quarantine, options.seed),
        "provenance": provenance.provenance((tables.samples, tables.captions, tables.explanations)),
        "prompts": [use for text in texts for use in provenance.prompt_uses(text.table, dict(text.prompts))],
        "written_at": datetime.now(UTC),
    }
    page = render_page(context)
    try:
        atomic.write_bytes(options.to, page)
    except OSError as error:
        raise UsageError(f"--to {options.to}: cannot be written ({error}); name another place") from error
    return _summary(options, context, len(page))


def _check(options: Options) -> None:
    if options.to.is_dir():
        raise UsageError(f"--to {options.to}: is a folder; give a file name inside it, e.g. report.html")
    if not options.to.parent.is_dir():
        raise UsageError(f"--to {options.to}: the folder {options.to.parent} does not exist; make it first")
    if options.image_root is not None and not options.image_root.is_dir():
        raise UsageError(f"--image-root {options.image_root}: there is no such folder")


def _open(out: Path) -> _Tables:
    try:
        samples = open_table(out, "samples")
    except NoSuchTable as error:
        raise UsageError(f"{error}. Run `python -m pipeline ingest --data DIR --out {out}` first") from error
    captions, explanations = _optional(out, "captions"), _optional(out, "explanations")
    written = [table.name for table in (captions, explanations) if table is not None]
    set_aside = tuple(open_table(out, name, part="quarantined") for name in written)
    return _Tables(
        samples, captions, explanations, _optional(out, "failures"), _optional(out, "quarantine"), set_aside
    )


def _optional(out: Path, name: str) -> Table | None:
    try:
        return open_table(out, name)
    except NoSuchTable:
        return None


def _image_root(samples: Table) -> Path | None:
    try:
        root = samples.info.get("image_root")
    except TableError:
        return None
    return Path(root) if isinstance(root, str) and root else None


def _cards(tables: _Tables, selection: sampling.Selection, root: Path | None) -> list[Card]:
    found = {
        row["sample_id"]: row for row in sampling.fetch(tables.samples, "sample_id", list(selection.ids))
    }
    rows = [found[sample_id] for sample_id in selection.ids]
    image_keys = [row["image_key"] for row in rows]
    captions = _texts(tables, tables.captions, image_keys)
    explanations = _texts(tables, tables.explanations, list(selection.ids))
    pictures = load_all(root, (row["image_path"] for row in rows))
    return [
        make_card(number, row, pictures, caption, explanation)
        for number, (row, caption, explanation) in enumerate(
            zip(rows, captions, explanations, strict=True), 1
        )
    ]


def _texts(tables: _Tables, table: Table | None, keys: list[str | None]) -> list[Written | None]:
    """Return what became of each key, in order; Nones when the table does not exist."""
    if table is None:
        return [None] * len(keys)
    wanted = [key for key in keys if key is not None]
    column = "image_key" if table.name == "captions" else "sample_id"
    rows = {row[column]: row for row in sampling.fetch(table, column, wanted)}
    failed, set_aside = {}, {}
    if tables.failures is not None:
        failed = {
            row["key"]: row
            for row in sampling.fetch(tables.failures, "key", wanted)
            if row["stage"] == table.name
        }
    for part in tables.set_aside:
        if part.name == table.name:
            set_aside = {row[column]: row for row in sampling.fetch(part, column, wanted)}
    text = figures.TEXT_COLUMNS[table.name]
    return [
        written(table.name, text, rows.get(key or ""), failed.get(key or ""), set_aside.get(key or ""))
        for key in keys
    ]


def _text_figures(tables: _Tables) -> list[figures.TextFigures]:
    failed = figures.count_by(tables.failures, "stage")
    found = (
        figures.text_figures(table, failed[(name,)])
        for name, table in (("captions", tables.captions), ("explanations", tables.explanations))
    )
    return [item for item in found if item is not None]


def _charts(texts: list[figures.TextFigures]) -> list[Histogram]:
    """Return the histograms of words of each kind of text, then those of its tokens: two rows of one grid."""
    names = {"captions": "Captions", "manipulation": "Manipulations", "description": "Descriptions"}
    words = [(kind, "word", counts) for text in texts for kind, counts in text.words.items()]
    tokens = [(kind, "token", counts) for text in texts for kind, counts in text.tokens.items()]
    charts = (
        histogram(f"{names.get(kind, kind)}: {unit}s", unit, counts) for kind, unit, counts in words + tokens
    )
    return [chart for chart in charts if chart is not None]


def _summary(options: Options, context: dict[str, Any], size: int) -> dict[str, Any]:
    texts = {text.table: text for text in context["texts"]}
    tables = ("captions", "explanations")
    return {
        "to": str(options.to),
        "bytes": size,
        "split": options.split,
        "seed": options.seed,
        "shown": len(context["cards"]),
        "available": context["selection"].available,
        "shown_for_flags_or_failures": context["selection"].noticed,
        "pictures_missing": context["missing"],
        "samples": context["samples"].total,
        **{name: texts[name].rows if name in texts else 0 for name in tables},
        "flagged": {name: dict(texts[name].flags) if name in texts else {} for name in tables},
        "set_aside": {name: texts[name].quarantined if name in texts else 0 for name in tables},
        "failures": sum(group.count for group in context["failures"]),
        "quarantined": sum(group.count for group in context["rejections"]),
        "quarantined_by_reason": {group.reason: group.count for group in context["rejections"]},
    }
