"""Weight formats: how the rows of a matrix lie in memory, and what the numbers mean.

Plain formats (f32, f16, bf16) are row-major. Quantised ones (q8, q4) come in panels of 16 rows and, along each
row, groups of 64 weights, so that one vector register holds four neighbouring weights of each of 16 rows and no
kernel ever sums across lanes. A block is one panel by one group; a matrix is its blocks, panel by panel:

    q8  16 bf16 scales, 16 x 64 bytes:  byte 4r + j of vector i is the int8 of row r at k = 4i + j     1056 bytes
        w = scale * q, with q in -127..127 (without -128, so that 16-bit sums of two products cannot saturate)
    q4  16 bf16 scales, 16 bf16 minima, 8 x 64 bytes: the low nibbles of vector i are those of k = 4i + j,
        the high ones those of k = 32 + 4i + j                                                          576 bytes
        w = scale * q + minimum, with q in 0..15
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PANEL = 16  # rows side by side: one 512-bit register of 32-bit sums, two of 256 bits
GROUP = 64  # weights that share a scale
PLAIN = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16}
BLOCK_BYTES = {"q8": 2 * PANEL + PANEL * GROUP, "q4": 4 * PANEL + PANEL * GROUP // 2}
FORMATS = (*PLAIN, *BLOCK_BYTES)  # the index is the format's number in native/soban.h

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
    """A weight matrix (rows, columns) as parts stacked along its rows, each in its own format, and a bias (rows,)."""

    parts: tuple[Rows, ...]
    bias: Floats | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return sum(part.rows for part in self.parts), self.parts[0].columns


def matrix(values: Floats, format: str = "f32", bias: Floats | None = None) -> Matrix:
    """The array (rows, columns) as a matrix of one part in the given format."""
    return Matrix((encode(values, format),), bias)


def stored_bytes(format: str, rows: int, columns: int) -> int:
    """How many bytes a (rows, columns) matrix takes in a format."""
    if format in PLAIN:
        return rows * columns * np.dtype(PLAIN[format]).itemsize
    return -(-rows // PANEL) * -(-columns // GROUP) * BLOCK_BYTES[format]


def bf16_bits(values: Floats) -> npt.NDArray[np.uint16]:
    """float32 rounded to bfloat16 (to nearest, ties to even), as its 16 bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_values(bits: npt.NDArray[np.uint16]) -> Floats:
    """The float32 values of bfloat16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def encode(values: Floats, format: str) -> Rows:
    """float32 (rows, columns) in a format. The native quantiser gives the same bytes."""
    rows, columns = values.shape
    if format == "bf16":
        return Rows(format, rows, columns, bf16_bits(values))
    if format in PLAIN:
        return Rows(format, rows, columns, values.astype(PLAIN[format]))
    padded = np.zeros((-(-rows // PANEL) * PANEL, -(-columns // GROUP) * GROUP), np.float32)
    padded[:rows, :columns] = values
    groups = padded.reshape(padded.shape[0], -1, GROUP)
    return Rows(format, rows, columns, _pack(*(_quantise_q8 if format == "q8" else _quantise_q4)(groups)))


def decode(part: Rows, rows: Sequence[int] | slice = slice(None)) -> Floats:
    """The float32 values of the chosen rows, (n, columns)."""
    if part.format == "bf16":
        return bf16_values(part.data[rows])
    if part.format in PLAIN:
        return part.data[rows].astype(np.float32)
    index = np.arange(part.rows)[rows]
    q, scale, minimum = unpack(part)
    values = scale[index, :, None] * q[index].astype(np.float32) + minimum[index, :, None]
    return values.reshape(len(index), -1)[:, : part.columns]


def unpack(part: Rows) -> tuple[npt.NDArray[np.int8], Floats, Floats]:
    """Integers (rows, groups, 64), scales and minima (rows, groups) of a q8 or q4 part; padded columns included."""
    panels, groups = -(-part.rows // PANEL), -(-part.columns // GROUP)
    blocks = part.data.reshape(panels, groups, BLOCK_BYTES[part.format])
    numbers = 2 * PANEL * (2 if part.format == "q4" else 1)
    floats = bf16_values(np.ascontiguousarray(blocks[:, :, :numbers]).view(np.uint16))
    body = blocks[:, :, numbers:].reshape(panels, groups, -1, PANEL, 4)  # (..., vector, row, 4 neighbours in k)
    if part.format == "q4":
        body = np.concatenate([body & 15, body >> 4], axis=2)
    q = body.view(np.int8).transpose(0, 3, 1, 2, 4).reshape(panels * PANEL, groups, GROUP)

    def per_row(values: Floats) -> Floats:
        return values.transpose(0, 2, 1).reshape(panels * PANEL, groups)[: part.rows]

    scale = per_row(floats[:, :, :PANEL])
    minimum = per_row(floats[:, :, PANEL:]) if part.format == "q4" else np.zeros_like(scale)
    return q[: part.rows], scale, minimum


def _pack(q: npt.NDArray[np.uint8], *numbers: Floats) -> npt.NDArray[np.uint8]:
    """Integers (rows, groups, 64) and their scales (and minima) as blocks; the inverse of `unpack`."""
    rows, groups, _ = q.shape
    vectors = q.reshape(rows // PANEL, PANEL, groups, GROUP // 4, 4).transpose(0, 2, 3, 1, 4)
    if len(numbers) == 2:
        half = GROUP // 8
        vectors = vectors[:, :, :half] | (vectors[:, :, half:] << 4)
    heads = [bf16_bits(n.reshape(-1, PANEL, groups).transpose(0, 2, 1)).view(np.uint8) for n in numbers]
    return np.concatenate([*heads, vectors.reshape(rows // PANEL, groups, -1)], axis=-1).reshape(-1)


def _quantise_q8(x: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    scale = _scale(np.abs(x).max(axis=-1) / np.float32(127))
    return _nearest(x, scale, np.float32(0), -127, 127), scale


# How much of a group's range the 16 levels span: clipping the ends a little often costs less than wider steps.
SPANS = tuple(np.float32(n) / np.float32(32) for n in (32, 31, 30, 29, 28, 27, 26, 25))


def _quantise_q4(x: Floats) -> tuple[npt.NDArray[np.uint8], Floats, Floats]:
    low, high = x.min(axis=-1), x.max(axis=-1)
    middle, half = low * np.float32(0.5) + high * np.float32(0.5), high * np.float32(0.5) - low * np.float32(0.5)
    best: tuple[npt.NDArray[np.uint8], Floats, Floats] | None = None
    least = np.full(low.shape, np.inf, np.float32)
    for span in SPANS:
        scale = _scale(half * span * np.float32(2 / 15))
        minimum = bf16_values(bf16_bits(middle - half * span + np.float32(0)))  # + 0: never -0
        q = _nearest(x, scale, minimum, 0, 15)
        error = np.zeros_like(least)
        for k in range(GROUP):  # in ascending order, as the native code adds them
            difference = x[..., k] - (scale * q[..., k].astype(np.float32) + minimum)
            error = error + difference * difference
        better = error < least
        if best is None:
            best = q, scale, minimum
        else:
            best = (
                np.where(better[..., None], q, best[0]),
                np.where(better, scale, best[1]),
                np.where(better, minimum, best[2]),
            )
        least = np.where(better, error, least)
    assert best is not None
    return best


def _scale(values: Floats) -> Floats:
    """Rounded to bf16; 0 below the least normal number, whose inverse would overflow."""
    rounded = bf16_values(bf16_bits(values))
    return np.where(rounded < np.finfo(np.float32).tiny, np.float32(0), rounded)


def _nearest(x: Floats, scale: Floats, minimum: Floats, low: int, high: int) -> npt.NDArray[np.uint8]:
    """The integer of each value, clipped; 0 steps up from the minimum where the scale is 0."""
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    steps = np.rint((x - np.asarray(minimum)[..., None]) * inverse[..., None])
    return np.clip(steps, low, high).astype(np.int8).view(np.uint8)


def quantise_activations(x: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """(T, K) -> int8 (T, groups, 64) and scales (T, groups): the largest of each group of 64 becomes 127."""
    padded = np.pad(x, ((0, 0), (0, -x.shape[1] % GROUP))).reshape(len(x), -1, GROUP)
    largest = np.abs(padded).max(axis=-1)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest >= 1e-30)
    return np.rint(padded * inverse[..., None]).astype(np.int8), largest * np.float32(1 / 127)
