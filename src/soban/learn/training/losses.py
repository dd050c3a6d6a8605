"""The loss of next tokens, with its gradient, over a few hundred tokens at a time: logits never fill the memory."""

from typing import Any

import torch
from torch import Tensor

from soban.learn.data.packing import IGNORED
from soban.learn.training import kernels

AT_ONCE = 256  # tokens whose logits exist at one time: with a vocabulary of 4096, 4 MB in float32
MOST = 8 << 20  # logits at one time, where the vocabulary is large
LEAST = 16  # tokens, so that products stay products


class NextTokenLoss(torch.autograd.Function):
    """Cross-entropy in nats, summed over the tokens that have a target; its gradient is found on the way."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, head: Tensor, targets: Tensor, cap: float | None) -> Tensor:
        """states (N, hidden), head (vocabulary, hidden), targets (N,) with IGNORED; `cap`: soft cap of the logits."""
        counts = targets != IGNORED
        grad_states = torch.zeros_like(states) if ctx.needs_input_grad[0] else None
        grad_head = torch.zeros_like(head, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        total = torch.zeros((), dtype=torch.float64, device=states.device)
        scratch = torch.empty(len(head), dtype=torch.float32, device=states.device)
        at_once = max(LEAST, min(AT_ONCE, MOST // len(head)))
        for rows in torch.nonzero(counts).squeeze(1).split(at_once):
            some, aims = states[rows], targets[rows]
            logits = some @ head.T
            if kernels.take(logits):
                total += kernels.next_token_loss(logits, aims, cap, scratch, learning=grad_states is not None)
                gradient = logits
            else:
                nats, gradient = _loss(logits.float(), aims.unsqueeze(1), cap, learning=grad_states is not None)
                total += nats
            if grad_states is None:
                continue
            gradient = gradient.to(head.dtype)
            grad_states[rows] = gradient @ head
            if grad_head is None:
                continue
            if head.dtype == torch.float32:
                grad_head.addmm_(gradient.T, some)
            else:
                grad_head += gradient.T @ some
        ctx.save_for_backward(grad_states, None if grad_head is None else grad_head.to(head.dtype))
        return total.float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of states and head."""
        (scale,) = gradients
        grad_states, grad_head = ctx.saved_tensors
        if scale != 1:
            grad_states, grad_head = (x if x is None else x * scale.to(x.dtype) for x in (grad_states, grad_head))
        return grad_states, grad_head, None, None


def _loss(logits: Tensor, aims: Tensor, cap: float | None, *, learning: bool) -> tuple[Tensor, Tensor]:
    """As kernels.next_token_loss, by torch; aims (rows, 1)."""
    slope = None
    if cap is not None:
        logits = torch.tanh(logits / cap)
        slope = 1 - logits.square()
        logits *= cap
    expected = torch.log_softmax(logits, 1, out=logits)
    nats = -expected.gather(1, aims).sum()
    if learning:
        # the gradient of the logits: what the model expects, less what came
        expected.exp_().scatter_add_(1, aims, torch.full_like(aims, -1.0, dtype=expected.dtype))
        if slope is not None:
            expected *= slope
    return nats, expected


def next_token_loss(states: Tensor, head: Tensor, targets: Tensor, cap: float | None = None) -> Tensor:
    """The summed loss in nats of states (..., hidden) against targets (...)."""
    result: Tensor = NextTokenLoss.apply(states.reshape(-1, states.shape[-1]), head, targets.reshape(-1), cap)
    return result
