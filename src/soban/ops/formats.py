"""Weight formats: how the rows of a matrix lie in memory, and what the numbers mean.

Plain formats (f32, f16, bf16) are row-major. The types of GGUF that are kept as they are have ops/gguf.py for
themselves. Our own quantised ones (q8, q4) come in panels of 16 rows and, along each row, in
blocks of 256 weights, of which the last is as long as the row, filled up to groups of 64, needs it. A weight is a scale
times a whole *level* from -127 to 127, and a row has one scale for a block: so a product with int8 activations is a
whole number for each block, which every instruction set, for one token or for many, finds alike.

What is stored is each block times Hadamard's matrix, see `turn`: it spreads what is large over all the columns, in
weights and in activations, so that 256 of them can share a scale. Activations are turned, too, before they are
rounded; the products are then those of the columns as they were.

A block is one panel by n groups of 64 columns; a matrix is its blocks, panel by panel:

    q8  16 float32 scales, n x 16 x 64 bytes: byte 4r + j of vector i is the level of row r at k = 4i + j
    q4  16 float32 scales, n x 16 bytes: less 1, the step of each row's first 32 columns of a group in the low nibble,
        of the others in the high one; n x 16 x 2 int8: the offsets of both halves; zeros to a multiple of 64 bytes;
        n x 8 x 64 bytes: the low nibbles of vector i are those of k = 4i + j, the high ones those of k = 32 + 4i + j
        level = step * q - offset, with q in 0..15, step in 1..16

so that one vector register holds four neighbouring weights of each of 16 rows, and no kernel sums across lanes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from soban.ops import gguf
from soban.ops.panels import BLOCK as BLOCK
from soban.ops.panels import GROUP as GROUP
from soban.ops.panels import HALF as HALF
from soban.ops.panels import PANEL as PANEL
from soban.ops.panels import cut, over_blocks, rows_of, vectors
from soban.ops.panels import groups_of_blocks as groups_of_blocks

PLAIN = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16}
QUANTISED = ("q8", "q4")
FORMATS = (*PLAIN, *QUANTISED)  # those that numbers are encoded in
NUMBERED = (*FORMATS, *gguf.TYPES)  # all; the index is the format's number in native/soban.h
HALVES = ("upper", "lower")  # of the eight bits of q8: what `encode` makes besides, see `halves`; each is kept as q4

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Rows:
    """Neighbouring rows of a matrix in one format. `data` is (rows, columns) if plain, else flat uint8."""

    format: str
    rows: int
    columns: int
    data: npt.NDArray

    def __post_init__(self) -> None:
        expected = stored_bytes(self.format, self.rows, self.columns)
        assert self.data.nbytes == expected, (self.format, self.rows, self.columns, self.data.nbytes, expected)


@dataclass(frozen=True, eq=False)
class Matrix:
    """A weight matrix (rows, columns) as parts stacked along its rows, each in its own format, and a bias (rows,).

    A large vocabulary is the sum of two matrices: its only part, and `residual`, which is read where it matters.
    `place` is the name by which adapters find it, such as layers.3.qkv; without one, none changes it.
    """

    parts: tuple[Rows, ...]
    bias: Floats | None = None
    residual: Rows | None = None
    place: str | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return sum(part.rows for part in self.parts), self.parts[0].columns


def matrix(values: Floats, format: str = "f32", bias: Floats | None = None) -> Matrix:
    """The array (rows, columns) as a matrix of one part in the given format."""
    return Matrix((encode(values, format),), bias)


def stored_bytes(format: str, rows: int, columns: int) -> int:
    """How many bytes a (rows, columns) matrix, or one of its halves, takes in a format."""
    if format in PLAIN:
        return rows * columns * np.dtype(PLAIN[format]).itemsize
    if format in gguf.TYPES:
        return -(-rows // PANEL) * over_blocks(columns, lambda groups: gguf.block_bytes(format, groups))
    return -(-rows // PANEL) * _panel_bytes("q4" if format in HALVES else format, columns)


def _head_bytes(format: str, groups: int) -> int:
    """Of a block, before its integers: scales, and of q4 steps and offsets."""
    return 4 * PANEL + (-(-3 * PANEL * groups // 64) * 64 if format == "q4" else 0)


def block_bytes(format: str, groups: int) -> int:
    """Of a block of so many groups."""
    return _head_bytes(format, groups) + groups * PANEL * GROUP // (2 if format == "q4" else 1)


def _panel_bytes(format: str, columns: int) -> int:
    return over_blocks(columns, lambda groups: block_bytes(format, groups))


def bf16_bits(values: Floats) -> npt.NDArray[np.uint16]:
    """float32 rounded to bfloat16 (to nearest, ties to even), as its 16 bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_values(bits: npt.NDArray[np.uint16]) -> Floats:
    """The float32 values of bfloat16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def encode(values: Floats, format: str) -> Rows:
    """float32 (rows, columns) in a format, or one of its halves. The native quantiser gives the same bytes."""
    rows, columns = values.shape
    if format in HALVES:
        return halves(encode(values, "q8"))[HALVES.index(format)]
    if format == "bf16":
        return Rows(format, rows, columns, bf16_bits(values))
    if format in PLAIN:
        return Rows(format, rows, columns, values.astype(PLAIN[format]))
    padded = np.zeros((-(-rows // PANEL) * PANEL, columns), np.float32)
    padded[:rows] = values
    write = _write_q8 if format == "q8" else _write_q4
    blocks = [write(block) for block in cut(turn(padded, inverse=True))]
    return Rows(format, rows, columns, np.concatenate(blocks, axis=1).reshape(-1))


def turn(x: Floats, inverse: bool = False) -> Floats:
    """(n, columns) -> (n, columns filled up to 64s): each block times Hadamard's matrix of its size.

    A last block of 192 is one of 128 and one of 64. Inverse: divided by the size first, which makes it the inverse.
    """
    n, columns = x.shape
    out = np.zeros((n, -(-columns // GROUP) * GROUP), np.float32)
    out[:, :columns] = x
    start = 0
    for size in (BLOCK, BLOCK // 2, BLOCK // 4):
        end = start + (out.shape[1] - start) // size * size
        part = out[:, start:end].reshape(n * ((end - start) // size), size)
        if inverse:
            part = part * np.float32(1 / size)
        stride = size // 2
        while stride:
            pairs = part.reshape(part.size // (2 * stride), 2, stride)
            part = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1)
            stride //= 2
        out[:, start:end] = part.reshape(n, end - start)
        start = end
    return out


def decode(part: Rows, rows: Sequence[int] | slice = slice(None)) -> Floats:
    """The float32 values of the chosen rows, (n, columns)."""
    if part.format == "bf16":
        return bf16_values(part.data[rows])
    if part.format in PLAIN:
        return part.data[rows].astype(np.float32)
    index = np.arange(part.rows)[rows]
    if part.format in gguf.TYPES:
        levels, scales, minima = gguf.unpack(part.format, part.rows, part.columns, part.data)
        shares = levels[index].reshape(len(index), scales.shape[1], -1) * scales[index, :, None]
        if minima is not None:
            shares -= minima[index, :, None]
        return shares.reshape(len(index), -1)[:, : part.columns]
    levels, scales = unpack(part)
    values = levels[index] * np.repeat(scales[index], BLOCK, axis=1)[:, : levels.shape[1]]
    return turn(values)[:, : part.columns]


def unpack(part: Rows) -> tuple[npt.NDArray[np.int8], Floats]:
    """Levels (rows, columns filled up to 64s) and scales (rows, blocks) of a q8 or q4 part, turned as it is stored."""
    panels = part.data.reshape(-(-part.rows // PANEL), _panel_bytes(part.format, part.columns))
    levels, scales, start = [], [], 0
    for groups in groups_of_blocks(part.columns):
        block = panels[:, start : start + block_bytes(part.format, groups)]
        scales.append(np.ascontiguousarray(block[:, : 4 * PANEL]).view(np.float32).reshape(-1, 1))
        body = block[:, _head_bytes(part.format, groups) :].reshape(len(panels), groups, -1, 4 * PANEL)
        if part.format == "q4":
            body = np.concatenate([body & 15, body >> 4], axis=2)
        q = rows_of(body)
        levels.append(_levels(q, *_steps(block, groups)) if part.format == "q4" else q.view(np.int8))
        start += block.shape[1]
    return np.concatenate(levels, axis=1)[: part.rows], np.concatenate(scales, axis=1)[: part.rows]


def scales_are_finite(format: str, columns: int, data: npt.NDArray[np.uint8]) -> bool:
    """Whether no scale of a quantised matrix' data is NaN or an infinity."""
    if format in gguf.TYPES:
        return gguf.are_finite(format, columns, data)
    panels, start = data.reshape(-1, _panel_bytes(format, columns)), 0
    for groups in groups_of_blocks(columns):
        if not np.isfinite(np.ascontiguousarray(panels[:, start : start + 4 * PANEL]).view(np.float32)).all():
            return False
        start += block_bytes(format, groups)
    return True


