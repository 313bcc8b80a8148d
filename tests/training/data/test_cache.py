from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from tests.training.data.building import photo, write_rows, write_world
from training.data import cache as module
from training.data.cache import ImageCache, build_cache, main
from training.data.images import load_square, to_tensor
from training.errors import DataError, UsageError

SIZE = 16


def direct(out, row):
    return to_tensor(load_square(out / "images" / row["image_path"], SIZE, row["sample_id"]).image)


def run(out, folder, *more):
    return main(["--data", str(out), "--to", str(folder), "--size", str(SIZE), "--workers", "2", *more])


def test_raw_images_come_back_bit_by_bit_and_jpegs_close(tmp_path):
    rows = write_world(tmp_path, 7)
    assert run(tmp_path, tmp_path / "raw", "--quality", "raw") == 0
    assert run(tmp_path, tmp_path / "jpeg", "--quality", "98") == 0
    raw, jpeg = ImageCache(tmp_path / "raw", SIZE), ImageCache(tmp_path / "jpeg", SIZE)
    assert len(raw) == len(jpeg) == 7
    for row in rows:
        image = direct(tmp_path, row)
        assert torch.equal(raw.get(row["image_key"]), image)
        close = jpeg.get(row["image_key"])
        assert close.shape == image.shape and (close.int() - image.int()).abs().float().mean() < 2
    assert raw.get("0" * 32) is None and "0" * 32 not in raw
    again = pickle.loads(pickle.dumps(raw))
    assert torch.equal(again.get(rows[0]["image_key"]), raw.get(rows[0]["image_key"]))


def test_a_second_run_writes_only_what_is_missing(tmp_path, capsys):
    rows = write_world(tmp_path, 6)
    folder = tmp_path / "cache"
    write_rows(tmp_path, rows[:4])
    assert build_cache(tmp_path, folder, SIZE) == 4
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert build_cache(tmp_path, folder, SIZE) == 0
    write_rows(tmp_path, rows)
    assert run(tmp_path, folder) == 0
    assert "2 images written, 6 there" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert all(row["image_key"] in ImageCache(folder, SIZE) for row in rows)


def test_a_run_that_dies_keeps_its_finished_files_and_leaves_no_torn_one(tmp_path, monkeypatch):
    rows = sorted(write_world(tmp_path, 6), key=lambda row: row["image_key"])
    folder = tmp_path / "cache"
    monkeypatch.setattr(module, "_SHARD", 2)
    load = module.load_square

    def dying(path, size, sample_id):
        if path.name == rows[4]["image_path"]:
            raise KeyboardInterrupt
        return load(path, size, sample_id)

    monkeypatch.setattr(module, "load_square", dying)
    with pytest.raises(KeyboardInterrupt):
        build_cache(tmp_path, folder, SIZE)
    (folder / ".tmp-00-images-0123456789abcdef.arrow").write_bytes(b"ARROW1")
    assert len(ImageCache(folder, SIZE)) == 4
    monkeypatch.setattr(module, "load_square", load)
    assert build_cache(tmp_path, folder, SIZE) == 2
    assert len(ImageCache(folder, SIZE)) == 6


def test_other_settings_and_folders_that_are_no_cache_are_refused(tmp_path, capsys):
    write_world(tmp_path, 2)
    folder = tmp_path / "cache"
    build_cache(tmp_path, folder, SIZE)
    with pytest.raises(UsageError, match="16 pixels wide, model.image_size is 32"):
        ImageCache(folder, 32)
    with pytest.raises(UsageError, match=r"has no cache.json; write the folder with"):
        ImageCache(tmp_path, SIZE)
    assert run(tmp_path, folder, "--quality", "raw") == 2
    assert "quality 95 (asked for raw)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(tmp_path, folder, "--quality", "101")


