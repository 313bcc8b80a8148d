"""The checks of ``rows`` over many rows at once.

Every test here is a sufficient one: a row that passes is valid as it stands. The others, usually few, go
through ``rows.check_row`` one by one, which knows the codes, the messages and the repairs. So the two can
only disagree about speed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.rows import FIELDS, Rejected, Row, check_row, unusable
from schemas.tables import SAMPLES
from schemas.vocabulary import FAKE_CLS, face_manipulated, text_manipulated

KEY_BYTES = 16

CHECKED = pa.schema(
    [
        pa.field("source_row", pa.int64()),
        pa.field("key", pa.binary(KEY_BYTES)),
        pa.field("source_id", pa.int64()),
        pa.field("image", pa.string()),
        pa.field("text", pa.string()),
        pa.field("fake_cls", pa.int8()),
        pa.field("fake_image_box", SAMPLES.field("fake_image_box").type),
        pa.field("fake_text_pos", SAMPLES.field("fake_text_pos").type),
        pa.field("clamped", pa.bool_()),
    ]
)
"""Rows that passed; ``key`` is the sample_id as bytes, ``fake_cls`` an index into ``FAKE_CLS``."""

FACE_FAKE = np.array([face_manipulated(name) for name in FAKE_CLS])
TEXT_FAKE = np.array([text_manipulated(name) for name in FAKE_CLS])

Defect = tuple[int, str, str]
"""Source row, code, message."""

# Anything that matches may still be fine once normalised (a//b), which is for check_row to say.
_ODD_PATH = r"^[^!-~]*$|^/|^[A-Za-z]:|//|/$|\\|(^|/)\.\.?(/|$)"
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_CLASS_INDEX = {name: i for i, name in enumerate(FAKE_CLS)}
_FRESH_HASH = hashlib.blake2b(digest_size=KEY_BYTES)


class _Unfit(Exception):
    """Some value of a column is not what a good row has there."""


def key_of(source_id: int, image: str, text: str) -> bytes:
    """Return the key of a sample, 16 bytes over id, annotated image path and text.

    The path is the annotation's, normalised, so the key does not depend on where the file was found.
    """
    # A copy of a fresh hash costs half as much as a new one.
    digest = _FRESH_HASH.copy()
    digest.update(f"{source_id}\0{image}\0{text}".encode())
    return digest.digest()


def check_rows(rows: Sequence[Any], first_row: int) -> tuple[pa.Table, list[Defect]]:
    """Check consecutive rows of a file.

    Args:
        rows: Parsed rows, in DGM4's fields.
        first_row: Source row of ``rows[0]``.

    Returns:
        The rows that passed, schema ``CHECKED``, in order; and the others with code and message.
    """
    index, columns = _fit_columns(rows)
    table, sure = _from_columns(columns, index + first_row)
    if len(table) == len(rows):
        return table, []
    kept: list[Row] = []
    kept_rows: list[int] = []
    defects: list[Defect] = []
    for i in np.setdiff1d(np.arange(len(rows)), index[sure], assume_unique=True).tolist():
        try:
            kept.append(check_row(rows[i]))
            kept_rows.append(first_row + i)
        except Rejected as rejected:
            defects.append((first_row + i, rejected.code, rejected.message))
    if kept:
        table = pa.concat_tables([table, _from_rows(kept, kept_rows)]).sort_by("source_row")
    return table, defects


def _fit_columns(rows: Sequence[Any]) -> tuple[np.ndarray, list[Any]]:
    """Return the indexes of rows whose every field is shaped like a good row's, and their columns."""
    index = np.arange(len(rows))
    try:
        raw = [[row[name] for row in rows] for name in FIELDS]
    except (KeyError, TypeError, IndexError):
        index = index[[type(row) is dict and all(name in row for name in FIELDS) for row in rows]]
        raw = [[rows[i][name] for i in index.tolist()] for name in FIELDS]
    columns: list[Any] = []
    fit = np.ones(len(index), bool)
    for values, (load, usable) in zip(raw, _LOADERS, strict=True):
        try:
            columns.append(load(values))
        except _Unfit:
            fit &= np.fromiter(map(usable, values), bool, len(values))
    if len(columns) < len(FIELDS):
        kept = np.flatnonzero(fit)
        index, picked = index[kept], kept.tolist()
        raw = [[values[i] for i in picked] for values in raw]
        columns = [load(values) for values, (load, _) in zip(raw, _LOADERS, strict=True)]
    ids, images, texts = raw[:3]
    return index, [b"".join(map(key_of, ids, images, texts)), *columns]


def _load_ids(values: Sequence[Any]) -> np.ndarray:
    if not set(map(type, values)) <= {int}:
        raise _Unfit
    try:
        return np.fromiter(values, np.int64, len(values))
    except OverflowError as error:
        raise _Unfit from error


def _load_strings(values: Sequence[Any]) -> pa.Array:
    if not set(map(type, values)) <= {str} or "\0" in "".join(values):
        raise _Unfit
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError as error:
        raise _Unfit from error


def _load_classes(values: Sequence[Any]) -> np.ndarray:
    try:
        return np.fromiter(map(_CLASS_INDEX.__getitem__, values), np.int8, len(values))
    except (KeyError, TypeError) as error:
        raise _Unfit from error


