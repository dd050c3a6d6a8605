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
    return -(-rows // PANEL) * -(-columns // GROUP) * BLOCK_BYTES["q4" if format in HALVES else format]


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


def halves(part: Rows) -> tuple[Rows, Rows]:
    """A q8 part as two q4 parts whose sum it is: the upper four bits of each integer, and the lower four.

    The upper part alone is the nearest that four bits come to it: its minimum is in the middle of what the lower adds.
    """
    blocks = part.data.reshape(-1, BLOCK_BYTES["q8"])
    scales = bf16_values(np.ascontiguousarray(blocks[:, : 2 * PANEL]).view(np.uint16))
    q = blocks[:, 2 * PANEL :] ^ 128  # -128..127 as 0..255
    half = q.shape[1] // 2
    middle = bf16_values(bf16_bits(scales * np.float32(7.5 - 128)))

    def plane(nibbles: npt.NDArray[np.uint8], scale: Floats, minimum: Floats) -> Rows:
        heads = [bf16_bits(numbers).view(np.uint8) for numbers in (scale, minimum)]
        data = np.concatenate([*heads, nibbles[:, :half] | nibbles[:, half:] << np.uint8(4)], axis=1)
        return Rows("q4", part.rows, part.columns, data.reshape(-1))

    upper = plane(q >> np.uint8(4), scales * np.float32(16), middle)
    return upper, plane(q & np.uint8(15), scales, scales * np.float32(-128) - middle)


def _quantise_q8(x: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    scale = _scale(np.abs(x).max(axis=-1) / np.float32(127))
    return _nearest(x, scale, np.float32(0), -127, 127), scale


# The search for a group's 16 levels begins with this share of its range: clipping the ends a little is better than
# wider steps. Then it moves, each time from the best so far, by (factor of the step, shift in steps).
FIRST_SPAN = np.float32(0.94)
MOVES = tuple(
    (np.float32(factor), np.float32(shift))
    for factor, shift in (
        (0.97, 0.25), (0.97, -0.25), (1.03, 0.25), (1.03, -0.25),
        (0.96, 0.0), (1.04, 0.0), (1.0, 0.25), (1.0, -0.25),
        (0.98, 0.15), (0.98, -0.15), (1.02, 0.15), (1.02, -0.15),
    )
)  # fmt: skip
MOST_BF16 = np.float32(3.3895314e38)


def _quantise_q4(x: Floats) -> tuple[npt.NDArray[np.uint8], Floats, Floats]:
    """Least squares in turns: the nearest integers for a scale and minimum, then the best of both for these."""
    low, high = x.min(axis=-1), x.max(axis=-1)
    middle, half = low * np.float32(0.5) + high * np.float32(0.5), high * np.float32(0.5) - low * np.float32(0.5)
    y = (x - middle[..., None]) * _inverse(half)[..., None]  # from -1 to 1: nothing overflows in what follows
    best = _fit(y, np.full_like(half, FIRST_SPAN * np.float32(2 / 15)), np.full_like(half, -FIRST_SPAN))
    for factor, shift in MOVES:
        scale, minimum, _, _ = best
        drift = np.float32(7.5) * (np.float32(1) - factor) + shift
        tried = _fit(y, scale * factor, minimum + scale * drift)
        better = tried[-1] < best[-1]
        best = tuple(np.where(better, new, old) for new, old in zip(tried, best, strict=True))
    scale = _scale(best[0] * half)
    mean = middle + half * (_sum(y) * np.float32(1 / 64)) - scale * (best[2] * np.float32(1 / 64))
    # + 0: never -0, which NumPy's min() may pick or not
    minimum = bf16_values(bf16_bits(np.clip(mean + np.float32(0), -MOST_BF16, MOST_BF16)))
    return _nearest(x, scale, minimum, 0, 15), scale, minimum


def _fit(y: Floats, scale: Floats, minimum: Floats) -> tuple[Floats, ...]:
    """(scale, minimum, sum of the integers, squared error): the best line through the nearest integers."""
    q = _nearest(y, scale, minimum, 0, 15).astype(np.float32)
    total, squares = q.sum(axis=-1), (q * q).sum(axis=-1)  # exact, in whatever order
    y_sum, products = _sum(y), _sum(y * q)
    spread = np.float32(GROUP) * squares - total * total
    top = np.float32(GROUP) * products - total * y_sum
    slope = np.divide(top, spread, out=np.zeros_like(top), where=spread != 0)
    offset = (y_sum - slope * total) * np.float32(1 / 64)
    return slope, offset, total, (_sum(y * y) - slope * products) - offset * y_sum


def _sum(values: Floats) -> Floats:
    """Along a group in ascending order, as the native code adds."""
    return np.asarray(np.add.accumulate(values, axis=-1)[..., -1])


def _inverse(scale: Floats) -> Floats:
    """0 for 0 and what has no finite inverse."""
    large = scale >= np.finfo(np.float32).tiny
    return np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=large)


def _scale(values: Floats) -> Floats:
    """Rounded to bf16; 0 below the least normal number, whose inverse would overflow."""
    rounded = bf16_values(bf16_bits(values))
    return np.where(rounded < np.finfo(np.float32).tiny, np.float32(0), rounded)


def _nearest(x: Floats, scale: Floats, minimum: Floats, low: int, high: int) -> npt.NDArray[np.uint8]:
    """The integer of each value, clipped; 0 steps up from the minimum where the scale is 0 or below."""
    steps = np.rint((x - np.asarray(minimum)[..., None]) * _inverse(scale)[..., None])
    return np.clip(steps, low, high).astype(np.int8).view(np.uint8)


def quantise_activations(x: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """(T, K) -> int8 (T, groups, 64) and scales (T, groups): the largest of each group of 64 becomes 127."""
    groups = -(-x.shape[1] // GROUP)
    padded = np.pad(x, ((0, 0), (0, groups * GROUP - x.shape[1]))).reshape(len(x), groups, GROUP)
    largest = np.abs(padded).max(axis=-1)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest >= 1e-30)
    return np.rint(padded * inverse[..., None]).astype(np.int8), largest * np.float32(1 / 127)
