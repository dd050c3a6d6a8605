"""Gated feed-forward parts with a backward pass written out: it keeps two of the three parts that autograd keeps."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

aten = torch.ops.aten


class SiluGate(torch.autograd.Function):
    """silu(gate) * up, found again on the way back: cheaper than to keep silu(gate), and to fetch it from memory."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Both of one shape."""
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """The gradients of gate and up."""
        (gradient,) = gradients
        gate, up = ctx.saved_tensors
        return aten.silu_backward(gradient * up, gate), functional.silu(gate).mul_(gradient)


class GeluGate(torch.autograd.Function):
    """gelu(gate) * up, with the gelu that is made of tanh."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Both of one shape."""
        ctx.save_for_backward(gate, up)
        return functional.gelu(gate, approximate="tanh").mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """The gradients of gate and up."""
        (gradient,) = gradients
        gate, up = ctx.saved_tensors
        of_gate = aten.gelu_backward(gradient * up, gate, approximate="tanh")
        return of_gate, functional.gelu(gate, approximate="tanh").mul_(gradient)


def replace_gates(model: nn.Module) -> None:
    """Makes the feed-forward parts of a transformers model compute by the functions above; names and weights stay."""
    for module in model.modules():
        match type(module).__name__:
            case "LlamaMLP":
                module.forward = _gated(module, SiluGate)
            case "Gemma2MLP":
                module.forward = _gated(module, GeluGate)


def _gated(module: Any, gate: Any) -> Any:
    def forward(x: Tensor) -> Tensor:
        result: Tensor = module.down_proj(gate.apply(module.gate_proj(x), module.up_proj(x)))
        return result

    return forward
