"""A checkpoint on disk: its configuration and its named tensors, mapped into memory and not yet converted."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from soban.base.errors import UserError
from soban.base.files import quoted

PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle")
# torch's zip, torch's old files, pickles of protocol 4 and 5. Two bytes are too few: llama2.c's width 640 begins 80 02.
PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02\x8a", b"\x80\x04\x95", b"\x80\x05\x95")
# The forms of a model's files, which name its tensors.
HF = "hf"  # Hugging Face's folder
LLAMA2C = "llama2c"  # llama2.c's .bin
GGUF = "gguf"  # llama.cpp's file
# GGUF's types of blocks that are read; weights/gguf/blocks.py says what they hold.
BLOCKS = frozenset((
    "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "iq3_s",
    "mxfp4",
))  # fmt: skip
# Other programs' ways of quantising safetensors, see weights/quantised; the format of weights that are kept so.
METHODS = frozenset(("bitsandbytes", "gptq", "awq", "fp8", "fbgemm_fp8", "compressed-tensors"))
WEIGHTS = frozenset(("f64", "f32", "f16", "bf16", "i8g")) | BLOCKS | METHODS  # formats whose numbers can be asked for
SYSTEM = "system_prompt"  # in a generation config: what the model is told where nobody tells it anything else
BALANCED = "soban.balanced"  # key of a GGUF file some of whose channels were multiplied and others divided
FINITE_CHUNK = 1 << 20  # numbers looked at in one go: 4 MB of float32


@dataclass(frozen=True, eq=False)
class Tensor:
    """One named array of a checkpoint, still in its file's format, mapped into memory.

    The data is read-only and may be unaligned. Rows that lie in blocks apart from each other are an array of one more
    axis: (blocks, rows of a block, ...). `format` is "f32", "f16", "bf16" (the bits, as uint16), "i8g" (int8, one
    float32 scale per group of the last axis), one of GGUF's blocks ("q4_k": rows of bytes, see weights/gguf/blocks.py),
    a method ("gptq": `data` is what it packs, and `decode` gives rows of numbers), "u8" (bytes), or another dtype of
    safetensors in lower case (f64, i64, i8, ...): those are carried so that they can be refused by name where somebody
    asks for their numbers.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    data: np.ndarray
    scales: np.ndarray | None = None  # i8g: float32, shape[:-1] + (shape[-1] // group,)
    shift: float = 0.0  # what is to be added to the file's numbers
    decode: Callable[[int, int], np.ndarray] | None = None  # a method's: first row, end -> float32
    source: Path = field(kw_only=True)

    @property
    def group(self) -> int:
        """How many numbers along the last axis share a scale; 1 where there are no scales."""
        return 1 if self.scales is None else self.shape[-1] // self.scales.shape[-1]

    def rows(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows start..stop along the first axis, as they are stored."""
        if self.data.ndim == len(self.shape):
            return self.data[start:stop] if self.shape else self.data
        block, stop = self.data.shape[1], self.shape[0] if stop is None else min(stop, self.shape[0])
        first = start // block
        rows = self.data[first : -(-stop // block)].reshape(-1, *self.shape[1:])
        return rows[start - first * block : stop - first * block]

    def float32(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows start..stop along the first axis as aligned float32: a view of the file where it is that already.

        Raises UserError where the format holds no weights that this reads.
        """
        if self.decode is not None:
            return self.decode(start, self.shape[0] if stop is None else min(stop, self.shape[0]))
        if self.format in BLOCKS:
            return _of_blocks(self, start, stop)
        rows = self.rows(start, stop)
        if self.scales is not None:
            scales = self.scales[start:stop]
            groups: np.ndarray = rows.reshape(*scales.shape, self.group) * scales[..., None]
            return groups.reshape(rows.shape)
        numbers = _numbers(self, rows)
        return numbers + np.float32(self.shift) if self.shift else numbers


@dataclass(frozen=True)
class Checkpoint:
    """An opened model: nothing of it is in memory yet but its configuration and the names and shapes."""

    path: Path
    config: dict[str, Any]  # config.json, or the header of a .bin under the same keys
    generation_config: dict[str, Any]  # {} where there is none
    tensors: Mapping[str, Tensor]
    files: tuple[Path, ...]  # their sizes and times of change identify the content
    metadata: dict[str, str]  # __metadata__ of the safetensors files
    form: str = HF
    interleaved: bool = False  # of a head's numbers neighbours turn together, not the two halves
    keys: Mapping[str, Any] = field(default_factory=dict, repr=False)  # of a GGUF file

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """Those of the files that hold tensors."""
        sources = {tensor.source for tensor in self.tensors.values()}
        return tuple(file for file in self.files if file in sources)


def method_of(quantisation: Any) -> Any:
    """The method that quantization_config names."""
    if not isinstance(quantisation, dict):
        return quantisation
    named = quantisation.get("quant_method")
    if named is None and any(str(key).removeprefix("_").startswith("load_in_") for key in quantisation):
        return "bitsandbytes"  # whose first configs named no method
    return "?" if named is None else named


def pickle_refused(path: Path) -> UserError:
    """The refusal of a file that could run code when it is read."""
    return UserError(
        "{path}: a pickle file can run any code when it is opened, so it is never read",
        path=path,
        hint="convert it once: transformers' model.save_pretrained(folder) writes model.safetensors",
    )


def finite_check(tensor: Tensor) -> None:
    """Raise UserError at the tensor's first NaN or infinity, with its index; reads all of it, a piece at a time."""
    place, shape = (
        0,
        tensor.shape if tensor.scales is None else tensor.scales.shape,
    )  # int8 is finite; scales may not be
    for values in _flat_pieces(tensor):
        finite = np.isfinite(values)
        if finite.all():
            place += len(values)
            continue
        first = int(np.argmin(finite))
        index = [int(i) for i in np.unravel_index(place + first, shape)]
        if index:
            index[-1] *= tensor.group
        raise UserError(
            "{path}: tensor {name} holds {value} at {index}",
            path=tensor.source,
            name=quoted(tensor.name),
            value=float(values[first]),
            index=index,
            hint="the file is damaged or its training diverged: fetch it again or use another checkpoint",
        )


def _flat_pieces(tensor: Tensor) -> Iterator[np.ndarray]:
    """The tensor's numbers, or its scales, one after the other."""
    if tensor.format in BLOCKS or tensor.decode is not None:
        count = tensor.shape[0] if len(tensor.shape) > 1 else 1
        step = max(1, FINITE_CHUNK * count // math.prod(tensor.shape))
        for start in range(0, count, step):
            yield tensor.float32(start, start + step).reshape(-1)
        return
    flat = (tensor.data if tensor.scales is None else tensor.scales).reshape(-1)
    for start in range(0, len(flat), FINITE_CHUNK):
        piece = flat[start : start + FINITE_CHUNK]
        yield piece if tensor.scales is not None else _numbers(tensor, piece)


def _of_blocks(tensor: Tensor, start: int, stop: int | None) -> np.ndarray:
    """The numbers of a tensor in blocks, of which a single axis is taken apart at once."""
    from soban.weights.gguf.blocks import numbers  # imported where it is met: a start waits for all that is imported

    if len(tensor.shape) == 1:
        return numbers(tensor.format, tensor.data[None])[0][start:stop]
    rows = tensor.data[start:stop]
    return numbers(tensor.format, rows.reshape(-1, rows.shape[-1])).reshape(len(rows), *tensor.shape[1:])


def _numbers(tensor: Tensor, data: np.ndarray) -> np.ndarray:
    """A piece of a tensor without scales as aligned float32 of the same shape."""
    if tensor.format == "bf16":  # the upper half of a float32
        return np.asarray(np.left_shift(data, 16, dtype=np.uint32)).view(np.float32)
    if tensor.format in ("f64", "f32", "f16"):
        return np.require(data, np.float32, "A")
    raise UserError(
        "{path}: tensor {name} is {format}; weights are read as F64, F32, F16, BF16 or grouped int8",
        path=tensor.source,
        name=quoted(tensor.name),
        format=tensor.format.upper(),
        hint="save the model in bfloat16",
    )
