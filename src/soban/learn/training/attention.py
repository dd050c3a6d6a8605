"""Attention for training, within documents, with a backward pass that keeps little: native, or by plain products."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from soban.learn.training import kernels

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
    """softmax(cap(scale q k') + hidden) v, with rotary positions in q and k: from projections to what is projected."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, angles: Tensor, mask: Tensor, scale: float, cap: float | None
    ) -> Tensor:
        """q (B, T, H, D), k and v (B, T, K, D), angles (T, 2, D / 2): cosines and sines. A query may look at itself, at
        none that comes after it, and nowhere before what the query before it may look at, which is told by
        mask (B, 1, 1, T), the first key of each, or (B, 1, T, T): -inf where it may not look, 0 elsewhere."""
        rows, length, heads, width = k.shape
        ctx.scale, ctx.cap = scale if cap is None else scale / cap, cap
        grouped = q.view(rows, length, heads, -1, width).transpose(1, 2)
        rotated_q = rope(grouped, angles, q.new_empty(grouped.shape), ctx.scale)
        rotated_k = rope(k.transpose(1, 2).unsqueeze(3), angles, k.new_empty(rows, heads, length, 1, width))
        if mask.dtype == torch.int32:
            v = v.contiguous()
            out, shares = kernels.attention(rotated_q, rotated_k, v, mask, cap)
            ctx.save_for_backward(angles, rotated_q, rotated_k, v, mask, shares)
            return out.view(q.shape)
        v = v.transpose(1, 2).reshape(-1, length, width)
        scaled, rotated_k = rotated_q.view(-1, length * grouped.shape[3], width), rotated_k.view(-1, length, width)
        ctx.blocks = blocks(mask, heads, grouped.shape[3])
        mixed, saved = _mix(scaled, rotated_k, v, mask, ctx.blocks, cap)
        ctx.save_for_backward(angles, scaled, rotated_k, v, *saved)
        return mixed.view(grouped.shape).transpose(1, 2).reshape(q.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of q, k and v."""
        (gradient,) = gradients
        angles, rotated_q, rotated_k, *saved = ctx.saved_tensors
        if rotated_k.ndim == 5:  # as the kernels take it
            v, mask, shares = saved
            inner_q, inner_k, grad_v = kernels.attention_backward(
                rotated_q, rotated_k, v, mask, ctx.cap, shares, gradient.contiguous()
            )
        else:
            v, *saved = saved
            rows, length, _, width = gradient.shape
            heads = len(rotated_k) // rows
            grad_mixed = gradient.view(rows, length, heads, -1, width).transpose(1, 2)
            inner_q, inner_k, grad_v = _mix_backward(grad_mixed, rotated_q, rotated_k, v, ctx.blocks, saved)
            inner_q, inner_k = (
                inner_q.view(grad_mixed.shape),
                inner_k.view(rows, heads, length, 1, width),
            )
            grad_v = grad_v.view(rows, heads, length, width).transpose(1, 2)
        rows, heads, length, group, width = inner_q.shape
        grad_q, grad_k = gradient.new_empty(gradient.shape), gradient.new_empty(rows, length, heads, width)
        rope(inner_q, angles, grad_q.view(rows, length, heads, group, width).transpose(1, 2), ctx.scale, back=True)
        rope(inner_k, angles, grad_k.transpose(1, 2).unsqueeze(3), back=True)
        return grad_q, grad_k, grad_v, None, None, None, None


def rope(x: Tensor, angles: Tensor, to: Tensor, scale: float = 1.0, *, back: bool = False) -> Tensor:
    """x * scale, both (B, K, T, G, D), in `to`: rotary positions put in, or taken out again."""
    if kernels.take(x):
        kernels.rope(x, to, angles, scale, back=back)
        return to
    cosines, sines = (angles[:, i, None].to(x.dtype) * scale for i in (0, 1))
    first, second = x.chunk(2, -1)
    to_first, to_second = to.chunk(2, -1)
    sines = -sines if back else sines
    to_first.copy_(first * cosines - second * sines)
    to_second.copy_(second * cosines + first * sines)
    return to


def _mix(
    scaled: Tensor, k: Tensor, v: Tensor, hidden: Tensor, blocks: "list[Block]", cap: float | None
) -> tuple[Tensor, list[Tensor | None]]:
    """Attention by torch: scaled (B * K, T * G, D), k and v (B * K, T, D); and what the way back needs."""
    mixed = torch.empty_like(scaled)
    group = scaled.shape[1] // k.shape[1]
    saved: list[Tensor | None] = []
    for block in blocks:
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
        saved += [shares, slope]
    return mixed, saved


def _mix_backward(
    gradient: Tensor, scaled: Tensor, k: Tensor, v: Tensor, blocks: "list[Block]", saved: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of scaled, k and v."""
    grad_mixed = gradient.reshape(scaled.shape)
    grad_q, grad_k, grad_v = torch.empty_like(scaled), torch.zeros_like(k), torch.zeros_like(v)
    for place, block in enumerate(blocks):
        shares, slope = saved[2 * place : 2 * place + 2]
        queries, keys = (block.heads, block.queries), (block.heads, block.keys)
        grad_v[keys].baddbmm_(shares.mT, grad_mixed[queries])
        grad_scores = torch._softmax_backward_data(grad_mixed[queries] @ v[keys].mT, shares, -1, shares.dtype)
        if slope is not None:
            grad_scores *= slope
        torch.bmm(grad_scores, k[keys], out=grad_q[queries])
        grad_k[keys].baddbmm_(grad_scores.mT, scaled[queries])
    return grad_q, grad_k, grad_v


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
    parts = []
    for some, reach in spans:
        for start, first in zip(range(0, length, AT_ONCE), reach, strict=False):
            stop = min(start + AT_ONCE, length)
            theirs = slice(some.start * heads, some.stop * heads)
            queries = slice(start * group, stop * group)
            parts.append(Block(some, theirs, slice(start, stop), queries, slice(first, stop)))
    return parts


def forward_of(module: Any, cap: str = "", normed: bool = False) -> Callable[..., tuple[Tensor, None]]:
    """How an attention of transformers' computes by `Attention`; its names and weights stay as they are. `cap`: its
    attribute that has the soft cap of its scores. `normed`: whether it norms each head of queries and keys."""
    softcap = getattr(module, cap) if cap else None

    def forward(
        hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], attention_mask: Tensor, **others: Any
    ) -> tuple[Tensor, None]:
        heads = (*hidden_states.shape[:-1], -1, module.head_dim)
        q, k, v = (project(hidden_states).view(heads) for project in (module.q_proj, module.k_proj, module.v_proj))
        q, k = (module.q_norm(q), module.k_norm(k)) if normed else (q, k)
        # transformers' (1, T, D), each with its halves alike
        angles = torch.stack([table[0, :, : module.head_dim // 2].float() for table in position_embeddings], 1)
        mixed = Attention.apply(q, k, v, angles, attention_mask, module.scaling, softcap)
        return module.o_proj(mixed.flatten(2)), None

    return forward


def mask(first: Tensor, dtype: torch.dtype) -> Tensor:
    """What `Attention` takes for tokens that may look back to these (B, T), in a network of such numbers."""
    return first.unsqueeze(1).unsqueeze(1) if kernels.attends(dtype, first.device) else hidden(first, dtype)


def firsts(documents: Tensor, window: int | None) -> Tensor:
    """(B, T) in int32: the first token that each may look at, of its document (B, T), and `window` - 1 back at most."""
    places = torch.arange(documents.shape[1], device=documents.device).expand(documents.shape)
    begins = places.clone()
    begins[:, 1:] *= documents[:, 1:] != documents[:, :-1]
    first = begins.cummax(1).values
    if window is not None:
        first = torch.maximum(first, places - (window - 1))
    return first.int()


def hidden(first: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 1, T, T) from firsts: 0 where a query may look, -inf elsewhere."""
    keys = torch.arange(first.shape[1], device=first.device)
    unseen = (keys < first.unsqueeze(2)) | (keys > keys.unsqueeze(1))
    return torch.zeros(unseen.shape, dtype=dtype, device=first.device).masked_fill_(unseen, -torch.inf).unsqueeze(1)
