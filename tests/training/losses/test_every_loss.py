"""What holds for every loss: counts, masks, gradients, precision."""

from __future__ import annotations

import pytest
import torch

from tests.training.losses.cases import CASES, POSITION, ROWS

EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
ALL = torch.ones(ROWS, dtype=torch.bool)
SOME = torch.tensor([1, 0, 1, 1, 0, 1]).bool()


def value_and_gradient(case, x, rows=POSITION, mask=ALL, count=None):
    x = x.clone().requires_grad_()
    value = case.compute(x, rows, mask, count)
    (gradient,) = torch.autograd.grad(value, x)
    return value.detach(), gradient


@EVERY
def test_two_unequal_parts_with_the_global_count_add_up_to_the_whole(case):
    whole, gradient = value_and_gradient(case, case.predictions, mask=SOME)
    count = case.tally(POSITION, SOME)
    parts = [
        value_and_gradient(case, case.predictions[part], POSITION[part], SOME[part], count)
        for part in (slice(0, 4), slice(4, None))
    ]
    assert whole > 0
    torch.testing.assert_close(parts[0][0] + parts[1][0], whole)
    torch.testing.assert_close(torch.cat([parts[0][1], parts[1][1]]), gradient)


@EVERY
def test_a_count_may_be_a_tensor_and_need_not_be_whole(case):
    as_float, _ = value_and_gradient(case, case.predictions, count=0.5)
    as_tensor, _ = value_and_gradient(case, case.predictions, count=torch.tensor(0.5).double())
    torch.testing.assert_close(as_tensor, as_float)


@EVERY
@pytest.mark.parametrize("count", [None, 0, 0.0, torch.tensor(0), torch.tensor(0.0)], ids=repr)
def test_without_rows_the_loss_is_an_exact_zero_with_a_gradient_of_zero(case, count):
    value, gradient = value_and_gradient(case, case.predictions, mask=~ALL, count=count)
    assert value == 0 and value.dim() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


@EVERY
def test_an_empty_chunk_gives_zero(case):
    nothing = slice(0, 0)
    value, gradient = value_and_gradient(
        case, case.predictions[nothing], POSITION[nothing], ALL[nothing], count=None
    )
    assert value == 0 and len(gradient) == 0


@EVERY
def test_masked_rows_may_hold_nan_and_add_neither_loss_nor_gradient(case):
    clean, expected = value_and_gradient(case, case.predictions, mask=SOME)
    spoilt = case.predictions.clone()
    spoilt[~SOME] = torch.nan
    value, gradient = value_and_gradient(case, spoilt, mask=SOME)
    assert torch.equal(value, clean)
    assert torch.equal(gradient, expected)
    assert not gradient[~SOME].any()
    assert expected[SOME].any()


@EVERY
def test_one_row_is_enough(case):
    row = POSITION[3:4]
    value, gradient = value_and_gradient(case, case.predictions[row], row, ALL[row])
    assert value > 0 and gradient.isfinite().all()


# The target of mgca_distill moves with the scores but is not differentiated; its own test has the gradient.
@pytest.mark.parametrize("name", sorted(CASES.keys() - {"mgca_distill"}))
def test_the_gradient_is_the_derivative(name):
    case = CASES[name]
    finite = case.predictions.isfinite()

    def of_finite(x):
        return case.compute(case.predictions.masked_scatter(finite, x), POSITION, SOME, None)

    torch.autograd.gradcheck(of_finite, case.predictions[finite].clone().requires_grad_())


@EVERY
def test_half_precision_is_computed_in_float32(case):
    rounded = case.predictions.to(torch.bfloat16)
    exact, _ = value_and_gradient(case, rounded.double())
    value, gradient = value_and_gradient(case, rounded)
    assert value.dtype == torch.float32 and gradient.dtype == torch.bfloat16
    torch.testing.assert_close(value, exact.float(), rtol=1e-4, atol=1e-6)


@EVERY
def test_autocast_does_not_round(case):
    exact, _ = value_and_gradient(case, case.predictions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, _ = value_and_gradient(case, case.predictions.float())
    torch.testing.assert_close(value, exact.float(), rtol=1e-5, atol=1e-6)
