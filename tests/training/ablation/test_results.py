from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from tests.training.engine.running import run_config, write_split_world
from tests.training.metrics.cases import some
from training.ablation import plan as plans
from training.ablation.axes import parse_axes
from training.ablation.earlier import with_earlier_axes
from training.ablation.findings import caveats, code_warnings, sentences
from training.ablation.plan import make_plan
from training.ablation.results import METRICS, collect
from training.ablation.writing import write_all
from training.config import dump_config, load_config
from training.errors import DataError
from training.metrics import evaluate

ROWS = 90
GAIN = {"base": 0.0, "lma.text=none_mgca.mode=none_pmm.mode=none": -1.5}


def predictions(variant: str, seed: int):
    """Scores that follow the truth less in some variants than in others."""
    rng = np.random.default_rng(seed)
    found = some(ROWS, seed=1)
    truth = found.is_fake * (1.2 + GAIN.get(variant, -0.3))
    noise = rng.normal(size=(ROWS, 2))
    binary = noise + np.stack([-truth, truth], axis=1)
    ids = np.array([f"sample-{row:03}" for row in range(ROWS)])
    return some(ROWS, seed=1, logits_binary=binary, sample_id=ids)


@pytest.fixture
def plan(towers: str, tmp_path: Path):
    write_split_world(tmp_path / "out", texts=False)
    config = tmp_path / "tiny.yaml"
    config.write_text(dump_config(run_config(towers, tmp_path / "out")))
    axes = parse_axes(["modules", "hnp"], load_config(config))
    made = make_plan(config, (), axes, 3, tmp_path / "out", "val", tmp_path / "abl")
    for run in made.runs:
        if run.variant == "pmm.hnp=false" and run.seed == 2:
            continue
        finish(run)
    return made


@pytest.fixture
def one_seed(towers: str, tmp_path: Path):
    write_split_world(tmp_path / "out", texts=False)
    config = tmp_path / "tiny.yaml"
    config.write_text(dump_config(run_config(towers, tmp_path / "out")))
    axes = parse_axes(["hnp"], load_config(config))
    made = make_plan(config, (), axes, 1, tmp_path / "out", "val", tmp_path / "abl")
    for run in made.runs:
        finish(run)
    return made


def finish(run, found=None):
    found = found or predictions(run.variant, run.seed)
    folder = run.folder / "val"
    folder.mkdir(parents=True, exist_ok=True)
    found.save(folder / "predictions.npz")
    (folder / "metrics.json").write_text(json.dumps(evaluate(found)))
    for path in (folder / "complete.json", run.folder / "metrics.json"):
        path.write_text("{}")


def test_figures_and_differences_are_those_of_the_runs(plan, tmp_path):
    result = collect(plan, tmp_path / "out", "val", 200, {"pmm.hnp=false-seed2": "no room"})
    assert (result["rows"], result["draws"], result["seeds"], len(result["runs"])) == (
        ROWS,
        200,
        [0, 1, 2],
        14,
    )
    auc = {
        name: [evaluate(predictions(name, seed))["auc"] for seed in range(3)] for name in result["variants"]
    }
    full = result["variants"]["base"]["metrics"]["auc"]
    assert full["mean"] == pytest.approx(np.mean(auc["base"])) and full["n"] == 3
    rows = {row["key"]: row for row in result["axes"][0]["rows"]}
    assert [(c["kind"], c["to"]) for c in rows["full"]["against"]] == [
        ("reference", "baseline"), ("previous", "lma_mgca"),
    ]  # fmt: skip
    assert rows["baseline"]["against"] == [] and len(rows["lma"]["against"]) == 1
    change = rows["full"]["against"][0]["metrics"]["auc"]
    wanted = stats.ttest_rel(auc["base"], auc[rows["baseline"]["variant"]]).confidence_interval(0.95)
    assert (change["low"], change["high"]) == pytest.approx((wanted.low, wanted.high))
    assert change["rows_low"] < change["mean"] < change["rows_high"]
    assert change["over_rows"] == 1
    # Two of the three seeds are there for both.
    assert result["axes"][1]["rows"][1]["against"][0]["metrics"]["auc"]["n"] == 2
    assert set(result["metrics"]) == set(METRICS)


def test_words_say_what_the_intervals_say(plan, tmp_path):
    result = collect(plan, tmp_path / "out", "val", 200, {})
    said = sentences(result["axes"][0])
    assert len(said) == 5
    last = next(each for each in said if each.startswith("+ LMA + MGCA + PMM (full) against baseline"))
    kinds = r"(under both kinds of chance|over the evaluated rows only \(may be seed noise\))"
    assert re.search(rf"above it {kinds} in .*AUC \(\+\d", last)
    assert "not told apart in" in last and "word F1" in last.partition("not told apart")[2]
    told = " ".join(caveats(result))
    # 6 comparisons of 7 figures have an interval over seeds; only of those one in twenty errs by chance.
    assert "42 differences with an interval over seeds" in told and "about 2 of these intervals" in told
    assert "may be the noise of their seeds" in told and "over rows there is no such count" in told


def test_with_one_seed_nothing_is_said_of_chance_in_intervals_that_are_not_there(one_seed, tmp_path):
    told = " ".join(caveats(collect(one_seed, tmp_path / "out", "val", 50, {})))
    assert "One seed: no interval over seeds" in told and "still exclude 0" not in told
    assert "may be the noise of their seeds" in told


