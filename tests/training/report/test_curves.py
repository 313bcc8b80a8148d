from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from training.errors import DataError, UsageError
from training.report.curves import draw_curves, main
from training.report.panels import smoothed
from training.report.runlog import read_log


def record(step, **more):
    losses = {"loss/bic": 0.7 * math.exp(-step / 60), "loss/tmg": 0.5, "weighted/bic": 0.7}
    pace = {"lr/towers": 1e-5, "lr/new": 1e-4 * step, "speed/samples_per_s": 600.0}
    return {"step": step, "epoch": step / 40, **losses, **pace, **more}


def validation(step):
    return {"step": step, "val/auc": 0.9 + step / 1e4, "val/map": 0.8, "val/word_f1": 0.7, "val/acc": 0.8}


def write(run, *records):
    run.mkdir(exist_ok=True)
    (run / "log.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    return run / "log.jsonl"


@pytest.fixture
def run(tmp_path):
    steps = range(1, 121)
    write(tmp_path / "first", *map(record, steps), *map(validation, range(30, 121, 30)))
    return tmp_path / "first"


def test_the_command_draws_a_picture_with_ink_in_every_column(run, capsys):
    target = run / "pictures" / "curves.png"
    assert main(["--run", str(run), "--to", str(target)]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    with Image.open(target) as picture:
        dark = np.asarray(picture.convert("L")) < 200
    assert dark.shape[1] == 1760
    # Two losses, three validation figures, rates and speed: the right quarter is empty.
    assert (dark.mean(axis=0) > 0).mean() > 0.5 and dark.mean() > 0.005


def test_the_picture_says_what_it_shows(run):
    draw_curves(run / "log.jsonl", run / "curves.svg")
    # Text is drawn as outlines, each with its words in a comment.
    shown = (run / "curves.svg").read_text()
    ElementTree.fromstring(shown)
    for words in ("first: 120 optimizer steps, epoch 3", "real or fake (BIC)", "words (TMG)", "AUC", "91.2",
                  "best 91.2", "learning rate, in 1e-2", "towers", "rows per second", "600"):  # fmt: skip
        assert words in shown, words
    assert "weighted" not in shown


@pytest.mark.parametrize("records", [[record(0)], [record(5)], [{"step": 3, "val/auc": 0.5}]])
def test_a_run_that_has_just_begun_can_be_drawn(tmp_path, records, recwarn):
    draw_curves(write(tmp_path / "run", *records), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] == 1760
    assert [str(each.message) for each in recwarn] == []


def test_after_a_resume_the_later_record_of_a_step_stands(tmp_path):
    log = write(tmp_path / "run", record(1), record(2), record(3), {**record(2), "loss/tmg": 0.1}, record(4))
    steps, values = read_log(log)["loss/tmg"]
    assert steps.tolist() == [1, 2, 3, 4] and values.tolist() == [0.5, 0.1, 0.5, 0.5]


def test_values_that_are_not_finite_end_a_line(tmp_path):
    log = write(tmp_path / "run", record(1), {**record(2), "loss/tmg": math.nan}, record(3))
    assert read_log(log)["loss/tmg"][0].tolist() == [1, 3]


def test_half_a_line_at_the_end_is_left_out_but_not_in_the_middle(tmp_path):
    log = write(tmp_path / "run", record(1), record(2))
    whole = log.read_text()
    log.write_text(whole + '{"step": 3, "loss')
    assert read_log(log)["loss/bic"][0].tolist() == [1, 2]
    log.write_text('{"loss/bic": 1}\n' + whole)
    with pytest.raises(DataError, match="log.jsonl, line 1: not a JSON object with a step"):
        read_log(log)


def test_what_cannot_be_drawn_is_one_clear_line(tmp_path, run, capsys):
    assert main(["--run", str(tmp_path / "none"), "--to", str(tmp_path / "x.png")]) == 2
    assert "log.jsonl does not exist" in capsys.readouterr().err
    with pytest.raises(UsageError, match="ends in .png or .svg"):
        draw_curves(run / "log.jsonl", tmp_path / "x.pdf")
    with pytest.raises(DataError, match="no records yet"):
        draw_curves(write(tmp_path / "empty"), tmp_path / "x.png")
    with pytest.raises(DataError, match="no loss/"):
        draw_curves(write(tmp_path / "other", {"step": 1, "epoch": 0.1}), tmp_path / "x.png")
    with pytest.raises(UsageError, match="cannot be written"):
        draw_curves(run / "log.jsonl", run / "log.jsonl" / "x.png")


def test_smoothing_keeps_a_straight_line_and_takes_out_noise():
    line = np.linspace(3, 1, 400)
    np.testing.assert_allclose(smoothed(line)[:-6], line[:-6], atol=1e-12)
    noise = np.random.default_rng(0).normal(size=400)
    assert smoothed(noise).std() < 0.5 * noise.std()
    assert smoothed(line[:5]).tolist() == line[:5].tolist()
