"""Several evaluated runs and the published rows in one table and one plot."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import DataError, UsageError
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
from training.report.published import MAIN

SUFFIXES = (".html", ".md", ".png")


@dataclass(frozen=True)
class Evaluated:
    """The figures of a run.

    Attributes:
        name: In tables.
        source: The file that they were read from.
        split: Split they were measured on.
        rows: Rows of it; None where the file does not say.
        figures: Fractions by name.
        intervals: 95 % intervals over the evaluated rows, where the evaluation made some.
        data: Folder of the tables; empty where the file does not say.
    """

    name: str
    source: Path
    split: str
    rows: int | None
    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    data: str


def read_runs(folders: Sequence[Path], names: Sequence[str] = ()) -> list[Evaluated]:
    """Read what evaluations or trainings left.

    Args:
        folders: Of evaluations (``metrics.json`` of ``training/evaluate.py``) or of runs: an evaluation in
            one of a run's folders, test before others, else its last validation.
        names: One per folder; the folders' own names by default.

    Raises:
        UsageError: There are not as many names as folders, or a name stands twice.
        DataError: A folder has no figures, or they are damaged.
    """
    if names and len(names) != len(folders):
        raise UsageError(f"--names has {len(names)} names for {len(folders)} runs; give one each")
    chosen = list(names) or _own_names(folders)
    twice = next((name for name in chosen if chosen.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two runs are called {twice!r}; tell them apart with --names")
    return [_read(folder, name) for folder, name in zip(folders, chosen, strict=True)]


def compare(runs: Sequence[Evaluated], to: Path) -> None:
    """Write the comparison as a page, as Markdown or as a plot alone, by the suffix of ``to``.

    Raises:
        UsageError: The suffix is another, or the file cannot be written.
    """
    if to.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--to {to}: the name ends in {', '.join(SUFFIXES)}")
    metrics = [name for name in METRIC_TITLES if any(name in run.figures for run in runs)]
    lines = [_line(run) for run in runs]
    lines += [
        Line(row.name, {name: Mark(value) for name, value in row.figures.items()}, published=True)
        for row in MAIN
    ]
    png = draw("Runs; hollow: published, on DGM4, comparable with runs on DGM4 only", lines, metrics)
    content = png
    if to.suffix.lower() != ".png":
        document = _document(runs, metrics, Picture("", png, _alt(runs, metrics)))
        content = (to_page if to.suffix.lower() == ".html" else to_markdown)(document).encode()
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        temporary = to.parent / f".tmp-{to.name}"
        temporary.write_bytes(content)
        os.replace(temporary, to)
    except OSError as error:
        raise UsageError(f"--to {to} cannot be written: {error.strerror}") from error


def _document(runs: Sequence[Evaluated], metrics: Sequence[str], picture: Picture) -> Document:
    ours = [Row(run.name, tuple(_cell(run, name) for name in metrics)) for run in runs]
    theirs = [
        Row(f"published: {row.name}", tuple(_published(row.figures, name) for name in metrics), muted=True)
        for row in MAIN
    ]
    columns = tuple(METRIC_TITLES[name] for name in metrics)
    caption = "Percent; below a figure its 95 % interval over the evaluated rows, where there is one"
    return Document(
        "Comparison of runs",
        tuple(_fact(run) for run in runs),
        _warnings(runs),
        (Section("Figures", (Table(caption, columns, (*ours, *theirs)),), (), picture),),
        (PUBLISHED_NOTE,),
    )


def _warnings(runs: Sequence[Evaluated]) -> tuple[str, ...]:
    measured = {(run.data, run.split, run.rows) for run in runs}
    if len(measured) < 2:
        return ()
    return ("The runs were not measured on the same rows: their figures cannot be compared with each other.",)


def _fact(run: Evaluated) -> str:
    rows = "" if run.rows is None else f"{run.rows:,} rows of "
    data = f" of {run.data}" if run.data else ""
    return f"{run.name}: {rows}{run.split}{data} ({run.source})"


def _line(run: Evaluated) -> Line:
    marks = {}
    for name, value in run.figures.items():
        low, high = run.intervals.get(name, (None, None))
        marks[name] = Mark(
            100 * value, None if low is None else 100 * low, None if high is None else 100 * high
        )
    return Line(run.name, marks)


def _cell(run: Evaluated, name: str) -> Cell:
    if name not in run.figures:
        return Cell()
    ends = run.intervals.get(name)
    detail = "" if ends is None else f"[{100 * ends[0]:.2f}, {100 * ends[1]:.2f}]"
    return Cell(f"{100 * run.figures[name]:.2f}", detail)


def _published(figures: Mapping[str, float], name: str) -> Cell:
    return Cell(f"{figures[name]:.2f}") if name in figures else Cell()


def _alt(runs: Sequence[Evaluated], metrics: Sequence[str]) -> str:
    rows = (
        f"{run.name}: "
        + ", ".join(
            f"{METRIC_TITLES[name]} {_cell(run, name).text}" for name in metrics if name in run.figures
        )
        for run in runs
    )
    return f"Figures of the runs in percent. {'; '.join(rows)}"


def _own_names(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    # Evaluations are often all called test.
    return [f"{folder.resolve().parent.name}/{folder.resolve().name}" for folder in folders]


def _read(folder: Path, name: str) -> Evaluated:
    evaluations = [
        path for path in sorted(folder.glob("*/metrics.json")) if path.parent.name != "checkpoints"
    ]
    evaluations.sort(key=lambda path: path.parent.name != "test")
    own = folder / "metrics.json"
    # A run's own metrics.json is its last validation; an evaluation's own says which split it is of.
    found = _json(own) if own.is_file() else None
    if found is not None and "split" in found:
        return _evaluated(found, own, name)
    for path in evaluations:
        inner = _json(path)
        if "split" in inner:
            return _evaluated(inner, path, name)
    if found is None:
        raise DataError(
            f"{folder}: no metrics.json here or in a folder of it; evaluate the run first: "
            f"training/evaluate.py --checkpoint {folder} --data OUT --split test --to {folder / 'test'}"
        )
    return _evaluated(found | {"split": "its last validation"}, own, name)


def _evaluated(found: Mapping[str, Any], path: Path, name: str) -> Evaluated:
    figures = {
        metric: float(found[metric])
        for metric in METRIC_TITLES
        if isinstance(found.get(metric), int | float) and not isinstance(found[metric], bool)
    }
    if not figures:
        raise DataError(f"{path} has none of {', '.join(METRIC_TITLES)}; evaluate again")
    intervals = {}
    made = found.get("intervals")
    ends = made.get("figures", {}) if isinstance(made, Mapping) else {}
    for metric, each in ends.items():
        if isinstance(each, Mapping) and each.get("low") is not None and each.get("high") is not None:
            intervals[metric] = (float(each["low"]), float(each["high"]))
    rows = found.get("rows")
    return Evaluated(
        name,
        path,
        str(found["split"]),
        rows if isinstance(rows, int) else None,
        figures,
        intervals,
        str(found.get("data", "")),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; evaluate the run again") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no JSON object; evaluate the run again")
    return found
