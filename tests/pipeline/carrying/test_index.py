"""The index of input hashes: found where they stand, in one bucket or many, whatever is damaged."""

from __future__ import annotations

import hashlib

import polars as pl
import pytest

from pipeline.carrying import index as module
from pipeline.carrying.index import Index, build


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def write_files(folder, counts):
    files = []
    for number, count in enumerate(counts):
        files.append(folder / f"{number}.parquet")
        pl.DataFrame({"input_hash": [digest(f"{number}/{row}") for row in range(count)]}).write_parquet(
            files[-1]
        )
    return files


@pytest.mark.parametrize("bucket_rows", [1 << 20, 64, 2])
def test_every_hash_is_found_where_it_stands_and_no_other(tmp_path, monkeypatch, bucket_rows):
    monkeypatch.setattr(module, "BUCKET_ROWS", bucket_rows)
    monkeypatch.setattr(module, "_FILES_AT_ONCE", 3)
    counts = [50, 1, 120, 30, 7]
    build(write_files(tmp_path, counts), counts, tmp_path / "cache" / "index.arrow")
    index = Index(tmp_path / "cache" / "index.arrow")
    places = [(file, row) for file, count in enumerate(counts) for row in range(count)]
    wanted = [digest(f"{file}/{row}") for file, row in places]
    found = {position: (file, row) for position, file, row in index.find(pl.Series(wanted))}
    assert found == dict(enumerate(places))
    strangers = pl.Series([digest(f"stranger {n}") for n in range(500)])
    assert list(index.find(strangers)) == []
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["index.arrow"]


def test_equal_hashes_are_found_once(tmp_path):
    pl.DataFrame({"input_hash": [digest("same")] * 4}).write_parquet(tmp_path / "a.parquet")
    build([tmp_path / "a.parquet"], [4], tmp_path / "index")
    assert list(Index(tmp_path / "index").find(pl.Series([digest("same")]))) == [(0, 0, 0)]


def test_a_file_that_cannot_be_read_costs_its_own_rows_only(tmp_path, caplog):
    counts = [5, 6, 7]
    files = write_files(tmp_path, counts)
    files[1].write_bytes(files[1].read_bytes()[:50])
    build(files, counts, tmp_path / "index")
    wanted = pl.Series([digest(f"{number}/3") for number in range(3)])
    assert sorted(Index(tmp_path / "index").find(wanted)) == [(0, 0, 3), (2, 2, 3)]
    assert str(files[1]) in caplog.text
