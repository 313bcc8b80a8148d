from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from training.engine.guard import check_finite
from training.errors import NonFiniteLoss

FINE = {"bic": torch.tensor(0.5), "mac": torch.tensor(1.5, dtype=torch.float64)}
ONE = torch.tensor(1.0)


def test_finite_terms_pass(tmp_path: Path) -> None:
    check_finite(FINE, ONE, 3, rows=[1], run_dir=tmp_path)
    check_finite({}, None, 3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_broken_term_is_named_with_the_step_and_a_remedy(bad: float) -> None:
    with pytest.raises(NonFiniteLoss, match=r"^pmm became NaN .* step 7; .*Lower optim\.lr_new"):
        check_finite({**FINE, "pmm": torch.tensor(bad)}, ONE, 7)


def test_all_broken_terms_are_named() -> None:
    nan = torch.tensor(float("nan"))
    with pytest.raises(NonFiniteLoss, match="^box_l1, pmm became"):
        check_finite({"pmm": nan, **FINE, "box_l1": nan}, nan, 7)


def test_the_gradient_is_named_when_no_term_explains_it() -> None:
    with pytest.raises(NonFiniteLoss, match="^gradient became"):
        check_finite(FINE, torch.tensor(float("inf")), 7)


def test_the_rows_are_written_down(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLoss, match=r"the rows are listed in .*nonfinite\.json"):
        check_finite({**FINE, "pmm": torch.tensor(float("nan"))}, ONE, 7, rows=[4, 9], run_dir=tmp_path)
    assert json.loads((tmp_path / "nonfinite.json").read_text()) == {
        "step": 7,
        "ranks": [{"rank": 0, "values": {"pmm": "nan"}, "rows": [4, 9]}],
    }
