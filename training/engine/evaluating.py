"""Evaluating a checkpoint on a split: model and rows to predictions, figures and the report's page."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from tqdm import tqdm

from schemas import open_table
from training.config import Config
from training.data.batch import Batch
from training.data.left_out import describe, total_counts
from training.data.loader import BatchLoader, eval_loader
from training.data.rows import Rows
from training.data.sampler import EvalBatches
from training.data.tokens import WordTokenizer
from training.distributed import rank, world_size
from training.engine.assembly import open_rows
from training.engine.checkpoint import TrainState, load_checkpoint, pointed
from training.engine.evaluation import box_threshold, predict
from training.engine.files import write_json
from training.engine.processes import make_accelerator
from training.errors import UsageError
from training.metrics import Predictions
from training.metrics.bootstrap import cluster_index
from training.metrics.deep import evaluate_deeply
from training.metrics.prediction_table import prediction_table, write_predictions
from training.model import build_model

log = logging.getLogger(__name__)

DRAWS = 1000


def evaluate_checkpoint(
    checkpoint: Path,
    out: Path,
    split: str,
    to: Path,
    *,
    draws: int = DRAWS,
    limit: int | None = None,
    image_root: Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Evaluate a checkpoint and write ``predictions.npz``, ``predictions.parquet`` and ``metrics.json``.

    Every process of a launch calls it and reads its part of the rows; rank 0 writes.

    Args:
        checkpoint: A checkpoint's folder, or a run's: its best checkpoint, else its last.
        out: Folder of the tables.
        split: Split to evaluate.
        to: Folder to write; made when it is not there.
        draws: Resamples for the intervals; 0 for none.
        limit: Most rows, those with the smallest ``sample_id``; all by default, whatever the run was trained
            with.
        image_root: Folder that image paths start at; the one ingest noted by default.
        progress: Show a bar on standard error.

    Returns:
        What ``metrics.json`` holds, on rank 0; an empty mapping on the others.

    Raises:
        UsageError: There is no such checkpoint, or the folder cannot be written (no space left, for one).
        DataError: It is damaged, or there are no rows.
    """
    folder = checkpoint_folder(checkpoint)
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--to {to}: cannot be made ({error.strerror}); name another folder") from error
    state = load_checkpoint(folder)
    config = _config(state, out, limit, image_root)
    accelerator = make_accelerator(config)
    rows = open_rows(config, (split,), to, accelerator)
    predictions, counts = _predictions(state, config, rows, accelerator, progress)
    if predictions is None:
        return {}
    table = rows.table.select(["sample_id", "words"])
    predictions = replace(predictions, sample_id=np.array(table["sample_id"].to_pylist()))
    words = [len(own) for own in table["words"].to_pylist()]
    with writing(to):
        write_predictions(prediction_table(predictions, words), to / "predictions.parquet")
        predictions.save(to / "predictions.npz")
    clusters = cluster_index(source_ids(out, split, predictions))
    described = {
        **_provenance(folder, state, out, split, limit, image_root),
        **evaluate_deeply(predictions, clusters, draws),
        "left_out": counts,
    }
    described["notes"] += left_out_notes(counts)
    with writing(to):
        write_json(to / "metrics.json", described)
    return described


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn the system's refusal to write under the folder of ``--to`` into one sentence."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"--to {folder}: cannot be written ({error}); make room there, or name another folder"
        ) from error


def left_out_notes(counts: Mapping[str, int]) -> list[str]:
    """Return what ``notes`` says about `training.data.left_out.total_counts` of an evaluation."""
    line = describe(counts)
    notes = [f"left out: {line}"] if line else []
    if marked := counts["marked_words_dropped"]:
        notes.append(
            f"the word and token figures leave out {marked:,} manipulated words that were not read: "
            "they are not counted as missed"
        )
    return notes


def checkpoint_folder(given: Path) -> Path:
    """Return the checkpoint that a path means: itself, or a run's best, else its last.

    Raises:
        UsageError: It is neither.
    """
    if (given / "state.json").is_file():
        return given
    found = pointed(given, "best") or pointed(given, "last")
    if found is None:
        raise UsageError(f"{given}: neither a checkpoint nor a run with checkpoints")
    return found


def source_ids(out: Path, split: str, predictions: Predictions) -> list[int | None]:
    """Return (N,) the data set's own id of each row, None for a sample that the table does not hold."""
    assert predictions.sample_id is not None
    known: dict[str, int | None] = {}
    for batch in open_table(out, "samples").batches(["sample_id", "source_id"], split=split):
        known |= zip(batch["sample_id"].to_pylist(), batch["source_id"].to_pylist(), strict=True)
    return [known.get(name) for name in predictions.sample_id.tolist()]


def _config(state: TrainState, out: Path, limit: int | None, image_root: Path | None) -> Config:
    tree = state.counters.config
    data = {
        "out": out.expanduser().resolve(),
        "image_root": image_root,
        "rows_cache": None,
        "image_cache": None,
        "limit": limit,
    }
    return Config.model_validate({**tree, "data": {**tree["data"], **data}})


def _predictions(
    state: TrainState, config: Config, rows: Rows, accelerator: Accelerator, progress: bool
) -> tuple[Predictions | None, dict[str, int]]:
    """Return the predictions of all rows on rank 0 (None elsewhere), and what all ranks left out."""
    model = build_model(config, weights=False)
    model.load_state_dict(dict(state.model))
    tokenizer = WordTokenizer(config.model.towers, config.data.max_tokens)
    loader = eval_loader(
        rows,
        tokenizer,
        config,
        world=world_size(),
        rank=rank(),
        pin_memory=accelerator.device.type == "cuda",
    )
    shown = _Shown(loader, progress and rank() == 0)
    threshold = box_threshold(config)
    found, _ = predict(model.to(accelerator.device), shown, accelerator, box_threshold=threshold)
    return found, total_counts(loader.dataset, accelerator.device)


class _Shown:
    """Batches with a bar of this process's rows."""

    def __init__(self, loader: BatchLoader, visible: bool) -> None:
        self._loader = loader
        self._visible = visible

    def __iter__(self) -> Iterator[Batch]:
        batches = self._loader.batches
        assert isinstance(batches, EvalBatches)
        rows = batches.stop - batches.first
        hidden = not self._visible
        with tqdm(total=rows, unit="row", desc="evaluating", file=sys.stderr, disable=hidden) as bar:
            for batch in self._loader:
                yield batch
                bar.update(len(batch))


def _provenance(
    folder: Path, state: TrainState, out: Path, split: str, limit: int | None, image_root: Path | None
) -> dict[str, Any]:
    return {
        "checkpoint": str(folder),
        "step": state.counters.step,
        "data": str(out),
        "image_root": None if image_root is None else str(image_root),
        "split": split,
        "limit": limit,
        "processes": world_size(),
        "evaluated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": state.counters.config,
    }
