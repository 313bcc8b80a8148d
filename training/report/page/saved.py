"""What an evaluation left, read back for the page: figures, predictions, and the samples they are about."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from schemas import TableError, open_table
from training.errors import DataError, UsageError
from training.metrics import Predictions
from training.metrics.bootstrap import Ints, cluster_index
from training.metrics.reading import load

_COLUMNS = [
    "sample_id", "image_path", "width", "height", "words", "fake_cls", "fake_image_box", "fake_text_pos",
]  # fmt: skip


@dataclass(frozen=True)
class Saved:
    """An evaluation.

    Attributes:
        folder: Where it was written.
        metrics: What ``metrics.json`` holds.
        predictions: What ``predictions.npz`` holds.
        data: Folder of the tables.
        image_root: Folder that image paths start at.
    """

    folder: Path
    metrics: dict[str, Any]
    predictions: Predictions
    data: Path
    image_root: Path

    def samples(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """Return rows of ``samples`` by ``sample_id``.

        Raises:
            DataError: The table cannot be read, or lacks one of them.
        """
        found: dict[str, dict[str, Any]] = {}
        wanted = set(names)
        try:
            table = open_table(self.data, "samples")
            for batch in table.batches(_COLUMNS, split=self.metrics["split"]):
                mask = pc.is_in(batch["sample_id"], value_set=_strings(names))
                for row in batch.filter(mask).to_pylist():
                    found[row["sample_id"]] = row
        except TableError as error:
            raise DataError(str(error)) from None
        missing = sorted(wanted - found.keys())
        if missing:
            raise DataError(
                f"{self.data}: the samples table has no {missing[0]} (and {len(missing) - 1} more); "
                "it was ingested anew since the evaluation, evaluate again"
            )
        return found

    def clusters(self) -> Ints:
        """Return (N,) int64 numbers of the source items, of which rows are drawn together.

        Raises:
            DataError: The table cannot be read.
        """
        assert self.predictions.sample_id is not None
        found: dict[str, int | None] = {}
        try:
            table = open_table(self.data, "samples")
            for batch in table.batches(["sample_id", "source_id"], split=self.metrics["split"]):
                found |= zip(batch["sample_id"].to_pylist(), batch["source_id"].to_pylist(), strict=True)
        except TableError as error:
            raise DataError(str(error)) from None
        return cluster_index([found.get(name) for name in self.predictions.sample_id.tolist()])


def read_saved(folder: Path, data: Path | None = None, image_root: Path | None = None) -> Saved:
    """Read an evaluation.

    Args:
        folder: What ``training/evaluate.py`` wrote.
        data: Folder of the tables; the one evaluated by default.
        image_root: Folder that image paths start at; the evaluation's, else the one ingest noted, by default.

    Raises:
        UsageError: There is no evaluation.
        DataError: A file is damaged, or the tables cannot be read.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        raise UsageError(f"{path} is not there; run python training/evaluate.py --to {folder} first")
    try:
        metrics = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}); evaluate again") from None
    lacking = [name for name in ("data", "split", "calibration", "intervals") if name not in metrics]
    if lacking:
        raise DataError(f"{path} has no {', '.join(lacking)}; it is of another version, evaluate again")
    predictions, _ = load(folder / "predictions.npz")
    if predictions.sample_id is None or len(predictions) != metrics["rows"]:
        raise DataError(
            f"{folder}: predictions.npz ({len(predictions):,} rows) and metrics.json ({metrics['rows']:,}) "
            "are not of one evaluation; evaluate again"
        )
    out = data or Path(metrics["data"])
    try:
        noted = open_table(out, "samples").info["image_root"]
    except TableError as error:
        raise DataError(f"{error}; name the tables' folder with --data") from None
    return Saved(folder, metrics, predictions, out, Path(image_root or metrics.get("image_root") or noted))


def _strings(names: list[str]) -> Any:
    import pyarrow as pa

    return pa.array(names, pa.string())
