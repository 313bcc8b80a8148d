from __future__ import annotations

from pathlib import Path

import pytest

from training.ablation.axes import parse_axes, parse_axis
from training.config import load_config
from training.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "configs" / "training"
DEMO = load_config(CONFIGS / "demo.yaml")
NO_LMA = ("loss.lma.text=none", "loss.lma.ied=0")
NO_MGCA, NO_PMM = "loss.mgca.mode=none", "loss.pmm.mode=none"


def rows(text, base=DEMO):
    return {row.key: row.overrides for row in parse_axis(text, base).variants}


def test_the_expansion_of_the_named_axes_is_frozen():
    assert rows("modules") == {
        "baseline": (*NO_LMA, NO_MGCA, NO_PMM),
        "lma": (NO_MGCA, NO_PMM),
        "lma_mgca": (NO_PMM,),
        "full": (),
    }
    assert rows("lma_text") == {
        "none": (*NO_LMA, NO_MGCA, NO_PMM),
        "caption": ("loss.lma.text=caption", "loss.lma.ied=0", NO_MGCA, NO_PMM),
        "explanation": ("loss.lma.text=explanation", NO_MGCA, NO_PMM),
        "both": ("loss.lma.text=both", NO_MGCA, NO_PMM),
    }
    assert rows("hnp") == {"on": ("loss.pmm.hnp=true",), "off": ("loss.pmm.hnp=false",)}
    assert rows("mgca_mode") == {
        mode: (f"loss.mgca.mode={mode}",) for mode in ("none", "distill", "bias", "supervise")
    }


def test_rows_stand_beside_the_published_ones():
    modules, texts = parse_axes(["modules", "lma_text"], DEMO)
    assert [row.published.figures["auc"] for row in modules.variants] == [93.16, 94.28, 94.40, 94.38]
    assert [row.published.figures["tok_f1"] for row in texts.variants] == [72.05, 74.12, 73.88, 75.41]
    assert texts.variants[-1].published.figures["auc"] == modules.variants[1].published.figures["auc"]
    assert [row.published.figures for row in parse_axis("hnp", DEMO).variants] == [
        {"iou_mean": 77.35},
        {"iou_mean": 76.92},
    ]
    assert modules.stepwise and not texts.stepwise


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("loss.mgca.beta=1,2, 4", ["1", "2", "4"]),
        ("data.train_splits=[train],[train, val]", ["[train]", "[train, val]"]),
        ('train.best_metric="a,b",c', ['"a,b"', "c"]),
        ("data.limit=null,500", ["null", "500"]),
    ],
)
def test_values_of_a_key_are_taken_as_written(text, values):
    key = text.partition("=")[0]
    assert rows(text) == {value: (f"{key}={value}",) for value in values}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("module", "no such axis; choose modules, lma_text, hnp, mgca_mode, or KEY=v1,v2"),
        ("loss.mgca.beta=1", "at least two values"),
        ("loss.mgca.beta=", "at least two values"),
        ("=1,2", "takes a configuration key"),
        ("loss.mgca.beta=1,2,1", "a value stands twice"),
        ("loss.mgca.beta=1,[2", "not YAML"),
        ("train.seed=1,2", "--seeds gives the seeds"),
        ("data.out=a,b", "the same tables"),
    ],
)
def test_what_is_no_axis_is_refused(text, part):
    with pytest.raises(UsageError, match="--axis") as caught:
        parse_axis(text, DEMO)
    assert part in str(caught.value)


def test_an_axis_needs_what_it_varies():
    baseline = load_config(CONFIGS / "dgm4-baseline.yaml")
    with pytest.raises(UsageError, match="loss.lma.text=none; start from one with all modules"):
        parse_axis("modules", baseline)
    with pytest.raises(UsageError, match="loss.pmm.mode=infonce; it is 'border_bce'"):
        parse_axis("hnp", load_config(CONFIGS / "asap-released.yaml"))
    with pytest.raises(UsageError, match="hnp is given twice"):
        parse_axes(["hnp", "hnp"], DEMO)


def test_the_released_objective_can_lose_its_modules_too():
    released = CONFIGS / "asap-released.yaml"
    for text in ("modules", "lma_text"):
        for overrides in rows(text, load_config(released)).values():
            load_config(released, overrides)
