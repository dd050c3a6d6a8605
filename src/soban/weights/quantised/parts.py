"""What every method's reader works with: a checkpoint's tensors, each taken once, and the method's settings."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.weights.checkpoint import Tensor

Floats = npt.NDArray[np.float32]
Shape = tuple[int, ...]
Rows = Callable[[int, int], Floats]  # first row, end -> numbers (rows, columns)
ANY: tuple[Any, ...] = ()  # values of a setting that changes nothing in what the stored numbers mean
FLOATS = ("f32", "f16", "bf16")
AT_ONCE = 1 << 22  # numbers that are taken apart in one go, so that what is computed on the way stays small


def ceiled(count: int, of: int) -> int:
    return -(-count // of)


@dataclass(frozen=True)
class Module:
    """A linear layer by its name in the file, with the shape that the model has for its weight."""

    name: str
    shape: Shape

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def columns(self) -> int:
        return self.shape[1]


class Parts:
    """The tensors of a checkpoint quantised by a method, and how many numbers each weight has.

    `shape_of`: the shape of a weight by its name in the file; None for what is no part of the model.
    """

    def __init__(
        self, method: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor],
        shape_of: Callable[[str], Shape | None],
    ) -> None:  # fmt: skip
        self.method, self.settings, self.tensors, self.shape_of = method, settings, dict(tensors), shape_of
        self.weights: dict[str, Tensor] = {}

    def modules(self, ending: str) -> list[Module]:
        """The layers of the model that have a tensor with this ending."""
        names = (name.removesuffix(ending) for name in list(self.tensors) if name.endswith(ending))
        shapes = ((name, self.shape_of(f"{name}.weight")) for name in names)
        return [Module(name, shape) for name, shape in shapes if shape is not None and len(shape) == 2]

    def take(self, name: str, formats: tuple[str, ...], *shapes: Shape) -> Tensor:
        """A tensor that has to be there, in one of the formats and of one of the shapes (if any are named)."""
        tensor = self.tensors.pop(name, None)
        if tensor is None:
            raise UserError(
                "{method}: the tensor {name} is missing", method=self.method, name=name,
                hint="fetch the model again",
            )  # fmt: skip
        if tensor.format not in formats or (shapes and tensor.shape not in shapes):
            raise UserError(
                "{path}: {name} is {format} {shape}; {method} has {formats} {shapes} here", path=tensor.source,
                name=quoted(name), format=tensor.format.upper(), shape=tensor.shape, method=self.method,
                formats="/".join(formats).upper(), shapes=" or ".join(map(str, shapes)), hint="fetch the model again",
            )  # fmt: skip
        return tensor

    def optional(self, name: str, formats: tuple[str, ...], *shapes: Shape) -> Tensor | None:
        return self.take(name, formats, *shapes) if name in self.tensors else None

    def drop(self, *names: str) -> None:
        """Leaves out what only says how another program computes."""
        for name in names:
            self.tensors.pop(name, None)

    def add(self, module: Module, stored: Tensor, rows: Rows) -> None:
        """The weight of a layer, whose numbers are computed where somebody asks for them."""
        name = f"{module.name}.weight"
        decode = _in_pieces(rows, module.columns)
        self.weights[name] = Tensor(
            name, self.method, module.shape, stored.data, decode=decode, source=stored.source
        )  # fmt: skip

    def check(self, allowed: Mapping[str, tuple[Any, ...]]) -> None:
        """Raises UserError for a setting that is not known, or has a value under which numbers mean something else."""
        check_settings(self.settings, allowed, "quantization_config")


def check_settings(settings: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]], place: str) -> None:
    """Raises UserError for a key that is not known, or a value that is not among those allowed (`ANY`: all are)."""
    for key, value in settings.items():
        if key not in allowed:
            raise UserError(
                "config.json: {place} has {key}={value}, which is not known", place=place, key=key, value=quoted(value),
                hint="take the original model: soban quantises it itself (--dtype q8 or q4)",
            )  # fmt: skip
        if allowed[key] != ANY and not any(value == one and type(value) is type(one) for one in allowed[key]):
            raise UserError(
                "config.json: {place} has {key}={value}; this reads {known}", place=place, key=key, value=quoted(value),
                known=", ".join(map(str, allowed[key])),
                hint="take the original model: soban quantises it itself (--dtype q8 or q4)",
            )  # fmt: skip


def _in_pieces(rows: Rows, columns: int) -> Rows:
    """The same, a few rows at a time."""
    step = max(1, AT_ONCE // columns)

    def decode(start: int, stop: int) -> Floats:
        numbers = np.empty((max(0, stop - start), columns), np.float32)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            numbers[first - start : last - start] = rows(first, last)
        return numbers

    return decode


def unpacked(words: npt.NDArray, bits: int, count: int) -> npt.NDArray[np.uint8]:
    """Whole numbers of so many bits from words (..., n), the lowest bits first, across borders of words: (..., count).

    GPTQ packs 2, 3, 4 and 8 bits so, compressed-tensors 2, 4 and 8.
    """
    data = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return data[..., :count]
    if 8 % bits:
        single = np.unpackbits(data, axis=-1, bitorder="little")[..., : count * bits]
        return np.packbits(single.reshape(*single.shape[:-1], count, bits), axis=-1, bitorder="little")[..., 0]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (data[..., None] >> shifts) & np.uint8(2**bits - 1)
    return numbers.reshape(*data.shape[:-1], -1)[..., :count]


def words(count: int, bits: int) -> int:
    """How many words of 32 bits so many numbers take."""
    return ceiled(count * bits, 32)


def spread(values: Floats, start: int, stop: int, columns: int, block: tuple[int, int]) -> Floats:
    """Values that hold for blocks of (rows, columns), (blocks down, blocks across), for each number of some rows.

    Rows whose blocks lie side by side come back with one row or one column that stands for all.
    """
    if values.size == 1:
        return values.reshape(1, 1)
    rows = values if len(values) == 1 else values[np.arange(start, stop) // block[0]]
    return rows if rows.shape[1] == 1 else np.repeat(rows, block[1], axis=1)[:, :columns]


def e8m0(data: npt.NDArray[np.uint8]) -> Floats:
    """Powers of two as bytes (OCP MX, E8M0): 2 ** (e - 127); 255 is no number."""
    values = np.ldexp(np.float32(1), data.astype(np.int32) - 127).astype(np.float32)
    return np.where(data == 255, np.float32(math.nan), values)
