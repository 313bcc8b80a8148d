"""Tables of schema version 1, which had no ``input_hash``, stay readable and are never taken for new ones."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from pipeline.config import load_config
from pipeline.errors import FingerprintMismatch
from pipeline.run import generate_table
from pipeline.shards.fingerprint import fingerprint_of
from pipeline.shards.verify import verify
from schemas import SchemaError, open_table, schema_at, validate
from schemas.layout import CURRENT, VERSION_FILE, version_name
from schemas.marker import file_sha256
from schemas.tables import SCHEMA_VERSION, schema_hash
from tests.builders import list_markers, write_echo_config, write_samples

COLUMNS_OF_1 = ["image_key", "caption", "prompt_id", "finish_reason", "tokens_in", "tokens_out", "flags"]


def make_older(out):
    """Turn the captions into what version 1 wrote: files, markers, fingerprint and folder."""
    folder = open_table(out, "captions").version
    info = json.loads((folder / VERSION_FILE).read_bytes())
    info["fields"]["schema_version"] = info["schema_version"] = 1
    info["fingerprint"] = fingerprint_of(info["fields"])
    for path in list_markers(folder):
        marker = json.loads(path.read_bytes())
        file = folder / marker["data"]["name"]
        rows = pq.read_table(file).select(COLUMNS_OF_1)
        pq.write_table(rows.replace_schema_metadata({"schema_version": "1"}), file)
        marker["data"] |= {"size": file.stat().st_size, "sha256": file_sha256(file)}
        marker |= {"schema_version": 1, "schema_hash": schema_hash(schema_at("captions", 1))}
        marker["fingerprint"] = info["fingerprint"]
        path.write_text(json.dumps(marker))
    (folder / VERSION_FILE).write_text(json.dumps(info))
    older = folder.rename(folder.with_name(version_name(info["fingerprint"])))
    (older.parent / CURRENT).write_text(json.dumps({"version": older.name}))
    return older.name


@pytest.fixture
def older(tmp_path):
    write_samples(tmp_path / "out", 25)
    config = load_config(write_echo_config(tmp_path))
    generate_table("captions", config, tmp_path / "out")
    return tmp_path / "out", config, make_older(tmp_path / "out")


def test_the_first_schema_is_the_present_one_without_what_came_later():
    assert schema_at("captions", 1).names == COLUMNS_OF_1
    assert schema_at("captions", SCHEMA_VERSION).names == [*COLUMNS_OF_1, "input_hash"]
    assert schema_hash(schema_at("samples", 1)) == schema_hash(schema_at("samples", SCHEMA_VERSION))


def test_an_older_table_is_read_and_verified_as_it_was_written(older):
    out, _, version = older
    table = open_table(out, "captions")
    assert (table.version.name, table.num_rows, table.skipped) == (version, 25, ())
    assert table.to_arrow().column_names == table.to_polars().columns == COLUMNS_OF_1
    assert table.scan().collect().columns == COLUMNS_OF_1
    report = verify(out, deep=True)
    assert report.ok, report.problems


def test_new_rows_stand_in_a_new_version_beside_it(older):
    out, config, version = older
    with pytest.raises(FingerprintMismatch) as caught:
        generate_table("captions", config, out, follow_samples=True)
    assert set(caught.value.changed) == {"schema_version"}
    summary = generate_table("captions", config, out, new_version=True)
    assert (summary.generated, summary.carried) == (25, 0)
    assert open_table(out, "captions", version=version).num_rows == 25
    assert "input_hash" in open_table(out, "captions").schema.names


def test_a_row_without_an_input_hash_is_not_of_the_present_schema(older):
    out, _, _ = older
    rows = open_table(out, "captions").to_arrow()
    assert len(validate(rows, "captions", 1)) == 25
    with pytest.raises(SchemaError, match="input_hash.*missing"):
        validate(rows, "captions")
    wrong = rows.append_column("input_hash", [["0" * 64] * 24 + ["F" * 64]])
    with pytest.raises(SchemaError, match="input_hash.*row 24.*64 hex digits"):
        validate(wrong, "captions")
