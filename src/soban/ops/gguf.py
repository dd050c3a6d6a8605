"""Types of GGUF that are computed with as they are: what a block of a file holds, and how panels hold the same numbers.

A weight is scale x level - minimum: a level is a whole number that fits a byte, scale and minimum are those of 32
neighbouring weights of a row, or of 16. In a *nested* type 256 weights share a float16 (two, where there are minima),
of which scales and minima are whole multiples. All of that is kept bit for bit, and only put in another order.

Weights are not turned. Activations are rounded to int8 in halves of a group, 32 columns with a scale of their own.

A block is one panel by n groups of 64 columns (4, if the type is nested); a matrix is its blocks, panel by panel:

    head      16 float16 for each 32 columns, and as many minima; of a nested type 16 float16, perhaps 16 for minima,
              then 16 int8 for each share of the columns, and as many for minima; zeros to a multiple of 64 bytes
    integers  for each group as in q8 (levels of 8 bits) or q4 (codes of fewer, their low nibbles), then the fifth bits
              in 2 vectors of 64 bytes, or fifth and sixth in 4: a byte has the bits of n = 8 or 4 vectors of codes, in
              vector v first those of n / 2 vectors from v * n / 2 on, then of n / 2 from 8 + v * n / 2 on
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from soban.ops.panels import BLOCK, GROUP, HALF, PANEL, QUADS, cut, groups_of_blocks, over_blocks, rows_of, vectors

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# What the codes of IQ4 stand for (ggml's kvalues_iq4nl).
CURVE = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)


class Type(NamedTuple):
    """A type: the weights of a block in the file and its bytes; the bits of a code; columns that share a scale."""

    values: int
    bytes: int
    bits: int
    share: int = HALF
    minima: bool = False
    zero: int = 0  # the code of level 0
    curved: bool = False  # codes are places of CURVE

    @property
    def nested(self) -> bool:
        return self.values == BLOCK

    @property
    def kinds(self) -> int:
        """Scales, and perhaps minima."""
        return 2 if self.minima else 1


class Contents(NamedTuple):
    """What blocks of a file hold: codes (n, values); float16 scales (n, kinds), of which the minima are subtracted; of
    nested types the multiples of them, int8 (n, kinds, shares).
    """

    codes: Bytes
    outer: npt.NDArray[np.float16]
    steps: npt.NDArray[np.int8] | None = None


TYPES = {  # the order is that of the numbers in native/soban.h
    "q8_0": Type(32, 34, 8), "q4_0": Type(32, 18, 4, zero=8), "q4_1": Type(32, 20, 4, minima=True),
    "q5_0": Type(32, 22, 5, zero=16), "q5_1": Type(32, 24, 5, minima=True), "iq4_nl": Type(32, 18, 4, curved=True),
    "q4_k": Type(256, 144, 4, minima=True), "q5_k": Type(256, 176, 5, minima=True),
    "q6_k": Type(256, 210, 6, share=16, zero=32), "iq4_xs": Type(256, 136, 4, curved=True),
}  # fmt: skip


def numbers(format: str, blocks: Bytes) -> Floats:
    """Blocks of a file (n, bytes) as float32 (n, values), rounded where ggml's dequantize_row functions round."""
    kind, contents = TYPES[format], READERS[format](blocks)
    scales = _scaled(contents.outer[:, :1], None if contents.steps is None else contents.steps[:, 0])
    values = _levels(kind, contents.codes).reshape(len(blocks), scales.shape[1], -1) * scales[:, :, None]
    if kind.minima:
        values -= _scaled(contents.outer[:, 1:], None if contents.steps is None else contents.steps[:, 1])[:, :, None]
    return values.reshape(len(blocks), -1)


def _scaled(outer: npt.NDArray[np.float16], steps: npt.NDArray[np.int8] | None) -> Floats:
    return outer.astype(np.float32) if steps is None else outer.astype(np.float32) * steps


def _levels(kind: Type, codes: Bytes) -> npt.NDArray[np.int8]:
    if kind.bits == 8:
        return codes.view(np.int8)
    return CURVE[codes] if kind.curved else codes.view(np.int8) - np.int8(kind.zero)


