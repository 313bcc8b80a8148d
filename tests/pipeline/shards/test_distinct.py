"""The first of each distinct key, in buckets on disk or in memory, also where hashes collide."""

from __future__ import annotations

import os
import random
import tracemalloc

import numpy as np
import polars as pl
import pytest

from pipeline.shards import distinct
from pipeline.shards.distinct import first_of_each


def expected(keys):
    seen = set()
    return [not (key in seen or seen.add(key)) for key in keys]


@pytest.mark.parametrize("bucket_rows", [1 << 20, 64, 1])
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_the_first_of_each_key_is_marked_whatever_the_buckets_and_pieces(
    tmp_path, monkeypatch, bucket_rows, piece
):
    monkeypatch.setattr(distinct, "BUCKET_ROWS", bucket_rows)
    rng = random.Random(5)
    keys = [f"key {rng.randrange(150)}" for _ in range(300)]
    pieces = [pl.Series(keys[start : start + piece]) for start in range(0, 300, piece)]
    assert first_of_each(pieces, 300, tmp_path / "scratch").tolist() == expected(keys)
    assert not (tmp_path / "scratch").exists() or os.listdir(tmp_path / "scratch") == []


def test_no_keys_have_no_first(tmp_path):
    assert first_of_each([], 0, tmp_path).tolist() == []


def test_a_table_of_another_length_than_its_markers_say_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="2 keys came where 3 were announced"):
        first_of_each([pl.Series(["a", "b"])], 3, tmp_path)


def test_keys_that_share_half_of_their_hash_stay_different():
    # (first hash, second hash, number): 7 is shared by two keys whose rows alternate.
    records = np.array([[7, 1, 0], [7, 2, 1], [7, 1, 2], [9, 1, 3], [7, 2, 4]], np.uint64)
    first = np.zeros(5, bool)
    distinct._mark(records, first)
    assert first.tolist() == [True, True, False, True, False]


def test_memory_holds_a_bucket_and_a_byte_per_key(tmp_path, monkeypatch):
    monkeypatch.setattr(distinct, "BUCKET_ROWS", 1 << 12)
    count = 200_000
    pieces = (pl.Series([f"{n % 77_777:032x}" for n in range(at, at + 1000)]) for at in range(0, count, 1000))
    tracemalloc.start()
    first = first_of_each(pieces, count, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first.sum() == 77_777
    # All hashes at once would be 4.8 MB, a set of the keys 20 MB.
    assert peak < count + 1_500_000
