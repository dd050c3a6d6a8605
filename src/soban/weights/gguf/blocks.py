"""The types of GGUF's tensors: how a block lies in the file, and the numbers that it means, as ggml computes them.

Layouts and the order of every rounding are those of ggml's dequantize_row functions (ggml-quants.c, ggml-common.h);
d is a block's scale. A block of 32 numbers keeps the first 16 in the low halves of its bytes, the others in the high.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from soban.ops import gguf
from soban.ops.gguf import bits, nibbles, two_bits
from soban.weights.gguf.grid import iq3s_grid

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

AT_ONCE = 1 << 18  # numbers of one go, which with what is computed on the way stay in a core's cache
# Twice what a float of four bits stands for (OCP MX, E2M1).
E2M1 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)


@dataclass(frozen=True)
class BlockType:
    """One type: its name here and in the file's own words, its number there, and its blocks."""

    name: str
    number: int
    values: int  # of a block
    bytes: int

    @property
    def title(self) -> str:
        """How ggml writes it."""
        return self.name.upper()


def numbers(format: str, rows: Bytes) -> Floats:
    """Rows of blocks (n, bytes) as float32 (n, values)."""
    kind = BY_NAME[format]
    blocks = np.ascontiguousarray(rows).reshape(-1, kind.bytes)
    values = np.empty((len(blocks), kind.values), np.float32)
    step = max(1, AT_ONCE // kind.values)
    with np.errstate(all="ignore"):  # a damaged scale is an infinity or no number, which its reader tells
        for start in range(0, len(blocks), step):
            values[start : start + step] = DECODERS[format](blocks[start : start + step])
    return values.reshape(len(rows), -1)


def _half(blocks: Bytes, at: int) -> Floats:
    """float16 at a place of each block, as a column."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _scaled(q: npt.NDArray, scales: Floats, minima: Floats | None = None) -> Floats:
    """(n, 256) numbers, a scale and perhaps a minimum for each of a few parts of equal length."""
    parts = q.reshape(len(q), scales.shape[1], -1) * scales[:, :, None]
    return (parts if minima is None else parts - minima[:, :, None]).reshape(len(q), -1)


def _q2_k(b: Bytes) -> Floats:
    scales = b[:, :16]
    return _scaled(two_bits(b[:, 16:80]), _half(b, 80) * (scales & 15), _half(b, 82) * (scales >> 4))


def _q3_k(b: Bytes) -> Floats:
    low, high = nibbles(b[:, 96:104]), bits(b[:, 104:108], 2, 4).reshape(-1, 16)
    scales = (low | high << 4).astype(np.float32) - 32
    above = bits(b[:, :32], 1, 8).reshape(-1, 256)  # where this bit is not set, 4 is taken away
    return _scaled(two_bits(b[:, 32:96]) - (4 - 4 * above.astype(np.float32)), _half(b, 108) * scales)


def _iq3_s(b: Bytes) -> Floats:
    ninth = np.unpackbits(b[:, 66:74], axis=1, bitorder="little").astype(np.uint16) << 8
    q = iq3s_grid()[b[:, 2:66] | ninth].reshape(-1, 256)
    signs = np.unpackbits(b[:, 74:106], axis=1, bitorder="little").astype(np.float32)
    scales = 1 + 2 * bits(b[:, 106:110], 4, 2).swapaxes(1, 2).reshape(-1, 8).astype(np.float32)
    return _scaled(q, _half(b, 0) * scales) * (1 - 2 * signs)


def _mxfp4(b: Bytes) -> Floats:
    exponents = b[:, :1].astype(np.uint32)  # the scale is half of 2 ** (e - 127), and the two lowest are subnormal
    words = np.where(exponents < 2, np.uint32(0x00200000) << np.minimum(exponents, 1), (exponents - 1) << 23)
    return E2M1[nibbles(b[:, 1:])] * words.astype(np.uint32).view(np.float32)


# Types that are computed with as they are have their place in ops/gguf.py.
DECODERS: dict[str, Callable[[Bytes], Floats]] = {
    **{name: functools.partial(gguf.numbers, name) for name in gguf.TYPES},
    "q2_k": _q2_k, "q3_k": _q3_k, "iq3_s": _iq3_s, "mxfp4": _mxfp4,
}  # fmt: skip
KINDS = (
    BlockType("f32", 0, 1, 4), BlockType("f16", 1, 1, 2), BlockType("bf16", 30, 1, 2), BlockType("f64", 28, 1, 8),
    BlockType("i8", 24, 1, 1), BlockType("i16", 25, 1, 2), BlockType("i32", 26, 1, 4), BlockType("i64", 27, 1, 8),
    BlockType("q4_0", 2, 32, 18), BlockType("q4_1", 3, 32, 20), BlockType("q5_0", 6, 32, 22),
    BlockType("q5_1", 7, 32, 24), BlockType("q8_0", 8, 32, 34), BlockType("q2_k", 10, 256, 84),
    BlockType("q3_k", 11, 256, 110), BlockType("q4_k", 12, 256, 144), BlockType("q5_k", 13, 256, 176),
    BlockType("q6_k", 14, 256, 210), BlockType("iq4_nl", 20, 32, 18), BlockType("iq3_s", 21, 256, 110),
    BlockType("iq4_xs", 23, 256, 136), BlockType("mxfp4", 39, 32, 17),
)  # fmt: skip
TYPES = {kind.number: kind for kind in KINDS}
BY_NAME = {kind.name: kind for kind in KINDS}
# Types that are known by name alone.
REFUSED = {
    4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 22: "IQ2_S",
    29: "IQ1_M", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 34: "TQ1_0", 35: "TQ2_0", 36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8", 40: "NVFP4", 41: "Q1_0", 42: "Q2_0",
}  # fmt: skip
# Types without blocks, as NumPy has them.
PLAIN = {"f32": "<f4", "f16": "<f2", "bf16": "<u2", "f64": "<f8", "i8": "i1", "i16": "<i2", "i32": "<i4", "i64": "<i8"}
