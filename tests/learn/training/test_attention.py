"""Attention within documents: its products, and its gradients against the formula written out in float64."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from soban.learn.training import attention  # noqa: E402

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


def by_formula(
    q: "torch.Tensor", k: "torch.Tensor", v: "torch.Tensor", window: int | None, scale: float, cap: float | None
) -> "torch.Tensor":
    scores = torch.einsum("bktgd,bksd->bktgs", q, k) * scale
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    scores = scores.masked_fill(~may_look(window)[:, None, :, None], -torch.inf)
    return torch.einsum("bktgs,bksd->bktgd", scores.softmax(-1), v)


@pytest.mark.parametrize("together", [4, 128])
@pytest.mark.parametrize("window", [None, 6])
def test_a_blocks_keys_begin_with_the_first_that_a_query_of_it_may_look_at(
    window: int | None, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "AT_ONCE", together)
    allowed = may_look(window)
    asked = np.zeros((ROWS, LENGTH), int)
    for block in attention.blocks(attention.visible(documents(), window, torch.float32), HEADS, GROUP):
        keys = allowed[block.rows, block.tokens].flatten(0, 1).any(0).nonzero()
        assert (block.keys.start, block.keys.stop) == (keys.min(), keys.max() + 1)
        asked[block.rows, block.tokens] += 1
    assert (asked == 1).all()


# Roundings that sums of up to 29 products of the numbers below may gather, from each type's precision
NEAR = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 0.02}


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize(("window", "cap"), [(None, None), (None, 1.5), (6, 1.5), (40, None)])
def test_attention_and_its_gradients_are_those_of_the_formula(
    dtype: "torch.dtype", window: int | None, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "AT_ONCE", 8)
    generator = torch.Generator().manual_seed(0)
    shapes = [(ROWS, HEADS, LENGTH, GROUP, WIDTH)] + 2 * [(ROWS, HEADS, LENGTH, WIDTH)]
    given = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    weight = torch.randn(shapes[0], generator=generator, dtype=torch.float64).to(dtype)
    ours, theirs = ([x.to(kind).requires_grad_() for x in given] for kind in (dtype, torch.float64))
    hidden = attention.visible(documents(), window, dtype)
    mixed, right = attention.Attention.apply(*ours, hidden, 0.9, cap), by_formula(*theirs, window, 0.9, cap)
    found, expected = torch.autograd.grad(mixed, ours, weight), torch.autograd.grad(right, theirs, weight.double())
    for one, judge in zip((mixed, *found), (right, *expected), strict=True):
        assert (one - judge).norm() < NEAR[dtype] * judge.norm()