def _halves(blocks: Bytes, *places: int) -> npt.NDArray[np.float16]:
    """float16 at some places of each block."""
    return np.concatenate([np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2") for at in places], axis=1)


def nibbles(data: Bytes) -> Bytes:
    """(n, b) bytes as (n, 2b): the low halves of all, then the high ones."""
    return np.concatenate([data & 15, data >> 4], axis=-1)


def bits(data: Bytes, width: int, count: int) -> Bytes:
    """(n, b) bytes as (n, count, b): of each byte the first `width` bits, the next ones, ..."""
    shifts = np.arange(0, width * count, width, dtype=np.uint8)[:, None]
    return ((data[:, None] >> shifts) & np.uint8((1 << width) - 1)).astype(np.uint8, copy=False)


def _fifth_bits(blocks: Bytes, at: int) -> Bytes:
    """The bits of a 32-bit number at a place of each block, each times 16."""
    return np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little") << np.uint8(4)


def two_bits(data: Bytes) -> Bytes:
    """64 bytes as 256 numbers: of the first 32 bytes the lowest bits, the next, ...; then of the others."""
    return bits(data.reshape(-1, 32), 2, 4).reshape(len(data), 256)


def _with_minima(blocks: Bytes) -> npt.NDArray[np.float16]:
    """A scale, and what the file adds; here it is subtracted."""
    return _halves(blocks, 0, 2) * np.array([1, -1], np.float16)


def _steps_and_minima(data: Bytes) -> npt.NDArray[np.int8]:
    """Eight scales and eight minima of six bits each, in 12 bytes."""
    first, second, third = data[:, :4], data[:, 4:8], data[:, 8:]
    steps = np.concatenate([first & 63, third & 15 | first >> 6 << 4], axis=1)
    minima = np.concatenate([second & 63, third >> 4 | second >> 6 << 4], axis=1)
    return np.stack([steps, minima], axis=1).view(np.int8)


def _q4_k(b: Bytes) -> Contents:
    codes = nibbles(b[:, 16:].reshape(-1, 32)).reshape(-1, 256)
    return Contents(codes, _halves(b, 0, 2), _steps_and_minima(b[:, 4:16]))


def _q5_k(b: Bytes) -> Contents:
    fifth = bits(b[:, 16:48], 1, 8).reshape(-1, 256) << np.uint8(4)
    return Contents(
        nibbles(b[:, 48:].reshape(-1, 32)).reshape(-1, 256) | fifth, _halves(b, 0, 2), _steps_and_minima(b[:, 4:16])
    )


def _q6_k(b: Bytes) -> Contents:
    codes = nibbles(b[:, :128].reshape(-1, 64)).reshape(-1, 256) | two_bits(b[:, 128:192]) << np.uint8(4)
    return Contents(codes, _halves(b, 208), b[:, None, 192:208].view(np.int8))


def _iq4_xs(b: Bytes) -> Contents:
    low = bits(b[:, 4:8], 4, 2).swapaxes(1, 2).reshape(-1, 8)
    high = bits(b[:, 2:4], 2, 4).swapaxes(1, 2).reshape(-1, 8)
    steps = (low | high << 4).view(np.int8) - np.int8(32)
    return Contents(nibbles(b[:, 8:].reshape(-1, 16)).reshape(-1, 256), _halves(b, 0), steps[:, None])


READERS: dict[str, Callable[[Bytes], Contents]] = {
    "q8_0": lambda b: Contents(b[:, 2:], _halves(b, 0)),
    "q4_0": lambda b: Contents(nibbles(b[:, 2:]), _halves(b, 0)),
    "q4_1": lambda b: Contents(nibbles(b[:, 4:]), _with_minima(b)),
    "q5_0": lambda b: Contents(nibbles(b[:, 6:]) | _fifth_bits(b, 2), _halves(b, 0)),
    "q5_1": lambda b: Contents(nibbles(b[:, 8:]) | _fifth_bits(b, 4), _with_minima(b)),
    "iq4_nl": lambda b: Contents(nibbles(b[:, 2:]), _halves(b, 0)),
    "q4_k": _q4_k, "q5_k": _q5_k, "q6_k": _q6_k, "iq4_xs": _iq4_xs,
}  # fmt: skip


def _head_bytes(kind: Type, groups: int) -> int:
    if not kind.nested:
        return kind.kinds * 4 * PANEL * groups
    return -(-kind.kinds * PANEL * (2 + BLOCK // kind.share) // 64) * 64


def block_bytes(format: str, groups: int) -> int:
    """Of a block of panels of so many groups."""
    kind = TYPES[format]
    return _head_bytes(kind, groups) + groups * PANEL * GROUP * kind.bits // 8


def row_bytes(format: str, columns: int) -> int:
    """Of a row in the file."""
    return columns // TYPES[format].values * TYPES[format].bytes


def pack(format: str, rows: Bytes, columns: int) -> Bytes:
    """Rows of a file's blocks (n, bytes of a row) in panels, as flat bytes. soban_repack gives the same."""
    kind, n = TYPES[format], len(rows)
    contents = READERS[format](rows.reshape(-1, kind.bytes))
    padding = ((0, -n % PANEL), (0, -columns % GROUP))
    codes = np.pad(contents.codes.reshape(n, columns), padding)
    outer = contents.outer.reshape(n, -1, kind.kinds)
    outer = np.pad(outer, (padding[0], (0, 0 if kind.nested else -outer.shape[1] % 2), (0, 0)))
    steps = contents.steps
    if steps is not None:
        steps = np.pad(steps.reshape(n, -1, *steps.shape[1:]), (padding[0], (0, 0), (0, 0), (0, 0)))
    blocks = []
    for i, block in enumerate(cut(codes)):
        groups = block.shape[1] // GROUP
        mine = outer[:, [i]] if kind.nested else outer[:, i * BLOCK // HALF :][:, : 2 * groups]
        head = [_by_panel(mine[..., k]) for k in range(kind.kinds)]
        if steps is not None:
            head += [_by_panel(steps[:, i, k]) for k in range(kind.kinds)]
        head.append(np.zeros((len(head[0]), _head_bytes(kind, groups) - sum(x.shape[1] for x in head)), np.uint8))
        blocks += [*head, _integers(kind, vectors(block))]
    return np.concatenate(blocks, axis=1).reshape(-1)


def _by_panel(numbers: npt.NDArray) -> Bytes:
    """(rows, n) as bytes (panels, n of each of 16 rows)."""
    panels = numbers.reshape(-1, PANEL, numbers.shape[1]).swapaxes(1, 2)
    return np.ascontiguousarray(panels).reshape(len(panels), -1).view(np.uint8)


def _integers(kind: Type, codes: Bytes) -> Bytes:
    """(panels, groups, 16 vectors, 64) as bytes (panels, all)."""
    if kind.bits == 8:
        return codes.reshape(len(codes), -1)
    half = QUADS // 2
    parts = [codes[:, :, :half] & 15 | codes[:, :, half:] << 4]
    if kind.bits > 4:
        above = (codes >> 4)[:, :, _places(kind)] << _shifts(kind)
        parts.append(np.bitwise_or.reduce(above, axis=3))
    return np.concatenate(parts, axis=2).reshape(len(codes), -1)


def _places(kind: Type) -> npt.NDArray[np.intp]:
    """Which vectors have their upper bits in each vector of them, (vectors, n)."""
    n = 8 // (kind.bits - 4)
    return np.arange(QUADS).reshape(2, -1, n // 2).swapaxes(0, 1).reshape(-1, n)


def _shifts(kind: Type) -> Bytes:
    return np.arange(0, 8, kind.bits - 4, dtype=np.uint8)[None, :, None]


def unpack(format: str, rows: int, columns: int, data: Bytes) -> tuple[npt.NDArray[np.int8], Floats, Floats | None]:
    """Levels (rows, columns filled up to 64s), scales and minima (rows, shares) of panels."""
    kind = TYPES[format]
    levels: list[npt.NDArray[np.int8]] = []
    numbers: tuple[list[Floats], ...] = tuple([] for _ in range(kind.kinds))
    panels, start = _panels(format, columns, data), 0
    for groups in groups_of_blocks(columns):
        block = panels[:, start : start + block_bytes(format, groups)]
        start += block.shape[1]
        levels.append(_levels(kind, rows_of(_codes(kind, block[:, _head_bytes(kind, groups) :], groups))))
        for k, to in enumerate(numbers):
            to.append(_numbers(kind, block, groups, k))
    scales, *minima = (np.concatenate(x, axis=1)[:rows] for x in numbers)
    return np.concatenate(levels, axis=1)[:rows], scales, minima[0] if minima else None


def _panels(format: str, columns: int, data: Bytes) -> Bytes:
    return data.reshape(-1, over_blocks(columns, lambda groups: block_bytes(format, groups)))


def _codes(kind: Type, integers: Bytes, groups: int) -> Bytes:
    """What `_integers` packed."""
    vectors = integers.reshape(len(integers), groups, -1, 4 * PANEL)
    if kind.bits == 8:
        return vectors
    half = QUADS // 2
    codes = np.concatenate([vectors[:, :, :half] & 15, vectors[:, :, :half] >> 4], axis=2)
    if kind.bits > 4:
        above = vectors[:, :, half:, None] >> _shifts(kind) & ((1 << (kind.bits - 4)) - 1)
        codes[:, :, _places(kind).reshape(-1)] |= above.reshape(*above.shape[:2], QUADS, -1) << 4
    return codes


def _outer(kind: Type, block: Bytes, groups: int, k: int) -> Floats:
    """float16 of kind k of a block of panels, (panels, n, 16)."""
    size = 2 * PANEL * (1 if kind.nested else 2 * groups)
    halves = np.ascontiguousarray(block[:, k * size : (k + 1) * size]).view(np.float16)
    return halves.reshape(len(block), -1, PANEL).astype(np.float32)


def _numbers(kind: Type, block: Bytes, groups: int, k: int) -> Floats:
    """Scales or minima (rows, shares) of a block of panels."""
    numbers = _outer(kind, block, groups, k)
    if kind.nested:
        size, begin = BLOCK // kind.share * PANEL, 2 * PANEL * kind.kinds
        steps = block[:, begin + k * size : begin + (k + 1) * size].reshape(len(block), -1, PANEL).view(np.int8)
        numbers = numbers * steps
    return numbers.swapaxes(1, 2).reshape(len(block) * PANEL, -1)


def are_finite(format: str, columns: int, data: Bytes) -> bool:
    """Whether no scale or minimum of panels is NaN or an infinity."""
    kind, panels, start = TYPES[format], _panels(format, columns, data), 0
    for groups in groups_of_blocks(columns):
        block = panels[:, start : start + block_bytes(format, groups)]
        if not all(np.isfinite(_outer(kind, block, groups, k)).all() for k in range(kind.kinds)):
            return False
        start += block.shape[1]
    return True
