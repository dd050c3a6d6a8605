"""The ops in NumPy: the specification that the native kernels must match, and the way to read and to debug.

T tokens of one or more sequences lie one below the other; R of them are asked for logits. All activations are
float32 arrays with one row a token. H query heads share G key and value heads of D numbers each.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from soban.ops import gguf
from soban.ops.batch import SPAN, Batch
from soban.ops.cache import LayerCache
from soban.ops.formats import (
    BLOCK,
    GROUP,
    HALF,
    PANEL,
    PLAIN,
    Floats,
    Matrix,
    Rows,
    bf16_bits,
    bf16_values,
    decode,
    quantise,
    turn,
    unpack,
)
from soban.ops.recorder import op

Integers = npt.NDArray[np.int32]


@op
def embed(ids: Integers, table: Matrix, scale: float) -> Floats:
    """(T,) -> (T, columns): each id's row of the table, times `scale`; zeros for an id that it does not have."""
    ends = np.cumsum([part.rows for part in table.parts])
    out = np.zeros((len(ids), table.shape[1]), np.float32)
    for part, end in zip(table.parts, ends, strict=True):
        mine = np.flatnonzero((ids < end) & (ids >= end - part.rows))
        out[mine] = decode(part, ids[mine] - (end - part.rows))
    return out * np.float32(scale)


@op
def rms_norm(x: Floats, weight: Floats, eps: float, offset: float = 0.0) -> Floats:
    """x / rms(x) * (weight + offset), row by row (Zhang and Sennrich 2019); Gemma stores weight - 1: offset 1."""
    mean = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
    return x * (np.float32(1) / np.sqrt(mean + np.float32(eps))) * (weight + np.float32(offset))


@op
def layer_norm(x: Floats, weight: Floats, bias: Floats | None, eps: float) -> Floats:
    """(x - mean) / deviation * weight + bias, row by row (Ba et al. 2016)."""
    centred = x - np.mean(x, axis=-1, keepdims=True, dtype=np.float32)
    variance = np.mean(centred * centred, axis=-1, keepdims=True, dtype=np.float32)
    out = centred * (np.float32(1) / np.sqrt(variance + np.float32(eps))) * weight
    return out if bias is None else out + bias


@op
def head_norm(x: Floats, weight: Floats, eps: float, offset: float = 0.0) -> Floats:
    """(T, H * D), (D,) -> the same: rms_norm of each D columns by themselves."""
    return rms_norm(x.reshape(-1, len(weight)), weight, eps, offset).reshape(x.shape)


@op
def linear(x: Floats, w: Matrix, batch: Batch | None = None) -> Floats:
    """(T, K) -> (T, N): x @ w.T + bias, and what the adapter of each sequence of the batch adds at the matrix' place.

    Against q8 and q4 rows, x itself is turned and rounded to int8 in blocks of 256, see ops/formats.py; against GGUF's
    types rounded in halves of a group, see ops/gguf.py. Only a matrix without a place needs no batch.
    """
    out = np.concatenate([_linear_rows(x, part) for part in w.parts], axis=1)
    out = out if w.bias is None else out + w.bias
    if batch is not None and w.place is not None:
        for s, adapter in enumerate(batch.choices):
            mine = slice(batch.starts[s], batch.starts[s + 1])
            for piece in batch.adapters[adapter].pieces.get(w.place, ()) if adapter >= 0 else ():
                piece.add(x[mine], out[mine])
    return out


def _linear_rows(x: Floats, part: Rows) -> Floats:
    if part.format in PLAIN:
        return x @ decode(part).T
    if part.format in gguf.TYPES:
        return _linear_file(x, part)
    levels, scales = unpack(part)
    rounded, steps = quantise(turn(x), BLOCK)
    out = np.zeros((len(x), part.rows), np.float32)
    for block in range(scales.shape[1]):  # float32 holds these whole numbers exactly: 256 * 127 * 127 < 2**24
        mine = levels[:, block * BLOCK : (block + 1) * BLOCK].astype(np.float32)
        products = rounded[:, block, : mine.shape[1]].astype(np.float32) @ mine.T
        out += products * (steps[:, block, None] * scales[:, block])
    return out


