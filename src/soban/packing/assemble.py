"""From a checkpoint's named tensors to the weights of a family, converted or packed as the wanted dtype asks.

Kinds: `f32` keeps every weight as it is stored (no rounding), `bf16` rounds to 16 bits, `q8` and `q4` quantise, `gguf`
keeps the blocks of a GGUF file, in another order.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soban import ops
from soban.models import Architecture
from soban.models.plan import Part, Weight
from soban.ops import formats, gguf
from soban.ops.formats import Floats, Matrix, Rows
from soban.packing.equalise import Factors, equalise
from soban.packing.layout import FINITE_LIMIT, LAYOUT, RESIDUAL, Layout, layout_text, packed_layout
from soban.packing.packed_file import origin
from soban.weights.checkpoint import Checkpoint, Tensor, finite_check
from soban.weights.safetensors import write_safetensors

DTYPES = ("f32", "bf16", "gguf", "q8", "q4")
HALVED_ROWS = 1 << 16  # a vocabulary of so many entries is kept in two halves, see ops/vocabulary.py
CHUNK = 64 << 20  # bytes of float32 that are quantised in one go


def target_format(part: Part, tensor: Tensor, dtype: str) -> str:
    """The format in which a tensor is kept. With q4, the vocabulary and the values stay in 8 bits: they lose most.

    Those of a large vocabulary are two matrices of this format.
    """
    own = tensor.format if tensor.format in formats.PLAIN else "f32"
    if dtype == "gguf" and len(part.shape) == 2 and tensor.format in gguf.TYPES:
        return tensor.format
    if len(part.shape) != 2 or dtype in ("f32", "gguf"):
        return own
    if dtype == "bf16":
        return own if own in ("f16", "bf16") else "bf16"
    if halved(part, tensor.shape, dtype):
        return "q4"
    return "q8" if dtype == "q8" or part.precise else "q4"


def halved(part: Part, shape: Sequence[int], dtype: str) -> bool:
    """Whether a tensor of a shape becomes the two halves of a large vocabulary."""
    return dtype == "q4" and part.vocabulary and shape[0] >= HALVED_ROWS


def dtypes_of(architecture: Architecture, checkpoint: Checkpoint) -> tuple[str, ...]:
    """The dtypes that a checkpoint that is not packed can be kept in, the most exact first.

    `gguf` is one where the kernels compute with the blocks of all its matrices as they are.
    """
    matrices = {checkpoint.tensors[part.name].format for part in architecture.plan.parts() if len(part.shape) == 2}
    as_stored = matrices & gguf.TYPES.keys() and matrices <= gguf.TYPES.keys() | formats.PLAIN.keys()
    return tuple(dtype for dtype in DTYPES if dtype != "gguf" or as_stored)


def needs_packing(architecture: Architecture, checkpoint: Checkpoint, dtype: str) -> bool:
    """Whether some tensor has to be converted or turned over, rather than used from the mapped file."""
    if packed_layout(checkpoint):
        return False
    return any(
        (target := target_format(part, tensor, dtype)) != tensor.format or target in gguf.TYPES
        or not tensor.data.flags.c_contiguous
        for part in architecture.plan.parts()
        if len((tensor := checkpoint.tensors[part.name]).shape) == 2
    )  # fmt: skip


def weight_bytes(architecture: Architecture, checkpoint: Checkpoint, dtype: str) -> int:
    """How many bytes the weights of a checkpoint that is not packed take in a dtype."""
    return sum(
        formats.stored_bytes(target_format(part, checkpoint.tensors[part.name], dtype), *part.shape)
        * (2 if halved(part, part.shape, dtype) else 1)
        if len(part.shape) == 2
        else 4 * math.prod(part.shape)
        for part in architecture.plan.parts()
    )


def pack(
    architecture: Architecture,
    checkpoint: Checkpoint,
    dtype: str,
    path: Path,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Writes the packed form of a checkpoint: matrices converted, vectors in float32. Raises UserError for NaN.

    Before they are quantised, outlier channels are equalised, which changes nothing in what the model computes.
    `progress` is called with the share that is done, 0 to 1.
    """
    entries: list[tuple[str, str, tuple[int, ...]]] = []
    layout: Layout = {}
    for part in architecture.plan.parts():
        name, shape = part.name, part.shape
        if len(shape) != 2:
            entries.append((name, "F32", shape))
            continue
        for entry in (name, name + RESIDUAL) if halved(part, shape, dtype) else (name,):
            layout[entry] = (target_format(part, checkpoint.tensors[name], dtype), shape[0], shape[1])
            size = formats.stored_bytes(*layout[entry])
            entries.append((entry, "U8", (-(-size // 64) * 64,)))  # whole cache lines: every tensor starts on one

    moved = equalise(architecture.plan, checkpoint) if dtype in formats.QUANTISED else Factors()

    def fill(name: str) -> Iterator[npt.NDArray]:
        if name not in layout:
            finite_check(checkpoint.tensors[name])
            yield np.ascontiguousarray(moved.vectors.get(name, checkpoint.tensors[name].float32()))
            return
        count = 0
        whole = name.removesuffix(RESIDUAL)
        target = layout[name][0] if whole + RESIDUAL not in layout else "upper" if name == whole else "lower"
        tensor = checkpoint.tensors[whole]
        for piece in repacked(tensor) if target in gguf.TYPES else converted(tensor, target, moved):
            count += piece.nbytes
            bytes_so_far[0] += piece.nbytes
            progress(bytes_so_far[0] / total)
            yield piece
        yield np.zeros(-count % 64, np.uint8)

    bytes_so_far, total = [0], sum(formats.stored_bytes(*entry) for entry in layout.values())
    metadata = {LAYOUT: layout_text(layout)} | origin(checkpoint.path, checkpoint.files)
    write_safetensors(path, entries, fill, metadata, sums=True)


def converted(tensor: Tensor, format: str, moved: Factors) -> Iterator[npt.NDArray]:
    """An equalised matrix in a format or one of its halves, in pieces of whole panels. Raises UserError for NaN."""
    rows, columns = tensor.shape
    step = max(1, CHUNK // (4 * columns) // formats.PANEL) * formats.PANEL
    row_factors, column_factors = moved.rows.get(tensor.name), moved.columns.get(tensor.name)
    as_stored = tensor.format in formats.PLAIN and row_factors is None and column_factors is None
    for start in range(0, rows, step):
        piece = tensor.rows(start, start + step) if as_stored else tensor.float32(start, start + step)
        if row_factors is not None:
            piece = piece * row_factors[start : start + step, None]
        if column_factors is not None:
            piece = piece * column_factors
        yield ops.encode(piece, tensor.format if as_stored else "f32", format, tensor.name)


def repacked(tensor: Tensor) -> Iterator[npt.NDArray]:
    """A matrix in a GGUF file's blocks, in pieces of whole panels. Raises UserError for scales that are no numbers."""
    rows, columns = tensor.shape
    step = max(1, CHUNK // (4 * columns) // formats.PANEL) * formats.PANEL
    for start in range(0, rows, step):
        yield ops.repack(np.ascontiguousarray(tensor.rows(start, start + step)), tensor.format, columns, tensor.name)


def assemble(architecture: Architecture, checkpoint: Checkpoint) -> Any:
    """The weights as the family's forward() reads them: by their roles in the plan, and a list of layers.

    Matrices point into the mapped file; the biases and norms, which are small, are float32 in memory.
    """
    layout = packed_layout(checkpoint)
    if not layout and sum(t.data.nbytes for t in checkpoint.tensors.values()) <= FINITE_LIMIT:
        for part in architecture.plan.parts():
            tensor = checkpoint.tensors[part.name]
            if not ops.all_finite(np.ascontiguousarray(tensor.data), tensor.format):
                finite_check(tensor)

    def rows(name: str) -> Rows:
        data = checkpoint.tensors[name].data
        if name in layout:
            format, n, columns = layout[name]
            size = formats.stored_bytes(format, n, columns)
            if format in formats.PLAIN:
                return Rows(format, n, columns, data[:size].view(formats.PLAIN[format]).reshape(n, columns))
            return Rows(format, n, columns, data[:size])
        tensor = checkpoint.tensors[name]
        n, columns = tensor.shape
        if tensor.format not in formats.PLAIN:
            return Rows("f32", n, columns, np.ascontiguousarray(tensor.float32()))
        return Rows(tensor.format, n, columns, tensor.rows())

    def vectors(parts: Sequence[Part]) -> Floats:
        return np.concatenate([checkpoint.tensors[part.name].float32().reshape(-1) for part in parts])

    def residual(name: str) -> Rows | None:
        return rows(name + RESIDUAL) if name + RESIDUAL in layout else None

    return architecture.plan.build(made_by(lambda part: rows(part.name), vectors, lambda part: residual(part.name)))


def made_by(
    rows: Callable[[Part], Rows], vectors: Callable[[Sequence[Part]], Floats], residual: Callable[[Part], Rows | None]
) -> Callable[[Weight, str | None], Any]:
    """What makes a weight of its parts, at its place in the model: a vector, or a Matrix.

    The matrix has the rows of all parts, and what first halves leave out. A vector with a bias is the pair of both.
    """

    def make(weight: Weight, place: str | None) -> Any:
        bias = vectors(weight.biases) if weight.biases else None
        if weight.kind == "matrix":
            return Matrix(tuple(map(rows, weight.parts)), bias, residual(weight.parts[0]), place)
        return vectors(weight.parts) if bias is None else (vectors(weight.parts), bias)

    return make
