"""Layers over packed weights that stay as they are: forward by the engine's kernels, backward from decoded tiles."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from soban.ops import products
from soban.ops.formats import PANEL, Matrix

TILE = 4 << 20  # numbers of a matrix that are decoded at a time: 16 MB, in each thread


class Product(torch.autograd.Function):
    """x @ w.T with a packed matrix; the gradient of x is that of the exact product with the numbers that w means.

    Forward, the kernels round x to int8 as they do when the model writes: the steps of that rounding have no slope of
    their own, and are passed over on the way back.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Matrix, columns: Tensor | None, rows: Tensor | None) -> Tensor:
        """x (..., K); `columns` (K,), `rows` (N,): what the channels of the matrix were multiplied by, which is
        undone. The result is (..., N)."""
        ctx.matrix, ctx.factors = matrix, (columns, rows)
        flat = x.reshape(-1, x.shape[-1]).float()
        if columns is not None:
            flat = flat / columns.float()
        out = torch.from_numpy(products.linear(flat.numpy(), matrix))
        if rows is not None:
            out /= rows.float()
        return out.to(x.dtype).view(*x.shape[:-1], matrix.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of x."""
        (gradient,) = gradients
        columns, rows = ctx.factors
        flat = gradient.reshape(-1, gradient.shape[-1])
        if rows is not None:
            flat = flat / rows
        out = times(flat, ctx.matrix)
        if columns is not None:
            out /= columns.float()
        return out.to(gradient.dtype).view(*gradient.shape[:-1], out.shape[1]), None, None, None


def times(gradient: Tensor, matrix: Matrix) -> Tensor:
    """(T, N) @ (N, K) -> (T, K) in float32, with the numbers that the matrix means, a tile of its rows at a time."""
    out = torch.zeros(len(gradient), matrix.shape[1])
    for start, tile in tiles(matrix):
        some = gradient[:, start : start + len(tile)]
        if gradient.dtype == torch.float32:
            out.addmm_(some, tile)
        else:
            out += some @ tile.to(gradient.dtype)
    return out


def tiles(matrix: Matrix) -> Iterator[tuple[int, Tensor]]:
    """The decoded rows, some at a time, with the number of the first of them."""
    step = max(PANEL, TILE // matrix.shape[1])
    for start in range(0, matrix.shape[0], step):
        numbers = np.arange(start, min(start + step, matrix.shape[0]))
        yield start, torch.from_numpy(decoded(matrix, numbers))


def decoded(matrix: Matrix, numbers: np.ndarray) -> np.ndarray:
    """The rows of these numbers; of a matrix in two halves their sum."""
    rows = products.rows(matrix, numbers)
    if matrix.residual is not None:
        rows += products.rows(Matrix((matrix.residual,)), numbers)
    return rows


class PackedLinear(nn.Linear):
    """A linear layer whose weight stays packed in the mapped file. peft takes it for what it is derived from."""

    def __init__(self, matrix: Matrix, bias: Tensor | None, columns: Tensor | None, rows: Tensor | None) -> None:
        """`columns`, `rows`: what the channels were multiplied by when the matrix was packed."""
        nn.Module.__init__(self)  # Linear's own would make a weight
        self.out_features, self.in_features = matrix.shape
        self.matrix = matrix
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("nothing", torch.empty(0, dtype=torch.uint8), persistent=False)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """Bytes, so that nobody takes its dtype for that of what is computed."""
        return self.nothing  # type: ignore[return-value]

    def forward(self, input: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        out: Tensor = Product.apply(input, self.matrix, self.columns, self.rows)
        return out if self.bias is None else out + self.bias


class PackedEmbedding(nn.Module):
    """Rows of a packed vocabulary, which stays as it is."""

    def __init__(self, matrix: Matrix, scale: float) -> None:
        """`scale`: by which the model multiplies what it reads of its vocabulary."""
        super().__init__()
        self.matrix = matrix
        self.num_embeddings, self.embedding_dim = matrix.shape
        self.register_buffer("scale", torch.tensor(scale), persistent=False)

    @property
    def weight(self) -> Tensor:
        """Of no rows; its dtype is that of what comes out."""
        return self.scale[None, None][:0]  # type: ignore[index]

    def forward(self, input: Tensor) -> Tensor:
        """(...) -> (..., K)."""
        rows = torch.from_numpy(decoded(self.matrix, input.reshape(-1).numpy()))
        out: Tensor = rows.to(self.scale.dtype) * self.scale  # type: ignore[operator, arg-type]
        return out.view(*input.shape, self.embedding_dim)
