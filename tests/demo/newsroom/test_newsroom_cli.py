from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from demo.newsroom import caption_facts, generate_items, parse_caption
from demo.newsroom.cli import main

FIELDS = ["id", "image", "text", "fake_cls", "fake_image_box", "fake_text_pos", "mtcnn_boxes"]


def run(out: Path, *more: str) -> int:
    return main(["--out", str(out), "--seed", "9", "--workers", "1", "--quiet", *more])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("newsroom") / "DGM4"
    assert run(out, "--samples", "130", "--ground-truth", str(out.parent / "truth.jsonl")) == 0
    return out


def rows_of(world: Path, split: str) -> list[dict]:
    return json.loads((world / "metadata" / f"{split}.json").read_text(encoding="utf-8"))


def test_the_layout_is_dgm4s(world: Path) -> None:
    rows = [row for split in ("train", "val", "test") for row in rows_of(world, split)]
    assert len(rows) == 130
    images = {row["image"] for row in rows}
    assert all(list(row) == FIELDS for row in rows)
    assert all(image.startswith("DGM4/") for image in images)
    expected = {image.removeprefix("DGM4/") for image in images}
    expected |= {f"metadata/{split}.json" for split in ("train", "val", "test")}
    assert set(contents(world)) == expected
    assert {p.name for p in (world / "origin").iterdir()} <= {
        "guardian",
        "usa_today",
        "washington_post",
        "bbc",
    }
    methods = {"infoswap", "simswap", "StyleCLIP", "HFGI"}
    assert {p.name for p in (world / "manipulation").iterdir()} == methods


def test_boxes_fit_the_files(world: Path) -> None:
    for row in rows_of(world, "train"):
        with Image.open(world / row["image"].removeprefix("DGM4/")) as image:
            image.load()
            for box in [row["fake_image_box"] or [0, 0, 1, 1], *row["mtcnn_boxes"]]:
                assert box[2] <= image.width and box[3] <= image.height


def test_metadata_is_what_the_library_generates(world: Path) -> None:
    items = list(generate_items(130, 9))
    for split in ("train", "val", "test"):
        assert rows_of(world, split) == [i.annotation for i in items if i.split == split]


def test_ground_truth_states_what_each_picture_shows(world: Path) -> None:
    lines = (world.parent / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    truth = {row["image"]: row for row in map(json.loads, lines)}
    items = list(generate_items(130, 9))
    assert set(truth) == {i.image for i in items}
    for item in items:
        row = truth[item.image]
        assert row["facts"] == caption_facts(item.scene) == parse_caption(row["caption"])
        assert row["split"] == item.split


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_workers(world: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "again", "--samples", "130", "--workers", "2") == 0
    assert contents(tmp_path / "again") == contents(world)


def test_a_data_set_is_replaced_only_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--samples", "12") == 0
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, "--samples", "9", "--seed", "10")
    assert stop.value.code == 2
    assert "--overwrite" in capsys.readouterr().err
    assert contents(tmp_path) == before
    assert run(tmp_path, "--samples", "9", "--seed", "10", "--overwrite") == 0
    assert run(tmp_path / "fresh", "--samples", "9", "--seed", "10") == 0
    fresh = contents(tmp_path / "fresh")
    assert {k: v for k, v in contents(tmp_path).items() if not k.startswith("fresh")} == fresh


def test_files_that_are_not_the_newsrooms_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / "mine.txt").write_text("keep")
    assert run(tmp_path, "--samples", "6") == 0
    assert (tmp_path / "origin" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "0"], "--samples is 0"),
        (["--workers", "0"], "--workers is 0"),
        (["--traces", "2"], "traces is 2.0"),
        (["--splits", "0", "0", "0"], "split shares"),
    ],
)
def test_bad_usage_exits_with_2_and_names_the_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "w", *arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "w", "--samples", "3") == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_the_module_runs_and_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo.newsroom", "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--out", "--samples", "--seed", "--traces", "--workers", "--ground-truth"):
        assert option in done.stdout
