"""A LoRA adapter once it is opened, whatever form its files have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from soban.weights.checkpoint import HF, Tensor


@dataclass(frozen=True, eq=False)
class LowRank:
    """What an adapter adds to a linear layer (out, in): scale * x @ a.T @ b.T, a (r, in) and b (out, r).

    `magnitude` (out,): the length that each row of the sum gets (DoRA: Liu et al. 2024).
    """

    a: Tensor
    b: Tensor
    scale: float
    magnitude: Tensor | None = None


@dataclass(frozen=True, eq=False)
class AdapterFiles:
    """An opened adapter: `layers` by the names of the modules in the model that it belongs to, as its form has them.

    `interleaved`: rows of q and k are in the order of files in which neighbours turn together. `factors`: by what the
    results of a layer are multiplied, (out, 1), or what it is given, (1, in) (IA3: Liu et al. 2022).
    """

    path: Path
    layers: Mapping[str, LowRank]
    base: str | None  # the model's name, as whoever trained the adapter called it
    form: str = HF
    interleaved: bool = False
    factors: Mapping[str, Tensor] = field(default_factory=dict)