def _linear_file(x: Floats, part: Rows) -> Floats:
    """Share by share in ascending order, as the kernels add; each sum of products is a whole number below 2**24."""
    levels, scales, minima = gguf.unpack(part.format, part.rows, part.columns, part.data)
    rounded, steps = quantise(np.pad(x, ((0, 0), (0, -x.shape[1] % GROUP))), HALF)
    share = levels.shape[1] // scales.shape[1]
    values = rounded.reshape(len(x), -1, share).astype(np.float32)
    weights = levels.reshape(part.rows, -1, share).astype(np.float32)
    out = np.zeros((len(x), part.rows), np.float32)
    for s in range(scales.shape[1]):
        step = steps[:, s * share // HALF, None]
        out += values[:, s] @ weights[:, s].T * (step * scales[:, s])
        if minima is not None:
            out -= step * values[:, s].sum(axis=1, keepdims=True) * minima[:, s]
    return out


@op
def refine(x: Floats, scores: Floats, residual: Matrix, panels: int, margin: float) -> Floats:
    """(T, K), (T, N) -> (T, N): scores + x @ residual.T in the panels where the scores are largest, else the scores.

    A panel is as large as its largest score; of equals the first is taken. At most `panels` are taken, and none that
    is more than `margin` below the largest of all.
    """
    rows = scores.shape[1]
    padded = np.pad(scores, ((0, 0), (0, -rows % PANEL)), constant_values=-np.inf)
    largest = np.fmax.reduce(padded.reshape(len(scores), -1, PANEL), axis=2)
    order = np.argsort(-largest, axis=1, kind="stable")[:, :panels]
    mask = np.zeros(largest.shape, bool)
    np.put_along_axis(mask, order, True, axis=1)
    mask &= largest >= largest.max(axis=1, keepdims=True) - np.float32(margin)
    return np.where(np.repeat(mask, PANEL, axis=1)[:, :rows], scores + linear(x, residual), scores)


@op
def rotary(
    positions: Integers,
    rotation: int,
    frequencies: Floats,
    scale: float = 1.0,
    growth: float | None = None,
    period: float | None = None,
) -> Floats:
    """(T,) -> (T, D): cosines, then sines, of position x frequency (D / 2 each), times `scale`.

    The frequencies are a row of the table (K, D / 2), which has several where they depend on a text's length. With a
    `growth`, what turns by them is also multiplied by 1 + growth * ln(1 + floor(position / period)).
    """
    angles = (positions[:, None].astype(np.float32) * frequencies[rotation]).astype(np.float64)
    grown = np.full((len(positions), 1), scale, np.float64)
    if growth and period:
        grown *= 1 + growth * np.log1p(np.floor(positions[:, None] / period))
    turned = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return turned * grown.astype(np.float32)


@op
def rope(x: Floats, angles: Floats, interleaved: bool = False, size: int | None = None) -> Floats:
    """Rotary positions (Su et al. 2021) on heads (T, H * D): d turns with d + R / 2, or with its neighbour.

    The first R columns of each head turn, as many as there are angles (T, R); D is `size`, or R.
    """
    rotated = angles.shape[1]
    half = rotated // 2
    cosine, sine = angles[:, None, :half], angles[:, None, half:]
    heads = x.reshape(len(x), -1, size or rotated)
    out = heads.copy()
    first, second = slice(0, half), slice(half, rotated)
    if interleaved:
        first, second = slice(0, rotated, 2), slice(1, rotated, 2)
    out[..., first] = heads[..., first] * cosine - heads[..., second] * sine
    out[..., second] = heads[..., second] * cosine + heads[..., first] * sine
    return out.reshape(x.shape)


@op
def attention(
    q: Floats,
    k: Floats | None,
    v: Floats | None,
    batch: Batch,
    cache: LayerCache,
    scale: float,
    softcap: float | None = None,
    window: int | None = None,
    slopes: Floats | None = None,
    causal: bool = True,
) -> Floats:
    """q (T, H * D), k and v (T, G * D) -> (T, H * D): attention of each token over its own sequence.

    Keys and values are stored in the cache first; without any, it holds another layer's, which have been stored.
    Scores are q . k * scale, then softcap * tanh(score / softcap), or less by a head's slope (H,) for each position
    that lies between (ALiBi: Press et al. 2022); a token sees the last `window` positions, itself included; where it is
    not `causal`, all of its sequence, or as many after it as before. The softmax is summed over spans of SPAN
    positions, counted from the sequence's start, so that neither batch nor chunks nor threads change its bits. With an
    int8 cache the queries too are rounded to int8 in groups of 64, with one of bfloat16, times their scale, to that;
    where kernels multiply bfloat16, so are the softmax's weights.
    """
    heads, size = cache.heads, cache.size
    out = np.empty((len(q), q.shape[1] // size, size), np.float32)
    if cache.format == "int8":
        rounded, steps = quantise(q.reshape(-1, size), GROUP)
        q = (rounded * steps[..., None]).reshape(len(rounded), -1)[:, :size].reshape(q.shape)
    by_head = None if slopes is None else slopes.reshape(heads, -1, 1)
    if cache.format == "bf16":
        factor = np.float32(scale / softcap if softcap else scale)
        q = bf16_values(bf16_bits(q * factor)) / factor
    for s in range(len(batch.starts) - 1):
        mine = slice(batch.starts[s], batch.starts[s + 1])
        positions = batch.positions[mine]
        if k is not None and v is not None:
            cache.store(batch.tables[s], positions, k[mine].reshape(-1, heads, size), v[mine].reshape(-1, heads, size))
        keys, values = cache.load(batch.tables[s], int(positions[-1]) + 1)  # (G, L, D)
        queries = q[mine].reshape(len(positions), heads, -1, size)  # H / G queries share a key head
        for t, position in enumerate(positions):
            first = 0 if window is None else max(0, position + 1 - window)
            end = position + 1 if causal else keys.shape[1] if window is None else position + window
            attended = _attend(queries[t], keys, values, first, min(end, keys.shape[1]), scale, softcap, by_head)
            out[batch.starts[s] + t] = attended.reshape(-1, size)
    return out.reshape(q.shape)


def _attend(
    queries: Floats,
    keys: Floats,
    values: Floats,
    first: int,
    end: int,
    scale: float,
    softcap: float | None,
    slopes: Floats | None,
) -> Floats:
    """(G, n, D) queries over positions first..end of (G, L, D) keys and values -> (G, n, D)."""
    largest: Floats = np.full((*queries.shape[:2], 1), -np.inf, np.float32)
    total, out = np.zeros_like(largest), np.zeros_like(queries)
    for start in range(first - first % SPAN, end, SPAN):
        span = slice(max(start, first), min(start + SPAN, end))
        scores = queries @ keys[:, span].transpose(0, 2, 1) * np.float32(scale)
        if softcap is not None:
            scores = np.float32(softcap) * np.tanh(scores / np.float32(softcap))
        if slopes is not None:
            scores = scores + slopes * np.arange(span.start - end + 1, span.stop - end + 1, dtype=np.float32)
        here = scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores - here)
        higher = np.maximum(largest, here)
        keep, add = np.exp(largest - higher), np.exp(here - higher)
        total = total * keep + weights.sum(axis=-1, keepdims=True, dtype=np.float32) * add
        out = out * keep + (weights @ values[:, span]) * add
        largest = higher
    return np.divide(out, total, dtype=np.float32)


@op
def convolution(
    x: Floats, weight: Floats, bias: Floats | None, batch: Batch, cache: LayerCache, start: int = 0
) -> Floats:
    """(T, C) -> (T, C): each column is convolved with its own weights, over the tokens before and the present one.

    `weight` (K * C,) has those of the earliest token first, and what came before a text is zero. The last K - 1 rows of
    x are kept in the sequence's state, from its number `start` on.
    """
    taps = weight.reshape(-1, x.shape[1])
    count, out = len(taps) - 1, np.empty_like(x)
    for mine, state in _states(batch, cache, start, count * x.shape[1]):
        rows = np.concatenate([state.before.reshape(count, x.shape[1]), x[mine]])
        for k, tap in enumerate(taps):
            shifted = rows[k : len(rows) - count + k] * tap
            out[mine] = shifted if k == 0 else out[mine] + shifted
        state.keep(*(rows[n : n + count].reshape(-1) for n in (state.tokens, state.until)))
    return out if bias is None else out + bias


@op
def delta_rule(
    keys: Floats,
    values: Floats,
    gates: Floats,
    batch: Batch,
    cache: LayerCache,
    decay: Floats,
    bias: Floats,
    key_heads: int,
    start: int = 0,
    scale: float = 1.0,
    tiled: bool = False,
) -> Floats:
    """(T, 2 G * D), (T, H * E), (T, 2 H) -> (T, H * E): the gated delta rule (Yang et al. 2024), H heads of values.

    A head's state (D, E) forgets by exp(decay * softplus(second gate + bias)), then learns to answer the key with the
    value, as far as sigmoid(first gate) says, and the query asks it. Queries, then keys, have G = `key_heads` heads, of
    which each serves H / G of values that follow one another, or, `tiled`, each G-th. The states are in the sequence's,
    from its number `start` on.
    """
    heads = len(decay)
    parts = keys.reshape(len(keys), 2, key_heads, -1)
    served = np.arange(heads) % key_heads if tiled else np.arange(heads) // (heads // key_heads)
    queries, own = parts[:, 0, served], parts[:, 1, served]
    values = values.reshape(len(values), heads, -1)
    wanted, forgotten = np.split(gates.astype(np.float64), 2, axis=1)
    learnt = (1 / (1 + np.exp(-wanted))).astype(np.float32)
    stays = np.exp(decay * np.logaddexp(0, forgotten + bias)).astype(np.float32)
    out = np.empty_like(values)
    for mine, state in _states(batch, cache, start, heads * own.shape[2] * values.shape[2]):
        memory, states = state.before.reshape(heads, own.shape[2], -1), [state.before]
        for t in range(mine.start, mine.stop):
            memory = memory * stays[t, :, None, None]
            error = values[t] - np.einsum("hde,hd->he", memory, own[t])
            memory = memory + own[t, :, :, None] * (error * learnt[t, :, None])[:, None]
            out[t] = np.einsum("hde,hd->he", memory, queries[t]) * np.float32(scale)
            states.append(memory.reshape(-1))
        state.keep(states[state.tokens], states[state.until])
    return out.reshape(len(keys), -1)


class _State(NamedTuple):
    """What a sequence has left of a layer, `before` its tokens of this step, and where it goes after them."""

    before: Floats
    after: Floats
    saved: Floats | None
    tokens: int
    until: int

    def keep(self, after: Floats, saved: Floats) -> None:
        """Writes the state after all `tokens`, and that after `until` of them where it is wanted by itself."""
        if self.saved is not None:
            self.saved[:] = saved
        self.after[:] = after


def _states(batch: Batch, cache: LayerCache, start: int, count: int) -> Iterator[tuple[slice, _State]]:
    """Each sequence's tokens, and `count` numbers of its state, which is zero before a text."""
    for s, (source, target, saved, until) in enumerate(batch.states):
        mine = slice(int(batch.starts[s]), int(batch.starts[s + 1]))
        part = slice(start, start + count)
        before = cache.states[source, part].copy()
        if batch.positions[mine.start] == 0:
            before[:] = 0
        own = cache.states[saved, part] if until else None
        yield mine, _State(before, cache.states[target, part], own, mine.stop - mine.start, int(until))


@op
def glu(x: Floats, activation: str, up: Floats | None = None) -> Floats:
    """(T, 2 F) -> (T, F): activation(first half) * second half (Shazeer 2020); or both (T, F), activation(x) * up."""
    gate, up = np.split(x, 2, axis=1) if up is None else (x, up)
    return _activated(gate, activation) * up


@op
def activation(x: Floats, name: str) -> Floats:
    """One of schema.ACTIVATIONS of each number."""
    return _activated(x, name)


def _activated(x: Floats, name: str) -> Floats:
    match name:
        case "identity":
            return x
        case "sigmoid":
            return np.float32(1) / (np.float32(1) + np.exp(-x))
        case "silu":
            return x / (np.float32(1) + np.exp(-x))
        case "gelu_tanh":
            inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
            return np.float32(0.5) * x * (np.float32(1) + np.tanh(inner))
        case "gelu":
            below = np.vectorize(math.erfc, otypes=[np.float64])(x.astype(np.float64) * -math.sqrt(0.5))
            return (0.5 * x * below).astype(np.float32)
        case "relu":
            return np.maximum(x, np.float32(0))
    assert name == "quick_gelu", name
    return x / (np.float32(1) + np.exp(np.float32(-1.702) * x))


@op
def scale(x: Floats, factor: float, vector: Floats | None = None) -> Floats:
    """x * factor, and each column times its number of the vector (columns,) where there is one."""
    scaled = x * np.float32(factor)
    return scaled if vector is None else scaled * vector


@op
def add(x: Floats, y: Floats) -> Floats:
    """x + y."""
    return x + y


@op
def take_rows(x: Floats, rows: Integers) -> Floats:
    """(T, columns) -> (R, columns): the chosen tokens' rows."""
    return x[rows]


@op
def softcap(x: Floats, cap: float) -> Floats:
    """cap * tanh(x / cap)."""
    return np.float32(cap) * np.tanh(x / np.float32(cap))
