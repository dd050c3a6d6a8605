"""Adapters: small products that are added to those of a model's matrices, for the sequences that choose them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from soban.ops.formats import Floats, bf16_values

Numbers = npt.NDArray  # float32, or bf16 as its 16 bits


@dataclass(frozen=True, eq=False)
class Piece:
    """Adds scale * x @ a.T @ b.T to columns `first` to `first + n` of a linear's result (LoRA: Hu et al. 2021).

    a (rank, columns of x) and b (n, rank) are both float32, or both bf16 as uint16.
    """

    first: int
    a: Numbers
    b: Numbers
    scale: float

    def __post_init__(self) -> None:
        assert self.a.dtype == self.b.dtype and self.a.dtype in (np.float32, np.uint16), (self.a.dtype, self.b.dtype)
        assert self.a.ndim == self.b.ndim == 2 and self.a.shape[0] == self.b.shape[1], (self.a.shape, self.b.shape)

    @property
    def format(self) -> str:
        return "f32" if self.a.dtype == np.float32 else "bf16"

    def add(self, x: Floats, out: Floats) -> None:
        """Adds it to the results `out` of the rows x."""
        a, b = ((m if self.format == "f32" else bf16_values(m)) for m in (self.a, self.b))
        out[:, self.first : self.first + len(b)] += np.float32(self.scale) * (x @ a.T @ b.T)


@dataclass(frozen=True, eq=False)
class Adapter:
    """What is added at the places of a model's matrices; one that has no such place is left alone."""

    pieces: Mapping[str, tuple[Piece, ...]]

    @property
    def nbytes(self) -> int:
        return sum(piece.a.nbytes + piece.b.nbytes for some in self.pieces.values() for piece in some)
