from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.training.engine.states import OPTIM, Small, small, train
from training.engine.optim import (
    CosineWarmup,
    adamw,
    flatten_optimizer,
    learning_rate_factor,
    parameter_groups,
    unflatten_optimizer,
)
from training.errors import DataError


def names_of(model: torch.nn.Module, groups: list[dict[str, Any]]) -> dict[str, set[str]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {group["name"]: {names[id(p)] for p in group["params"]} for group in groups}


def test_parameters_are_grouped_by_part_and_kind() -> None:
    model = Small()
    groups = parameter_groups(model, ["tower"], OPTIM)
    assert names_of(model, groups) == {
        "towers/decay": {"tower.0.weight"},
        "towers/no_decay": {"tower.0.bias", "tower.1.weight", "tower.1.bias"},
        "new/decay": {"patch_embedding.weight", "unused.weight"},
        "new/no_decay": {
            "token_embedding.weight",
            "positional_embedding",
            "patch_position",
            "log_temperature",
            "unused.bias",
        },
    }
    assert {g["name"]: (g["lr"], g["weight_decay"]) for g in groups} == {
        "towers/decay": (0.001, 0.1),
        "towers/no_decay": (0.001, 0.0),
        "new/decay": (0.01, 0.1),
        "new/no_decay": (0.01, 0.0),
    }


def test_frozen_parameters_are_left_out() -> None:
    model = Small()
    model.tower.requires_grad_(False)
    assert [g["name"] for g in parameter_groups(model, ["tower"], OPTIM)] == ["new/decay", "new/no_decay"]


def test_a_prefix_is_a_whole_name() -> None:
    with pytest.raises(ValueError, match="no parameter is named towe"):
        parameter_groups(Small(), ["tower", "towe"], OPTIM)


def test_the_schedule_is_a_linear_rise_and_half_a_cosine() -> None:
    factors = [learning_rate_factor(step, total=14, warmup=4, min_ratio=0.1) for step in range(16)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    cosine = [0.1 + 0.45 * (1 + math.cos(math.pi * k / 10)) for k in range(11)]
    assert factors[4:15] == pytest.approx(cosine, abs=1e-15)
    assert factors[9] == pytest.approx(0.55)
    assert factors[14] == factors[15] == pytest.approx(0.1)


@pytest.mark.parametrize(("total", "warmup"), [(5, 1000), (5, 5), (1, 0), (1, 1)])
def test_a_long_warmup_reaches_the_peak_within_the_run(total: int, warmup: int) -> None:
    factors = [learning_rate_factor(step, total, warmup, 0.0) for step in range(total)]
    assert max(factors) == 1.0 and min(factors) > 0.0


def test_each_group_follows_its_own_peak() -> None:
    _, optimizer = small()
    schedule = CosineWarmup(optimizer, total=10, warmup=2, min_ratio=0.0)
    assert schedule.rates() == pytest.approx({"towers": 0.0005, "new": 0.005})
    schedule.step()
    assert schedule.rates() == pytest.approx({"towers": 0.001, "new": 0.01})


def test_a_restored_schedule_gives_the_same_rates() -> None:
    _, optimizer = small()
    schedule = CosineWarmup(optimizer, total=10, warmup=2, min_ratio=0.0)
    for _ in range(5):
        schedule.step()
    _, other_optimizer = small()
    other = CosineWarmup(other_optimizer, total=10, warmup=2, min_ratio=0.0)
    other.load_state_dict(schedule.state_dict())
    assert other.rates() == schedule.rates()
    schedule.step()
    other.step()
    assert other.rates() == schedule.rates()


def test_the_optimizer_state_survives_another_order_of_groups_and_parameters() -> None:
    model, optimizer = small()
    train(model, optimizer, 3)
    flat = {name: value.clone() for name, value in flatten_optimizer(optimizer, model).items()}
    twin = Small()
    twin.load_state_dict(model.state_dict())
    groups = parameter_groups(twin, ["tower"], OPTIM)[::-1]
    for group in groups:
        group["params"].reverse()
    other = adamw(groups, OPTIM, torch.device("cpu"))
    unflatten_optimizer(other, twin, flat)
    torch.manual_seed(1)
    train(model, optimizer, 2)
    torch.manual_seed(1)
    train(twin, other, 2)
    for name, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name


def test_state_is_named_by_parameter_and_absent_where_no_gradient_came() -> None:
    model, optimizer = small()
    train(model, optimizer, 3)
    flat = flatten_optimizer(optimizer, model)
    assert flat["tower.0.weight/step"].item() == 3
    assert flat["tower.0.weight/exp_avg"].shape == (6, 4)
    assert not [name for name in flat if name.startswith("unused")]


def test_names_are_those_of_the_bare_model() -> None:
    model, optimizer = small()
    train(model, optimizer, 1)
    wrapped = torch.nn.Module()
    wrapped.add_module("_orig_mod", model)
    assert flatten_optimizer(optimizer, wrapped).keys() == flatten_optimizer(optimizer, model).keys()
    assert len(parameter_groups(wrapped, ["tower"], OPTIM)) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tower.0.weight/exp_avg": None}, "o.safetensors: tower.0.weight/exp_avg is missing"),
        ({"tower.0.weight/exp_avg": torch.zeros(2)}, r"tower.0.weight/exp_avg has shape \(2,\).* \(6, 4\)"),
        ({"gone.weight/step": torch.zeros(())}, "no trained parameter is named gone.weight"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    model, optimizer = small()
    train(model, optimizer, 1)
    flat = {n: v for n, v in (flatten_optimizer(optimizer, model) | change).items() if v is not None}
    with pytest.raises(DataError, match=message):
        unflatten_optimizer(optimizer, model, flat, "o.safetensors")
