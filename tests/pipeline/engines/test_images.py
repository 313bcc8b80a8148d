from __future__ import annotations

import threading
import time

import pytest
from PIL import Image

from pipeline.engines import Request
from pipeline.engines.images import load_pixels, read_ahead
from pipeline.stopwatch import Stopwatch


def test_rows_come_in_order_with_what_was_loaded():
    def load(row):
        time.sleep(0.001 * (row % 3))
        return row * 10

    assert list(read_ahead(range(50), load, 4, 8)) == [(n, n * 10) for n in range(50)]


def test_no_more_than_the_window_is_loaded_ahead():
    loaded, taken = [], 0
    for _ in read_ahead(range(40), loaded.append, 4, 5):
        taken += 1
        assert len(loaded) <= taken + 5


def test_loading_runs_in_several_threads_at_once():
    barrier = threading.Barrier(3, timeout=10)
    assert len(list(read_ahead(range(6), lambda row: barrier.wait(), 3, 6))) == 6


def test_a_picture_is_given_to_the_model_as_it_is_displayed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (8, 4), 200).save(tmp_path / "turned.jpg", exif=exif)
    found = load_pixels(Request("a", "x", tmp_path / "turned.jpg"), lambda image: (image.mode, image.size))
    assert found == ("RGB", (4, 8))


def test_a_disk_error_may_be_retried_and_a_bad_file_not(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 no picture")
    bad = load_pixels(Request("a", "x", tmp_path / "bad.jpg"), lambda image: image)
    missing = load_pixels(Request("a", "x", tmp_path / "gone.jpg"), lambda image: image)
    folder = load_pixels(Request("a", "x", tmp_path / "folder.jpg"), lambda image: image)
    assert (bad.error_class, bad.permanent) == ("image_unreadable", True)
    assert (missing.error_class, missing.permanent) == ("image_missing", False)
    assert (folder.error_class, folder.permanent) == ("image_unreadable", False)


def test_a_picture_that_defeats_the_resizing_is_a_failure_of_its_row(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    def resize(image):
        raise ValueError("height and width must be > 0")

    found = load_pixels(Request("a", "x", tmp_path / "a.png"), resize)
    assert found.error_class == "image_unreadable" and "must be > 0" in found.message


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3000, 2)])
def test_extreme_shapes_are_preprocessed(bench, tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    preprocess = bench.engine("instructblip-llama-v5").adapter.preprocess
    pixels = load_pixels(Request("a", "x", tmp_path / "a.png"), preprocess)
    assert tuple(pixels.shape) == (3, 28, 28)


def test_only_the_time_that_the_taker_waits_is_counted():
    fast, slow = Stopwatch(), Stopwatch()
    for _ in read_ahead(range(6), lambda row: time.sleep(0.05), 3, 6, fast):
        time.sleep(0.1)  # longer than the loading, which goes on meanwhile
    list(read_ahead(range(6), lambda row: time.sleep(0.1), 1, 6, slow))
    assert slow.seconds > 0.5 and fast.seconds < 0.3
