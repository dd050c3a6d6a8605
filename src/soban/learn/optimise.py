"""One step of learning: Muon for the matrices inside the layers, AdamW for the embedding and the norms."""

from collections.abc import Mapping

import torch
from torch import Tensor

BETAS = (0.9, 0.95)
EPSILON = 1e-8
MOMENTUM = 0.95
WEIGHT_DECAY = 0.1
CLIP = 1.0

# Five rounds of this polynomial bring every singular value to about 1 (Jordan et al., "Muon", 2024)
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
# An orthogonal matrix scaled by this and by the root of its longer side has the size of AdamW's usual update, so that
# one learning rate serves both (Liu et al., "Muon is scalable for LLM training", 2025)
LIKE_ADAMW = 0.2


def is_matrix(name: str, weight: Tensor) -> bool:
    """Whether Muon moves this parameter."""
    return weight.ndim == 2 and ".layers." in name


def initial_state(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the optimisers remember of past gradients; zeros before the first step."""
    state = {}
    for name, weight in weights.items():
        for memory in ("momentum",) if is_matrix(name, weight) else ("mean", "square"):
            state[f"{memory}.{name}"] = torch.zeros_like(weight, requires_grad=False)
    return state


@torch.no_grad()
def update(weights: Mapping[str, Tensor], state: Mapping[str, Tensor], step: int, rate: float) -> None:
    """Move the weights along their gradients, in place, and forget the gradients; `step` counts from 1."""
    torch.nn.utils.clip_grad_norm_(weights.values(), CLIP)
    by_shape: dict[torch.Size, list[str]] = {}
    for name, weight in weights.items():
        if is_matrix(name, weight):
            by_shape.setdefault(weight.shape, []).append(name)
        else:
            adamw(weight, state["mean." + name], state["square." + name], step, rate)
    for names in by_shape.values():
        muon([weights[name] for name in names], [state["momentum." + name] for name in names], rate)
    for weight in weights.values():
        weight.grad = None


def adamw(weight: Tensor, mean: Tensor, square: Tensor, step: int, rate: float) -> None:
    """AdamW without weight decay: norms need none, and an embedding's rows that are rare would only fade."""
    gradient = weight.grad
    assert gradient is not None
    mean.lerp_(gradient, 1 - BETAS[0])
    square.lerp_(gradient.square(), 1 - BETAS[1])
    size = (square / (1 - BETAS[1] ** step)).sqrt_().add_(EPSILON)
    weight.addcdiv_(mean, size, value=-rate / (1 - BETAS[0] ** step))


def muon(weights: list[Tensor], momenta: list[Tensor], rate: float) -> None:
    """Matrices of one shape, each moved along its orthogonalised momentum (Nesterov's, looking one step ahead)."""
    ahead = []
    for weight, momentum in zip(weights, momenta, strict=True):
        gradient = weight.grad
        assert gradient is not None
        momentum.lerp_(gradient, 1 - MOMENTUM)
        ahead.append(gradient.lerp(momentum, MOMENTUM))
    scale = LIKE_ADAMW * max(weights[0].shape) ** 0.5
    for weight, direction in zip(weights, orthogonal(torch.stack(ahead)), strict=True):
        weight.mul_(1 - rate * WEIGHT_DECAY).sub_(direction, alpha=rate * scale)


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, rows, columns): near each matrix the one whose singular values are all about 1, by Newton-Schulz rounds."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + EPSILON)
    first, third, fifth = NEWTON_SCHULZ
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = first * x + (third * gram + fifth * gram @ gram) @ x
    return x.mT if tall else x
