"""A training as one would write it by hand: plain torch operations, torch's AdamW and cross entropy, one loop."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def rotated(x: Tensor) -> Tensor:
    """Rotary positions 0, 1, ... over the rows (B, H, T, D): the first half of a head turns with the second."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[2])[:, None] * 10000.0 ** (-torch.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], -1)


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight


def logits(w: Weights, tokens: Tensor, shape: Any, bos: int) -> Tensor:
    """Llama: tokens (B, T) to (B, T, vocabulary), each document (they begin with BOS) for itself."""
    heads, kv = shape.num_attention_heads, shape.num_key_value_heads
    documents = (tokens == bos).cumsum(1)
    visible = (documents[:, :, None] == documents[:, None]) & torch.ones(tokens.shape[1], tokens.shape[1]).tril().bool()
    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(shape.num_hidden_layers):
        own = {n.removeprefix(f"model.layers.{layer}."): t for n, t in w.items() if f".layers.{layer}." in n}
        h = norm(x, own["input_layernorm.weight"])
        q, k, v = (
            (h @ own[f"self_attn.{name}_proj.weight"].T).unflatten(-1, (count, -1)).transpose(1, 2)
            for name, count in (("q", heads), ("k", kv), ("v", kv))
        )
        k, v = (t.repeat_interleave(heads // kv, 1) for t in (rotated(k), v))
        mixed = F.scaled_dot_product_attention(rotated(q), k, v, attn_mask=visible[:, None])
        x = x + mixed.transpose(1, 2).flatten(2) @ own["self_attn.o_proj.weight"].T
        h = norm(x, own["post_attention_layernorm.weight"])
        gate = F.silu(h @ own["mlp.gate_proj.weight"].T)
        x = x + (gate * (h @ own["mlp.up_proj.weight"].T)) @ own["mlp.down_proj.weight"].T
    return norm(x, w["model.norm.weight"]) @ w["model.embed_tokens.weight"].T


def summed_loss(w: Weights, row: Tensor, shape: Any, bos: int) -> tuple[Tensor, int]:
    """Nats over rows (B, T + 1), and of how many tokens: nobody foresees where the next document begins."""
    targets = row[:, 1:].masked_fill(row[:, 1:] == bos, -100)
    scores = logits(w, row[:, :-1], shape, bos).transpose(1, 2)
    return F.cross_entropy(scores, targets, reduction="sum"), int((targets != -100).sum())


def trained(
    w: Weights, rows: Iterator[Tensor], shape: Any, bos: int, *, steps: int, rate: float, warmup: int
) -> list[float]:  # fmt: skip
    """Takes the steps, each over the next rows; the losses in nats a token. Weights are changed in place."""
    leaves = {name: weight.requires_grad_() for name, weight in w.items()}
    matrices = [weight for weight in leaves.values() if weight.ndim == 2]
    others = [weight for weight in leaves.values() if weight.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))
    losses = []
    for step in range(steps):
        share = (step + 1) / (warmup + 1) if step < warmup else min(1.0, (steps - step) / round(steps / 2))
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        optimizer.zero_grad()
        nats, count = summed_loss(leaves, next(rows), shape, bos)
        (nats / count).backward()
        torch.nn.utils.clip_grad_norm_(list(leaves.values()), 1.0)
        optimizer.step()
        losses.append((nats / count).item())
    return losses


def bits_per_byte(w: Weights, documents: list[Tensor], size: int, shape: Any, bos: int) -> float:
    """What documents of so many bytes cost, each cut into pieces of the context, as they lie end to end."""
    line = torch.cat(documents)
    nats, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(line) - 1, shape.context):
            some = line[start : start + shape.context + 1]
            loss, number = summed_loss(w, some[None], shape, bos)
            nats, count = nats + loss.item(), count + number
    return nats / math.log(2) / size
