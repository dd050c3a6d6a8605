"""RMS norms with a backward pass written out: a third of the memory traffic of the one that autograd finds."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from soban.learn.training import kernels


class Norm(torch.autograd.Function):
    """x over its root mean square, times (weight + offset)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, offset: float) -> Tensor:
        """x (..., width), weight (width)."""
        flat = x.reshape(-1, x.shape[-1]).contiguous()
        ctx.offset = offset
        if kernels.take(x):
            out, inverse = kernels.norm(flat, weight, epsilon, offset)
            ctx.save_for_backward(flat, inverse, weight)
            return out.view(x.shape)
        mean = torch.linalg.vector_norm(flat, dim=1, keepdim=True, dtype=torch.float32).square_() / flat.shape[1]
        inverse = torch.rsqrt(mean + epsilon)
        gain = weight + offset if offset else weight
        ctx.save_for_backward(flat, inverse, gain)
        result: Tensor = (flat * inverse.to(flat.dtype)).mul_(gain).view(x.shape)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x and weight."""
        (gradient,) = gradients
        x, inverse, gain = ctx.saved_tensors
        flat = gradient.reshape(x.shape).contiguous()
        if kernels.take(x):
            grad_x, grad_weight = kernels.norm_backward(x, gain, ctx.offset, inverse, flat)
            return grad_x.view(gradient.shape), grad_weight.to(gain.dtype), None, None
        product = flat * x
        grad_weight = inverse.to(x.dtype).T @ product
        # along x itself nothing changes: its length is divided out
        along = (product @ gain).unsqueeze(1).float() * inverse.pow(3) / x.shape[1]
        grad_x = (flat * gain).mul_(inverse.to(x.dtype)).sub_(x * along.to(x.dtype))
        return grad_x.view(gradient.shape), grad_weight.squeeze(0), None, None


def forward_of(module: Any, offset: float) -> Callable[[Tensor], Tensor]:
    """How an RMS norm of transformers' computes by `Norm`; its names and weights stay as they are."""
    epsilon = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps

    def forward(x: Tensor) -> Tensor:
        result: Tensor = Norm.apply(x, module.weight, epsilon, offset)
        return result

    return forward
