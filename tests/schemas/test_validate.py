from __future__ import annotations

import pyarrow as pa
import pytest

from schemas import SchemaError, empty_table, schema_of, validate
from schemas.tables import TABLES, schema_hash
from tests.builders import sample_row


def samples(**changes):
    rows = [sample_row(n, f"key{n}", f"{n}.png") for n in range(4)]
    rows[2] |= changes
    return pa.Table.from_pylist(rows, schema=schema_of("samples"))


def test_every_field_of_every_table_is_described_and_the_version_travels():
    for name, schema in TABLES.items():
        assert schema.metadata[b"table"] == name.encode()
        assert int(schema.metadata[b"schema_version"]) >= 1
        for field in schema:
            assert len(field.metadata[b"description"]) > 10, (name, field.name)


def test_valid_rows_pass_and_come_back_in_schema_order():
    table = samples()
    shuffled = table.select(list(reversed(table.column_names)))
    assert validate(shuffled, "samples").equals(table)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("split", "dev"),
        ("fake_cls", "face_swap&face_attribute"),
        ("is_fake", False),
        ("text_swap", False),
        ("fake_text_pos", []),
        ("fake_text_pos", [2, 99]),
        ("fake_text_pos", [-1]),
        ("fake_image_box", [1.0, 1.0, 2.0, 2.0]),
        ("image_path", "/etc/passwd"),
        ("image_path", "a/../../b.jpg"),
        ("words", []),
        ("original_from", "guess"),
        ("sample_id", "7d2b"),
    ],
)
def test_a_violation_names_column_row_and_value(column, value):
    table = samples(**{column: value})
    if column == "sample_id":  # the same key in two rows
        table = pa.concat_tables([table, table.slice(2, 1)])
    with pytest.raises(SchemaError) as caught:
        validate(table, "samples")
    error = caught.value
    assert error.row in (2, 4)
    assert error.column in (column, "fake_cls", "fake_image_box", "fake_text_pos", "is_fake")
    assert str(error.row) in str(error) and error.column in str(error)


@pytest.mark.parametrize(
    "box", [[5.0, 1.0, 1.0, 6.0], [0.0, 0.0, 9.0, 6.0], [-1.0, 0.0, 4.0, 4.0], [float("nan"), 0.0, 4.0, 4.0]]
)
def test_a_box_outside_the_image_or_inverted_is_refused(box):
    rows = [sample_row(1, "k", "a.png", fake_image_box=box)]
    with pytest.raises(SchemaError, match="fake_image_box"):
        validate(pa.Table.from_pylist(rows, schema=schema_of("samples")), "samples")


def test_a_box_touching_the_right_edge_is_fine():
    rows = [sample_row(1, "k", "a.png", fake_image_box=[0.0, 0.0, 8.0, 8.0])]
    validate(pa.Table.from_pylist(rows, schema=schema_of("samples")), "samples")


def test_null_missing_and_unknown_columns_are_named():
    table = samples()
    with pytest.raises(SchemaError, match="'text'.*missing"):
        validate(table.drop_columns(["text"]), "samples")
    with pytest.raises(SchemaError, match="'colour'.*unknown"):
        validate(table.append_column("colour", pa.array(["red"] * 4)), "samples")
    nulled = table.set_column(7, "text", pa.array(["a", None, "b", "c"]))
    with pytest.raises(SchemaError, match="row 1: null"):
        validate(nulled, "samples")


def test_a_column_of_the_wrong_type_is_named():
    table = samples()
    wrong = table.set_column(1, "source_id", pa.array(["x", "y", "z", "w"]))
    with pytest.raises(SchemaError, match="source_id.*not a int64"):
        validate(wrong, "samples")


def test_probabilities_and_flags_are_checked():
    predictions = pa.Table.from_pylist(
        [
            {
                "sample_id": "a",
                **{f"p_{k}": 0.5 for k in ("fake", "face_swap", "face_attribute", "text_swap")},
                "p_text_attribute": float("nan"),
                "box": None,
                "word_scores": [0.1],
            }
        ],
        schema=schema_of("predictions"),
    )
    with pytest.raises(SchemaError, match="p_text_attribute.*row 0"):
        validate(predictions, "predictions")
    shared = {
        "prompt_id": "p:1",
        "finish_reason": "stop",
        "tokens_in": 1,
        "tokens_out": 1,
        "input_hash": "0" * 64,
    }
    rows = [{"image_key": str(n), "caption": "c", "flags": [], **shared} for n in range(3)]
    rows[1]["flags"] = ["empty", "ugly"]
    with pytest.raises(SchemaError, match="flags.*row 1"):
        validate(pa.Table.from_pylist(rows, schema=schema_of("captions")), "captions")


def test_empty_tables_are_valid_and_descriptions_do_not_change_the_schema_hash():
    for name in TABLES:
        assert len(validate(empty_table(name), name)) == 0
    schema = schema_of("samples")
    bare = pa.schema([field.remove_metadata() for field in schema])
    assert schema_hash(bare) == schema_hash(schema)
    assert schema_hash(bare.remove(0)) != schema_hash(schema)
