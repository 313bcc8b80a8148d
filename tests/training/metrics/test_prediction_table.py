from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from schemas.tables import PREDICTIONS
from schemas.validate import validate
from tests.training.metrics.cases import some
from training.errors import DataError
from training.metrics.prediction_table import prediction_table, write_predictions
from training.metrics.words import words_of

ROWS = 27


def predictions(**changes):
    made = some(ROWS)
    known = {
        "sample_id": np.array([f"s{n}" for n in range(ROWS)]),
        "image_size": np.tile([200.0, 100.0], (ROWS, 1)),
    }
    return replace(made, **(known | changes))


def test_the_file_keeps_the_contract_of_the_table(tmp_path: Path):
    path = tmp_path / "predictions.parquet"
    write_predictions(prediction_table(predictions(), [4] * ROWS), path)
    read = pq.read_table(path)
    assert validate(read, "predictions").num_rows == ROWS
    assert read.schema.metadata[b"table"] == b"predictions"
    assert read.schema.names == PREDICTIONS.names
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "nothing half-written is left"


def test_probabilities_follow_from_the_logits():
    rows = prediction_table(predictions(), [4] * ROWS).to_pylist()
    made = predictions()
    for row, binary, types in zip(rows, made.logits_binary, made.logits_multilabel, strict=True):
        assert row["p_fake"] == pytest.approx(np.exp(binary[1]) / np.exp(binary).sum(), rel=1e-5)
        assert row["p_text_swap"] == pytest.approx(1 / (1 + np.exp(-types[2])), rel=1e-5)


def test_boxes_are_in_pixels_inside_the_picture_and_null_where_there_is_none():
    box = np.tile(np.array([0.5, 0.5, 0.2, 0.4], np.float32), (ROWS, 1))
    box[1] = 0
    box[2] = [0.9, 0.1, 0.4, 0.4]
    box[3] = [1.5, 0.5, 0.2, 0.2]
    box[4] = [0.00001, 0.00001, 0.00001, 0.00001]
    found = prediction_table(predictions(box_pred_cxcywh=box), [4] * ROWS)["box"].to_pylist()
    assert found[0] == pytest.approx([80, 30, 120, 70])
    assert found[2] == pytest.approx([140, 0, 200, 30]), "clipped to the picture"
    assert [found[1], found[3], found[4]] == [None, None, None]


def test_every_word_has_a_score_and_unread_words_have_0():
    made = predictions()
    counts = [6] * ROWS
    rows = prediction_table(made, counts)["word_scores"].to_pylist()
    words = words_of(made.logits_token, made.token_label, made.token_word)
    assert [len(row) for row in rows] == counts
    for row, number, margin in zip(words.row, words.number, words.margin, strict=True):
        assert rows[row][number] == pytest.approx(1 / (1 + np.exp(-margin)), rel=1e-5)
    assert all(row[4:] == [0, 0] for row in rows), "words 4 and 5 have no token"


def test_what_cannot_be_written_is_told():
    with pytest.raises(DataError, match="has a score for word 2 of 2.*evaluate again"):
        prediction_table(predictions(), [2] * ROWS)
    with pytest.raises(DataError, match="no image_size"):
        prediction_table(predictions(image_size=None), [4] * ROWS)
    with pytest.raises(DataError, match="the key stands in an earlier row"):
        prediction_table(predictions(sample_id=np.array(["a"] * ROWS)), [4] * ROWS)


def test_no_rows_make_an_empty_table():
    none = predictions().take(np.zeros(0, dtype=int))
    assert prediction_table(none, []).num_rows == 0
