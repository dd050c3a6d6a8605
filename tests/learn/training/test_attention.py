"""Attention within documents: its products, and its gradients against the formula written out in float64."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from soban.learn.training import attention, kernels  # noqa: E402

ROWS, HEADS, GROUP, LENGTH, WIDTH = 2, 2, 3, 29, 4
STARTS = [[0, 3, 14, 15, 27], [0, 21]]  # where documents begin in each row


def documents() -> "torch.Tensor":
    begins = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    for row, starts in enumerate(STARTS):
        begins[row, starts] = 1
    return begins.flatten().cumsum(0).view(ROWS, LENGTH)


def may_look(window: int | None) -> "torch.Tensor":
    """(rows, queries, keys), by the rule in words."""
    allowed = torch.zeros(ROWS, LENGTH, LENGTH, dtype=torch.bool)
    for row, starts in enumerate(STARTS):
        for query in range(LENGTH):
            begin = max(start for start in starts if start <= query)
            allowed[row, query, max(begin, 0 if window is None else query - window + 1) : query + 1] = True
    return allowed


def angles() -> "torch.Tensor":
    """(tokens, 2, pairs): cosines and sines."""
    turns = torch.arange(LENGTH, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.3], dtype=torch.float64)
    return torch.stack([turns.cos(), turns.sin()], 1)


def turned(x: "torch.Tensor") -> "torch.Tensor":
    """(rows, tokens, heads, width): each pair as a complex number, turned by its token's angle."""
    pairs = torch.complex(*x.chunk(2, -1)) * torch.complex(*angles().unbind(1))[:, None]
    return torch.cat([pairs.real, pairs.imag], -1)


def by_formula(
    q: "torch.Tensor", k: "torch.Tensor", v: "torch.Tensor", window: int | None, scale: float, cap: float | None
) -> "torch.Tensor":
    q, k = turned(q), turned(k).repeat_interleave(GROUP, 2)
    scores = torch.einsum("bthd,bshd->bhts", q, k) * scale
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    scores = scores.masked_fill(~may_look(window)[:, None], -torch.inf)
    return torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v.repeat_interleave(GROUP, 2))


@pytest.mark.parametrize("together", [4, 128])
@pytest.mark.parametrize("window", [None, 6])
def test_a_blocks_keys_begin_with_the_first_that_a_query_of_it_may_look_at(
    window: int | None, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "AT_ONCE", together)
    allowed = may_look(window)
    count = np.zeros((ROWS, LENGTH), int)
    hidden = attention.hidden(attention.firsts(documents(), window), torch.float32)
    for block in attention.blocks(hidden, HEADS, GROUP):
        keys = allowed[block.rows, block.tokens].flatten(0, 1).any(0).nonzero()
        assert (block.keys.start, block.keys.stop) == (keys.min(), keys.max() + 1)
        count[block.rows, block.tokens] += 1
    assert (count == 1).all()


# Roundings that sums of up to 29 products of the numbers below may gather, from each type's precision
NEAR = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 0.02}


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize(("window", "cap"), [(None, None), (None, 1.5), (6, 1.5), (40, None)])
@pytest.mark.parametrize("ops", ["native", "reference"])
def test_attention_and_its_gradients_are_those_of_the_formula(
    dtype: "torch.dtype", window: int | None, cap: float | None, ops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "AT_ONCE", 8)
    if ops == "reference":
        monkeypatch.setattr(kernels, "usable", lambda dtype, device: False)
    generator = torch.Generator().manual_seed(0)
    shapes = [(ROWS, LENGTH, HEADS * GROUP, WIDTH)] + 2 * [(ROWS, LENGTH, HEADS, WIDTH)]
    given = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    weight = torch.randn(shapes[0], generator=generator, dtype=torch.float64).to(dtype)
    ours, theirs = ([x.to(kind).requires_grad_() for x in given] for kind in (dtype, torch.float64))
    mask = attention.mask(attention.firsts(documents(), window), dtype)
    turns = angles() if dtype == torch.float64 else angles().float()
    mixed, right = attention.Attention.apply(*ours, turns, mask, 0.9, cap), by_formula(*theirs, window, 0.9, cap)
    gradients, expected = torch.autograd.grad(mixed, ours, weight), torch.autograd.grad(right, theirs, weight.double())
    for one, judge in zip((mixed, *gradients), (right, *expected), strict=True):
        assert (one - judge).norm() < NEAR[dtype] * judge.norm()
