"""llama2.c's .bin files, mapped: v0 and v1 in float32, v2 in int8 groups, under the names of its own model.py.

The layouts are those of llama2.c's export.py (github.com/karpathy/llama2.c), read from its description of each version.
"""

import math
import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soban.base.errors import UserError
from soban.base.files import map_file
from soban.weights.checkpoint import LLAMA2C, Checkpoint, Tensor

MAGIC = 0x616B3432  # "ak42"
NUMBERS = struct.Struct("<7i")  # dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, max_seq_len
MODERN = struct.Struct("<i7iBi")  # after the magic: version, those numbers, shared classifier, group_size (v2)
PADDED_HEADER = 256  # bytes, in v1 and v2
LONGEST = 1 << 20  # tokens: in v1 and v2 the file's size does not bound max_seq_len; llama2.c's own models stop at 2048

LAYER = re.compile(r"^layers\.\d+\.")  # how the name of a layer's tensor begins
ATTENTION_NORM = "layers.{i}.attention_norm.weight"
MLP_NORM = "layers.{i}.ffn_norm.weight"
QUERY = "layers.{i}.attention.wq.weight"
KEY = "layers.{i}.attention.wk.weight"
VALUE = "layers.{i}.attention.wv.weight"
OUTPUT = "layers.{i}.attention.wo.weight"
GATE = "layers.{i}.feed_forward.w1.weight"
DOWN = "layers.{i}.feed_forward.w2.weight"
UP = "layers.{i}.feed_forward.w3.weight"
EMBEDDING = "tok_embeddings.weight"
FINAL_NORM = "norm.weight"
HEAD = "output.weight"
ROTATIONS = ""  # v0's tables of cosines and sines, which nobody reads any more

# The order of the file; a name with {i} stands for all layers in turn. The head follows where it is not shared.
ORDER = {
    0: (EMBEDDING, ATTENTION_NORM, QUERY, KEY, VALUE, OUTPUT, MLP_NORM, GATE, DOWN, UP, FINAL_NORM, ROTATIONS),
    1: (ATTENTION_NORM, MLP_NORM, FINAL_NORM, EMBEDDING, QUERY, KEY, VALUE, OUTPUT, GATE, DOWN, UP),
    2: (ATTENTION_NORM, MLP_NORM, FINAL_NORM, EMBEDDING, QUERY, KEY, VALUE, OUTPUT, GATE, DOWN, UP),
}


