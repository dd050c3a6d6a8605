"""Numbers to blocks whose scales are searched for: Q4_K, Q5_K, Q6_K, IQ4_XS, and of 32 with an importance matrix.

The search is that of ggml's make_qkx2_quants and make_qx_quants (ggml-quants.c): candidates around the plain scale, for
each the best line by weighted least squares, of which the one with the smallest error is taken. Sums are added in
another order here, so that blocks need not be the same bytes as ggml's; their error is. `importance` is one number for
each column, the mean square of what is multiplied with it: by so much an error there counts more.
"""

import numpy as np
import numpy.typing as npt

from soban.ops.gguf import CURVE

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Importance = npt.NDArray[np.float32] | None

BLOCK, PART, PART6 = 256, 32, 16  # numbers of a block, and of its parts
HALF6 = 32  # the middle of six bits
MOST_STEP = 63  # of scales of six bits
STEPS4 = np.arange(-1.0, 1.01, 0.1, dtype=np.float32)  # beside 15 steps from the smallest to the largest number
STEPS5 = np.arange(-0.5, 1.01, 0.1, dtype=np.float32)  # beside 31
STEPS = np.concatenate([np.arange(-9, 0), np.arange(1, 10)]).astype(np.float32) / 10  # beside 8, 16, 32 on one side
FINE = np.arange(-0.9, 0.91, 0.05, dtype=np.float32)  # beside 15 and 31 where there is an importance matrix
CURVED = np.arange(-7, 8, dtype=np.float32)  # beside either end of the curve
LEVELS = CURVE.astype(np.float32)  # ascending
# Of each half from -128 on the place that is nearest: the borders between the curve's numbers are halves.
PLACES = np.searchsorted((LEVELS[1:] + LEVELS[:-1]) / 2, np.arange(-128, 128, 0.5), side="right").astype(np.uint8)