def test_where_a_seed_failed_rows_are_compared_on_the_seeds_they_share(plan, tmp_path):
    result = collect(plan, tmp_path / "out", "val", 0, {"pmm.hnp=false-seed2": "no room"})
    hnp = result["axes"][1]
    assert hnp["common_seeds"] == [0, 1] and [row["n"] for row in hnp["rows"]] == [3, 2]
    auc = [evaluate(predictions("base", seed))["auc"] for seed in (0, 1)]
    assert hnp["rows"][0]["metrics"]["auc"]["mean"] == pytest.approx(np.mean(auc)), "seed 2 is left out"
    write_all(result, tmp_path)
    shown = (tmp_path / "ablation.md").read_text().partition("## Hard negative")[2]
    assert "| hard negatives (n = 2) |" in shown and "| random negatives (n = 2) |" in shown
    assert "Only seeds that all rows have are counted: 0, 1" in shown
    assert "Student's t over 2 to 3 (see n) seeds" in shown
    assert "(n = 3)" in (tmp_path / "ablation.md").read_text().partition("## Hard negative")[0]


def test_runs_of_different_code_are_told(plan, tmp_path, monkeypatch):
    for number, run in enumerate(plan.runs):
        monkeypatch.setattr(plans, "code_version", lambda n=number: {"commit": None, "code": f"code{n // 8}"})
        plans.stamp(run, plan.data)
    result = collect(plan, tmp_path / "out", "val", 0, {})
    assert result["runs"][0]["code"] == [{"commit": None, "code": "code0"}]
    write_all(result, tmp_path)
    assert "made with 2 versions of the code (code0; code1)" in (tmp_path / "ablation.md").read_text()
    one = {**result, "runs": result["runs"][:5]}
    assert code_warnings(one) == []


def test_a_run_that_goes_on_with_other_code_notes_both(plan, monkeypatch):
    for code in ("a", "b", "b"):
        monkeypatch.setattr(plans, "code_version", lambda code=code: {"commit": "c", "code": code})
        plans.stamp(plan.runs[0], plan.data)
    assert [each["code"] for each in plans.noted_codes(plan.runs[0])] == ["a", "b"]


def test_axes_of_earlier_starts_stay_in_the_tables(plan, tmp_path):
    config, to = tmp_path / "tiny.yaml", tmp_path / "abl"
    write_all(collect(plan, tmp_path / "out", "val", 0, {}), to)
    axes = parse_axes(["optim.warmup_steps=0,1"], load_config(config))
    later = make_plan(config, (), axes, 1, tmp_path / "out", "val", to)
    for run in later.runs:
        finish(run)
    whole = with_earlier_axes(later, config, (), tmp_path / "out", "val", to)
    assert [axis.name for axis in whole.axes] == ["modules", "hnp", "optim.warmup_steps"]
    result = collect(whole, tmp_path / "out", "val", 0, {})
    assert [row["n"] for row in result["axes"][0]["rows"]] == [3, 3, 3, 3]
    write_all(result, to)
    assert all((to / f"ablation-{name}.png").is_file() for name in ("modules", "hnp", "optim.warmup_steps"))
    # A third start keeps the values of the key, and an axis that is asked for again is not doubled.
    again = make_plan(config, (), parse_axes(["hnp"], load_config(config)), 3, tmp_path / "out", "val", to)
    third = with_earlier_axes(again, config, (), tmp_path / "out", "val", to)
    assert sorted(axis.name for axis in third.axes) == ["hnp", "modules", "optim.warmup_steps"]
    other = with_earlier_axes(again, config, (), tmp_path / "out", "test", to)
    assert [axis.name for axis in other.axes] == ["hnp"], "compared on another split"


def test_the_written_files_show_everything_and_load_nothing(plan, tmp_path):
    result = collect(plan, tmp_path / "out", "val", 50, {"pmm.hnp=false-seed2": "<no> room"})
    files = write_all(result, tmp_path)
    assert [path.name for path in files] == [
        "ablation.json", "ablation-modules.png", "ablation-hnp.png", "ablation.md", "ablation.html",
    ]  # fmt: skip
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(result))
    with Image.open(files[1]) as picture:
        assert (np.asarray(picture.convert("L")) < 200).mean() > 0.005
    page, markdown = files[4].read_text(), files[3].read_text()
    assert not re.search(r"(?:src|href)=.(?!data:)", page) and "http" not in page and "url(" not in page
    assert "@import" not in page and "<script" not in page
    assert page.count("data:image/png;base64,") == 2 and 'alt="Contribution of each module' in page
    assert "&lt;no&gt; room" in page and "<no>" not in page
    mean = f"{100 * result['variants']['base']['metrics']['auc']['mean']:.2f}"
    for shown in (page, markdown):
        for part in (mean, "93.16", "77.35", "published: + LMA", "were measured on DGM4", "hard negatives"):
            assert part in shown, part
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {len(METRICS) + 2}
    assert any("**" in line and "[+" in line for line in table), (
        "a difference that both intervals tell from 0"
    )
    assert "![Contribution" in markdown and "(ablation-modules.png)" in markdown


def test_other_rows_and_damage_are_named(plan, tmp_path):
    other = predictions("base", 0)
    finish(plan.runs[1], some(ROWS, seed=1, sample_id=np.roll(other.sample_id, 1)))
    with pytest.raises(
        DataError, match=f"{plan.runs[1].name}/val/predictions.npz: its rows are not those of"
    ):
        collect(plan, tmp_path / "out", "val", 50, {})
    (plan.runs[0].folder / "val" / "metrics.json").write_text('{"auc": 0.5')
    with pytest.raises(DataError, match=r"metrics.json is damaged .*; remove .* evaluates it again"):
        collect(plan, tmp_path / "out", "val", 50, {})
    with pytest.raises(DataError, match="no run of the ablation is evaluated on test: it broke"):
        collect(plan, tmp_path / "out", "test", 50, {"base-seed0": "it broke"})
