"""Attention for training, within documents: plain matrix products with a backward pass that keeps little."""

from typing import Any

import torch
from torch import Tensor

NAME = "soban"  # in transformers' table of attention functions


class Attention(torch.autograd.Function):
    """softmax(cap(q k') + hidden) v; queries that share a key head are rows of one product."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor, scale: float, cap: float | None) -> Tensor:
        """q (B, K, G*T, D), k and v (B, K, T, D), hidden (B, 1, T, T): -inf where a query may not look, 0 elsewhere."""
        scores = q @ k.transpose(2, 3)
        slope = None
        if cap is None:
            scores *= scale
        else:
            scores = torch.tanh(scores * (scale / cap))
            slope = torch.addcmul(torch.ones((), dtype=scores.dtype), scores, scores, value=-1)  # tanh' = 1 - tanh^2
            scores *= cap
        length = hidden.shape[-1]
        scores.view(*scores.shape[:2], -1, length, length).add_(hidden.unsqueeze(2))
        shares = torch.softmax(scores, -1)
        ctx.save_for_backward(q, k, v, shares, slope)
        ctx.scale = scale
        return shares @ v

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of q, k and v."""
        (gradient,) = gradients
        q, k, v, shares, slope = ctx.saved_tensors
        of_v = shares.transpose(2, 3) @ gradient
        of_scores = torch._softmax_backward_data(gradient @ v.transpose(2, 3), shares, -1, shares.dtype)
        if slope is not None:
            of_scores *= slope
        of_scores *= ctx.scale
        return of_scores @ k, of_scores.transpose(2, 3) @ q, of_v, None, None, None


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float,
    softcap: float | None = None, **others: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What transformers' layers call: query (B, H, T, D), key and value (B, K, T, D) to (B, T, H, D)."""
    assert attention_mask is not None  # always given: see network.hidden_states
    batch, heads, length, width = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, width)
    mixed = Attention.apply(grouped, key, value, attention_mask, scaling, softcap)
    return mixed.view(batch, heads, length, width).transpose(1, 2), None


def register() -> None:
    """Makes `attend` known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)


def visible(documents: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """(B, 1, T, T) from each token's document (B, T): 0 where a query may look (itself and before it in its document,
    and `window` - 1 tokens back at most), -inf elsewhere."""
    length = documents.shape[1]
    seen = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
    if window is not None and window < length:
        seen = seen.triu(1 - window)
    allowed = (documents.unsqueeze(2) == documents.unsqueeze(1)) & seen
    hidden = torch.zeros(allowed.shape, dtype=dtype, device=documents.device)
    return hidden.masked_fill_(~allowed, -torch.inf).unsqueeze(1)
