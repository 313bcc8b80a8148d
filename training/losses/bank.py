"""Keys of one modality, and the contrastive cross-entropy against them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.losses.numeric import Count, keep, mean_of, similarity


@dataclass(frozen=True)
class Bank:
    """N keys of one modality: momentum features of the effective batch first, then the queue.

    Attributes:
        features: (N, E) unit length, without gradient. Finite also where ``valid`` is False.
        ids: (N,) int64, content ids: equal contents have equal ids; or (N, K), K contents per key.
        valid: (N,) bool, the key may be used: the row has the text, the place in the queue is filled.
    """

    features: Tensor
    ids: Tensor
    valid: Tensor


def usable_keys(bank: Bank, position: Tensor) -> Tensor:
    """Return (B, N) bool: the keys in each row's softmax.

    These are the valid keys that share no content id with the row's own key (a second copy of the positive is
    not a negative), and the own key, which is kept in any case so that no softmax is empty.

    Args:
        bank: N keys.
        position: (B,) int64, index of each row's own key.
    """
    ids = bank.ids.reshape(len(bank.ids), -1)
    others = bank.valid & (ids != ids[position, None]).all(-1)
    return others.scatter(1, position[:, None], True)


@torch.no_grad()
def soft_targets(features: Tensor, bank: Bank, *, position: Tensor, temperature: float | Tensor) -> Tensor:
    """Return the momentum model's opinion (B, N): softmax(features @ keys.T / temperature), usable keys only.

    Source: momentum distillation of ALBEF, used by HAMMER's MAC. No gradient, the temperature included.

    Args:
        features: (B, E) unit length, momentum features of the rows.
        bank: N keys.
        position: (B,) int64, index of each row's own key.
        temperature: Positive; float or tensor of one element.
    """
    scores = similarity(features, bank.features) / temperature
    return scores.masked_fill(~usable_keys(bank, position), -torch.inf).softmax(1)


def info_nce(
    query: Tensor,
    bank: Bank,
    *,
    position: Tensor,
    temperature: float | Tensor,
    hard: Tensor | None = None,
    soft: Tensor | None = None,
    alpha: float = 0.0,
    row_mask: Tensor | None = None,
    count: Count = None,
) -> Tensor:
    """Cross-entropy of each query against the usable keys of a bank.

    With q = softmax(query @ keys.T / temperature) over `usable_keys`, a row's loss is ``-sum_j t_j log q_j``
    with ``t = (1 - alpha) hard onehot(position) + alpha soft``; the result is the sum over rows / count.
    A row outside ``row_mask`` contributes nothing, nor does one whose own key is not valid.

    Source: InfoNCE with soft targets, as in HAMMER. Keys and soft targets are not differentiated; query and
    temperature are.

    Args:
        query: (B, E) unit length, online features.
        bank: N keys.
        position: (B,) int64, index of each row's own key.
        temperature: Positive; float or tensor of one element.
        hard: (B,) bool, rows with a hard target; all when None.
        soft: (B, N) soft targets, or None: then alpha counts as 0.
        alpha: Share of the soft targets.
        row_mask: (B,) bool, rows that take part; all when None.
        count: Rows to divide by; the local rows that take part when None.

    Returns:
        0-d tensor.
    """
    active = bank.valid[position]
    if row_mask is not None:
        active = active & row_mask
    usable = usable_keys(bank, position)
    scores = similarity(keep(query, active), bank.features.detach()) / temperature
    # -inf only inside the softmax: outside it would meet a target of 0 and give NaN.
    log_q = scores.masked_fill(~usable, -torch.inf).log_softmax(1).masked_fill(~usable, 0)
    loss = -log_q.gather(1, position[:, None])[:, 0]
    if hard is not None:
        loss = keep(loss, hard)
    if soft is not None:
        loss = (1 - alpha) * loss - alpha * (soft.detach() * log_q).sum(1)
    return mean_of(loss, active, count)
