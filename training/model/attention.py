"""Attention of the fusion: scaled dot product, with the scores only where a loss needs them."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention of queries over keys."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        key_mask: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        with_scores: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            x: (B, Q, D) queries.
            keys: (B, K, D) keys and values.
            key_mask: (B, K) bool, True where a key may be attended.
            bias: (B, K) float added to every query's scores: beta M_g of guided attention.
            with_scores: Return the scores before softmax; needs memory for (B, h, Q, K).

        Returns:
            (B, Q, D), and the scores (B, h, Q, K) without ``bias``, -inf on masked keys, or None.
        """
        batch, queries, width = x.shape
        shape = (batch, -1, self.heads, width // self.heads)
        q = self.query(x).view(shape).transpose(1, 2)
        k, v = (t.view(shape).transpose(1, 2) for t in self.key_value(keys).chunk(2, dim=-1))
        dropout = self.dropout if self.training else 0.0
        if not with_scores:
            mask = None
            if bias is not None:
                extra = bias if key_mask is None else bias.masked_fill(~key_mask, -math.inf)
                mask = extra[:, None, None, :].to(q.dtype).expand(-1, -1, queries, -1)
            elif key_mask is not None:
                mask = key_mask[:, None, None, :].expand(-1, -1, queries, -1)
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
            return self.out(mixed.transpose(1, 2).reshape(batch, queries, width)), None
        scores = (q @ k.transpose(-2, -1)).float() / math.sqrt(q.shape[-1])
        if key_mask is not None:
            scores = scores.masked_fill(~key_mask[:, None, None, :], -math.inf)
        guided = scores if bias is None else scores + bias[:, None, None, :]
        weights = functional.dropout(guided.softmax(dim=-1), dropout).to(v.dtype)
        mixed = (weights @ v).transpose(1, 2).reshape(batch, queries, width)
        return self.out(mixed), scores


class Block(nn.Module):
    """Pre-norm block: self-attention, cross-attention to the other modality, feed-forward."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads, dropout)
        self.cross_norm = nn.LayerNorm(width)
        self.other_norm = nn.LayerNorm(width)
        self.cross_attention = Attention(width, heads, dropout)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )

    def forward(
        self,
        x: Tensor,
        other: Tensor,
        mask: Tensor | None,
        other_mask: Tensor | None,
        bias: Tensor | None,
        with_scores: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return (B, Q, D) and the cross-attention's scores; arguments as in `Attention`."""
        normed = self.self_norm(x)
        x = x + self.self_attention(normed, normed, mask)[0]
        mixed, scores = self.cross_attention(
            self.cross_norm(x), self.other_norm(other), other_mask, bias, with_scores=with_scores
        )
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), scores
