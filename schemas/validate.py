"""Checks that a table keeps its contract; the first violation is named by column, row and value."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from schemas import vocabulary as v
from schemas.tables import SCHEMA_VERSION, key_of, schema_at

_CLOSED: dict[str, tuple[str, ...]] = {
    "split": v.SPLITS,
    "fake_cls": v.FAKE_CLS,
    "original_from": v.ORIGINAL_FROM,
    "kind": v.EXPLANATION_KINDS,
    "finish_reason": v.FINISH_REASONS,
    "reason": tuple(v.QUARANTINE_REASONS),
    "error_class": tuple(v.ERROR_CLASSES),
    "stage": ("captions", "explanations"),
}
_CLOSED_ITEMS = {"flags": tuple(v.FLAGS)}
_SHA256 = ("input_hash",)
_COUNTS = ("tokens_in", "tokens_out", "attempts", "source_row")


class SchemaError(ValueError):
    """A table breaks its contract.

    Attributes:
        table: Name of the table.
        column: Column of the first violation.
        row: 0-based row of the first violation, or None when the column as a whole is wrong.
        value: The offending value.
    """

    def __init__(self, table: str, column: str, row: int | None, value: object, reason: str) -> None:
        self.table, self.column, self.row, self.value = table, column, row, value
        where = f"column {column!r}" if row is None else f"column {column!r}, row {row}"
        super().__init__(f"table {table!r}, {where}: {reason} (value: {_short(value)})")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def validate(data: pa.Table, table: str, version: int = SCHEMA_VERSION) -> pa.Table:
    """Check ``data`` against the contract of ``table``.

    Args:
        data: The rows; columns may stand in any order, none may be missing or unknown.
        table: Name of the table.
        version: Version of the contract; an older one lacks the columns that came later.

    Returns:
        The same rows with columns in the schema's order and the schema's field descriptions.

    Raises:
        SchemaError: Naming column, row and value of the first violation found.
    """
    schema = schema_at(table, version)
    for name in data.column_names:
        if name not in schema.names:
            raise SchemaError(table, name, None, name, f"unknown column; the columns are {schema.names}")
    columns = []
    for field in schema:
        if field.name not in data.column_names:
            raise SchemaError(table, field.name, None, None, "column is missing")
        columns.append(_cast(data.column(field.name), field, table))
    ordered = pa.Table.from_arrays(columns, schema=schema)
    for column, mask, reason in _violations(ordered, table):
        row = pc.index(mask, True).as_py()
        if row >= 0:
            raise SchemaError(table, column, row, ordered.column(column)[row].as_py(), reason)
    _check_unique(ordered, table)
    return ordered


def _cast(column: pa.ChunkedArray, field: pa.Field, table: str) -> pa.ChunkedArray:
    if column.type != field.type:
        try:
            column = column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SchemaError(
                table, field.name, None, str(column.type), f"not a {field.type}: {error}"
            ) from error
    if not field.nullable and column.null_count:
        raise SchemaError(
            table, field.name, pc.index(pc.is_null(column), True).as_py(), None, "null is not allowed"
        )
    return column


def _violations(data: pa.Table, table: str) -> Iterator[tuple[str, pa.ChunkedArray, str]]:
    """Yield (column, mask of bad rows, reason); masks hold no nulls."""
    for name in data.column_names:
        column = data.column(name)
        if name in _CLOSED:
            allowed = pa.array(_CLOSED[name])
            bad = pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=allowed)))
            yield name, bad, f"must be one of {', '.join(_CLOSED[name])}"
        if name in _CLOSED_ITEMS:
            flat, parents = pc.list_flatten(column), pc.list_parent_indices(column)
            wrong = pc.filter(parents, pc.invert(pc.is_in(flat, value_set=pa.array(_CLOSED_ITEMS[name]))))
            rows = pa.array(range(len(data)), pa.int64())
            yield name, pc.is_in(rows, value_set=_plain(wrong)), f"items must be among {_CLOSED_ITEMS[name]}"
        if name in _SHA256:
            fine = pc.match_substring_regex(column, "^[0-9a-f]{64}$")
            yield name, pc.invert(fine), "must be 64 hex digits"
        if name in _COUNTS:
            yield name, pc.less(column, 0), "must not be negative"
        if name.startswith("p_"):
            # NaN compares false with everything, so ask for what is right and invert.
            fine = pc.and_(pc.greater_equal(column, 0.0), pc.less_equal(column, 1.0))
            yield name, pc.invert(fine), "must be a probability from 0 to 1"
    if table == "samples":
        yield from _sample_violations(data)


def _plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.cast(pa.int64())


def _sample_violations(data: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray, str]]:
    fake_cls = data.column("fake_cls")
    yield "is_fake", pc.xor(data.column("is_fake"), pc.not_equal(fake_cls, "orig")), "disagrees with fake_cls"
    for kind in v.MANIPULATION_TYPES:
        named = pc.match_substring(fake_cls, kind)
        yield kind, pc.xor(data.column(kind), named), "disagrees with fake_cls"
    words, positions = data.column("words"), data.column("fake_text_pos")
    yield "words", pc.equal(pc.list_value_length(words), 0), "a text has at least one word"
    text_fake = pc.or_(data.column("text_swap"), data.column("text_attribute"))
    has_positions = pc.greater(pc.list_value_length(positions), 0)
    yield "fake_text_pos", pc.xor(has_positions, text_fake), "positions and fake_cls disagree"
    parents = _plain(pc.list_parent_indices(positions))
    flat = pc.list_flatten(positions)
    limits = pc.take(pc.list_value_length(words), parents)
    wrong = pc.filter(parents, pc.or_(pc.less(flat, 0), pc.greater_equal(flat, limits)))
    rows = pa.array(range(len(data)), pa.int64())
    yield "fake_text_pos", pc.is_in(rows, value_set=_plain(wrong)), "not the index of a word of the text"
    box = data.column("fake_image_box")
    face_fake = pc.or_(data.column("face_swap"), data.column("face_attribute"))
    yield "fake_image_box", pc.xor(pc.is_valid(box), face_fake), "box and fake_cls disagree"
    x1, y1, x2, y2 = (pc.list_element(box, i) for i in range(4))
    fine = pc.and_(
        pc.and_(pc.greater_equal(x1, 0), pc.less(x1, x2)), pc.and_(pc.greater_equal(y1, 0), pc.less(y1, y2))
    )
    for edge, size in ((x2, "width"), (y2, "height")):
        inside = pc.less_equal(edge, data.column(size).cast(pa.float32()))
        fine = pc.and_(fine, pc.fill_null(inside, True))
    yield "fake_image_box", pc.invert(pc.fill_null(fine, True)), "not xyxy pixels inside the image"
    path = data.column("image_path")
    escaping = pc.match_substring_regex(path, r"(^/)|(^|/)\.\.(/|$)|\\|^$")
    yield "image_path", escaping, "must be a relative POSIX path inside the image root"


def _check_unique(data: pa.Table, table: str) -> None:
    key = list(key_of(table))
    counted = data.select(key).group_by(key).aggregate([([], "count_all")])
    if len(counted) == len(data):
        return
    seen: set[tuple] = set()
    for row, values in enumerate(zip(*(data.column(name).to_pylist() for name in key), strict=True)):
        if values in seen:
            raise SchemaError(table, ", ".join(key), row, values, "the key stands in an earlier row too")
        seen.add(values)
