"""One step of learning: Muon for the matrices inside the layers and AdamW for the rest, or AdamW for all."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from soban.learn.training.families import FAMILIES
from soban.learn.training.settings import Learning

EPSILON = 1e-8
MOMENTUM = 0.95

# Five rounds of this polynomial bring every singular value to about 1 (Jordan et al., "Muon", 2024)
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
# An orthogonal matrix scaled by this and by the root of its longer side has the size of AdamW's usual update, so that
# one learning rate serves both (Liu et al., "Muon is scalable for LLM training", 2025)
LIKE_ADAMW = 0.2
AT_ONCE = 4  # matrices in one product


def is_matrix(name: str, weight: Tensor, family: str) -> bool:
    """Whether Muon may move this parameter: a matrix inside of a layer."""
    return weight.ndim == 2 and FAMILIES[family].layers in name


def initial_state(weights: Mapping[str, Tensor], settings: Learning) -> dict[str, Tensor]:
    """What the optimisers remember of past gradients; zeros before the first step."""
    state = {}
    for name, weight in weights.items():
        by_muon = settings.optimizer == "muon" and is_matrix(name, weight, settings.family)
        for memory in ("momentum",) if by_muon else ("mean", "square"):
            state[f"{memory}.{name}"] = torch.zeros_like(weight, requires_grad=False)
    return state


Each = Callable[[Callable[[Any], None], Iterable[Any]], Iterable[None]]  # as map, perhaps by several threads


@torch.no_grad()
def update(
    weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], state: Mapping[str, Tensor], step: int,
    settings: Learning, each: Each = map,
) -> float:  # fmt: skip
    """Moves the weights along their gradients, in place, at the rate of `step` (from 0); the gradients' length before
    it was clipped. `each` computes independent parts."""
    length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients.values()]))
    if settings.grad_clip and length > settings.grad_clip:
        for gradient in gradients.values():
            gradient *= settings.grad_clip / (length + 1e-6)
    rate = settings.rate(step)
    groups: dict[torch.Size | str, list[str]] = {}  # what moves together: by Muon matrices of one shape
    for name, weight in weights.items():
        groups.setdefault(weight.shape if "momentum." + name in state else name, []).append(name)
    dtype = torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32

    def move(names: list[str]) -> None:
        some = [weights[name] for name in names], [gradients[name] for name in names]
        with torch.no_grad():  # which holds for one thread alone
            if "momentum." + names[0] in state:
                momenta = [state["momentum." + name] for name in names]
                muon(*some, momenta, rate, settings.weight_decay, dtype)
                return
            for name, weight, gradient in zip(names, *some, strict=True):
                # beside Muon only embeddings and norms are left: a norm needs no decay, rare rows would only fade
                decay = settings.weight_decay if settings.optimizer == "adamw" and weight.ndim == 2 else 0.0
                memory = state["mean." + name], state["square." + name]
                adamw(weight, gradient, memory, step + 1, rate, (settings.beta1, settings.beta2), decay)

    list(each(move, [names[i : i + AT_ONCE] for names in groups.values() for i in range(0, len(names), AT_ONCE)]))
    return length.item()


def adamw(
    weight: Tensor, gradient: Tensor, memory: tuple[Tensor, Tensor], count: int, rate: float,
    betas: tuple[float, float], decay: float,
) -> None:  # fmt: skip
    """AdamW: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019; `count` begins with 1."""
    mean, square = memory
    mean.lerp_(gradient, 1 - betas[0])
    square.lerp_(gradient.square(), 1 - betas[1])
    size = (square / (1 - betas[1] ** count)).sqrt_().add_(EPSILON)
    weight.mul_(1 - rate * decay).addcdiv_(mean, size, value=-rate / (1 - betas[0] ** count))


def muon(
    weights: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], rate: float, decay: float,
    dtype: torch.dtype = torch.float32,
) -> None:  # fmt: skip
    """Matrices of one shape, each moved along its orthogonalised momentum (Nesterov's, looking one step ahead).

    `dtype`: of the rounds, which bear bfloat16's few digits.
    """
    ahead = []
    for gradient, momentum in zip(gradients, momenta, strict=True):
        momentum.lerp_(gradient, 1 - MOMENTUM)
        ahead.append(gradient.lerp(momentum, MOMENTUM))
    scale = LIKE_ADAMW * max(weights[0].shape) ** 0.5
    for weight, direction in zip(weights, orthogonal(torch.stack(ahead).to(dtype)), strict=True):
        weight.mul_(1 - rate * decay).sub_(direction.to(weight.dtype), alpha=rate * scale)


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, rows, columns): near each matrix the one whose singular values are all about 1, by Newton-Schulz rounds."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT.contiguous() if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + EPSILON)
    first, third, fifth = NEWTON_SCHULZ
    for _ in range(ROUNDS):
        gram = x @ x.mT
        # first x + (third gram + fifth gram gram) x, without passes of its own for sums and factors
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x.mT if tall else x
