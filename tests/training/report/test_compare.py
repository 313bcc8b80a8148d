from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.training.metrics.cases import some
from training.errors import DataError, UsageError
from training.metrics import evaluate
from training.report.__main__ import main
from training.report.compare import compare
from training.report.compare_runs import read_runs


def evaluated(folder, seed=0, **more):
    """Write what an evaluation leaves; return its figures."""
    folder.mkdir(parents=True)
    found = evaluate(some(90, seed=seed))
    facts = {"split": "test", "rows": 90, "data": "/data/out", **more}
    (folder / "metrics.json").write_text(json.dumps(found | facts))
    return found


@pytest.fixture
def runs(tmp_path):
    intervals = {"figures": {"auc": {"low": 0.4321, "high": 0.6543}, "acc": {"low": None, "high": None}}}
    evaluated(tmp_path / "one" / "test", 1, intervals=intervals)
    evaluated(tmp_path / "two" / "test", 2)
    return [tmp_path / "one", tmp_path / "two"]


@pytest.mark.parametrize("suffix", ["html", "md"])
def test_runs_and_published_rows_stand_in_one_table(runs, tmp_path, capsys, suffix):
    to = tmp_path / "new" / f"all.{suffix}"
    assert main(["--runs", *map(str, runs), "--names", "ours <1>", "ours 2", "--to", str(to)]) == 0
    assert capsys.readouterr().out.strip() == str(to)
    shown = to.read_text()
    first, second = (evaluate(some(90, seed=seed))["auc"] for seed in (1, 2))
    for part in (f"{100 * first:.2f}", f"{100 * second:.2f}", "[43.21, 65.43]",
                 "published: ASAP", "94.38", "CSCL",
                 "were measured on DGM4", "90 rows of test of /data/out"):  # fmt: skip
        assert part in shown, part
    assert "cannot be compared" not in shown
    if suffix == "html":
        assert "http" not in shown and not re.search(r"(?:src|href)=.(?!data:)", shown)
        assert "ours &lt;1&gt;" in shown and "ours <1>" not in shown
        assert 'alt="Figures of the runs in percent. ours' in shown


def test_the_plot_alone_can_be_written(runs, tmp_path):
    compare(read_runs(runs), tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert (np.asarray(picture.convert("L")) < 200).mean() > 0.005
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_run_without_an_evaluation_shows_its_validation(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text(json.dumps({"auc": 0.75, "score": 0.5}))
    (found,) = read_runs([tmp_path / "run"])
    assert (found.split, found.figures, found.rows) == ("its last validation", {"auc": 0.75}, None)
    evaluated(tmp_path / "run" / "train", 1, split="train")
    assert read_runs([tmp_path / "run"])[0].split == "train"
    evaluated(tmp_path / "run" / "test", 1)
    assert read_runs([tmp_path / "run"])[0].split == "test"


def test_runs_on_other_rows_are_told(runs, tmp_path):
    evaluated(tmp_path / "three", 3, rows=91)
    compare(read_runs([*runs, tmp_path / "three"]), tmp_path / "all.md")
    assert "not measured on the same rows" in (tmp_path / "all.md").read_text()


def test_a_relative_and_an_absolute_path_name_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, data in (("one", "out"), ("two", str(tmp_path / "out")), ("three", str(tmp_path / "other"))):
        evaluated(tmp_path / name, 1, data=data)
    compare(read_runs([tmp_path / "one", tmp_path / "two"]), tmp_path / "same.md")
    assert "not measured on the same rows" not in (tmp_path / "same.md").read_text()
    compare(read_runs([tmp_path / "one", tmp_path / "three"]), tmp_path / "other.md")
    assert "not measured on the same rows" in (tmp_path / "other.md").read_text()


def test_the_ids_of_the_rows_decide_where_they_are_known(tmp_path):
    ids = np.array([f"s{row}" for row in range(90)])
    for name, own in (("one", ids), ("moved", ids[::-1]), ("other", np.roll(np.append(ids[1:], "s90"), 3))):
        evaluated(tmp_path / name, 1, data=f"/data/{'moved' if name == 'moved' else 'out'}")
        some(90, seed=1, sample_id=own).save(tmp_path / name / "predictions.npz")
    compare(read_runs([tmp_path / "one", tmp_path / "moved"]), tmp_path / "same.md")
    assert "not measured on the same rows" not in (tmp_path / "same.md").read_text()
    compare(read_runs([tmp_path / "one", tmp_path / "other"]), tmp_path / "other.md")
    assert "not measured on the same rows" in (tmp_path / "other.md").read_text()


def test_without_a_file_the_page_is_written_here_and_the_table_printed(runs, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["--runs", *map(str, runs)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("# Comparison of runs") and "| one |" in printed.out
    assert printed.err.strip() == "comparison.html" and "<svg" not in printed.out
    assert "published: ASAP" in (tmp_path / "here" / "comparison.html").read_text()


def test_published_rows_say_what_must_be_known_to_compare_them(runs, tmp_path):
    compare(read_runs(runs), tmp_path / "all.md")
    lines = (tmp_path / "all.md").read_text().splitlines()
    (cscl,) = (line for line in lines if "CSCL" in line)
    assert "trained on train + val" in cscl
    hammer = [line for line in lines if "published: HAMMER" in line]
    assert "93.19" in hammer[0] and "its own table" in hammer[0]
    assert "93.09" in hammer[1] and "76.10" in hammer[1] and "ASAP" in hammer[1]


def test_evaluations_that_are_all_called_test_are_named_by_their_runs(runs):
    assert [run.name for run in read_runs([run / "test" for run in runs])] == ["one/test", "two/test"]


def test_bad_input_is_named(runs, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no metrics.json here .*evaluate.py --checkpoint"):
        read_runs([tmp_path / "empty"])
    (tmp_path / "empty" / "metrics.json").write_text('{"f1": 1}')
    with pytest.raises(DataError, match="has none of auc, acc"):
        read_runs([tmp_path / "empty"])
    (tmp_path / "empty" / "metrics.json").write_text("[1")
    with pytest.raises(DataError, match="cannot be read"):
        read_runs([tmp_path / "empty"])
    with pytest.raises(UsageError, match="1 names for 2 runs"):
        read_runs(runs, ["one"])
    with pytest.raises(UsageError, match="two runs are called 'x'"):
        read_runs(runs, ["x", "x"])
    assert main(["--runs", str(runs[0]), "--to", str(tmp_path / "all.pdf")]) == 2
    assert "the name ends in .html, .md, .png" in capsys.readouterr().err
