"""Gated feed-forward parts with a backward pass written out: it keeps two of the three parts that autograd keeps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from soban.learn.training import kernels

aten = torch.ops.aten
ACTIVATIONS: dict[str, Any] = {"silu": functional.silu, "gelu_tanh": partial(functional.gelu, approximate="tanh")}
BACKWARD: dict[str, Any] = {"silu": aten.silu_backward, "gelu_tanh": partial(aten.gelu_backward, approximate="tanh")}


class Gate(torch.autograd.Function):
    """activation(gate) * up; the first is found again on the way back, cheaper than to fetch it from memory."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, activation: str) -> Tensor:
        """gate and up of one shape; `activation`: silu or gelu_tanh."""
        ctx.save_for_backward(gate, up)
        ctx.activation = activation
        if kernels.take(gate):
            return kernels.glu(gate, up, activation)
        product: Tensor = ACTIVATIONS[activation](gate).mul_(up)
        return product

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of gate and up."""
        (gradient,) = gradients
        gate, up = ctx.saved_tensors
        if kernels.take(gate):
            return *kernels.glu_backward(gate, up, gradient, ctx.activation), None
        grad_gate = BACKWARD[ctx.activation](gradient * up, gate)
        return grad_gate, ACTIVATIONS[ctx.activation](gate).mul_(gradient), None


def forward_of(module: Any, activation: str) -> Callable[[Tensor], Tensor]:
    """How a gated part of transformers' computes by `Gate`; its names and weights stay as they are."""

    def forward(x: Tensor) -> Tensor:
        result: Tensor = module.down_proj(Gate.apply(module.gate_proj(x), module.up_proj(x), activation))
        return result

    return forward
