"""The cache: pages of keys and values, in a format that says how each number is kept, and slots of states."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from soban.ops.batch import PAGE
from soban.ops.formats import GROUP, Floats, bf16_bits, bf16_values, quantise

CACHE_FORMATS = ("f32", "bf16", "int8")  # the order gives the number in native/soban.h
LARGE_PAGE = 2 << 20  # bytes that Linux may give at a time to an array of this size
Index = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LayerGeometry:
    """What a layer keeps of a position: `heads` keys and values of `size` numbers each.

    With `shared_with` it keeps nothing and reads what that earlier layer, of the same geometry, has kept. `state`:
    numbers that it keeps of a whole text so far.
    """

    heads: int
    size: int
    shared_with: int | None = None
    state: int = 0


@dataclass(frozen=True, eq=False)
class LayerCache:
    """Keys and values of one layer: G heads of `size` numbers.

    f32: keys (pages, G, P, PAGE) and values (pages, G, PAGE, P), P being `size` rounded up to 16. bf16: the bits of
    bfloat16, in pairs, keys (pages, G, P / 2, PAGE, 2) and values (pages, G, PAGE / 2, P, 2). int8: blocks of bytes
    (pages, G, block): keys [P / 4][PAGE][4] or values [PAGE][P], then scales [groups of 64][PAGE] in float32. `states`:
    (slots, numbers) in float32.
    """

    keys: npt.NDArray
    values: npt.NDArray
    format: str
    size: int
    states: Floats

    @property
    def heads(self) -> int:
        return int(self.keys.shape[1])

    def store(self, table: Index, positions: Index, keys: Floats, values: Floats) -> None:
        """Write (n, G, D) keys and values at the positions, rounded to the cache's format."""
        pages, inside = table[positions // PAGE], positions % PAGE
        if self.format == "f32":
            self.keys[pages, :, : self.size, inside] = keys
            self.values[pages, :, inside, : self.size] = values
            return
        if self.format == "bf16":
            column, (page, place) = np.arange(self.size), (pages[:, None], inside[:, None])
            self.keys[page, :, column // 2, place, column % 2] = bf16_bits(keys).swapaxes(1, 2)
            self.values[pages, :, inside // 2, : self.size, inside % 2] = bf16_bits(values)
            return
        for new, (numbers, scales) in zip((keys, values), self._int8(), strict=True):
            rounded, steps = quantise(new.reshape(-1, self.size), GROUP)
            rounded = rounded.reshape(*new.shape[:2], -1)[..., : numbers.shape[2] * numbers.shape[4]]
            numbers[pages, :, :, inside] = rounded.reshape(*new.shape[:2], numbers.shape[2], -1)
            scales[pages, :, :, inside] = steps.reshape(*new.shape[:2], -1)

    def load(self, table: Index, length: int) -> tuple[Floats, Floats]:
        """The first `length` keys and values, (G, length, D) each."""
        pages = table[: -(-length // PAGE)]
        if self.format == "f32":
            return self._joined(self.keys[pages].swapaxes(2, 3), length), self._joined(self.values[pages], length)
        if self.format == "bf16":
            keys, values = bf16_values(self.keys[pages]), bf16_values(self.values[pages])
            shape = (*keys.shape[:2], PAGE, -1)
            keys, values = keys.transpose(0, 1, 3, 2, 4).reshape(shape), values.swapaxes(3, 4).reshape(shape)
            return self._joined(keys, length), self._joined(values, length)
        keys, values = (_widened(numbers[pages], scales[pages]) for numbers, scales in self._int8())
        return self._joined(keys, length), self._joined(values, length)

    def _joined(self, pages: Floats, length: int) -> Floats:
        """(pages, G, PAGE, P) -> (G, length, D)."""
        joined = pages.swapaxes(0, 1).reshape(self.heads, -1, pages.shape[-1])
        return joined[:, :length, : self.size]

    def _int8(self) -> Iterator[tuple[npt.NDArray[np.int8], Floats]]:
        """Of keys, then values: numbers (pages, G, n, PAGE, P / n) and scales (pages, G, groups, PAGE), as views."""
        padded = _padded(self.size)
        for blocks, rows in ((self.keys, padded // 4), (self.values, 1)):
            bytes, scales = blocks[..., : PAGE * padded], blocks[..., PAGE * padded :]
            numbers = bytes.view(np.int8).reshape(*blocks.shape[:2], rows, PAGE, -1)
            yield numbers, scales.view(np.float32).reshape(*blocks.shape[:2], -1, PAGE)


def _widened(numbers: npt.NDArray[np.int8], scales: Floats) -> Floats:
    """Numbers (pages, G, n, PAGE, P / n) and scales (pages, G, groups, PAGE) -> values (pages, G, PAGE, P)."""
    values = numbers.transpose(0, 1, 3, 2, 4).reshape(*scales.shape[:2], PAGE, -1).astype(np.float32)
    return values * np.repeat(scales, GROUP, axis=2).swapaxes(2, 3)[..., : values.shape[-1]]


@dataclass(frozen=True, eq=False)
class Cache:
    """The pages of every layer, and its slots. Layers that share have the same arrays."""

    layers: tuple[LayerCache, ...]
    pages: int
    format: str
    slots: int  # 0: no layer keeps a state

    def __getitem__(self, layer: int) -> LayerCache:
        return self.layers[layer]

    @property
    def nbytes(self) -> int:
        """Of the pages; those of the slots are `state_bytes` each."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.own_layers())

    def own_layers(self) -> list[LayerCache]:
        """Those that keep something, each once."""
        return list({id(layer): layer for layer in self.layers}.values())

    def copy_page(self, source: int, target: int) -> None:
        """Duplicate one page in every layer."""
        for layer in self.own_layers():
            layer.keys[target] = layer.keys[source]
            layer.values[target] = layer.values[source]

    def copy_state(self, source: int, target: int) -> None:
        """Duplicate one slot in every layer."""
        for layer in self.layers:
            layer.states[target] = layer.states[source]


def make_cache(pages: int, geometries: Sequence[LayerGeometry], format: str, slots: int = 1) -> Cache:
    """An empty cache with a layer for each geometry; the system gives memory to a page when it is first written.

    `slots`: for states, where a layer keeps one; a batch that names no slots takes as many as it has sequences.
    """
    own = [geometry for geometry in geometries if geometry.shared_with is None]
    memory = [_zeros(sum(pages * _block_bytes(geometry, format) for geometry in own)) for _ in "kv"]
    slots = slots if state_bytes(geometries) else 0
    states = np.zeros(slots * state_bytes(geometries) // 4, np.float32)
    layers: list[LayerCache] = []
    start = 0
    for geometry in geometries:
        if geometry.shared_with is not None:
            shared = layers[geometry.shared_with]
            assert (shared.heads, shared.size) == (geometry.heads, geometry.size), geometry
            layers.append(shared)
            continue
        end = start + pages * _block_bytes(geometry, format)
        keys, values = (part[start:end] for part in memory)
        own_states, states = np.split(states, [slots * geometry.state])
        layers.append(_layer(keys, values, pages, geometry, format, own_states.reshape(slots, geometry.state)))
        start = end
    return Cache(tuple(layers), pages, format, slots)


def _layer(keys: Bytes, values: Bytes, pages: int, geometry: LayerGeometry, format: str, states: Floats) -> LayerCache:
    shape, padded, size = (pages, geometry.heads), _padded(geometry.size), geometry.size
    if not geometry.heads:
        return LayerCache(keys.reshape(pages, 0, 0), values.reshape(pages, 0, 0), format, size, states)
    if format == "int8":
        return LayerCache(keys.reshape(*shape, -1), values.reshape(*shape, -1), format, size, states)
    if format == "bf16":
        columns, rows = keys.view(np.uint16), values.view(np.uint16)
        columns, rows = columns.reshape(*shape, -1, PAGE, 2), rows.reshape(*shape, PAGE // 2, padded, 2)
        return LayerCache(columns, rows, format, size, states)
    columns, rows = keys.view(np.float32), values.view(np.float32)
    return LayerCache(columns.reshape(*shape, -1, PAGE), rows.reshape(*shape, PAGE, -1), format, size, states)


def position_bytes(geometries: Sequence[LayerGeometry], format: str) -> int:
    """What a position takes in the cache, keys and values of all layers."""
    return sum(2 * g.heads * _number_bytes(g.size, format) for g in geometries if g.shared_with is None)


def state_bytes(geometries: Sequence[LayerGeometry]) -> int:
    """What a slot takes, in float32, of all layers."""
    return sum(4 * geometry.state for geometry in geometries)


def _zeros(size: int) -> Bytes:
    """Zeros from the beginning of a large page on: else the first tokens of each layer would lie in two of them."""
    raw = np.zeros(size + LARGE_PAGE, np.uint8)
    start = -raw.ctypes.data % LARGE_PAGE
    return raw[start : start + size]


def _padded(size: int) -> int:
    return -(-size // 16) * 16


def _block_bytes(geometry: LayerGeometry, format: str) -> int:
    """Of a page's keys, or values, of a layer."""
    return PAGE * geometry.heads * _number_bytes(geometry.size, format)


def _number_bytes(size: int, format: str) -> int:
    """Of a key or a value of one head."""
    if format == "int8":
        return _padded(size) + 4 * -(-size // GROUP)
    return _padded(size) * (2 if format == "bf16" else 4)
