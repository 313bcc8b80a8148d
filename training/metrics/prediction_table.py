"""The predictions table: what a model said about each sample, in the columns of `schemas.tables`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.tables import schema_of
from schemas.validate import SchemaError, validate
from schemas.vocabulary import MANIPULATION_TYPES
from training.data.files import placed
from training.errors import DataError
from training.metrics.boxes import NEARLY_ZERO, corners
from training.metrics.calibration import p_fake, sigmoid
from training.metrics.predictions import Predictions
from training.metrics.words import words_of

TABLE = "predictions"


def prediction_table(predictions: Predictions, words: Sequence[int] | NDArray[np.integer]) -> pa.Table:
    """Return the rows of the ``predictions`` table, in the order of the predictions.

    ``box`` is xyxy in pixels of the upright picture, inside it, and null where none is predicted.
    ``word_scores`` has one probability per word of ``samples.words``; a word is called manipulated above 0.5.
    Words beyond what the model reads (``data.max_words``, ``data.max_tokens``) have 0.

    Args:
        predictions: N rows with ``sample_id``, ``token_word`` and ``image_size``.
        words: (N,) number of words of each sample's text.

    Raises:
        DataError: An optional array is missing, or the rows do not keep the table's contract.
    """
    for name in ("sample_id", "token_word", "image_size"):
        if getattr(predictions, name) is None:
            raise DataError(f"the predictions have no {name}; python training/evaluate.py writes it")
    types = sigmoid(predictions.logits_multilabel).astype(np.float32)
    columns: dict[str, pa.Array] = {
        "sample_id": pa.array(predictions.sample_id.tolist(), pa.string()),  # type: ignore[union-attr]
        "p_fake": pa.array(p_fake(predictions)),
        **{f"p_{name}": pa.array(types[:, k]) for k, name in enumerate(MANIPULATION_TYPES)},
        "box": _boxes(predictions),
        "word_scores": _word_scores(predictions, np.asarray(words, dtype=np.int64)),
    }
    try:
        return validate(pa.table(columns), TABLE)
    except SchemaError as error:
        raise DataError(str(error)) from error


def write_predictions(table: pa.Table, path: Path) -> None:
    """Write the table as one Parquet file, replacing what stood there in one step."""
    with placed(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def pixel_boxes(predictions: Predictions) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Return (N, 4) predicted boxes, xyxy in pixels inside the picture, and (N,) whether there is one.

    Corners that are all under 1e-4 of the picture mean "no box", as in the published protocol.
    """
    assert predictions.image_size is not None
    share = corners(predictions.box_pred_cxcywh.astype(np.float32))
    size = np.tile(predictions.image_size.astype(np.float32), 2)
    inside = np.clip(share, 0, 1) * size
    covering = (inside[:, 2:] > inside[:, :2]).all(axis=1)
    return inside, np.asarray(covering & ~(share < NEARLY_ZERO).all(axis=1))


def _boxes(predictions: Predictions) -> pa.Array:
    boxes, there = pixel_boxes(predictions)
    kind = schema_of(TABLE).field("box").type
    return pa.FixedSizeListArray.from_arrays(
        pa.array(boxes.ravel(), pa.float32()), type=kind, mask=pa.array(~there)
    )


def _word_scores(predictions: Predictions, words: NDArray[np.int64]) -> pa.Array:
    assert predictions.token_word is not None
    found = words_of(predictions.logits_token, predictions.token_label, predictions.token_word)
    beyond = np.flatnonzero(found.number >= words[found.row])
    if len(beyond):
        row = int(found.row[beyond[0]])
        raise DataError(
            f"row {row} has a score for word {int(found.number[beyond[0]])} of {int(words[row])}; "
            "these predictions were made for other texts, evaluate again"
        )
    offsets = np.concatenate([[0], np.cumsum(words)])
    scores = np.zeros(int(offsets[-1]), dtype=np.float32)
    scores[offsets[found.row] + found.number] = sigmoid(found.margin)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(scores, pa.float32()))
