"""A LoRA adapter once it is opened, whatever form its files have."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from soban.weights.checkpoint import HF, Tensor


@dataclass(frozen=True, eq=False)
class LowRank:
    """What an adapter adds to a linear layer (out, in): scale * x @ a.T @ b.T, a (r, in) and b (out, r)."""

    a: Tensor
    b: Tensor
    scale: float


@dataclass(frozen=True, eq=False)
class AdapterFiles:
    """An opened adapter: `layers` by the names of the modules in the model that it belongs to, as its form has them.

    `interleaved`: rows of q and k are in the order of files in which neighbours turn together.
    """

    path: Path
    layers: Mapping[str, LowRank]
    base: str | None  # the model's name, as whoever trained the adapter called it
    form: str = HF
    interleaved: bool = False
