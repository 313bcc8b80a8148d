"""Writes an ablation's tables, page and plots."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.ablation.findings import caveats, code_warnings, sentences
from training.engine.files import TEMPORARY_PREFIX, write_json, write_text
from training.report.compare_document import (
    Cell,
    Document,
    Picture,
    Row,
    Section,
    Table,
    to_markdown,
    to_page,
)
from training.report.compare_plot import Line, Mark, draw
from training.report.naming import METRIC_TITLES, PUBLISHED_NOTE

NONE = "\N{EN DASH}"
"""Stands for an interval that there is not."""


def write_all(result: Mapping[str, Any], to: Path) -> list[Path]:
    """Write ``ablation.json``, ``ablation.md``, ``ablation.html`` and one ``ablation-AXIS.png`` per axis.

    Args:
        result: From `training.ablation.results.collect`.
        to: Folder, which exists.

    Returns:
        The files.
    """
    files = [to / "ablation.json"]
    write_json(files[0], dict(result))
    sections = []
    for number, axis in enumerate(result["axes"]):
        # An axis of a key may hold anything in its name.
        name = axis["name"] if axis["name"].replace("_", "").replace(".", "").isalnum() else f"axis{number}"
        picture = Picture(f"ablation-{name}.png", _plot(axis, result), _alt(axis, result))
        _write_bytes(to / picture.file, picture.png)
        files.append(to / picture.file)
        tables = (_figures(axis, result), _differences(axis))
        sections.append(
            Section(
                axis["title"],
                tuple(table for table in tables if table.rows),
                tuple(sentences(axis)),
                picture,
            )
        )
    document = Document(
        "Ablation",
        (
            f"{len(result['runs'])} runs: {len(result['variants'])} variants, seeds "
            f"{', '.join(map(str, result['seeds']))}",
            f"Evaluated on {result['rows']:,} rows of {result['split']} of {result['data']['out']}",
            *(f"{fact}: {value}" for fact, value in result.get("about", {}).items()),
        ),
        (
            *(f"{name} failed and is left out: {why}" for name, why in result["failures"].items()),
            *code_warnings(result),
        ),
        tuple(sections),
        (*caveats(result), PUBLISHED_NOTE),
    )
    for name, text in (("ablation.md", to_markdown(document)), ("ablation.html", to_page(document))):
        write_text(to / name, text)
        files.append(to / name)
    return files


def percent(value: float, sign: bool = False) -> str:
    """Return a fraction as a percentage with two digits."""
    return f"{100 * value:+.2f}" if sign else f"{100 * value:.2f}"


def _figures(axis: Mapping[str, Any], result: Mapping[str, Any]) -> Table:
    metrics = result["metrics"]
    rows = []
    for row in axis["rows"]:
        found = row["metrics"]
        if found is None:
            rows.append(Row(f"{row['title']} (no run)", tuple(Cell() for _ in metrics)))
        else:
            title = f"{row['title']} (n = {found[metrics[0]]['n']})"
            rows.append(Row(title, tuple(_estimate(found[name]) for name in metrics)))
        if row["published"] is not None:
            cells = tuple(Cell(_published(row["published"].get(name))) for name in metrics)
            rows.append(Row(f"published: {row['published']['name']}", cells, muted=True))
    caption = (
        "Mean over n seeds in percent, with the 95 % interval over seeds; published rows are on DGM4"
        f"{_left_out(axis)}"
    )
    return Table(caption, tuple(METRIC_TITLES[name] for name in metrics), tuple(rows))


def _left_out(axis: Mapping[str, Any]) -> str:
    """Return what is said where rows lack a seed."""
    common = axis["common_seeds"]
    if all(row["n"] in (0, len(common)) for row in axis["rows"]):
        return ""
    if not common:
        return ". No seed is there for all rows: the means are over different seeds, compare the differences"
    return f". Only seeds that all rows have are counted: {', '.join(map(str, common))}"


def _differences(axis: Mapping[str, Any]) -> Table:
    rows, names = [], list(METRIC_TITLES)
    for row in axis["rows"]:
        for against in row["against"]:
            cells = tuple(_change(against["metrics"][name]) for name in names)
            n = against["metrics"][names[0]]["n"]
            rows.append(Row(f"{row['title']} minus {against['title']} (n = {n})", cells))
    caption = (
        "Differences in percentage points; with each its 95 % interval over seeds, then that over evaluated "
        "rows; bold where both exclude 0"
    )
    return Table(caption, tuple(METRIC_TITLES[name] for name in names), tuple(rows))


def _estimate(found: Mapping[str, Any]) -> Cell:
    return Cell(percent(found["mean"]), _interval(found["low"], found["high"], sign=False))


def _change(change: Mapping[str, Any]) -> Cell:
    ends = (_interval(change["low"], change["high"]), _interval(change["rows_low"], change["rows_high"]))
    strong = bool(change["over_seeds"]) and change["over_seeds"] == change["over_rows"]
    return Cell(percent(change["mean"], sign=True), "\n".join(each or NONE for each in ends), strong)


def _interval(low: float | None, high: float | None, sign: bool = True) -> str:
    return "" if low is None or high is None else f"[{percent(low, sign)}, {percent(high, sign)}]"


def _published(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _plot(axis: Mapping[str, Any], result: Mapping[str, Any]) -> bytes:
    lines = []
    for row in axis["rows"]:
        names = result["metrics"] if row["metrics"] is not None else []
        lines.append(Line(row["title"], {name: _mark(name, row, axis, result) for name in names}))
    title = f"{axis['title']}: {result['split']}, {result['rows']:,} rows"
    return draw(title, lines, result["metrics"])


def _mark(name: str, row: Mapping[str, Any], axis: Mapping[str, Any], result: Mapping[str, Any]) -> Mark:
    own = row["metrics"][name]
    runs = [run for run in result["runs"] if run["variant"] == row["variant"]]
    counted = [run for run in runs if run["seed"] in axis["common_seeds"]] or runs
    points = tuple(100 * run[name] for run in counted)
    low, high = own["low"], own["high"]
    return Mark(
        100 * own["mean"], None if low is None else 100 * low, None if high is None else 100 * high, points
    )


def _alt(axis: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    parts = []
    for row in axis["rows"]:
        own: Mapping[str, Any] | None = row["metrics"]
        if own is not None:
            figures = [f"{METRIC_TITLES[name]} {percent(own[name]['mean'])}" for name in result["metrics"]]
            parts.append(f"{row['title']}: {', '.join(figures)}")
    return f"{axis['title']}, percent. {'; '.join(parts)}"


def _write_bytes(path: Path, content: bytes) -> None:
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}"
    temporary.write_bytes(content)
    os.replace(temporary, path)
