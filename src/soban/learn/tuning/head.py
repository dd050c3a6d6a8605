"""The loss of next tokens over a packed vocabulary: a tile of it at a time, so that logits never fill the memory."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from soban.learn.data.packing import IGNORED
from soban.learn.tuning.packed import TILE, decoded
from soban.ops import products
from soban.ops.formats import PANEL, Matrix

LOGITS = 8 << 20  # numbers of logits at a time: 32 MB, in each thread


class PackedLoss(torch.autograd.Function):
    """Cross-entropy in nats, summed over the tokens that have a target; its gradient is found on the way.

    The vocabulary is passed twice: once for the sum of the exponentials, once for the shares of each of its tiles,
    which are decoded for all tokens together.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, matrix: Matrix, targets: Tensor, cap: float | None) -> Tensor:
        """states (N, hidden), matrix (vocabulary, hidden), targets (N,) with IGNORED; `cap`: soft cap of the logits."""
        places = torch.nonzero(targets != IGNORED).squeeze(1)
        x, aims = states[places].float(), targets[places]
        step = min(LOGITS // max(1, len(x)), TILE // matrix.shape[1])
        step = max(PANEL, step // PANEL * PANEL)
        tiles = [(start, min(start + step, matrix.shape[0])) for start in range(0, matrix.shape[0], step)]
        most, total = torch.full((len(x),), -torch.inf), torch.zeros(len(x))
        aimed = torch.zeros(len(x))
        for start, stop in tiles if len(x) else ():
            logits, _ = _logits(x, matrix, start, stop, cap)
            higher = torch.maximum(most, logits.max(1).values)
            total = total * (most - higher).exp() + (logits - higher[:, None]).exp_().sum(1)
            most = higher
            inside = (aims >= start) & (aims < stop)
            aimed[inside] = logits[inside, aims[inside] - start]
        whole = most + total.log()
        if ctx.needs_input_grad[0]:
            gradient = torch.zeros_like(states)
            if len(x):
                gradient[places] = _gradient(x, matrix, aims, whole, tiles, cap, states.dtype)
            ctx.save_for_backward(gradient)
        return (whole - aimed).double().sum().float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of states."""
        (scale,) = gradients
        (gradient,) = ctx.saved_tensors
        return gradient if scale == 1 else gradient * scale.to(gradient.dtype), None, None, None


def _gradient(
    x: Tensor, matrix: Matrix, aims: Tensor, whole: Tensor, tiles: list[tuple[int, int]], cap: float | None,
    dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """Of the loss with respect to x (N, hidden), in `dtype`; `whole` (N,): the log of the sum of exponentials."""
    out = torch.zeros_like(x)
    for start, stop in tiles:
        logits, slope = _logits(x, matrix, start, stop, cap)
        shares = logits.sub_(whole[:, None]).exp_()
        inside = torch.nonzero((aims >= start) & (aims < stop)).squeeze(1)
        shares[inside, aims[inside] - start] -= 1
        if slope is not None:
            shares *= slope
        tile = torch.from_numpy(decoded(matrix, np.arange(start, stop)))
        if dtype == torch.float32:
            out.addmm_(shares, tile)
        else:
            out += shares.to(dtype) @ tile.to(dtype)
    return out.to(dtype)


def _logits(x: Tensor, matrix: Matrix, start: int, stop: int, cap: float | None) -> tuple[Tensor, Tensor | None]:
    """Logits (N, stop - start) of a tile of the vocabulary, and the slope of their cap."""
    (part,) = matrix.parts
    logits = torch.from_numpy(products.linear(x.numpy(), Matrix((products.panels(part, start, stop),))))
    if matrix.residual is not None:
        rest = Matrix((products.panels(matrix.residual, start, stop),))
        logits += torch.from_numpy(products.linear(x.numpy(), rest))
    if cap is None:
        return logits, None
    logits = torch.tanh(logits / cap)
    slope = 1 - logits.square()
    return logits.mul_(cap), slope


def packed_loss(states: Tensor, matrix: Matrix, targets: Tensor, cap: float | None = None) -> Tensor:
    """The summed loss in nats of states (..., hidden) against targets (...)."""
    result: Tensor = PackedLoss.apply(states.reshape(-1, states.shape[-1]), matrix, targets.reshape(-1), cap)
    return result
