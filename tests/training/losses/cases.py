"""Each loss as a function of one tensor of predictions, on a batch that has every kind of row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training import losses
from training.losses import Bank

ROWS, WIDTH, TOKENS, PATCHES, HEADS = 6, 5, 4, 9, 2
GRID = (3, 3)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(normal(*shape, seed=seed), dim=-1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bits(*shape: int, seed: int = 0, share: float = 0.5) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def bank(seed: int = 0, queue: int = 3, like: Tensor | None = None) -> Bank:
    """Keys of the six rows (two of equal content) and a queue whose last place is empty."""
    ids = torch.arange(ROWS + queue)
    ids[3] = ids[1]
    valid = torch.ones(ROWS + queue, dtype=torch.bool)
    if queue:
        valid[-1] = False
    features = unit(ROWS + queue, WIDTH, seed=seed)
    return Bank(features if like is None else as_wide(features, like), ids, valid)


def as_wide(x: Tensor, like: Tensor) -> Tensor:
    """Return ``x`` in float64 beside float64 predictions, else in float32, as momentum features are."""
    return x if like.dtype == torch.float64 else x.float()


@dataclass(frozen=True)
class Case:
    """``compute(predictions, rows, row_mask, count)`` on the rows of the batch with these indices."""

    predictions: Tensor
    compute: Callable[..., Tensor]
    tally: Callable[[Tensor, Tensor], float]
    """What ``count`` counts, of these rows under this mask."""


def _rows(rows: Tensor, mask: Tensor) -> float:
    return float(mask.sum())


POSITION = torch.arange(ROWS)
FAKE = torch.tensor([0, 1, 1, 0, 1, 1]).bool()
TYPES = bits(ROWS, 4, seed=1).double()
LABELS = bits(ROWS, TOKENS, seed=2).long()
LABELS[:, -1] = -100
BOXES = torch.tensor([[0.5, 0.5, 0.4, 0.3], [0.3, 0.6, 0.2, 0.2], [0.5, 0.5, 1, 1]]).double().repeat(2, 1)
BOXES[4] = 0
REGION = bits(ROWS, PATCHES, seed=3)
REGION[0], REGION[1] = True, False
REGION[2] = torch.arange(PATCHES) == 4
KEY_MASK = torch.arange(PATCHES) < torch.tensor([9, 9, 7, 5, 3, 1])[:, None]
QUERY_MASK = torch.arange(TOKENS) < torch.tensor([4, 3, 2, 1, 4, 4])[:, None]
KEY_GUIDANCE, QUERY_GUIDANCE = bits(ROWS, PATCHES, seed=4), bits(ROWS, TOKENS, seed=5)
SCORES = normal(ROWS, HEADS, TOKENS, PATCHES, seed=6).masked_fill(~KEY_MASK[:, None, None], -math.inf)


def _info_nce(x, rows, mask, count):
    soft = as_wide(normal(ROWS, ROWS + 3, seed=7).softmax(1), x)
    return losses.info_nce(
        x,
        bank(1, like=x),
        position=rows,
        temperature=0.3,
        hard=~FAKE[rows],
        soft=soft[rows],
        alpha=0.4,
        row_mask=mask,
        count=count,
    )


def _mac(x, rows, mask, count):
    return losses.mac_loss(
        x[:, 0],
        x[:, 1],
        bank(1, like=x),
        bank(2, like=x),
        position=rows,
        real=~FAKE[rows],
        temperature=0.3,
        alpha=0.4,
        row_mask=mask,
        count=count,
    )


def _pair(loss):
    def compute(x, rows, mask, count):
        return loss(
            x[:, 0],
            x[:, 1],
            bank(1, like=x),
            bank(2, like=x),
            position=rows,
            mask=mask,
            temperature=0.3,
            count=count,
        )

    return compute


def _tmg(x, rows, mask, count):
    soft = as_wide(normal(ROWS, TOKENS, 2, seed=8)[rows], x)
    return losses.tmg_loss(x, LABELS[rows], soft=soft, alpha=0.4, row_mask=mask, count=count)


def _distill(x, rows, mask, count):
    return losses.mgca_distill_loss(
        x,
        KEY_GUIDANCE[rows],
        query_mask=QUERY_MASK[rows],
        key_mask=KEY_MASK[rows],
        row_mask=mask,
        beta=2.0,
        count=count,
    )


def _supervise(x, rows, mask, count):
    return losses.mgca_supervise_loss(
        x,
        QUERY_GUIDANCE[rows],
        KEY_GUIDANCE[rows],
        query_mask=QUERY_MASK[rows],
        key_mask=KEY_MASK[rows],
        row_mask=mask,
        count=count,
    )


def _bias(x, rows, mask, count):
    return losses.mgca_bias_loss(x, KEY_GUIDANCE[rows], key_mask=KEY_MASK[rows], row_mask=mask, count=count)


def _pmm(hard):
    def compute(x, rows, mask, count):
        keys = as_wide(unit(ROWS, PATCHES, WIDTH, seed=9), x)
        return losses.pmm_loss(
            x,
            keys[rows],
            REGION[rows],
            keys,
            ~REGION,
            row_mask=mask,
            k=4,
            temperature=0.2,
            hard=hard,
            anchors=3,
            seed=11,
            position=rows,
            count=count,
        )

    return compute


def _border(x, rows, mask, count):
    return losses.border_bce_loss(x, REGION[rows], GRID, row_mask=mask, count=count)


CASES = {
    "info_nce": Case(unit(ROWS, WIDTH, seed=20), _info_nce, _rows),
    "mac": Case(unit(ROWS, 2, WIDTH, seed=21), _mac, _rows),
    "cap": Case(unit(ROWS, 2, WIDTH, seed=22), _pair(losses.cap_loss), _rows),
    "exp": Case(unit(ROWS, 2, WIDTH, seed=23), _pair(losses.exp_loss), _rows),
    "bic": Case(
        normal(ROWS, 2, seed=24),
        lambda x, rows, mask, count: losses.bic_loss(x, FAKE[rows], row_mask=mask, count=count),
        _rows,
    ),
    "ied": Case(
        normal(ROWS, 2, seed=24),
        lambda x, rows, mask, count: losses.ied_loss(x, FAKE[rows], mask=mask, count=count),
        _rows,
    ),
    "mlc": Case(
        normal(ROWS, 4, seed=25),
        lambda x, rows, mask, count: losses.mlc_loss(x, TYPES[rows], row_mask=mask, count=count),
        _rows,
    ),
    "img_l1": Case(
        normal(ROWS, 4, seed=26).sigmoid(),
        lambda x, rows, mask, count: losses.img_l1_loss(x, BOXES[rows], row_mask=mask, count=count),
        _rows,
    ),
    "img_giou": Case(
        normal(ROWS, 4, seed=26).sigmoid(),
        lambda x, rows, mask, count: losses.img_giou_loss(x, BOXES[rows], row_mask=mask, count=count),
        _rows,
    ),
    "tmg": Case(
        normal(ROWS, TOKENS, 2, seed=27),
        _tmg,
        lambda rows, mask: float((LABELS[rows][mask] >= 0).sum()),
    ),
    "mgca_distill": Case(SCORES, _distill, _rows),
    "mgca_supervise": Case(SCORES, _supervise, _rows),
    "mgca_bias": Case(normal(ROWS, PATCHES, seed=28), _bias, _rows),
    "pmm_hard": Case(
        unit(ROWS, PATCHES, WIDTH, seed=29),
        _pmm(True),
        lambda rows, mask: float(REGION[rows][mask].any(1).sum()),
    ),
    "pmm_random": Case(
        unit(ROWS, PATCHES, WIDTH, seed=29),
        _pmm(False),
        lambda rows, mask: float(REGION[rows][mask].any(1).sum()),
    ),
    "border_bce": Case(
        normal(ROWS, PATCHES, seed=30),
        _border,
        lambda rows, mask: float((losses.border_labels(REGION[rows][mask], GRID) >= 0).sum()),
    ),
}
