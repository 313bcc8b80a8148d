"""The model card of an exported model, filled from its run."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from schemas import open_table
from training.inference.provenance import objective, towers_licence
from training.inference.source import Source

_FIGURES = {
    "auc": "AUC",
    "acc": "accuracy",
    "map": "mAP over the four types",
    "word_f1": "F1 of manipulated words",
    "tok_f1": "F1 of manipulated tokens (published protocol)",
    "iou_mean": "mean IoU, all rows (published protocol)",
    "iou_face_mean": "mean IoU, face-edited rows",
}


def model_card(source: Source, described: dict[str, Any], parameters: int) -> str:
    """Return the card as Markdown.

    Args:
        source: What is exported; tables, logs and evaluations of its run are read where they still are.
        described: What goes into ``config.json``.
        parameters: Number of weights.
    """
    if source.exported and (source.folder / "README.md").is_file():
        # The run is not there any more; its card still says what it was.
        return (source.folder / "README.md").read_text(encoding="utf-8")
    run = _run_of(source.folder)
    data = source.config.data
    environment = Environment(
        loader=PackageLoader("training.inference", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("card.md.jinja").render(
        name=source.config.name,
        checkpoint=source.folder.name,
        trained=_trained(source.folder, run),
        commit=_commit(),
        parameters=parameters,
        towers=described["towers_source"],
        licence=towers_licence(source.config.model.towers, source.config.model.pretrained),
        objective=objective(source.config.loss),
        described=described,
        table=None if data.out is None else data.out.name,
        train_splits=data.train_splits,
        limit=data.limit,
        rows=_rows(data.out),
        figures=list(_evaluations(source.folder, run)),
        config=yaml.safe_dump(_public(source), sort_keys=False, allow_unicode=True).strip(),
    )


def _run_of(checkpoint: Path) -> Path | None:
    run = checkpoint.resolve().parent.parent
    return run if (run / "config.yaml").is_file() else None


def _trained(checkpoint: Path, run: Path | None) -> str:
    """Return the day of the checkpoint, from the log's clock where it is there, else from the file's."""
    when = (checkpoint / "state.json").stat().st_mtime
    step = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))["step"]
    log = None if run is None else run / "log.jsonl"
    if log is not None and log.is_file():
        for line in log.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
                if record["step"] <= step:
                    when = float(record["time"])
            except (ValueError, KeyError, TypeError):
                continue  # a killed run leaves half a line, and not every record has a clock
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d}, step {step:,}"


def _rows(out: Path | None) -> dict[str, int]:
    """Return the rows of each split, where the tables are still there."""
    if out is None or not out.is_dir():
        return {}
    try:
        counts: dict[str, int] = {}
        for batch in open_table(out, "samples").batches(["split"]):
            for entry in batch.column("split").value_counts().to_pylist():
                counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    except Exception:  # the card must not fail because the tables have changed since
        return {}
    return counts


def _evaluations(checkpoint: Path, run: Path | None) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield a heading and the figures, in percent, of each evaluation of this checkpoint."""
    found = [("validation, at this step", checkpoint / "metrics.json")]
    if run is not None:
        found += [("", file) for file in sorted(run.glob("*/metrics.json"))]
    for heading, file in found:
        try:
            metrics = json.loads(file.read_text(encoding="utf-8"))
            if not heading:
                if Path(metrics["checkpoint"]).name != checkpoint.name:
                    continue
                heading = f"split {metrics['split']}"
            if "rows" in metrics:
                heading += f", {metrics['rows']:,} rows"
            yield (
                heading,
                {label: 100 * float(metrics[key]) for key, label in _FIGURES.items() if key in metrics},
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no such evaluation, or a file of something else


def _commit() -> str | None:
    """Return the commit of the code that exports, where this is a checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return found if re.fullmatch(r"[0-9a-f]{12}", found) else None


def _public(source: Source) -> dict[str, Any]:
    """Return the configuration without the folders of the machine that trained."""
    tree = source.config.model_dump(mode="json")
    for name in ("out", "image_root", "rows_cache", "image_cache"):
        tree["data"].pop(name)
    for name in ("towers", "pretrained"):
        tree["model"].pop(name)
    return tree