def _load_boxes(values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows have a box, bool[n], and all boxes, float32[n, 4], zeros where there is none."""
    if not set(map(type, values)) <= {list}:
        raise _Unfit
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    has_box = lengths == 4
    if (has_box | (lengths == 0)).all() and set(map(type, chain.from_iterable(values))) <= {int, float}:
        try:
            flat = np.fromiter(chain.from_iterable(values), np.float64, int(lengths.sum()))
        except OverflowError as error:
            raise _Unfit from error
        if (np.abs(flat) <= _FLOAT32_MAX).all():
            boxes = np.zeros((len(values), 4), np.float32)
            boxes[has_box] = flat.reshape(-1, 4)
            return has_box, boxes
    raise _Unfit


def _load_positions(values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of positions of every row, and all positions in a row."""
    if not set(map(type, values)) <= {list} or not set(map(type, chain.from_iterable(values))) <= {int}:
        raise _Unfit
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    try:
        return lengths, np.fromiter(chain.from_iterable(values), np.int64, int(lengths.sum()))
    except OverflowError as error:
        raise _Unfit from error


def _fits_int64(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _usable_string(value: Any) -> bool:
    return type(value) is str and unusable(value) is None


def _usable_class(value: Any) -> bool:
    return type(value) is str and value in _CLASS_INDEX


def _usable_box(value: Any) -> bool:
    return (
        type(value) is list
        and len(value) in (0, 4)
        and all(type(number) in (int, float) and abs(number) <= _FLOAT32_MAX for number in value)
    )


def _usable_positions(value: Any) -> bool:
    return type(value) is list and all(map(_fits_int64, value))


_LOADERS: tuple[tuple[Callable[[Sequence[Any]], Any], Callable[[Any], bool]], ...] = (
    (_load_ids, _fits_int64),
    (_load_strings, _usable_string),
    (_load_strings, _usable_string),
    (_load_classes, _usable_class),
    (_load_boxes, _usable_box),
    (_load_positions, _usable_positions),
)
"""Per field of ``FIELDS``: how to load a column, and whether a single value would have been accepted."""


def split_words(text: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return the white-space words of each text as Python's ``str.split`` would (one empty word for none)."""
    return pc.utf8_split_whitespace(pc.utf8_trim_whitespace(text))


def _from_columns(columns: Sequence[Any], source_rows: np.ndarray) -> tuple[pa.Table, np.ndarray]:
    """Return the rows that are valid beyond doubt, schema ``CHECKED``, and the mask that chose them."""
    keys, ids, image, text, classes, (has_box, box), (lengths, positions) = columns
    sure = (has_box == FACE_FAKE[classes]) & ((lengths > 0) == TEXT_FAKE[classes])
    sure &= ~pc.match_substring_regex(image, _ODD_PATH).to_numpy(zero_copy_only=False)
    sure &= pc.binary_length(pc.utf8_trim_whitespace(text)).to_numpy() > 0
    x1, y1, x2, y2 = box.T
    sure &= ~has_box | ((x1 < x2) & (y1 < y2) & (x2 > 0) & (y2 > 0))
    clamped = has_box & ((x1 < 0) | (y1 < 0))
    sure &= _positions_fit(lengths, positions, text)
    arrays = [
        pa.array(source_rows),
        pa.Array.from_buffers(pa.binary(KEY_BYTES), len(ids), [None, pa.py_buffer(keys)]),
        pa.array(ids),
        image,
        text,
        pa.array(classes),
        _box_array(has_box, np.maximum(box, 0) + np.float32(0)),
        _list_array(lengths, positions),
        pa.array(clamped),
    ]
    table = pa.Table.from_arrays(arrays, schema=CHECKED)
    return (table if sure.all() else table.filter(pa.array(sure))), sure


def _positions_fit(lengths: np.ndarray, positions: np.ndarray, text: pa.Array) -> np.ndarray:
    """Return per row whether its positions ascend strictly and index its words."""
    with_positions = lengths > 0
    counts = np.zeros(len(lengths), np.int64)
    # Splitting is the costly part, and most texts have no positions.
    counts[with_positions] = pc.list_value_length(
        split_words(text.filter(pa.array(with_positions)))
    ).to_numpy()
    parents = np.repeat(np.arange(len(lengths)), lengths)
    wrong = (positions < 0) | (positions >= counts[parents])
    wrong[1:] |= (parents[1:] == parents[:-1]) & (positions[1:] <= positions[:-1])
    fine = np.ones(len(lengths), bool)
    fine[parents[wrong]] = False
    return fine


def _box_array(has_box: np.ndarray, box: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(
        pa.array(box.ravel()), type=CHECKED.field("fake_image_box").type, mask=pa.array(~has_box)
    )


def _list_array(lengths: np.ndarray, values: np.ndarray) -> pa.ListArray:
    # A position too large for 32 bits indexes no word, so its row is not among the sure ones.
    values = np.clip(values, -1, 2**31 - 1).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(values), type=CHECKED.field("fake_text_pos").type
    )


def _from_rows(rows: Sequence[Row], source_rows: Sequence[int]) -> pa.Table:
    columns: dict[str, Any] = {
        "source_row": source_rows,
        "key": [key_of(row.source_id, row.image, row.text) for row in rows],
        **{name: [getattr(row, name) for row in rows] for name in ("source_id", "image", "text", "fake_cls")},
        "fake_image_box": [row.box for row in rows],
        "fake_text_pos": [row.positions for row in rows],
        "clamped": [row.clamped for row in rows],
    }
    return pa.Table.from_pydict(columns, schema=CHECKED)
