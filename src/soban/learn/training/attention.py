"""Attention for training, within documents: plain matrix products with a backward pass that keeps little."""

from typing import Any

import torch
from torch import Tensor

NAME = "soban"  # in transformers' table of attention functions


AT_ONCE = 128  # queries of one product: none is compared with keys that come after all of them


class Attention(torch.autograd.Function):
    """softmax(cap(scale q k') + hidden) v; queries that share a key head are rows of one product."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor, scale: float, cap: float | None) -> Tensor:
        """q (B, K, G, T, D), k and v (B, K, T, D), hidden (B, 1, T, T): -inf where a query may not look, 0 elsewhere;
        it may look at none that comes after it."""
        ctx.scale = scale if cap is None else scale / cap
        scaled = q * ctx.scale
        mixed = torch.empty_like(q)
        kept = []
        for start, stop in blocks(q.shape[3]):
            scores = _rows(scaled, start, stop) @ k[:, :, :stop].transpose(2, 3)
            slope = None
            if cap is not None:
                scores = torch.tanh(scores)
                slope = (1 - scores.square()).mul_(cap)
                scores *= cap
            scores.view(*q.shape[:3], -1, stop).add_(hidden[:, :, start:stop, :stop].unsqueeze(2))
            shares = torch.softmax(scores, -1)
            mixed[:, :, :, start:stop] = (shares @ v[:, :, :stop]).view(*q.shape[:3], -1, q.shape[4])
            kept += [shares, slope]
        ctx.save_for_backward(scaled, k, v, *kept)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of q, k and v."""
        (gradient,) = gradients
        scaled, k, v, *kept = ctx.saved_tensors
        of_q, of_k, of_v = torch.empty_like(scaled), torch.zeros_like(k), torch.zeros_like(v)
        for place, (start, stop) in enumerate(blocks(scaled.shape[3])):
            shares, slope = kept[2 * place : 2 * place + 2]
            some = _rows(gradient, start, stop)
            of_v[:, :, :stop] += shares.transpose(2, 3) @ some
            of_scores = torch._softmax_backward_data(some @ v[:, :, :stop].transpose(2, 3), shares, -1, shares.dtype)
            if slope is not None:
                of_scores *= slope
            of_q[:, :, :, start:stop] = (of_scores @ k[:, :, :stop]).view(*scaled.shape[:3], -1, scaled.shape[4])
            of_k[:, :, :stop] += of_scores.transpose(2, 3) @ _rows(scaled, start, stop)
        return of_q.mul_(ctx.scale), of_k, of_v, None, None, None


def blocks(length: int) -> list[tuple[int, int]]:
    """From where to where each block of queries goes."""
    return [(start, min(start + AT_ONCE, length)) for start in range(0, length, AT_ONCE)]


def _rows(x: Tensor, start: int, stop: int) -> Tensor:
    """Some queries of (B, K, G, T, D) as (B, K, G * some, D)."""
    return x[:, :, :, start:stop].reshape(*x.shape[:2], -1, x.shape[4])


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float,
    softcap: float | None = None, **others: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What transformers' layers call: query (B, H, T, D), key and value (B, K, T, D) to (B, T, H, D)."""
    assert attention_mask is not None  # always given: see network.hidden_states
    batch, heads, length, width = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, length, width)
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
