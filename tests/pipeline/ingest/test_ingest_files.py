"""Finding image files, checking them in processes, and remembering what was found."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.ingest import pool as pool_module
from pipeline.ingest.facts import ImageDefect, ImageFacts
from pipeline.ingest.paths import Resolver
from pipeline.ingest.pool import judge_all
from tests.pipeline.ingest.builder import (
    ingest_rows,
    quarantine,
    row,
    run,
    samples,
    write_image,
    write_images,
    write_json,
)


@pytest.mark.parametrize(
    "annotated, lies",
    [
        ("DGM4/origin/bbc/0001/a.jpg", "DGM4/origin/bbc/0001/a.jpg"),
        ("DGM4/origin/bbc/0001/a.jpg", "origin/bbc/0001/a.jpg"),
        ("DGM4/manipulation/infoswap/a.jpg", "DGM4/manipulation/infoswap/infoswap/a.jpg"),
        ("DGM4/manipulation/infoswap/a.jpg", "manipulation/manipulation/infoswap/infoswap/a.jpg"),
        ("DGM4/manipulation/infoswap/a.jpg", "DGM4/DGM4/manipulation/infoswap/a.jpg"),
        ("data_v2/origin/a.jpg", "origin/a.jpg"),
        ("pictures/a.jpg", "pictures/a.jpg"),
        ("a.jpg", "a.jpg"),
        ("DGM4/origin/Bogot\u00e1/caf\u00e9.jpg", "DGM4/origin/Bogota\u0301/cafe\u0301.jpg"),
    ],
)
def test_a_file_is_found_where_unpacking_left_it(tmp_path, annotated, lies):
    write_image(tmp_path / lies)
    ingest_rows(tmp_path, [row(1, image=annotated)], root=tmp_path)
    (sample,) = samples(tmp_path / "out")
    assert sample["image_path"] == lies
    assert Image.open(tmp_path / sample["image_path"]).size == (sample["width"], sample["height"])


def test_the_path_as_annotated_comes_first(tmp_path):
    resolver = Resolver(tmp_path)
    for path in ("manipulation/infoswap/a.jpg", "DGM4/manipulation/infoswap/infoswap/a.jpg"):
        write_image(tmp_path / path)
    assert resolver.find("DGM4/manipulation/infoswap/a.jpg")[0] == "DGM4/manipulation/infoswap/infoswap/a.jpg"
    write_image(tmp_path / "DGM4/manipulation/infoswap/a.jpg")
    again = Resolver(tmp_path)
    assert again.find("DGM4/manipulation/infoswap/a.jpg")[0] == "DGM4/manipulation/infoswap/a.jpg"


def test_a_first_folder_that_is_not_the_data_set_is_not_dropped(tmp_path):
    write_image(tmp_path / "a.jpg")
    assert Resolver(tmp_path).find("pictures/a.jpg") is None


def test_the_sample_id_does_not_depend_on_where_the_file_lies(tmp_path):
    ids = []
    for place in ("DGM4/origin/a.jpg", "origin/a.jpg", "origin/origin/a.jpg"):
        root = tmp_path / place.replace("/", "_")
        write_image(root / place)
        ingest_rows(root, [row(1, image="DGM4/origin/a.jpg")], root=root)
        ids.append(samples(root / "out")[0]["sample_id"])
    ingest_rows(tmp_path, [row(1, image="DGM4/origin/a.jpg")])
    assert {*ids, samples(tmp_path / "out")[0]["sample_id"]} == {ids[0]}


def test_folders_and_files_may_be_links(tmp_path):
    disk = tmp_path / "other disk"
    write_image(disk / "bbc" / "a.jpg")
    (tmp_path / "DGM4").mkdir()
    (tmp_path / "DGM4" / "origin").symlink_to(disk)
    (disk / "bbc" / "b.jpg").symlink_to(disk / "bbc" / "a.jpg")
    rows = [row(n, image=f"DGM4/origin/bbc/{name}.jpg") for n, name in enumerate("ab")]
    assert ingest_rows(tmp_path, rows, root=tmp_path)["samples"] == 2
    assert {sample["image_path"] for sample in samples(tmp_path / "out")} == {
        "DGM4/origin/bbc/a.jpg",
        "DGM4/origin/bbc/b.jpg",
    }


def test_a_folder_where_an_image_should_be_is_unreadable(tmp_path):
    (tmp_path / row(1)["image"]).mkdir(parents=True)
    assert ingest_rows(tmp_path, [row(1)], root=tmp_path)["by_reason"] == {"unreadable_image": 1}


def test_a_name_too_long_for_the_disk_is_a_missing_image(tmp_path):
    assert ingest_rows(tmp_path, [row(1, image="a" * 5000)], root=tmp_path)["by_reason"] == {
        "missing_image": 1
    }


def test_boxes_are_cut_at_the_edges_and_counted(tmp_path):
    boxes = {
        1: ([4, 6, 20, 22], [4, 6, 20, 22]),
        2: ([-4, -6, 20, 22], [0, 0, 20, 22]),
        3: ([4, 6, 400, 22], [4, 6, 40, 22]),
        4: ([4, 6, 20, 400.5], [4, 6, 20, 32]),
        5: ([0, 0, 40, 32], [0, 0, 40, 32]),
        6: ([39.5, 31.5, 40.5, 32.5], [39.5, 31.5, 40, 32]),
    }
    rows = [row(n, "face_swap", fake_image_box=box) for n, (box, _) in boxes.items()]
    write_images(tmp_path, rows)
    summary = ingest_rows(tmp_path, rows, root=tmp_path)
    assert summary["clamped_boxes"] == 4
    assert {s["source_id"]: s["fake_image_box"] for s in samples(tmp_path / "out")} == {
        n: cut for n, (_, cut) in boxes.items()
    }


@pytest.mark.parametrize(
    "box", [[40, 0, 50, 10], [0, 32, 10, 50], [-9, 0, 0, 10], [0, -9, 10, 0], [99, 99, 100, 100]]
)
def test_a_box_that_only_touches_the_image_is_outside(tmp_path, box):
    rows = [row(1, "face_swap", fake_image_box=box)]
    write_images(tmp_path, rows)
    assert ingest_rows(tmp_path, rows, root=tmp_path)["by_reason"] == {"box_outside_image": 1}


def test_a_turned_image_counts_its_box_in_the_displayed_frame(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    rows = [row(1, "face_swap", fake_image_box=[10, 30, 30, 38])]
    write_image(tmp_path / rows[0]["image"], exif=exif)
    summary = ingest_rows(tmp_path, rows, root=tmp_path)
    (sample,) = samples(tmp_path / "out")
    assert (sample["width"], sample["height"], sample["fake_image_box"]) == (32, 40, [10, 30, 30, 38])
    assert (summary["images"]["exif_rotated"], summary["images"]["exif_rotated_with_box"]) == (1, 1)


def test_the_summary_counts_files_contents_and_modes(tmp_path):
    rows = [row(n) for n in range(4)] + [row(3, text="The same picture")]
    for each in rows[:3]:
        write_image(tmp_path / each["image"], seed=1)
    (tmp_path / rows[3]["image"]).parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (9, 9)).save(tmp_path / rows[3]["image"])
    images = ingest_rows(tmp_path, rows, root=tmp_path)["images"]
    assert (images["usable"], images["distinct"], images["unusable"], images["checked"]) == (4, 2, 0, 4)
    assert (images["captions_needed"], images["captions_saved"]) == (2, 3)
    assert (images["modes"], images["converted"]) == ({"RGB": 3, "L": 1}, 1)
    keys = [sample["image_key"] for sample in samples(tmp_path / "out")]
    assert keys[0] == keys[1] == keys[2] != keys[3] == keys[4]


def test_rejected_rows_and_unread_images_save_no_caption(tmp_path):
    rows = [row(n) for n in range(3)]
    for each in rows:
        write_image(tmp_path / each["image"], seed=1)
    rows[2] |= {"fake_cls": "face_swap", "fake_image_box": [900, 900, 950, 950]}
    images = ingest_rows(tmp_path, rows, root=tmp_path)["images"]
    assert (images["usable"], images["captions_needed"], images["captions_saved"]) == (3, 1, 1)
    unread = ingest_rows(tmp_path, rows)["images"]
    assert (unread["captions_needed"], unread["captions_saved"]) == (0, 0)


@pytest.fixture
def folder(tmp_path):
    rows = [row(n) for n in range(6)]
    write_images(tmp_path, rows)
    (tmp_path / rows[5]["image"]).write_bytes(b"<html>")
    return tmp_path, rows


def test_a_second_ingest_decodes_nothing_and_says_the_same(folder):
    root, rows = folder
    first = ingest_rows(root, rows, root=root)
    second = ingest_rows(root, rows, root=root)
    assert (first["images"]["checked"], first["images"]["from_cache"]) == (6, 0)
    assert (second["images"]["checked"], second["images"]["from_cache"]) == (0, 6)
    assert first["version"] == second["version"]
    assert first["by_reason"] == second["by_reason"] == {"unreadable_image": 1}


def test_a_changed_file_is_decoded_again(folder):
    root, rows = folder
    ingest_rows(root, rows, root=root)
    write_image(root / rows[5]["image"], (77, 55))
    os.utime(root / rows[1]["image"], ns=(1, 1))
    summary = ingest_rows(root, rows, root=root)
    assert (summary["images"]["checked"], summary["by_reason"]) == (2, {})
    assert samples(root / "out")[5]["width"] == 77


def test_a_lower_pixel_limit_counts_for_remembered_images_too(folder):
    root, rows = folder
    ingest_rows(root, rows, root=root)
    summary = ingest_rows(root, rows, root=root, max_pixels=40 * 32 - 1)
    assert summary["by_reason"] == {"unreadable_image": 1, "decompression_bomb": 5}
    assert ingest_rows(root, rows, root=root)["by_reason"] == {"unreadable_image": 1}


@pytest.mark.parametrize("damage", ["garbage", "cut", "other columns", "other version", "folder"])
def test_a_damaged_cache_costs_time_and_nothing_else(folder, damage, caplog):
    root, rows = folder
    first = ingest_rows(root, rows, root=root)
    cache = root / "out" / "cache" / "images.parquet"
    table = pq.read_table(cache)
    if damage == "garbage":
        cache.write_bytes(b"no parquet here")
    elif damage == "cut":
        cache.write_bytes(cache.read_bytes()[:-40])
    elif damage == "other columns":
        pq.write_table(table.drop_columns(["width"]), cache)
    elif damage == "other version":
        pq.write_table(table.replace_schema_metadata({"image_cache": "0"}), cache)
    else:
        cache.unlink()
        (cache / "x").mkdir(parents=True)
    with caplog.at_level(logging.INFO):
        second = ingest_rows(root, rows, root=root)
    assert second["version"] == first["version"]
    assert second["images"]["checked"] == 6
    assert "decoded again" in caplog.text


def test_a_file_without_permission_is_not_remembered_as_bad(folder, monkeypatch):
    root, rows = folder
    verdict = ImageDefect("unreadable_image", "no permission", lasting=False)
    monkeypatch.setattr("pipeline.ingest.pool.judge_images", lambda paths, limit: [verdict] * len(paths))
    assert ingest_rows(root, rows, root=root)["by_reason"] == {"unreadable_image": 6}
    monkeypatch.undo()
    assert ingest_rows(root, rows, root=root)["by_reason"] == {"unreadable_image": 1}


def test_skipping_images_touches_no_image_file(tmp_path, monkeypatch):
    rows = [row(1, "face_swap", fake_image_box=[-1, 2, 4000, 5000])]
    write_images(tmp_path, rows)
    before = os.stat(tmp_path / rows[0]["image"])
    script = (
        "import sys, pipeline.__main__ as m; code = m.main(sys.argv[1:]);"
        "assert 'PIL.Image' not in sys.modules, 'a decoder is loaded'; sys.exit(code)"
    )
    command = [
        "ingest",
        "--metadata",
        str(write_json(tmp_path / "val.json", rows)),
        "--image-root",
        str(tmp_path),
    ]
    arguments = [*command, "--skip-images", "--out", str(tmp_path / "out")]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True)
    assert os.stat(tmp_path / rows[0]["image"]).st_atime_ns == before.st_atime_ns
    assert samples(tmp_path / "out")[0]["fake_image_box"] == [0, 2, 4000, 5000]


def many(tmp_path, count):
    source = write_image(tmp_path / "source.jpg")
    paths = []
    for number in range(count):
        shutil.copy(source, tmp_path / f"{number}.jpg")
        paths.append(str(tmp_path / f"{number}.jpg"))
    return paths


def test_a_pool_says_the_same_as_this_process(tmp_path):
    paths = [*many(tmp_path, 30), str(tmp_path / "none.jpg")]
    alone = dict(judge_all(paths, 10**6, workers=1))
    together = dict(judge_all(paths, 10**6, workers=2))
    assert alone == together
    assert list(alone) == paths
    assert isinstance(alone[paths[0]], ImageFacts)
    assert alone[paths[-1]].code == "missing_image"


# Worker processes import what they run, so the stand-in for a crashing decoder is a function of this module.
def crash_on_marked(paths, max_pixels):
    from pipeline.ingest.images import judge_images

    for path in paths:
        if os.path.basename(path) == "7.jpg":
            os.kill(os.getpid(), signal.SIGKILL)
    return judge_images(paths, max_pixels)


def test_a_file_that_kills_its_worker_is_the_only_one_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(pool_module, "judge_images", crash_on_marked)
    paths = many(tmp_path, 12)
    verdicts = dict(judge_all(paths, 10**6, workers=2))
    bad = {os.path.basename(path): v for path, v in verdicts.items() if isinstance(v, ImageDefect)}
    assert set(verdicts) == set(paths)
    assert list(bad) == ["7.jpg"]
    assert "crashed" in bad["7.jpg"].message


def test_where_processes_do_not_start_images_are_checked_here(tmp_path, monkeypatch):
    script = tmp_path / "no_guard.py"
    # A script without a main guard cannot be imported by its workers, which then die at once.
    script.write_text(
        "import sys\nfrom pipeline.ingest.pool import judge_all\n"
        "if __name__ == '__mp_main__': raise SystemExit(1)\n"
        "print(sum(1 for _ in judge_all(sys.argv[1:], 10**6, workers=2)))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), *many(tmp_path, 4)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert done.stdout.strip() == "4", done.stderr


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time\nfrom pipeline.ingest import pool\n"
        "if __name__ == '__main__':\n"
        "    workers = pool._new_pool(1)\n"
        "    workers.submit(len, ()).result()\n"
        "    print(*workers._processes, flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(worker)


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_stop_keeps_what_was_checked_and_the_next_run_goes_on(tmp_path, monkeypatch):
    from pipeline.errors import Interrupted

    rows = [row(n) for n in range(8)]
    write_images(tmp_path, rows)
    path = write_json(tmp_path / "train.json", rows)
    real = pool_module.judge_images

    def judge_and_stop(paths, limit):
        if paths[0].endswith("/4.jpg"):
            signal.raise_signal(signal.SIGTERM)
        return real(paths, limit)

    monkeypatch.setattr(pool_module, "judge_images", judge_and_stop)
    with pytest.raises(Interrupted, match="the same command goes on"):
        run(tmp_path / "out", path, root=tmp_path)
    assert not (tmp_path / "out" / "samples").exists()
    monkeypatch.undo()
    summary = run(tmp_path / "out", path, root=tmp_path)
    assert (summary["images"]["from_cache"], summary["images"]["checked"]) == (5, 3)


def test_every_message_about_a_file_names_it(tmp_path):
    rows = [row(n) for n in range(3)]
    write_images(tmp_path, rows[1:])
    (tmp_path / rows[1]["image"]).write_bytes(b"")
    ingest_rows(tmp_path, rows, root=tmp_path)
    assert [("0.jpg" in q["message"], "1.jpg" in q["message"]) for q in quarantine(tmp_path / "out")] == [
        (True, False),
        (False, True),
    ]