def q4_k(rows: Floats, importance: Importance = None) -> Bytes:
    """(n, columns) as bytes (n, columns / 256 * 144)."""
    d, dmin, small, q = _nested(rows, importance, 15, STEPS4)
    q = q.reshape(-1, 4, 2, PART)
    nibbles = (q[:, :, 0] | q[:, :, 1] << np.uint8(4)).reshape(-1, BLOCK // 2)
    return _joined(rows, [_bytes(d), _bytes(dmin), small, nibbles])


def q5_k(rows: Floats, importance: Importance = None) -> Bytes:
    """(n, columns) as bytes (n, columns / 256 * 176)."""
    d, dmin, small, q = _nested(rows, importance, 31, STEPS5)
    fifth = np.packbits((q >> 4).reshape(-1, 8, PART), axis=1, bitorder="little").reshape(-1, PART)
    low = (q & 15).reshape(-1, 4, 2, PART)
    nibbles = (low[:, :, 0] | low[:, :, 1] << np.uint8(4)).reshape(-1, BLOCK // 2)
    return _joined(rows, [_bytes(d), _bytes(dmin), small, fifth, nibbles])


def q6_k(rows: Floats, importance: Importance = None) -> Bytes:
    """(n, columns) as bytes (n, columns / 256 * 210)."""
    parts = rows.reshape(-1, PART6)
    weight = parts * parts if importance is None else _each(rows, importance, PART6)
    scales = slopes(parts, weight, HALF6).reshape(-1, 16)
    largest = np.take_along_axis(scales, np.abs(scales).argmax(axis=1)[:, None], axis=1)
    d = (largest / np.float32(-128)).astype(np.float16)
    whole = np.rint(_divided(scales, d.astype(np.float32))).clip(-128, 127).astype(np.int8)
    step = (d.astype(np.float32) * whole).reshape(-1, 1)
    q = (np.rint(_divided(parts, step)).clip(-HALF6, HALF6 - 1) + HALF6).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.concatenate([q[:, :, n] & 15 | (q[:, :, n + 2] & 15) << 4 for n in (0, 1)], axis=2).reshape(-1, 128)
    high = np.bitwise_or.reduce([q[:, :, n] >> 4 << 2 * n for n in range(4)]).reshape(-1, 64)
    return _joined(rows, [low, high, whole.view(np.uint8), _bytes(d)])


def iq4_xs(rows: Floats, importance: Importance = None) -> Bytes:
    """(n, columns) as bytes (n, columns / 256 * 136)."""
    parts = rows.reshape(-1, PART)
    scales = _curve_scales(parts, counted(rows, importance, BLOCK)).reshape(-1, 8)
    largest = np.take_along_axis(scales, np.abs(scales).argmax(axis=1)[:, None], axis=1)
    d = (largest / np.float32(-32)).astype(np.float16)
    whole = np.rint(_divided(scales, d.astype(np.float32))).clip(-32, 31).astype(np.int8)
    q = _nearest(_divided(parts, (d.astype(np.float32) * whole).reshape(-1, 1)))
    six = (whole + 32).astype(np.uint8)
    high = np.bitwise_or.reduce([(six[:, n] >> 4).astype(np.uint16) << np.uint16(2 * n) for n in range(8)])
    low = (six[:, ::2] & 15 | (six[:, 1::2] & 15) << np.uint8(4)).astype(np.uint8)
    return _joined(rows, [_bytes(d), high.astype("<u2")[:, None].view(np.uint8), low, _nibbles(q).reshape(-1, 128)])


def iq4_nl(rows: Floats, importance: Importance = None) -> Bytes:
    """(n, columns) as bytes (n, columns / 32 * 18)."""
    parts = rows.reshape(-1, PART)
    d = _curve_scales(parts, counted(rows, importance, PART)).astype(np.float16)
    return _joined(rows, [_bytes(d), _nibbles(_nearest(_divided(parts, d.astype(np.float32))))])


def q5_1(rows: Floats, importance: Importance = None) -> Bytes:
    """(n, columns) as bytes (n, columns / 32 * 24); the line is searched for, which ggml does with importance only."""
    parts = rows.reshape(-1, PART)
    scales, minima = lines(parts, counted(rows, importance, PART), 31, STEPS5 if importance is None else FINE)
    d, low = scales.astype(np.float16), (-minima).astype(np.float16)
    q = np.rint(_divided(parts - low.astype(np.float32), d.astype(np.float32))).clip(0, 31).astype(np.uint8)
    fifth = np.packbits(q >> 4, axis=1, bitorder="little")
    return _joined(rows, [_bytes(d), _bytes(low), fifth, _nibbles(q & 15)])


def counted(rows: Floats, importance: Importance, size: int) -> Floats:
    """How much an error in each number counts, in parts of 32: more with its size, next to the others of its block."""
    parts = rows.reshape(-1, PART)
    if importance is None:
        result: Floats = np.sqrt((parts * parts).mean(axis=1, keepdims=True)) + np.abs(parts)
        return result
    blocks = rows.reshape(-1, size)
    share = np.float32(2 if size == BLOCK else 1) * (blocks * blocks).mean(axis=1, keepdims=True)
    return _each(rows, importance, PART) * np.sqrt(share + blocks * blocks).reshape(-1, PART)


def _each(rows: Floats, importance: npt.NDArray[np.float32], part: int) -> Floats:
    """The importance of each number, in parts. What no activation met counts a little, so that it is not nonsense."""
    least = np.float32(1e-6) * importance.mean()
    each = np.maximum(importance, least if least > 0 else np.float32(1))
    return np.broadcast_to(each / each.mean(), rows.shape).reshape(-1, part)


def _nested(rows: Floats, importance: Importance, most: int, steps: Floats) -> tuple[npt.NDArray, ...]:
    """Scale and minimum of each block, their multiples of eight parts in 12 bytes, and whole numbers up to `most`."""
    parts = rows.reshape(-1, PART)
    weight = counted(rows, importance, BLOCK)
    steps = steps if importance is None else FINE
    scales, minima = (values.reshape(-1, 8) for values in lines(parts, weight, most, steps))
    together = None if importance is None else weight.sum(axis=1).reshape(-1, 8)
    d, s = _six_bits(scales, together)
    dmin, m = _six_bits(minima, together)
    step, low = ((outer.astype(np.float32) * whole).reshape(-1, 1) for outer, whole in ((d, s), (dmin, m)))
    q = np.rint(_divided(parts + low, step)).clip(0, most).astype(np.uint8).reshape(-1, BLOCK)
    low_bits = s[:, 4:] & 15 | m[:, 4:] << 4
    small = np.concatenate([s[:, :4] | s[:, 4:] >> 4 << 6, m[:, :4] | m[:, 4:] >> 4 << 6, low_bits], axis=1)
    return d, dmin, small.astype(np.uint8), q


def lines(x: Floats, weight: Floats, most: int, steps: Floats) -> tuple[Floats, Floats]:
    """For each part a scale, and what is taken away at the least, both at least 0: x is about scale * q - minimum."""
    least, largest = np.minimum(x.min(axis=1, keepdims=True), 0), x.max(axis=1, keepdims=True)
    width = largest - least
    total, first = weight.sum(axis=1, keepdims=True), (weight * x).sum(axis=1, keepdims=True)
    best_scale, best_minimum = width / most, least.copy()
    best = np.full_like(width, np.inf)
    for step in (None, *steps):
        factor = _divided(np.full_like(width, most + (step or 0)), width)
        q = np.rint(factor * (x - least)).clip(0, most)
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


def slopes(x: Floats, weight: Floats, half: int) -> Floats:
    """For each part the scale with which whole numbers from -half to half - 1 come nearest."""
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], axis=1)
    best_scale, best = np.zeros_like(largest), np.full_like(largest, -1)
    for step in (0.0, *STEPS):
        factor = _divided(np.full_like(largest, -(half + step)), largest)
        q = np.rint(factor * x).clip(-half, half - 1)
        best_scale, best = _better(best_scale, best, x, weight, q)
    return best_scale


