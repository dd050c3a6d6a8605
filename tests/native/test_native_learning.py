"""The kernels of training on each instruction set, against torch's gradients of the formulas in float64."""

import math
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from soban.learn.training import kernels  # noqa: E402
from soban.ops import native  # noqa: E402

Tensor = torch.Tensor
# A few roundings of each type's precision
NEAR = {torch.float32: 2e-6, torch.bfloat16: 0.01}


@pytest.fixture(autouse=True)
def _isa(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = native.library()
    assert library is not None
    monkeypatch.setattr(kernels, "_library", lambda: kernels.declared(library, isa))


def drawn(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def judged(formula: Callable[..., Tensor], given: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """What a formula gives, and its gradients, in float64."""
    exact = [x.double().requires_grad_() for x in given]
    result = formula(*exact)
    return [result.detach(), *torch.autograd.grad(result, exact, gradient.double())]


def close(found: list[Tensor], right: list[Tensor], near: float) -> None:
    for one, judge in zip(found, right, strict=True):
        assert (one.double() - judge).norm() <= near * judge.norm()


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize(("activation", "formula"), [("silu", silu), ("gelu_tanh", gelu)])
def test_gates(activation: str, formula: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    gate, up, gradient = (drawn(7, 11, dtype=dtype, scale=3.0, seed=seed) for seed in range(3))
    right = judged(lambda one, other: formula(one) * other, [gate, up], gradient)
    found = [kernels.glu(gate, up, activation), *kernels.glu_backward(gate, up, gradient, activation)]
    close(found, right, NEAR[dtype])


def test_a_gate_far_from_zero_is_open_or_shut() -> None:
    gate, up = torch.tensor([-1e30, -100.0, 100.0, 1e30]), torch.ones(4)
    for activation in ("silu", "gelu_tanh"):
        assert kernels.glu(gate, up, activation).tolist() == [0.0, 0.0, 100.0, torch.tensor(1e30).item()]
        grad_gate, _ = kernels.glu_backward(gate[1:3], up[1:3], up[1:3], activation)
        assert grad_gate.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", NEAR)
def test_numbers_that_are_none_stay_so(dtype: torch.dtype) -> None:
    gate = torch.tensor([math.nan, 1.0, -math.nan], dtype=dtype)
    assert kernels.glu(gate, torch.ones_like(gate), "silu").isnan().tolist() == [True, False, True]


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("columns", [5, 64, 203])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_norms(columns: int, offset: float, dtype: torch.dtype) -> None:
    x, gradient = (drawn(9, columns, dtype=dtype, scale=2.0, seed=seed) for seed in (0, 1))
    weight = drawn(columns, dtype=dtype, seed=2)

    def formula(x: Tensor, weight: Tensor) -> Tensor:
        return x * (x.square().mean(1, keepdim=True) + 1e-5).rsqrt() * (weight + offset)

    out, inverse = kernels.norm(x, weight, 1e-5, offset)
    found = [out, *kernels.norm_backward(x, weight, offset, inverse, gradient)]
    close(found, judged(formula, [x, weight], gradient), NEAR[dtype])


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("size", [8, 14, 64])
def test_turning_and_turning_back(size: int, dtype: torch.dtype) -> None:
    x = drawn(2, 5, 3 * 4, size, dtype=dtype).view(2, 5, 3, 4, size).transpose(1, 2)  # tokens before heads in memory
    turns = torch.arange(5)[:, None] * torch.linspace(0.1, 2.0, size // 2)
    angles = torch.stack([turns.cos(), turns.sin()], 1)
    to = torch.empty(2, 3, 5, 4, size, dtype=dtype)
    kernels.rope(x, to, angles, 0.5)
    pairs = torch.complex(*x.double().chunk(2, -1)) * torch.polar(turns.double() * 0 + 1, turns.double())[:, None]
    close([to], [0.5 * torch.cat([pairs.real, pairs.imag], -1)], NEAR[dtype])
    back = torch.empty_like(x)
    kernels.rope(to, back, angles, 2.0, back=True)
    close([back], [x.double()], 2 * NEAR[dtype])


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("vocabulary", [3, 64, 301])
@pytest.mark.parametrize("cap", [None, 2.0])
def test_losses(vocabulary: int, cap: float | None, dtype: torch.dtype) -> None:
    logits = drawn(6, vocabulary, dtype=dtype, scale=4.0)
    targets = torch.arange(6) * 7 % vocabulary

    def formula(x: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(x if cap is None else cap * torch.tanh(x / cap), targets).mul(6)

    right = judged(formula, [logits], torch.tensor(1.0))
    scratch = torch.empty(vocabulary)
    kept = logits.clone()
    measured = kernels.next_token_loss(kept, targets, cap, scratch, learning=False)
    assert torch.equal(kept, logits)
    nats = kernels.next_token_loss(logits, targets, cap, scratch, learning=True)
    assert nats == measured
    close([torch.tensor(nats), logits], right, NEAR[dtype])


def test_logits_too_large_for_float32s_exponential() -> None:
    logits = torch.tensor([[1000.0, 999.0, -1000.0]])
    nats = kernels.next_token_loss(logits, torch.tensor([1]), None, torch.empty(3), learning=True)
    assert nats == pytest.approx(1 + math.log1p(math.exp(-1)), rel=1e-6)
    assert logits[0].tolist() == pytest.approx([0.7310586, -0.7310586, 0.0], abs=1e-6)


@pytest.mark.parametrize(("group", "width"), [(1, 64), (3, 40), (60, 8)])
@pytest.mark.parametrize(("window", "cap"), [(None, None), (20, 1.5)])
def test_attention(group: int, width: int, window: int | None, cap: float | None) -> None:
    rows, heads, length = 2, 2, 75
    starts = torch.zeros(rows, length, dtype=torch.long)
    starts[0, 33:], starts[1, 70:] = 33, 70  # of two documents in each row
    places = torch.arange(length)
    first = starts if window is None else torch.maximum(starts, places - window + 1)
    q = drawn(rows, heads, length, group, width, seed=1)
    k, v = drawn(rows, heads, length, 1, width, seed=2), drawn(rows, length, heads, width, seed=3)
    gradient = drawn(rows, length, heads, group, width, seed=4)

    def formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.einsum("bktgd,bksd->bktgs", q, k.squeeze(3))
        if cap is not None:
            scores = cap * torch.tanh(scores)
        hidden = (places < first[..., None]) | (places > places[:, None])
        scores = scores.masked_fill(hidden[:, None, :, None], -math.inf)
        return torch.einsum("bktgs,bskd->btkgd", scores.softmax(-1), v)

    q, told = q * width**-0.5, first.int().view(rows, 1, 1, length)
    out, shares = kernels.attention(q, k, v, told, cap)
    found = [out, *kernels.attention_backward(q, k, v, told, cap, shares, gradient)]
    close(found, judged(formula, [q, k, v], gradient), NEAR[torch.float32])
