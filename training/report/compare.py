"""Several evaluated runs and the published rows in one table and one plot."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.errors import UsageError
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
from training.report.compare_runs import Evaluated, same_rows
from training.report.naming import METRIC_TITLES, PUBLISHED_NOTE
from training.report.published import MAIN, PublishedRow

SUFFIXES = (".html", ".md", ".png")


def compare(runs: Sequence[Evaluated], to: Path) -> None:
    """Write the comparison as a page, as Markdown or as a plot alone, by the suffix of ``to``.

    Raises:
        UsageError: The suffix is another, or the file cannot be written.
    """
    if to.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--to {to}: the name ends in {', '.join(SUFFIXES)}")
    metrics = _metrics(runs)
    lines = [_line(run) for run in runs]
    lines += [
        Line(
            f"{row.name} ({row.source})",
            {name: Mark(value) for name, value in row.figures.items()},
            published=True,
        )
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


def as_markdown(runs: Sequence[Evaluated]) -> str:
    """Return the comparison as Markdown, without the plot."""
    metrics = _metrics(runs)
    return to_markdown(_document(runs, metrics, Picture("", b"", "")))


def _metrics(runs: Sequence[Evaluated]) -> list[str]:
    return [name for name in METRIC_TITLES if any(name in run.figures for run in runs)]


def _document(runs: Sequence[Evaluated], metrics: Sequence[str], picture: Picture) -> Document:
    ours = [Row(run.name, tuple(_cell(run, name) for name in metrics)) for run in runs]
    theirs = [
        Row(_named(row), tuple(_published(row.figures, name) for name in metrics), muted=True) for row in MAIN
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


def _named(row: PublishedRow) -> str:
    return f"published: {row.name} ({row.source})"


def _warnings(runs: Sequence[Evaluated]) -> tuple[str, ...]:
    if all(same_rows(runs[0], run) for run in runs[1:]):
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
