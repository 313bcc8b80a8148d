from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.data.building import write_captions
from tests.training.engine.running import run_config, write_split_world
from training.ablation.axes import parse_axes
from training.ablation.plan import STAMP, check_stamps, make_plan, stamp, title_of
from training.config import changed_keys, dump_config, load_config
from training.errors import DataError, UsageError


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_split_world(tmp_path / "out", texts=False)
    return tmp_path / "out"


@pytest.fixture
def config(towers: str, world: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_config(run_config(towers, world)))
    return path


def planned(config, world, tmp_path, axes, seeds=1, overrides=()):
    parsed = parse_axes(axes, load_config(config, overrides))
    return make_plan(config, overrides, parsed, seeds, world, "val", tmp_path / "abl")


def test_variants_that_two_axes_share_are_trained_once(config, world, tmp_path):
    plan = planned(config, world, tmp_path, ["modules", "lma_text", "hnp", "mgca_mode"], seeds=2)
    assert plan.names["lma_text"]["none"] == plan.names["modules"]["baseline"]
    assert plan.names["lma_text"]["both"] == plan.names["modules"]["lma"]
    assert plan.names["hnp"]["on"] == plan.names["modules"]["full"] == plan.names["mgca_mode"]["distill"]
    distinct = {
        "lma.text=none_mgca.mode=none_pmm.mode=none", "mgca.mode=none_pmm.mode=none", "pmm.mode=none", "base",
        "lma.text=caption_mgca.mode=none_pmm.mode=none", "lma.text=explanation_mgca.mode=none_pmm.mode=none",
        "pmm.hnp=false", "mgca.mode=none", "mgca.mode=bias", "mgca.mode=supervise",
    }  # fmt: skip
    assert {run.variant for run in plan.runs} == distinct
    assert [run.name for run in plan.runs[:10]] == [f"{run.variant}-seed0" for run in plan.runs[:10]]
    assert len(plan.runs) == 20 and plan.seeds == (0, 1), "seed by seed"
    assert title_of(plan, "mgca.mode=none_pmm.mode=none") == "+ LMA"


def test_a_run_is_the_configuration_that_the_overrides_give(config, world, tmp_path):
    plan = planned(config, world, tmp_path, ["modules"], seeds=2, overrides=["train.seed=5"])
    assert plan.seeds == (5, 6)
    by_name = {run.name: run.config for run in plan.runs}
    wanted = load_config(config, ["loss.mgca.mode=none", "loss.pmm.mode=none", "train.seed=6"])
    assert changed_keys(wanted.model_dump(mode="json"), by_name["mgca.mode=none_pmm.mode=none-seed6"]) == []


def test_names_stay_when_axes_come_and_stay_apart_when_they_are_long(config, world, tmp_path):
    first = planned(config, world, tmp_path, ["hnp"])
    more = planned(config, world, tmp_path, ["mgca_mode", "modules", "hnp"])
    assert {run.name for run in first.runs} <= {run.name for run in more.runs}
    splits = planned(config, world, tmp_path, ["data.skip_flags=[a b],[a-b]"])
    names = [run.name for run in splits.runs]
    assert len(set(names)) == 2 and all(" " not in name for name in names)


def test_two_equal_variants_in_one_axis_are_refused(config, world, tmp_path):
    with pytest.raises(UsageError, match="2 and 2.0 give the same configuration"):
        planned(config, world, tmp_path, ["loss.mgca.beta=2,2.0"])
    with pytest.raises(UsageError, match="loss.mgca.btea.*did you mean"):
        planned(config, world, tmp_path, ["loss.mgca.btea=1,2"])


def test_a_changed_configuration_is_refused_and_named(config, world, tmp_path):
    plan = planned(config, world, tmp_path, ["hnp"])
    for run in plan.runs:
        stamp(run, plan.data)
    check_stamps(plan)
    check_stamps(planned(config, world, tmp_path, ["hnp"], seeds=3, overrides=["data.workers=2"]))
    with pytest.raises(UsageError, match=r"base-seed0 was started with another .*optim.lr_new: 0.002 -> 0.5"):
        check_stamps(planned(config, world, tmp_path, ["hnp"], overrides=["optim.lr_new=0.5"]))
    with pytest.raises(UsageError, match="train.eval_every: None -> 7"):
        check_stamps(planned(config, world, tmp_path, ["hnp"], overrides=["train.eval_every=7"]))


def test_changed_tables_are_refused_and_named(config, world, tmp_path):
    plan = planned(config, world, tmp_path, ["hnp"])
    stamp(plan.runs[0], plan.data)
    write_captions(world, [])
    changed = planned(config, world, tmp_path, ["hnp"])
    assert changed.data["samples"] == plan.data["samples"] and plan.data["captions"] == "none"
    with pytest.raises(DataError, match="before the captions table changed"):
        check_stamps(changed)


def test_a_damaged_stamp_is_named(config, world, tmp_path):
    plan = planned(config, world, tmp_path, ["hnp"])
    stamp(plan.runs[0], plan.data)
    (plan.runs[0].folder / STAMP).write_text(json.dumps({"config": {}})[:-3])
    with pytest.raises(DataError, match="is damaged .*; remove"):
        check_stamps(plan)
