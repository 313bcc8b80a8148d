from __future__ import annotations

import os

import pyarrow as pa
import pytest

from pipeline.shards.snapshot import write_snapshot
from schemas import SchemaError, open_table, schema_of
from schemas.layout import current_version, list_versions
from tests.builders import sample_row


def rows(count, **changes):
    return pa.Table.from_pylist(
        [sample_row(n, f"k{n}", f"{n}.png", **changes) for n in range(count)], schema=schema_of("samples")
    )


def write(out, table, **info):
    return write_snapshot(out, "samples", [table], info={"image_root": "/data", **info}, rows_per_shard=10)


def test_the_same_rows_give_the_same_version_whatever_the_pieces(tmp_path):
    table = rows(25)
    first = write(tmp_path, table)
    pieces = [table.slice(0, 3), table.slice(3, 19), table.slice(22)]
    second = write_snapshot(tmp_path, "samples", pieces, info={"image_root": "/moved"}, rows_per_shard=10)
    assert first == second
    assert open_table(tmp_path, "samples").info["image_root"] == "/moved"
    assert write(tmp_path, rows(24)) != first
    assert len(list_versions(tmp_path, "samples")) == 2


def test_a_damaged_version_is_replaced_by_the_same_rows(tmp_path):
    version = write(tmp_path, rows(25))
    victim = open_table(tmp_path, "samples").files[1]
    victim.unlink()
    assert open_table(tmp_path, "samples").num_rows == 15
    assert write(tmp_path, rows(25)) == version
    assert open_table(tmp_path, "samples").num_rows == 25


def test_an_invalid_row_leaves_nothing_behind(tmp_path):
    write(tmp_path, rows(5))
    before = current_version(tmp_path, "samples")
    with pytest.raises(SchemaError):
        write(tmp_path, rows(5, split="nowhere"))
    assert current_version(tmp_path, "samples") == before
    assert sorted(os.listdir(tmp_path / "samples")) == sorted(["current.json", before.name])


def test_no_rows_at_all_is_a_table_of_no_rows(tmp_path):
    write_snapshot(tmp_path, "quarantine", [], info={})
    table = open_table(tmp_path, "quarantine")
    assert table.num_rows == 0 and len(table.to_arrow()) == 0 and len(table.to_polars()) == 0