def _curve_scales(x: Floats, weight: Floats) -> Floats:
    """For each part the scale with which the numbers of the curve come nearest."""
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], axis=1)
    best_scale, best = np.zeros_like(largest), np.full_like(largest, -1)
    for end in (LEVELS[0], LEVELS[-1]):
        for step in CURVED:
            q = LEVELS[_nearest(x * _divided(np.full_like(largest, end + step), largest))]
            best_scale, best = _better(best_scale, best, x, weight, q)
    return best_scale


def _better(best_scale: Floats, best: Floats, x: Floats, weight: Floats, q: Floats) -> tuple[Floats, Floats]:
    """The better of a scale and the one that is best for these levels."""
    wq = weight * q
    xq, q2 = (wq * x).sum(axis=1, keepdims=True), (wq * q).sum(axis=1, keepdims=True)
    gain = _divided(xq * xq, q2)  # by so much the squared error is smaller than without any
    better = gain > best
    return np.where(better, _divided(xq, q2), best_scale), np.where(better, gain, best)


def _nearest(x: Floats) -> Bytes:
    """The places of the curve that are nearest."""
    halves = ((x + np.float32(128)) * np.float32(2)).clip(0, len(PLACES) - 1).astype(np.int16)
    result: Bytes = PLACES[halves]
    return result


def _nibbles(q: npt.NDArray) -> Bytes:
    """(n, 32) as (n, 16): the first half in the low bits."""
    return (q[:, :16] | q[:, 16:] << np.uint8(4)).astype(np.uint8)


def _six_bits(values: Floats, weight: Floats | None) -> tuple[npt.NDArray[np.float16], Bytes]:
    """Eight numbers of each block as one float16 times whole numbers up to 63, searched for where there are weights."""
    largest = values.max(axis=1, keepdims=True)
    d = largest / np.float32(MOST_STEP)
    if weight is not None:
        best_scale, best = d, np.full_like(d, -1)
        for step in (0.0, *STEPS):
            q = np.rint(_divided(values * np.float32(MOST_STEP + step), largest)).clip(0, MOST_STEP)
            best_scale, best = _better(best_scale, best, values, weight, q)
        d = best_scale
    half = d.astype(np.float16)
    return half, np.rint(_divided(values, half.astype(np.float32))).clip(0, MOST_STEP).astype(np.uint8)


def _divided(above: Floats, below: Floats) -> Floats:
    below = np.broadcast_to(below, above.shape)
    return np.divide(above, below, out=np.zeros(above.shape, np.float32), where=below != 0)


def _bytes(values: npt.NDArray[np.float16]) -> Bytes:
    return values.astype("<f2").view(np.uint8).reshape(-1, 2)


def _joined(rows: Floats, pieces: list[Bytes]) -> Bytes:
    return np.concatenate(pieces, axis=1).reshape(len(rows), -1)
