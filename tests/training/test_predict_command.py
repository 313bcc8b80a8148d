from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.training.data.building import photo
from tests.training.engine.running import run_config, write_split_world
from tests.training.inference.building import write_run
from training.export import main as export
from training.export import parser as export_parser
from training.inference.outputs import SCHEMA
from training.predict import main, parser

TEXT = "Person 3 smiles at the 4 gate in Lima"


@pytest.fixture(scope="module")
def model(towers: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("model")
    write_split_world(folder / "out", texts=False)
    write_run(folder / "run", run_config(towers, folder / "out"))
    assert export(["--checkpoint", str(folder / "run"), "--to", str(folder / "model")]) == 0
    return str(folder / "model")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder of three good pairs, one picture without a text, one file that is no picture."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    for n, name in enumerate(("a.jpg", "b.PNG", "c.webp", "no-text.jpg")):
        photo(40, 30, n).save(folder / name)
        if name != "no-text.jpg":
            (folder / name).with_suffix(".txt").write_text(f"{TEXT} “{n}”\n", encoding="utf-8")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "broken.txt").write_text(TEXT)
    (folder / "notes.md").write_text("not a picture")
    return folder


def test_the_options_are_frozen() -> None:
    options = {option for action in parser()._actions for option in action.option_strings}
    assert options == {
        "-h", "--help", "--checkpoint", "--image", "--text", "--folder", "--table", "--json", "--to",
        "--overlay", "--batch-size", "--device", "--quiet",
    }  # fmt: skip
    options = {option for action in export_parser()._actions for option in action.option_strings}
    assert options == {"-h", "--help", "--checkpoint", "--to", "--replace", "--json"}


