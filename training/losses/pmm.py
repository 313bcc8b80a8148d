"""L_PMM: patches of one manipulated region against unmanipulated patches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.numeric import Count, full, keep, over_count, similarity

CHUNK_CELLS = 2**24
"""Most (anchor, pool patch) similarities held at a time: 64 MiB in float32."""


def pmm_loss(
    patches: Tensor,
    own_keys: Tensor,
    region: Tensor,
    pool: Tensor,
    pool_negative: Tensor,
    *,
    row_mask: Tensor | None = None,
    k: int,
    temperature: float | Tensor,
    hard: bool,
    anchors: int,
    seed: int,
    position: Tensor,
    count: Count = None,
) -> Tensor:
    """InfoNCE over patches with mined (or random) negatives.

    For an anchor patch z and a positive z+ of the same region, with s = similarity / temperature::

        -log( exp(s(z, z+)) / (exp(s(z, z+)) + sum_j exp(s(z, z_j-))) )

    averaged over all positives (the other patches of the region; the anchor's own momentum patch only if the
    region has no other), then over the row's anchors; summed over rows / count. The k negatives are the
    unmanipulated pool patches most similar to the anchor, or random ones; all of them if there are fewer than
    k, and the loss is 0 if there are none. Rows without a region contribute nothing.

    Source: seed note, L_PMM and HNP. Keys, pool and the choice of negatives are not differentiated.

    Args:
        patches: (B, P, d) unit length, online.
        own_keys: (B, P, d) unit length, momentum patches of the same rows.
        region: (B, P) bool, the patch is manipulated.
        pool: (N, M, d) unit length, momentum patches of the effective batch.
        pool_negative: (N, M) bool, the pool patch is not manipulated.
        row_mask: (B,) bool, rows that take part; all when None.
        k: Negatives per anchor.
        temperature: Positive; float or tensor of one element.
        hard: Mine the negatives; False draws them at random.
        anchors: Most anchors per region, evenly spread over its patches.
        seed: Of the random negatives. They depend on it, the pool and ``position`` only, not on how the
            effective batch is cut into processes.
        position: (B,) int64, index of each row in the effective batch (0 to N - 1).
        count: Rows with a region to divide by; the local ones that take part when None.

    Returns:
        0-d tensor.
    """
    if row_mask is not None:
        region = region & row_mask[:, None]
    size = region.sum(1)
    slots, used = _spread(region, anchors)
    index = slots[:, :, None].expand(-1, -1, patches.shape[2])
    queries = keep(patches.gather(1, index), used)

    to_own = similarity(queries, keep(own_keys.detach(), size > 0)) / temperature
    is_own = torch.zeros_like(to_own, dtype=torch.bool).scatter(2, slots[:, :, None], True)
    positive = region[:, None] & (~is_own | (size == 1)[:, None, None])

    count = (size > 0).sum() if count is None else count
    negatives = full(pool.detach()[pool_negative])
    if not len(negatives):
        return over_count(queries.sum() * 0, count)
    k = min(k, len(negatives))
    chosen = None
    if not hard:
        choice = _random_choice(len(pool), anchors, len(negatives), k, seed)
        chosen = choice.to(position.device)[position][used]
    rivals = _rivals(queries[used], negatives, k, temperature, chosen)
    loss = F.softplus(rivals[:, None] - to_own[used])
    per_anchor = keep(loss, positive[used]).sum(1) / positive[used].sum(1)
    share = 1 / used.sum(1, keepdim=True).clamp(min=1).expand_as(used)[used]
    return over_count((per_anchor * share).sum(), count)


def _spread(region: Tensor, anchors: int) -> tuple[Tensor, Tensor]:
    """Return patch indices (B, anchors) evenly spread over each region, and which of them are in use."""
    slot = torch.arange(anchors, device=region.device)
    size = region.sum(1, keepdim=True)
    middle = (2 * slot + 1) * size // (2 * anchors)
    rank = torch.where(size > anchors, middle, slot).clamp(max=region.shape[1] - 1)
    inside_first = torch.argsort(~region, dim=1, stable=True)
    return inside_first.gather(1, rank), slot < size


def _random_choice(rows: int, anchors: int, negatives: int, k: int, seed: int) -> Tensor:
    """Return the random negatives of every anchor of the effective batch: (rows, anchors, k) indices.

    Drawn for the whole effective batch at once, on the CPU, so that no process sees other numbers. An anchor
    takes k neighbours from a random place of one shuffled order: distinct, and all equally likely.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(negatives, generator=generator)
    start = torch.randint(negatives, (rows, anchors, 1), generator=generator)
    return order[(start + torch.arange(k)) % negatives]


def _rivals(
    queries: Tensor, negatives: Tensor, k: int, temperature: float | Tensor, chosen: Tensor | None
) -> Tensor:
    """Return log sum_j exp(s_j) over each query's negatives, (n,).

    Args:
        queries: (n, d) anchors.
        negatives: (m, d).
        k: Negatives per anchor, at most m.
        temperature: Positive.
        chosen: (n, k) indices of the negatives; None mines the most similar ones.
    """
    step = max(1, CHUNK_CELLS // len(negatives))
    parts = []
    for first in range(0, max(len(queries), 1), step):
        query = queries[first : first + step]
        if chosen is None:
            index = similarity(query.detach(), negatives).topk(k, dim=1, sorted=False).indices
        else:
            index = chosen[first : first + step]
        scores = similarity(query[:, None], negatives[index])[:, 0] / temperature
        parts.append(scores.logsumexp(1))
    return torch.cat(parts)
