from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from schemas import SCHEMA_VERSION, NoSuchTable, TableError, open_table
from schemas.layout import CorruptVersion, current_version
from tests.builders import list_markers, write_samples


@pytest.fixture
def out(tmp_path):
    write_samples(tmp_path, 100, rows_per_shard=30)
    return tmp_path


def test_rows_come_back_the_same_through_arrow_polars_and_datasets(out, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    table = open_table(out, "samples")
    assert table.num_rows == 100 and len(table.files) == 4
    arrow = table.to_arrow(["sample_id", "words"])
    assert table.to_polars(["sample_id"])["sample_id"].to_list() == arrow.column("sample_id").to_pylist()
    assert (
        table.scan().select("sample_id").collect()["sample_id"].to_list()
        == arrow.column("sample_id").to_pylist()
    )
    streamed = list(table.to_datasets(streaming=True))
    assert [row["words"] for row in streamed] == arrow.column("words").to_pylist()
    assert len(table.to_datasets()) == 100


def test_batches_stream_with_projection_and_split(out):
    table = open_table(out, "samples")
    batches = list(table.batches(["split", "text"], split="val", batch_size=7))
    assert all(batch.num_rows <= 7 and batch.schema.names == ["split", "text"] for batch in batches)
    assert {split for batch in batches for split in batch.column("split").to_pylist()} == {"val"}
    assert sum(batch.num_rows for batch in batches) == 33


def test_unknown_columns_splits_tables_and_versions_are_named(out):
    table = open_table(out, "samples")
    with pytest.raises(TableError, match="no column 'colour'"):
        table.to_arrow(["colour"])
    with pytest.raises(TableError, match="no split 'dev'"):
        table.to_arrow(split="dev")
    with pytest.raises(TableError, match="no table 'texts'"):
        open_table(out, "texts")
    with pytest.raises(NoSuchTable, match="captions"):
        open_table(out, "captions")
    with pytest.raises(NoSuchTable, match="versions here: v-"):
        open_table(out, "samples", version="v-000000000000")


def test_a_shard_without_marker_is_not_read_and_a_torn_one_is_skipped_with_a_reason(out):
    markers = list_markers(current_version(out, "samples"))
    markers[1].unlink()
    markers[2].write_bytes(markers[2].read_bytes()[:40])
    table = open_table(out, "samples")
    assert table.num_rows == 40 and len(table.to_arrow()) == 40
    assert len(table.skipped) == 1 and markers[2].name in table.skipped[0]


def test_a_data_file_of_another_size_makes_its_shard_not_done(out):
    table = open_table(out, "samples")
    table.files[0].write_bytes(table.files[0].read_bytes()[:-5])
    assert open_table(out, "samples").num_rows == 70


def test_a_marker_that_points_out_of_its_folder_is_refused(out):
    marker = list_markers(current_version(out, "samples"))[0]
    content = json.loads(marker.read_bytes())
    content["data"]["name"] = "../../secret.parquet"
    marker.write_text(json.dumps(content))
    assert "leaves the folder" in open_table(out, "samples").skipped[0]


def test_a_damaged_pointer_says_what_to_do(out):
    (out / "samples" / "current.json").write_text('{"version": "v-ffffffffffff"}')
    with pytest.raises(CorruptVersion, match="versions here: v-"):
        open_table(out, "samples")
    (out / "samples" / "current.json").write_text("[]")
    with pytest.raises(CorruptVersion, match="not a JSON object"):
        open_table(out, "samples")


def test_files_carry_descriptions_and_schema_version(out):
    schema = pq.read_schema(open_table(out, "samples").files[0])
    assert schema.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()
    assert b"xyxy" in schema.field("fake_image_box").metadata[b"description"]


def test_a_shard_of_a_newer_schema_is_an_error_not_a_guess(out):
    marker = list_markers(current_version(out, "samples"))[0]
    content = json.loads(marker.read_bytes())
    content["schema_version"] = 99
    marker.write_text(json.dumps(content))
    with pytest.raises(TableError, match="update the code"):
        open_table(out, "samples")
