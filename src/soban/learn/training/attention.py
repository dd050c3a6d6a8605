"""Attention for training, within documents: plain matrix products with a backward pass that keeps little."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NAME = "soban"  # in transformers' table of attention functions
AT_ONCE = 128  # queries of one product: none is compared with keys that come after all of them


@dataclass(frozen=True)
class Block:
    """Queries that are compared with keys in one product."""

    rows: slice  # of the batch
    heads: slice  # key heads, those of one row after those of another
    tokens: slice  # that ask
    queries: slice  # theirs: as many for each token as share a key head
    keys: slice


class Attention(torch.autograd.Function):
    """softmax(cap(scale q k') + hidden) v; queries that share a key head are rows of one product."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor, scale: float, cap: float | None) -> Tensor:
        """q (B, K, T, G, D), k and v (B, K, T, D), hidden (B, 1, T, T): -inf where a query may not look, 0 elsewhere;
        it may look at itself, at none that comes after it, and nowhere before what the query before it may look at."""
        length, group, width = q.shape[2:]
        ctx.scale = scale if cap is None else scale / cap
        scaled = torch.mul(q, ctx.scale, out=q.new_empty(q.shape)).view(-1, length * group, width)
        k, v = k.reshape(-1, length, width), v.reshape(-1, length, width)
        mixed = torch.empty_like(scaled)
        kept = []
        ctx.blocks = blocks(hidden, q.shape[1], group)
        for block in ctx.blocks:
            scores = scaled[block.heads, block.queries] @ k[block.heads, block.keys].mT
            slope = None
            if cap is not None:
                scores = torch.tanh(scores)
                slope = (1 - scores.square()).mul_(cap)
                scores *= cap
            unseen = hidden[block.rows, :, block.tokens, block.keys].unsqueeze(3)
            scores.view(len(unseen), -1, unseen.shape[2], group, unseen.shape[4]).add_(unseen)
            shares = torch.softmax(scores, -1)
            torch.bmm(shares, v[block.heads, block.keys], out=mixed[block.heads, block.queries])
            kept += [shares, slope]
        ctx.save_for_backward(scaled, k, v, *kept)
        return mixed.view(q.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of q, k and v."""
        (gradient,) = gradients
        scaled, k, v, *kept = ctx.saved_tensors
        of_mixed = gradient.reshape(scaled.shape)
        of_q, of_k, of_v = torch.empty_like(scaled), torch.zeros_like(k), torch.zeros_like(v)
        for place, block in enumerate(ctx.blocks):
            shares, slope = kept[2 * place : 2 * place + 2]
            queries, keys = (block.heads, block.queries), (block.heads, block.keys)
            of_v[keys].baddbmm_(shares.mT, of_mixed[queries])
            of_scores = torch._softmax_backward_data(of_mixed[queries] @ v[keys].mT, shares, -1, shares.dtype)
            if slope is not None:
                of_scores *= slope
            torch.bmm(of_scores, k[keys], out=of_q[queries])
            of_k[keys].baddbmm_(of_scores.mT, scaled[queries])
        per_key = (*gradient.shape[:3], gradient.shape[4])
        return of_q.mul_(ctx.scale).view(gradient.shape), of_k.view(per_key), of_v.view(per_key), None, None, None


def blocks(hidden: Tensor, heads: int, group: int) -> list[Block]:
    """In which products to compare, so that few are of a query with a key that it may not look at. `heads`: key heads;
    `group`: queries of a token that share one."""
    rows, _, length, _ = hidden.shape
    if hidden.device.type == "cpu":
        # what the first query of a block looks back to is the furthest that any of them does
        firsts = (hidden[:, 0, ::AT_ONCE] == 0).byte().argmax(-1).tolist()
        spans = [(slice(row, row + 1), firsts[row]) for row in range(rows)]
    else:  # many small products would not fill a GPU
        spans = [(slice(0, rows), [0] * length)]
    made = []
    for some, seen in spans:
        for start, first in zip(range(0, length, AT_ONCE), seen, strict=False):
            stop = min(start + AT_ONCE, length)
            theirs = slice(some.start * heads, some.stop * heads)
            queries = slice(start * group, stop * group)
            made.append(Block(some, theirs, slice(start, stop), queries, slice(first, stop)))
    return made


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float,
    softcap: float | None = None, **others: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What transformers' layers call: query (B, H, T, D), key and value (B, K, T, D) to (B, T, H, D)."""
    assert attention_mask is not None  # always given: see network.hidden_states
    batch, heads, length, width = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, length, width).transpose(2, 3)
    mixed = Attention.apply(grouped, key, value, attention_mask, scaling, softcap)
    return mixed.transpose(1, 2).reshape(batch, length, heads, width), None


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