def _steps(block: npt.NDArray[np.uint8], groups: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Steps and offsets (rows, halves) of a q4 block (panels, bytes)."""
    first, middle = 4 * PANEL, 4 * PANEL + groups * PANEL
    codes = block[:, first:middle].reshape(-1, groups, PANEL)
    steps = np.stack([codes & 15, codes >> 4], axis=3).transpose(0, 2, 1, 3).reshape(-1, 2 * groups) + 1
    offsets = block[:, middle : middle + 2 * groups * PANEL].reshape(-1, groups, PANEL, 2)
    rows = np.ascontiguousarray(offsets.transpose(0, 2, 1, 3)).view(np.int8).reshape(-1, 2 * groups)
    return steps.astype(np.int32), rows.astype(np.int32)


def _levels(
    q: npt.NDArray[np.uint8], steps: npt.NDArray[np.int32], offsets: npt.NDArray[np.int32]
) -> npt.NDArray[np.int8]:
    wide = q.reshape(len(q), -1, HALF).astype(np.int32)
    return (steps[..., None] * wide - offsets[..., None]).astype(np.int8).reshape(q.shape)


def _write_q8(x: Floats) -> npt.NDArray[np.uint8]:
    """A block (rows, columns) of turned weights, as (panels, bytes)."""
    q, scale = _quantise_q8(x)
    return np.concatenate([_floats(scale), vectors(q.view(np.uint8)).reshape(len(x) // PANEL, -1)], axis=1)


def _write_q4(x: Floats) -> npt.NDArray[np.uint8]:
    """A block (rows, columns) of turned weights, as (panels, bytes)."""
    q, steps, offsets, scale = _quantise_q4(x)
    return _q4_block(_floats(scale), q, steps, offsets)


def _floats(scale: Floats) -> npt.NDArray[np.uint8]:
    return scale.reshape(-1, PANEL).view(np.uint8)


def _q4_block(
    scales: npt.NDArray[np.uint8], q: npt.NDArray[np.uint8], steps: npt.NDArray, offsets: npt.NDArray
) -> npt.NDArray[np.uint8]:
    """Integers (rows, columns), steps and offsets (rows, halves) as (panels, bytes)."""
    panels, groups = len(scales), q.shape[1] // GROUP
    codes = steps.astype(np.uint8).reshape(panels, PANEL, groups, 2) - np.uint8(1)
    codes = (codes[..., 0] | codes[..., 1] << np.uint8(4)).transpose(0, 2, 1)
    pairs = offsets.astype(np.int8).view(np.uint8).reshape(panels, PANEL, groups, 2).transpose(0, 2, 1, 3)
    head = [scales, codes.reshape(panels, -1), pairs.reshape(panels, -1)]
    head.append(np.zeros((panels, _head_bytes("q4", groups) - sum(part.shape[1] for part in head)), np.uint8))
    whole, half = vectors(q), GROUP // 8
    body = whole[:, :, :half] | whole[:, :, half:] << np.uint8(4)
    return np.concatenate([*head, body.reshape(panels, -1)], axis=1)


def halves(part: Rows) -> tuple[Rows, Rows]:
    """A q8 part as two q4 parts whose sum it is: the upper four bits of each level, and the lower four.

    level + 128 = 16 u + l, so level = (16 u - 120) + (l - 8): the upper part alone is as near as four bits come to it.
    """
    panels, start = part.data.reshape(-(-part.rows // PANEL), _panel_bytes("q8", part.columns)), 0
    upper, lower = [], []
    for groups in groups_of_blocks(part.columns):
        block = panels[:, start : start + block_bytes("q8", groups)]
        scales, body = block[:, : 4 * PANEL], block[:, 4 * PANEL :] ^ np.uint8(128)  # -128..127 as 0..255
        q = rows_of(body.reshape(len(panels), groups, -1, 4 * PANEL))
        same = np.ones((len(q), 2 * groups), np.int32)
        upper.append(_q4_block(scales, q >> np.uint8(4), 16 * same, 120 * same))
        lower.append(_q4_block(scales, q & np.uint8(15), same, 8 * same))
        start += block.shape[1]
    one, other = (np.concatenate(blocks, axis=1).reshape(-1) for blocks in (upper, lower))
    return Rows("q4", part.rows, part.columns, one), Rows("q4", part.rows, part.columns, other)


def _quantise_q8(x: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    scale = _scale(np.abs(x).max(axis=-1) / np.float32(127))
    return _nearest(x * _inverse(scale)[:, None], -127, 127).astype(np.int8), scale


# The search for the 16 levels of 32 weights begins with their range. Then it moves, each time from the best so far: the
# step by a whole number, and the levels by a share of it.
MOVES = tuple(
    (np.float32(longer), np.float32(shift))
    for longer, shift in (
        (0, 0.25), (0, -0.25), (1, 0.25), (1, -0.25), (-1, 0.25), (-1, -0.25), (1, 0), (-1, 0), (0, 0.25), (0, -0.25),
    )
)  # fmt: skip
MOST_STEP = 16


def _quantise_q4(x: Floats) -> tuple[npt.NDArray[np.uint8], Floats, Floats, Floats]:
    """Integers (rows, columns), steps and offsets (rows, halves), scales (rows,): least squares over whole numbers."""
    scale = _scale(np.abs(x).max(axis=-1) / np.float32(127))
    y = (x * _inverse(scale)[:, None]).reshape(len(x), -1, HALF)
    low, high, total = y.min(axis=-1), y.max(axis=-1), _sum(y)
    step = _nearest((high - low) * np.float32(1 / 15), 1, MOST_STEP)
    best: tuple[Floats, ...] = _fit(y, total, step, np.float32(7.5) * step - (low + high) * np.float32(0.5))
    for longer, shift in MOVES:
        step, offset, _ = best
        moved = offset + (np.float32(7.5) * longer - shift * step)
        trial = _fit(y, total, _nearest(step + longer, 1, MOST_STEP), moved)
        better = trial[-1] < best[-1]
        best = tuple(np.where(better, new, old) for new, old in zip(trial, best, strict=True))
    step, offset, _ = best
    return _integers(y, step, offset).astype(np.uint8).reshape(x.shape), step, offset, scale


def _integers(y: Floats, step: Floats, offset: Floats) -> Floats:
    return _nearest((y + offset[..., None]) * (np.float32(1) / step)[..., None], 0, 15)


def _fit(y: Floats, total: Floats, step: Floats, offset: Floats) -> tuple[Floats, Floats, Floats]:
    """(step, offset, squared error but for the sum of squares of y): the best offset for the nearest integers."""
    least = np.float32(15) * step - np.float32(127)  # so that no level is beyond 127
    q = _integers(y, step, _nearest(offset, least, 127))
    count, squares, products = q.sum(axis=-1), (q * q).sum(axis=-1), _sum(y * q)  # the first two are exact
    offset = _nearest((step * count - total) * np.float32(1 / HALF), least, 127)
    of_step = step * (step * squares - np.float32(2) * (products + offset * count))
    return step, offset, of_step + offset * (np.float32(HALF) * offset + np.float32(2) * total)


def _sum(values: Floats) -> Floats:
    """Along the last axis in ascending order, as the native code adds."""
    return np.asarray(np.add.accumulate(values, axis=-1)[..., -1])


def _inverse(scale: Floats) -> Floats:
    """0 for 0 and what has no finite inverse."""
    large = scale >= np.finfo(np.float32).tiny
    return np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=large)


def _scale(values: Floats) -> Floats:
    """0 below the least normal number, whose inverse would overflow."""
    return np.where(values < np.finfo(np.float32).tiny, np.float32(0), values)


def _nearest(values: Floats, least: Floats | int, most: int) -> Floats:
    """The whole number of each value, clipped."""
    return np.clip(np.rint(values), np.float32(least), np.float32(most))


def quantise(x: Floats, size: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """(n, columns) -> int8 (n, blocks, size) and scales (n, blocks): the largest of each block becomes 127."""
    padded = np.pad(x, ((0, 0), (0, -x.shape[1] % size)))
    blocks = padded.reshape(len(x), padded.shape[1] // size, size)
    largest = np.abs(blocks).max(axis=-1)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest >= 1e-30)
    return np.rint(blocks * inverse[..., None]).astype(np.int8), largest * np.float32(1 / 127)