def test_one_pair_as_a_script(model: str, tmp_path: Path, root: Path) -> None:
    photo(40, 30).save(tmp_path / "p.jpg")
    command = [sys.executable, str(root / "training" / "predict.py"), "--checkpoint", model, "--json"]
    command += ["--image", "p.jpg", "--text", TEXT, "--overlay", "o.png", "--to", "row.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert 0 < told["p_fake"] < 1 and [word["word"] for word in told["words"]] == TEXT.split()
    with Image.open(tmp_path / "o.png") as drawn:
        assert drawn.width >= 560
    row = json.loads((tmp_path / "row.jsonl").read_text())
    assert row["image"] == "p.jpg" and row["p_fake"] == told["p_fake"]


def test_one_pair_for_people(model: str, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = " ".join(["word"] * 60)
    assert main(["--checkpoint", model, "--image", str(pairs / "a.jpg"), "--text", long]) == 0
    told = capsys.readouterr().out
    assert "probability of a manipulation" in told and "face swap" in told
    assert "more words were not read" in told


def test_a_folder_gives_what_can_be_judged_and_says_what_cannot(
    model: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--checkpoint", model, "--folder", str(pairs), "--json", "--batch-size", "2"]
    assert main([*command, "--overlay", str(tmp_path / "drawn")]) == 4
    printed = capsys.readouterr()
    rows = {row["id"]: row for row in map(json.loads, printed.out.splitlines())}
    assert list(rows) == ["a.jpg", "b.PNG", "broken.jpg", "c.webp", "no-text.jpg"]
    assert {name for name, row in rows.items() if "error" in row} == {"broken.jpg", "no-text.jpg"}
    assert "does not decode" in rows["broken.jpg"]["error"]
    assert "no-text.txt is missing" in rows["no-text.jpg"]["error"]
    assert "5 pairs: 3 judged, 2 failed" in printed.err
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["0-a.png", "1-b.png", "3-c.png"]
    # Each picture keeps its own verdict when others fail.
    assert (
        main(["--checkpoint", model, "--image", str(pairs / "c.webp"), "--text", f"{TEXT} “2”", "--json"])
        == 0
    )
    alone = json.loads(capsys.readouterr().out)
    assert rows["c.webp"]["p_fake"] == pytest.approx(alone["p_fake"], abs=1e-6)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_of_any_kind_to_a_table_of_any_kind(
    kind: str, model: str, pairs: Path, tmp_path: Path
) -> None:
    table = pl.DataFrame(
        {"id": ["x", "y"], "image": ["pairs/a.jpg", str(pairs / "b.PNG")], "text": [TEXT, "007"]}
    )
    file = tmp_path / f"in.{kind}"
    {"csv": table.write_csv, "jsonl": table.write_ndjson, "parquet": table.write_parquet}[kind](file)
    command = [
        "--checkpoint",
        model,
        "--table",
        str(file),
        "--to",
        str(tmp_path / f"found.{kind}"),
        "--quiet",
    ]
    assert main(command) == 0
    rows = read(tmp_path / f"found.{kind}")
    assert [row["id"] for row in rows] == ["x", "y"]
    assert [row["text"] for row in rows] == [TEXT, "007"]
    assert all(0 < float(row["p_fake"]) < 1 for row in rows)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tmp")]


def read(file: Path) -> list[dict]:
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        assert table.schema.equals(SCHEMA)
        return table.to_pylist()
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert all(len(json.loads(row["words"])) == len(json.loads(row["word_scores"])) for row in rows)
    return rows


def test_rows_that_fail_stand_in_the_table_with_their_error(model: str, pairs: Path, tmp_path: Path) -> None:
    table = pl.DataFrame({"image": ["a.jpg", None, "gone.jpg", "b.PNG"], "text": [None, TEXT, TEXT, TEXT]})
    table.write_parquet(pairs / "in.parquet")
    to = tmp_path / "out" / "found.parquet"
    assert main(["--checkpoint", model, "--table", str(pairs / "in.parquet"), "--to", str(to)]) == 4
    rows = pq.read_table(to).to_pylist()
    assert [row["id"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["error"] is None for row in rows] == [False, False, False, True]
    assert "row 0 (the first is 0): its text is empty" in rows[0]["error"]
    assert "row 1 (the first is 0): its image is empty" in rows[1]["error"]
    assert "gone.jpg: no such image file" in rows[2]["error"]
    assert rows[3]["p_fake"] is not None and rows[0]["p_fake"] is None


def test_an_empty_cell_and_a_list_for_a_text_are_told_with_their_row(
    model: str, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pairs / "t.csv").write_text("id,image,text\nx,a.jpg,good text\ny,a.jpg,\n")
    assert main(["--checkpoint", model, "--table", str(pairs / "t.csv"), "--json"]) == 4
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "error" not in rows[0] and rows[1]["error"].startswith("row 1 (the first is 0): its text is empty")
    # One kind of value in a column is no excuse: every line is judged by itself.
    lines = [
        {"image": "a.jpg", "text": ["x"]},
        {"image": "a.jpg", "text": "fine"},
        {"image": "a.jpg", "text": 7},
    ]
    (pairs / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["--checkpoint", model, "--table", str(pairs / "t.jsonl"), "--json"]) == 4
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "its text is ['x'], not a text" in rows[0]["error"] and "its text is 7" in rows[2]["error"]
    assert "p_fake" in rows[1]


def test_a_reader_that_leaves_is_no_error(model: str, pairs: Path, root: Path) -> None:
    rows = "".join(json.dumps({"image": "a.jpg", "text": f"{TEXT} {n}"}) + "\n" for n in range(400))
    (pairs / "many.jsonl").write_text(rows)
    command = [sys.executable, str(root / "training" / "predict.py"), "--checkpoint", model, "--json"]
    command += ["--table", "many.jsonl", "--batch-size", "4"]
    with subprocess.Popen(command, cwd=pairs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (0, b"")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image", "a.jpg"], "--image needs --text"),
        (["--folder", ".", "--text", "x"], "--text goes with --image only"),
        (["--image", "gone.jpg", "--text", "x"], "gone.jpg: no such image file"),
        (["--image", "a.jpg", "--text", "  "], "the text is empty"),
        (["--image", "broken.jpg", "--text", "x"], "broken.jpg does not decode"),
        (["--image", "a.jpg", "--text", "x", "--overlay", "o.txt"], "end it in .png or .jpg"),
        (["--image", "a.jpg", "--text", "x", "--overlay", "o.xbm"], "end it in .png or .jpg"),
        (["--folder", ".", "--overlay", "../pairs"], "is the --folder itself; give another folder"),
        (["--image", "a.jpg", "--text", "x", "--to", "o.xlsx"], "must end in .jsonl, .csv, .parquet"),
        (["--image", "a.jpg", "--text", "x", "--device", "warp"], "--device warp"),
        (["--folder", "gone"], "--folder gone: no such folder"),
        (["--folder", "empty"], "no pictures in it"),
        (["--folder", ".", "--overlay", "a.jpg"], "is a file; give a folder"),
        (["--folder", ".", "--batch-size", "0"], "--batch-size is 0"),
        (["--table", "gone.csv"], "no such file"),
        (["--table", "notes.md"], "the name must end in .csv, .jsonl, .parquet"),
        (["--table", "other.csv"], "no column image and no column text; it has picture, words"),
        (["--table", "broken.parquet"], "cannot be read"),
    ],
)
def test_bad_usage_is_one_sentence(
    words: list[str],
    message: str,
    model: str,
    pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(pairs)
    os.mkdir("empty")
    (pairs / "other.csv").write_text("picture,words\na.jpg,x\n")
    (pairs / "broken.parquet").write_text("no table")
    before = sorted(pairs.iterdir())
    assert main(["--checkpoint", model, *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err and printed.out == ""
    assert sorted(pairs.iterdir()) == before


def test_what_is_read_is_never_written_over(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, table = tmp_path / "a.png", tmp_path / "t.csv"
    image.write_bytes(b"kept")
    table.write_text("image,text\n")
    for words in (
        ["--image", image, "--text", "T", "--overlay", tmp_path / "." / "a.png"],
        ["--table", table, "--to", table],
    ):
        assert main(["--checkpoint", model, *map(str, words)]) == 2
        assert "itself; give another name" in capsys.readouterr().err
    assert image.read_bytes() == b"kept" and table.read_text() == "image,text\n"


def test_export_says_what_it_wrote_and_refuses_with_code_2(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(["--checkpoint", model, "--to", str(tmp_path / "e"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"]["model.safetensors"] == (tmp_path / "e" / "model.safetensors").stat().st_size
    assert export(["--checkpoint", model, "--to", str(tmp_path / "e")]) == 2
    assert "--replace" in capsys.readouterr().err
    assert export(["--checkpoint", str(tmp_path / "gone"), "--to", str(tmp_path / "f")]) == 2
    assert "does not exist" in capsys.readouterr().err
