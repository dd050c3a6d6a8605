"""Numbers to GGUF's blocks: of the simple types bit for bit as ggml's quantize_row functions write them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from soban.base import system
from soban.ops.formats import bf16_bits
from soban.weights.gguf.quantise_k import counted, iq4_nl, iq4_xs, q4_k, q5_1, q5_k, q6_k, slopes

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

AT_ONCE = 1 << 16  # numbers that a thread looks at together


def encoded(format: str, rows: Floats, importance: Floats | None = None) -> npt.NDArray:
    """Rows (n, columns) in a format; those that come in blocks as bytes (n, row bytes).

    `importance` (columns,): how much an error in each column counts, for which the scales are then searched; formats
    that are nearly exact do without.
    """
    rows = np.ascontiguousarray(rows, np.float32)
    if format in SEARCHED:
        return _in_pieces(lambda some: SEARCHED[format](some, importance), rows)
    if importance is None or format not in WEIGHTED:
        return ENCODERS[format](rows)
    return _in_pieces(lambda some: WEIGHTED[format](some, importance), rows)


def _in_pieces(encode: Callable[[Floats], Bytes], rows: Floats) -> Bytes:
    """Some rows at a time, side by side: NumPy lets go of the GIL, and what a search looks at stays in the caches."""
    step = max(1, AT_ONCE // rows.shape[1])
    pieces = [rows[start : start + step] for start in range(0, len(rows), step)]
    with ThreadPoolExecutor(system.threads()) as pool:
        return np.concatenate([*pool.map(encode, pieces)])


def _q8_0(rows: Floats) -> Bytes:
    groups = rows.reshape(-1, 32)
    scales = np.abs(groups).max(axis=1, keepdims=True) / np.float32(127)
    scaled = groups * _inverse(scales)
    steps = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)  # halves away from zero
    steps = _exact_halves(scaled, steps)
    return _joined(rows, scales, steps.view(np.uint8))


def _exact_halves(scaled: Floats, steps: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Mends what adding a half has rounded up to the next whole number: 0.49999997 is none."""
    below = np.abs(scaled - np.trunc(scaled)) < np.float32(0.5)
    return np.where(below, np.trunc(scaled), steps).astype(np.int8)


def _q4_0(rows: Floats) -> Bytes:
    return _four_bits(rows, _ends(rows, 8))


def _ends(rows: Floats, half: int) -> Floats:
    """The scale by which the largest number of each 32 becomes -half: there is one step more below than above."""
    groups = rows.reshape(-1, 32)
    return np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], axis=1) / np.float32(-half)


def _steps(rows: Floats, scales: Floats, half: int) -> Bytes:
    # float64, for C keeps the product's bits before it adds, on machines where both are one instruction
    groups = rows.reshape(-1, 32).astype(np.float64)
    return np.trunc(groups * _inverse(scales) + (half + 0.5)).clip(0, 2 * half - 1).astype(np.uint8)


def _four_bits(rows: Floats, scales: Floats) -> Bytes:
    steps = _steps(rows, scales, 8)
    return _joined(rows, scales, steps[:, :16] | steps[:, 16:] << np.uint8(4))


def _q5_0(rows: Floats) -> Bytes:
    """As Q4_0 with twice as many steps, whose fifth bits stand together before the others."""
    return _five_bits(rows, _ends(rows, 16))


def _five_bits(rows: Floats, scales: Floats) -> Bytes:
    steps = _steps(rows, scales, 16)
    fifth = np.packbits(steps >> 4, axis=1, bitorder="little")
    low = steps & np.uint8(15)
    return _joined(rows, scales, np.concatenate([fifth, low[:, :16] | low[:, 16:] << np.uint8(4)], axis=1))


def _inverse(scales: Floats) -> Floats:
    return np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)


def _joined(rows: Floats, scales: Floats, integers: Bytes) -> Bytes:
    with np.errstate(over="ignore"):  # an infinite scale is told by whoever checks the numbers
        halves = scales.astype("<f2")
    return np.concatenate([halves.view(np.uint8).reshape(-1, 2), integers], axis=1).reshape(len(rows), -1)


def _f16(rows: Floats) -> npt.NDArray:
    with np.errstate(over="ignore"):
        return rows.astype("<f2")


def _rounded(rows: Floats, importance: Floats, half: int) -> Floats:
    """Searched scales of each 32, as float16 keeps them."""
    scales = slopes(rows.reshape(-1, 32), counted(rows, importance, 32), half)
    return scales.astype(np.float16).astype(np.float32)


ENCODERS: dict[str, Callable[[Floats], npt.NDArray]] = {
    "f32": lambda rows: rows, "f16": _f16, "bf16": bf16_bits, "q8_0": _q8_0, "q4_0": _q4_0, "q5_0": _q5_0,
}  # fmt: skip
WEIGHTED: dict[str, Callable[[Floats, Floats], npt.NDArray]] = {
    "q4_0": lambda rows, importance: _four_bits(rows, _rounded(rows, importance, 8)),
    "q5_0": lambda rows, importance: _five_bits(rows, _rounded(rows, importance, 16)),
}
SEARCHED: dict[str, Callable[[Floats, Floats | None], npt.NDArray]] = {
    "q4_k": q4_k, "q5_k": q5_k, "q6_k": q6_k, "iq4_xs": iq4_xs, "iq4_nl": iq4_nl, "q5_1": q5_1,
}  # fmt: skip