@pytest.mark.parametrize("quality", [95, None])
def test_a_damaged_image_names_file_key_and_remedy(tmp_path, quality):
    rows = write_world(tmp_path, 2)
    folder = tmp_path / "cache"
    build_cache(tmp_path, folder, SIZE, quality)
    [path] = folder.glob("images-*.arrow")
    key = rows[0]["image_key"]
    table = pa.ipc.open_file(path).read_all().to_pylist()
    damaged = [row | ({"image": row["image"][:40]} if row["image_key"] == key else {}) for row in table]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, module._SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(damaged, schema=module._SCHEMA))
    cache = ImageCache(folder, SIZE)
    assert cache.get(rows[1]["image_key"]).shape == (3, SIZE, SIZE)
    with pytest.raises(DataError, match=rf"{path.name}: the image of key {key} .*remove that file .*cache"):
        cache.get(key)


def test_a_jpeg_of_another_size_and_a_file_of_other_columns_are_refused(tmp_path):
    rows = write_world(tmp_path, 1)
    build_cache(tmp_path, tmp_path / "small", SIZE // 2)
    settings = tmp_path / "small" / "cache.json"
    settings.write_text(settings.read_text().replace("8", "16", 1))
    with pytest.raises(DataError, match="it is 8 x 8 pixels"):
        ImageCache(tmp_path / "small", SIZE).get(rows[0]["image_key"])
    [path] = (tmp_path / "small").glob("images-*.arrow")
    other = pa.table({"key": ["a"]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, other.schema) as writer:
        writer.write_table(other)
    with pytest.raises(DataError, match="its columns are key"):
        ImageCache(tmp_path / "small", SIZE)


def test_a_replaced_picture_is_not_stored_under_the_old_key(tmp_path, capsys):
    rows = write_world(tmp_path, 2)
    photo(64, 64).save(tmp_path / "images" / "0.jpg")
    assert run(tmp_path, tmp_path / "cache") == 2
    assert f"64 x 64 pixels, but sample {rows[0]['sample_id']} was read as 48 x 32" in capsys.readouterr().err
    assert rows[0]["image_key"] not in ImageCache(tmp_path / "cache", SIZE)


@pytest.mark.parametrize("content", ["[]", "3", "{", '{"size": 16}'])
def test_settings_that_are_none_are_one_clear_error(tmp_path, content, capsys):
    write_world(tmp_path, 1)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "cache.json").write_text(content)
    assert run(tmp_path, tmp_path / "cache") == 2
    assert "cache.json: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--workers", "0"), ("--size", "0"), ("--size", "-3"), ("--workers", "x")])
def test_numbers_that_are_none_are_refused(tmp_path, words, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, tmp_path / "cache", *words)
    assert f"'{words[1]}' is not a whole number of 1 or more" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told(tmp_path, capsys, monkeypatch):
    write_world(tmp_path, 1)
    assert run(tmp_path, Path("/proc/cache")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: /proc/cache: cannot be written (") and error.count("\n") == 1

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.pa.ipc, "new_file", full)
    assert run(tmp_path, tmp_path / "cache") == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error and "No space left on device" in error and error.count("\n") == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["cache.json"]


def test_images_that_do_not_decode_are_left_out_and_named_after_the_others(tmp_path, capsys):
    rows = write_world(tmp_path, 3)
    (tmp_path / "images" / "1.jpg").write_bytes(b"no image")
    assert run(tmp_path, tmp_path / "cache") == 2
    assert "1 images were left out; the first:" in capsys.readouterr().err
    cache = ImageCache(tmp_path / "cache", SIZE)
    assert len(cache) == 2 and rows[1]["image_key"] not in cache
    photo(48, 32, 1).save(tmp_path / "images" / "1.jpg", quality=92)
    assert run(tmp_path, tmp_path / "cache") == 0
    assert rows[1]["image_key"] in ImageCache(tmp_path / "cache", SIZE)


def test_one_picture_of_many_samples_is_stored_once_and_null_keys_not_at_all(tmp_path):
    rows = write_world(tmp_path, 4)
    rows[1] |= {"image_key": rows[0]["image_key"], "image_path": rows[0]["image_path"]}
    rows[2] |= {"image_key": None}
    write_rows(tmp_path, rows)
    assert build_cache(tmp_path, tmp_path / "cache", SIZE) == 2
