"""The ``ingest`` command as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pipeline.__main__ import main
from schemas import open_table
from tests.pipeline.ingest.builder import row, write_images, write_json
from tests.pipeline.ingest.defects import write_defective_folder


def command(capsys, *arguments):
    code = main(["ingest", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def data(tmp_path):
    rows = [
        row(1),
        row(2, "face_swap"),
        row(1, "text_swap", image=row(1)["image"], text="Lima mourns its former mayor"),
    ]
    write_images(tmp_path / "data", rows)
    write_json(tmp_path / "data" / "metadata" / "train.json", rows)
    return tmp_path / "data"


def test_json_holds_the_contract_and_nothing_else_is_on_stdout(data, tmp_path, capsys):
    code, out, _ = command(capsys, "--data", data, "--out", tmp_path / "out", "--json")
    summary = json.loads(out)
    assert code == 0
    contract = ("rows_read", "samples", "duplicates", "quarantined", "by_reason", "original_text_coverage")
    assert [summary[key] for key in contract] == [3, 3, 0, 0, {}, 1.0]


def test_the_text_for_people_holds_the_figures(data, tmp_path, capsys):
    _, out, _ = command(capsys, "--data", data, "--out", tmp_path / "out")
    for words in (
        "3 rows read",
        "3 samples (train 3)",
        "100.0% of 1 text-manipulated",
        "2 image files",
        "samples/v-",
    ):
        assert words in out


def test_files_and_root_can_be_named_instead(data, tmp_path, capsys):
    files = ("--metadata", data / "metadata" / "train.json", "--image-root", data)
    code, out, _ = command(capsys, *files, "--out", tmp_path / "out", "--split", "test", "--json")
    assert (code, json.loads(out)["by_split"]["test"]) == (0, 3)
    assert open_table(tmp_path / "out", "samples").info["image_root"] == str(data)


def test_the_image_root_is_stored_absolute(data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command(capsys, "--data", "data", "--out", "out")
    table = open_table("out", "samples")
    assert table.info["image_root"] == str(data)
    path = table.to_arrow(["image_path"]).column(0)[0].as_py()
    assert (data / path).is_file()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "--metadata"),
        (["--metadata", "{data}/metadata/none.json", "--image-root", "{data}"], "no such file"),
        (["--metadata", "{data}/metadata", "--image-root", "{data}"], "is a folder"),
        (["--metadata", "{data}/metadata/train.json"], "--image-root"),
        (["--metadata", "{data}/metadata/train.json", "--image-root", "{data}/none"], "no such folder"),
        (["--data", "{data}", "--metadata", "{data}/metadata/train.json"], "give one of them"),
        (["--data", "{data}/metadata/none"], "no train.json"),
        (["--data", "{data}", "--columns", "imge=x"], "did you mean image"),
        (["--data", "{data}", "--max-pixels", "0"], "--max-pixels 0"),
        (["--data", "{data}", "--workers", "0"], "--workers 0"),
        (["--metadata", *["{data}/metadata/train.json"] * 2, "--skip-images"], "given twice"),
    ],
)
def test_bad_usage_ends_with_2_and_names_the_remedy(data, tmp_path, capsys, arguments, words):
    arguments = [argument.format(data=data) for argument in arguments]
    code, out, err = command(capsys, *arguments, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert words in err
    assert not (tmp_path / "out" / "samples").exists()


def test_a_folder_full_of_defects_ends_with_0(tmp_path):
    folder = write_defective_folder(tmp_path / "data")
    arguments = ["ingest", "--data", str(folder.data), "--out", str(tmp_path / "out"), "--json"]
    done = subprocess.run([sys.executable, "-m", "pipeline", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["by_reason"] == folder.by_reason
    assert summary["rows_read"] == folder.rows
    assert "Traceback" not in done.stderr


def test_a_wrong_image_root_is_pointed_out(data, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    code, out, _ = command(capsys, "--data", data, "--image-root", empty, "--out", tmp_path / "out")
    assert code == 0
    assert f"is {empty} the right --image-root?" in out
    assert "not one row became a sample" in out


def test_leakage_is_pointed_out(data, tmp_path, capsys):
    write_json(data / "metadata" / "test.json", [row(1)])
    _, out, _ = command(capsys, "--data", data, "--out", tmp_path / "out")
    assert "1 rows stand in two splits and are kept in the evaluated one (1 train -> test)" in out


def test_an_empty_list_gives_empty_tables(data, tmp_path, capsys):
    write_json(data / "metadata" / "train.json", [])
    code, out, _ = command(capsys, "--data", data, "--out", tmp_path / "out")
    assert code == 0
    assert "the files hold no rows" in out
    assert open_table(tmp_path / "out", "samples").num_rows == 0


def test_ingest_does_not_load_pandas_or_torch():
    script = (
        "import sys, pipeline.__main__ as m; m.main(sys.argv[1:]);"
        "loaded = {'pandas', 'torch', 'transformers', 'polars', 'pydantic', 'prefect'} & set(sys.modules);"
        "sys.exit(f'{loaded} loaded' if loaded else 0)"
    )
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = write_json(Path(folder) / "train.json", [row(1)])
        arguments = ["ingest", "--metadata", str(path), "--skip-images", "--out", f"{folder}/out"]
        subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True)


def test_pandas_can_be_loaded_after_an_ingest_in_the_same_process(data, tmp_path):
    script = (
        "import sys, pipeline.__main__ as m; m.main(sys.argv[1:]);"
        "import pyarrow as pa; frame = pa.table({'a': [1, 2]}).to_pandas(); assert list(frame.a) == [1, 2];"
        "assert pa.Array.from_pandas(frame.a).to_pylist() == [1, 2]"
    )
    arguments = ["ingest", "--data", str(data), "--out", str(tmp_path / "out")]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True)
