"""Numbers to the blocks of GGUF's simple types, bit for bit as ggml's quantize_row functions write them."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from soban.ops.formats import bf16_bits
from soban.weights.gguf.quantise_k import q4_k, q6_k

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def encoded(format: str, rows: Floats) -> npt.NDArray:
    """Rows (n, columns) in a format; those that come in blocks as bytes (n, row bytes)."""
    return ENCODERS[format](np.ascontiguousarray(rows, np.float32))


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
    groups = rows.reshape(-1, 32)
    largest = np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], axis=1)
    scales = largest / np.float32(-8)  # the largest becomes -8, of which there is one more than of 8
    # float64, for C keeps the product's bits before it adds, on machines where both are one instruction
    steps = np.trunc(groups.astype(np.float64) * _inverse(scales) + 8.5).clip(0, 15).astype(np.uint8)
    return _joined(rows, scales, steps[:, :16] | steps[:, 16:] << np.uint8(4))


def _q5_0(rows: Floats) -> Bytes:
    """As Q4_0 with twice as many steps, whose fifth bits stand together before the others."""
    groups = rows.reshape(-1, 32)
    largest = np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], axis=1)
    scales = largest / np.float32(-16)
    steps = np.trunc(groups.astype(np.float64) * _inverse(scales) + 16.5).clip(0, 31).astype(np.uint8)
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


ENCODERS: dict[str, Callable[[Floats], npt.NDArray]] = {
    "f32": lambda rows: rows, "f16": _f16, "bf16": bf16_bits, "q8_0": _q8_0, "q4_0": _q4_0, "q5_0": _q5_0, "q4_k": q4_k,
    "q6_k": q6_k,
}  # fmt: skip
