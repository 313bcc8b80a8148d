"""The page from end to end: read what the evaluation saved, draw, choose cases, write the file whole."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from training.engine.files import write_text
from training.errors import UsageError
from training.report.page import tables
from training.report.page.cards import gallery
from training.report.page.plots import all_plots
from training.report.page.render import render_page
from training.report.page.saved import Saved, read_saved
from training.report.page.type_intervals import intervals_by_type
from training.report.page.worlds import world_of

PAGE = "report.html"


def write_page(folder: Path, data: Path | None = None, image_root: Path | None = None) -> Path:
    """Write ``report.html`` into an evaluation's folder and return its path.

    Args:
        folder: What ``training/evaluate.py`` wrote.
        data: Folder of the tables, when it is not where the evaluation found it.
        image_root: Folder of the pictures, likewise.

    Raises:
        UsageError: There is no evaluation, or the page cannot be written.
        DataError: What it left, or the tables, cannot be read.
    """
    saved = read_saved(folder, data, image_root)
    page = render_page(context_of(saved))
    path = folder / PAGE
    try:
        write_text(path, page)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}); free the place and try again"
        ) from error
    return path


def context_of(saved: Saved) -> dict[str, Any]:
    """Return what the templates need, JSON-like values and dataclasses."""
    metrics = saved.metrics
    config = metrics["config"]
    checkpoint = Path(metrics["checkpoint"])
    # RUN/checkpoints/step-N, or a folder that was moved out of its run.
    run = checkpoint.parents[1].name if checkpoint.parent.name == "checkpoints" else checkpoint.name
    comparable, sentence = tables.comparison(metrics, world_of(saved))
    groups = gallery(saved)
    spans = intervals_by_type(saved.predictions, saved.clusters(), metrics["intervals"]["draws"])
    return {
        "metrics": metrics,
        "run": run,
        "name": config.get("name", run),
        "data": Path(metrics["data"]).name,
        "evaluated_at": datetime.fromisoformat(metrics["evaluated_at"]),
        "comparable": comparable,
        "comparison": sentence,
        "columns": tables.COLUMNS,
        "main": tables.main_table(metrics, f"{config.get('name', run)} (this model)"),
        "group_columns": tables.GROUP_COLUMNS,
        "groups": tables.group_table(metrics, spans["groups"]),
        "classes": tables.class_table(metrics, spans["classes"]),
        "operating": tables.operating_table(metrics),
        "settings": tables.settings(config),
        "config": tables.flattened(config),
        "plots": all_plots(saved.predictions, metrics),
        "gallery": groups,
        "missing": sum(card.picture.uri is None for _, cards in groups for card in cards),
    }
