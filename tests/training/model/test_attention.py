from __future__ import annotations

import math

import torch

from training.model.attention import Attention


def make() -> tuple[Attention, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    attention = Attention(16, 4).double()
    x, keys = torch.randn(3, 5, 16).double(), torch.randn(3, 7, 16).double()
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[0, 4:] = False
    return attention, x, keys, mask


def test_with_and_without_scores_mix_the_same() -> None:
    attention, x, keys, mask = make()
    bias = torch.rand(3, 7).double()
    for bias_or_none in (None, bias):
        fused, none = attention(x, keys, mask, bias_or_none)
        shown, scores = attention(x, keys, mask, bias_or_none, with_scores=True)
        assert none is None
        assert torch.allclose(fused, shown, atol=1e-6)
        assert scores.shape == (3, 4, 5, 7)


def test_masked_keys_take_no_part() -> None:
    attention, x, keys, mask = make()
    changed = keys.clone()
    changed[0, 4:] += 10
    assert torch.equal(attention(x, keys, mask)[0], attention(x, changed, mask)[0])
    assert not torch.equal(attention(x, keys)[0], attention(x, changed)[0])
    scores = attention(x, keys, mask, with_scores=True)[1]
    assert torch.isinf(scores[0, :, :, 4:]).all() and torch.isfinite(scores[0, :, :, :4]).all()


def test_scores_are_scaled_dot_products_without_the_bias() -> None:
    attention, x, keys, _ = make()
    q = attention.query(x).view(3, 5, 4, 4)
    k = attention.key_value(keys)[..., :16].reshape(3, 7, 4, 4)
    expected = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(4)
    scores = attention(x, keys, None, torch.full((3, 7), 5.0).double(), with_scores=True)[1]
    assert torch.allclose(scores, expected.float(), atol=1e-5)


def test_bias_draws_attention_to_guided_keys() -> None:
    attention, x, keys, _ = make()
    bias = torch.zeros(3, 7).double()
    bias[:, 2] = 50.0
    guided = attention(x, keys, None, bias)[0]
    only = attention(x, keys[:, 2:3])[0]
    assert torch.allclose(guided, only, atol=1e-6)
