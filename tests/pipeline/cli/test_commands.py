from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import polars as pl
import pytest

from pipeline.__main__ import COMMANDS, main
from schemas import open_table
from tests.builders import write_echo_config, write_samples


@pytest.fixture
def out(tmp_path):
    write_samples(tmp_path / "out", 30, rows_per_shard=12)
    config = str(write_echo_config(tmp_path))
    assert main(["captions", "--config", config, "--out", str(tmp_path / "out")]) == 0
    assert main(["explanations", "--config", config, "--out", str(tmp_path / "out")]) == 0
    return tmp_path / "out"


def result(capsys, *argv):
    capsys.readouterr()
    code = main([*map(str, argv), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_status_counts_shards_rows_and_failures(out, capsys):
    code, status = result(capsys, "status", "--out", out)
    assert code == 0
    captions = status["tables"]["captions"]
    assert (captions["shards_done"], captions["shards_planned"], captions["rows"]) == (3, 3, 30)
    assert captions["eta_seconds"] is None and captions["failures"] == 0
    marker = sorted((out / "captions").glob("v-*/*.marker.json"))[0]
    marker.unlink()
    code, status = result(capsys, "status", "--out", out)
    captions = status["tables"]["captions"]
    assert (captions["shards_done"], captions["rows"]) == (2, 20)
    assert captions["eta_seconds"] is not None


def test_status_of_an_empty_folder_says_how_to_start(tmp_path, capsys):
    assert main(["status", "--out", str(tmp_path)]) == 0
    assert "pipeline ingest" in capsys.readouterr().out


def test_verify_exits_0_only_if_all_holds(out, capsys):
    code, report = result(capsys, "verify", "--out", out, "--deep")
    assert code == 0 and report["ok"] and set(report["tables"]) == {"samples", "captions", "explanations"}
    open_table(out, "captions").files[0].unlink()
    code, report = result(capsys, "verify", "--out", out)
    assert code == 2 and not report["ok"] and "captions" in report["problems"][0]["table"]


@pytest.mark.parametrize("table", ["samples", "captions", "explanations", "failures"])
def test_export_writes_one_file_with_every_row(out, tmp_path, capsys, table):
    target = tmp_path / "flat.parquet"
    code, report = result(capsys, "export", "--out", out, "--table", table, "--to", target)
    assert code == 0
    assert pl.read_parquet(target).equals(open_table(out, table).to_polars())
    assert report["rows"] == len(pl.read_parquet(target))


def test_export_of_one_split(out, tmp_path, capsys):
    target = tmp_path / "val.parquet"
    result(capsys, "export", "--out", out, "--table", "explanations", "--to", target, "--split", "val")
    assert set(pl.read_parquet(target)["split"]) == {"val"} and len(pl.read_parquet(target)) == 10


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["export", "--out", "OUT", "--table", "captions", "--to", "x.csv"], "ends in .parquet"),
        (["export", "--out", "OUT", "--table", "captions", "--to", "/nowhere/x.parquet"], "does not exist"),
        (
            ["export", "--out", "OUT", "--table", "predictions", "--to", "x.parquet"],
            "no table 'predictions' here",
        ),
        (["captions", "--config", "/nowhere.yaml", "--out", "OUT"], "does not exist"),
        (["examples", "--out", "/nowhere", "--table", "captions"], "no table 'captions' here"),
    ],
)
def test_bad_usage_is_one_clear_line_and_exit_code_2(out, capsys, argv, complaint):
    capsys.readouterr()
    assert main([str(out) if word == "OUT" else word for word in argv]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("error: ") and complaint in captured.err
    assert "Traceback" not in captured.err and captured.out == ""


def test_an_out_folder_that_cannot_be_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    config = write_echo_config(tmp_path)
    write_samples(tmp_path / "out", 3)
    (tmp_path / "out" / "captions").write_text("in the way")
    assert main(["captions", "--config", str(config), "--out", str(tmp_path / "out")]) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_a_full_disk_names_the_remedy_and_the_same_command_resumes(tmp_path, capsys, monkeypatch):
    config = write_echo_config(tmp_path)
    write_samples(tmp_path / "out", 30)
    command = ["captions", "--config", str(config), "--out", str(tmp_path / "out")]
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert main(command) == 2
    assert "No space left" in capsys.readouterr().err
    monkeypatch.undo()
    assert 0 < open_table(tmp_path / "out", "captions").num_rows < 30
    assert main(command) == 0
    assert open_table(tmp_path / "out", "captions").num_rows == 30


def test_examples_show_manipulations_first(out, capsys):
    code, shown = result(capsys, "examples", "--out", out, "--table", "explanations", "-n", 3)
    assert code == 0 and len(shown["examples"]) == 3
    assert all(row["kind"] == "manipulation" and row["text"] for row in shown["examples"])
    assert main(["examples", "--out", str(out), "--table", "captions", "-n", "2"]) == 0
    text = capsys.readouterr().out
    assert text.count("caption  ") == 2 and str(out) in text


def test_every_command_has_help_and_unknown_ones_are_refused(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0
        assert "--out" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["captain"])
    assert caught.value.code == 2


def test_looking_at_tables_loads_neither_torch_nor_prefect(out):
    code = (
        "import sys; from pipeline.__main__ import main; "
        f"assert main(['status', '--out', {str(out)!r}]) == 0; "
        "loaded = {'torch', 'transformers', 'prefect', 'vllm', 'pandas'} & set(sys.modules); "
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