@dataclass(frozen=True)
class Header:
    """The numbers at the head of a .bin."""

    version: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int
    tied: bool
    group: int | None  # v2 only

    @property
    def length(self) -> int:
        """How many bytes the header itself takes."""
        return NUMBERS.size if self.version == 0 else PADDED_HEADER

    @property
    def file_size(self) -> int:
        """How many bytes the whole file has."""
        return self.length + sum(self.copies(kind) * self.size(kind) for kind in self.kinds())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each kind of tensor; matrices are (out, in)."""
        kv = self.hidden // self.heads * self.kv_heads
        square, narrow = (self.hidden, self.hidden), (kv, self.hidden)
        return {
            ATTENTION_NORM: (self.hidden,), MLP_NORM: (self.hidden,), FINAL_NORM: (self.hidden,),
            EMBEDDING: (self.vocabulary, self.hidden), HEAD: (self.vocabulary, self.hidden),
            QUERY: square, KEY: narrow, VALUE: narrow, OUTPUT: square,
            GATE: (self.intermediate, self.hidden), UP: (self.intermediate, self.hidden),
            DOWN: (self.hidden, self.intermediate),
            ROTATIONS: (self.context, self.hidden // self.heads),
        }  # fmt: skip

    def kinds(self) -> tuple[str, ...]:
        """The kinds of tensors in the order of the file."""
        return ORDER[self.version] if self.tied else (*ORDER[self.version], HEAD)

    def copies(self, kind: str) -> int:
        """How many tensors of a kind the file holds."""
        return self.layers if "{i}" in kind else 1

    def group_of(self, kind: str) -> int | None:
        """How many weights of this kind share a scale; None where they are float32."""
        return self.group if len(self.shapes()[kind]) == 2 else None

    def size(self, kind: str) -> int:
        """The bytes of one tensor of a kind."""
        count, group = math.prod(self.shapes()[kind]), self.group_of(kind)
        return 4 * count if group is None else count + 4 * (count // group)


def open_bin(path: Path) -> Checkpoint:
    """The checkpoint in a llama2.c .bin; UserError where its header makes no sense or promises another size."""
    mapped = map_file(path)
    header = read_header(path, mapped)
    if header.file_size != len(mapped):
        raise UserError(
            "{path}: the header (llama2.c v{version}: width {hidden}, {layers} layers, vocabulary {vocabulary})"
            " promises {promised} bytes; the file holds {held}",
            path=path,
            version=header.version,
            hidden=header.hidden,
            layers=header.layers,
            vocabulary=header.vocabulary,
            promised=header.file_size,
            held=len(mapped),
            hint="it is damaged or no llama2.c .bin: fetch it again",
        )
    return Checkpoint(
        path=path,
        config=_config(header),
        generation_config={},
        tensors={tensor.name: tensor for tensor in _tensors(path, header, mapped)},
        files=(path,),
        metadata={},
        form=LLAMA2C,
        interleaved=True,
    )


def read_header(path: Path, data: mmap.mmap | bytes) -> Header:
    """The header of a .bin; UserError for numbers that no model can have. Its size is not yet held against the file."""
    header = _read_header(path, data)
    _check_header(path, header)
    return header


def read_bin_header(path: Path, data: bytes) -> tuple[dict[str, Any], dict[str, tuple[str, tuple[int, ...]]]]:
    """From the first PADDED_HEADER bytes of a .bin: the config, and name -> format and shape of each tensor."""
    header = read_header(path, data)
    tensors = {
        kind.format(i=i): ("f32" if header.group_of(kind) is None else "i8g", header.shapes()[kind])
        for kind in header.kinds() if kind != ROTATIONS for i in range(header.copies(kind))
    }  # fmt: skip
    return _config(header), tensors


def _read_header(path: Path, data: mmap.mmap | bytes) -> Header:
    """The header as it stands in the file, not yet believed."""
    modern = len(data) >= 4 and int.from_bytes(data[:4], "little") == MAGIC
    least = PADDED_HEADER if modern else NUMBERS.size
    if len(data) < least:
        raise UserError(
            "{path}: {size} bytes; the header of a llama2.c .bin alone has {least}",
            path=path,
            size=len(data),
            least=least,
            hint="fetch it again",
        )
    if not modern:
        dim, hidden_dim, layers, heads, kv_heads, vocabulary, context = NUMBERS.unpack(data[: NUMBERS.size])
        # v0 says by a negative vocabulary that the head has weights of its own.
        tied, vocabulary = vocabulary > 0, abs(vocabulary)
        return Header(0, dim, hidden_dim, layers, heads, kv_heads, vocabulary, context, tied, None)
    version, dim, hidden_dim, layers, heads, kv_heads, vocabulary, context, shared, group = MODERN.unpack(data[4:41])
    if version not in (1, 2):
        raise UserError(
            "{path}: llama2.c version {version}; this reads 0, 1 and 2",
            path=path,
            version=version,
            hint="export it anew with llama2.c",
        )
    if shared not in (0, 1):
        raise UserError(
            "{path}: the flag for a shared classifier is {value}, not 0 or 1",
            path=path,
            value=shared,
            hint="it is damaged or no llama2.c .bin: fetch it again",
        )
    group = group if version == 2 else None
    return Header(version, dim, hidden_dim, layers, heads, kv_heads, vocabulary, context, bool(shared), group)


def _check_header(path: Path, header: Header) -> None:
    """Refuse numbers that no model can have; sizes are Python integers, so nothing overflows."""
    numbers = {
        "dim": header.hidden, "hidden_dim": header.intermediate, "n_layers": header.layers, "n_heads": header.heads,
        "n_kv_heads": header.kv_heads, "vocab_size": header.vocabulary, "max_seq_len": header.context,
    }  # fmt: skip
    if header.group is not None:
        numbers["group_size"] = header.group
    for name, value in numbers.items():
        if value <= 0:
            raise UserError(
                "{path}: the header says {name} = {value}; it has to be above 0",
                path=path,
                name=name,
                value=value,
                hint="it is damaged or no llama2.c .bin: fetch it again",
            )
    if header.context > LONGEST:
        raise UserError(
            "{path}: max_seq_len = {value}; this reads up to {limit}",
            path=path,
            value=header.context,
            limit=LONGEST,
            hint="it is damaged or no llama2.c .bin: fetch it again",
        )
    _check_divides(path, "dim", header.hidden, "2 * n_heads", 2 * header.heads)  # a head is rotated in pairs
    _check_divides(path, "n_heads", header.heads, "n_kv_heads", header.kv_heads)
    if header.group is not None:
        _check_divides(path, "dim", header.hidden, "group_size", header.group)
        # export.py lets groups run on into the next row here; its own run program then reads wrong scales.
        _check_divides(path, "hidden_dim", header.intermediate, "group_size", header.group)


def _check_divides(path: Path, name: str, value: int, divisor: str, number: int) -> None:
    if value % number:
        raise UserError(
            "{path}: the header says {name} = {value}, which is no multiple of {divisor} = {number}",
            path=path,
            name=name,
            value=value,
            divisor=divisor,
            number=number,
            hint="it is damaged or no llama2.c .bin: fetch it again",
        )


def _tensors(path: Path, header: Header, mapped: mmap.mmap) -> Iterator[Tensor]:
    """Each tensor as a view of the file, in the file's order; the size of the file is already known to be right."""
    position = header.length
    for kind in header.kinds():
        shape, group = header.shapes()[kind], header.group_of(kind)
        for i in range(header.copies(kind)):
            name = kind.format(i=i)
            if kind != ROTATIONS and group is None:
                yield Tensor(name, "f32", shape, np.ndarray(shape, "<f4", mapped, position), source=path)
            elif group is not None:
                scales = np.ndarray((shape[0], shape[1] // group), "<f4", mapped, position + math.prod(shape))
                yield Tensor(name, "i8g", shape, np.ndarray(shape, np.int8, mapped, position), scales, source=path)
            position += header.size(kind)


def _config(header: Header) -> dict[str, Any]:
    """The header under Hugging Face's keys, with what llama2.c fixes in its code."""
    return {
        "model_type": "llama",
        "hidden_size": header.hidden,
        "intermediate_size": header.intermediate,
        "num_hidden_layers": header.layers,
        "num_attention_heads": header.heads,
        "num_key_value_heads": header.kv_heads,
        "vocab_size": header.vocabulary,
        "max_position_embeddings": header.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": header.tied,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
