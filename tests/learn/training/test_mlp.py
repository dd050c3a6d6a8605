"""The gated feed-forward parts, against their formulas in float64 and transformers' own modules."""

import math

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from soban.learn.training import (  # noqa: E402
    mlp,
    network,
)
from soban.learn.training.presets import Shape  # noqa: E402
from soban.learn.training.settings import Settings  # noqa: E402


def silu(x: "torch.Tensor") -> "torch.Tensor":
    return x / (1 + torch.exp(-x))


def gelu(x: "torch.Tensor") -> "torch.Tensor":
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


# A few roundings of each type's precision
NEAR = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 0.01}


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize(("activation", "formula"), [("silu", silu), ("gelu_tanh", gelu)])
def test_gates_and_their_gradients_are_those_of_the_formula(
    activation: str, formula: object, dtype: "torch.dtype"
) -> None:
    generator = torch.Generator().manual_seed(0)
    given = [(3 * torch.randn(5, 7, generator=generator, dtype=torch.float64)).to(dtype) for _ in range(3)]
    ours, theirs = ([x.to(kind).requires_grad_() for x in given[:2]] for kind in (dtype, torch.float64))
    product, right = mlp.Gate.apply(*ours, activation), formula(theirs[0]) * theirs[1]  # type: ignore[attr-defined, operator]
    gradients = torch.autograd.grad(product, ours, given[2])
    expected = torch.autograd.grad(right, theirs, given[2].double())
    for one, judge in zip((product, *gradients), (right, *expected), strict=True):
        assert (one - judge).norm() < NEAR[dtype] * judge.norm()


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_networks_feed_forward_parts_are_replaced_by_equal_ones(family: str) -> None:
    shape = Shape(32, 48, 2, 4, 2, 24, window=5)
    settings = Settings(family, shape, 64, batch_size=4, steps=10, learning_rate=1e-3)
    part = network.new_model(settings, {"bos_token_id": 1, "eos_token_id": 2}).model.layers[0].mlp
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    product = part(x)
    assert "Gate" in type(product.grad_fn.next_functions[0][0]).__name__  # ours, not the one of autograd
    torch.testing.assert_close(product, type(part).forward(part, x))
