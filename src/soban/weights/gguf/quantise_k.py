"""Numbers to blocks of 256 whose parts have scales of their own, Q4_K and Q6_K: the scales are searched for.

The search is that of ggml's make_qkx2_quants and make_qx_quants (ggml-quants.c): candidates around the plain scale, for
each the best line by weighted least squares, of which the one with the smallest error is taken. Sums are added in
another order here, so that blocks need not be the same bytes as ggml's; their error is.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

BLOCK, PART4, PART6 = 256, 32, 16  # numbers of a block, and of its parts
MOST4, HALF6 = 15, 32  # the largest of four bits, the middle of six
STEPS4 = np.arange(-1.0, 1.01, 0.1, dtype=np.float32)  # beside 15 steps from the smallest to the largest number
STEPS6 = np.concatenate([np.arange(-9, 0), np.arange(1, 10)]).astype(np.float32) / 10  # beside 32


def q4_k(rows: Floats) -> Bytes:
    """(n, columns) as bytes (n, columns / 256 * 144)."""
    parts = rows.reshape(-1, PART4)
    scales, minima = _lines(parts)
    scales, minima = scales.reshape(-1, 8), minima.reshape(-1, 8)
    d, whole_scales = _six_bits(scales)
    dmin, whole_minima = _six_bits(minima)
    step = (d.astype(np.float32) * whole_scales).reshape(-1, 1)
    low = (dmin.astype(np.float32) * whole_minima).reshape(-1, 1)
    q = np.rint(_divided(parts + low, step)).clip(0, MOST4).astype(np.uint8).reshape(-1, 4, 2, PART4)
    s, m = whole_scales, whole_minima
    low_bits = s[:, 4:] & 15 | m[:, 4:] << 4
    small = np.concatenate([s[:, :4] | s[:, 4:] >> 4 << 6, m[:, :4] | m[:, 4:] >> 4 << 6, low_bits], axis=1)
    nibbles = (q[:, :, 0] | q[:, :, 1] << np.uint8(4)).reshape(-1, BLOCK // 2)
    return _joined(rows, [_bytes(d), _bytes(dmin), small.astype(np.uint8), nibbles])


def q6_k(rows: Floats) -> Bytes:
    """(n, columns) as bytes (n, columns / 256 * 210)."""
    parts = rows.reshape(-1, PART6)
    scales = _slopes(parts).reshape(-1, 16)
    largest = np.take_along_axis(scales, np.abs(scales).argmax(axis=1)[:, None], axis=1)
    d = (largest / np.float32(-128)).astype(np.float16)
    whole = np.rint(_divided(scales, d.astype(np.float32))).clip(-128, 127).astype(np.int8)
    step = (d.astype(np.float32) * whole).reshape(-1, 1)
    q = (np.rint(_divided(parts, step)).clip(-HALF6, HALF6 - 1) + HALF6).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.concatenate([q[:, :, n] & 15 | (q[:, :, n + 2] & 15) << 4 for n in (0, 1)], axis=2).reshape(-1, 128)
    high = np.bitwise_or.reduce([q[:, :, n] >> 4 << 2 * n for n in range(4)]).reshape(-1, 64)
    return _joined(rows, [low, high, whole.view(np.uint8), _bytes(d)])


def _lines(x: Floats) -> tuple[Floats, Floats]:
    """For each part a scale, and what is taken away at the least, both at least 0: x is about scale * q - minimum."""
    weight = np.sqrt((x * x).mean(axis=1, keepdims=True)) + np.abs(x)
    least, most = np.minimum(x.min(axis=1, keepdims=True), 0), x.max(axis=1, keepdims=True)
    width = most - least
    total, first = weight.sum(axis=1, keepdims=True), (weight * x).sum(axis=1, keepdims=True)
    best_scale, best_minimum = width / MOST4, least.copy()
    best = np.full_like(width, np.inf)
    for step in (None, *STEPS4):
        factor = _divided(np.full_like(width, MOST4 + (step or 0)), width)
        q = np.rint(factor * (x - least)).clip(0, MOST4)
        wq = weight * q
        q1, q2, xq = (values.sum(axis=1, keepdims=True) for values in (wq, wq * q, wq * x))
        base = total * q2 - q1 * q1
        scale, minimum = _divided(total * xq - first * q1, base), _divided(q2 * first - q1 * xq, base)
        above = minimum > 0  # then the line goes through nothing
        scale, minimum = np.where(above, _divided(xq, q2), scale), np.where(above, 0, minimum)
        if step is None:
            scale, minimum = best_scale, best_minimum
        error = (weight * np.square(scale * q + minimum - x)).sum(axis=1, keepdims=True)
        better = (error < best) & (scale >= 0)
        best, best_scale = np.where(better, error, best), np.where(better, scale, best_scale)
        best_minimum = np.where(better, minimum, best_minimum)
    return best_scale, -best_minimum


def _slopes(x: Floats) -> Floats:
    """For each part the scale with which whole numbers from -32 to 31 come nearest, large numbers counting more."""
    weight = x * x
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], axis=1)
    best_scale, best = np.zeros_like(largest), np.full_like(largest, -1)
    for step in (0.0, *STEPS6):
        factor = _divided(np.full_like(largest, -(HALF6 + step)), largest)
        q = np.rint(factor * x).clip(-HALF6, HALF6 - 1)
        xq, q2 = ((weight * values).sum(axis=1, keepdims=True) for values in (x * q, q * q))
        gain = _divided(xq * xq, q2)  # by so much the squared error is smaller than without any
        better = gain > best
        best, best_scale = np.where(better, gain, best), np.where(better, _divided(xq, q2), best_scale)
    return best_scale


def _six_bits(values: Floats) -> tuple[npt.NDArray[np.float16], Bytes]:
    """Eight numbers of each block as one float16 times whole numbers up to 63."""
    d = (values.max(axis=1, keepdims=True) / np.float32(63)).astype(np.float16)
    return d, np.rint(_divided(values, d.astype(np.float32))).clip(0, 63).astype(np.uint8)


def _divided(above: Floats, below: Floats) -> Floats:
    below = np.broadcast_to(below, above.shape)
    return np.divide(above, below, out=np.zeros(above.shape, np.float32), where=below != 0)


def _bytes(values: npt.NDArray[np.float16]) -> Bytes:
    return values.astype("<f2").view(np.uint8).reshape(-1, 2)


def _joined(rows: Floats, pieces: list[Bytes]) -> Bytes:
    return np.concatenate(pieces, axis=1).reshape(len(rows), -1)
