"""A model to be converted: its configuration, and its tensors as float32, whatever form they are stored in."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soban.base.errors import UserError
from soban.models import Architecture, architecture
from soban.ops import formats
from soban.packing.equalise import Factors, equalise
from soban.packing.fitting import dequantised, fitted, is_plain
from soban.packing.layout import RESIDUAL, packed_layout
from soban.weights.checkpoint import GGUF, LLAMA2C, Checkpoint, Tensor, finite_check
from soban.weights.llama2c import KEY, QUERY
from soban.weights.opening import open_checkpoint

LAYER = re.compile(r"^(layers|blk)\.\d+\.")  # how the name of a layer's tensor begins
ENDINGS = ("weight", "bias")
CHUNK = 16 << 20  # bytes of float32 in one piece

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Source:
    """An opened model."""

    path: Path
    checkpoint: Checkpoint
    layout: dict[str, tuple[str, int, int]]  # of soban's packed matrices: name -> format, rows, columns

    @property
    def config(self) -> dict[str, Any]:
        """config.json, or the header of a .bin under its keys."""
        return self.checkpoint.config

    @property
    def is_llama2c(self) -> bool:
        """Whether it is a .bin, in which neighbouring pairs of a head are rotated together."""
        return self.checkpoint.form == LLAMA2C

    @property
    def folder(self) -> Path:
        """Where the tokenizer and the settings lie."""
        return self.path if self.path.is_dir() else self.path.parent

    def fitted(self) -> tuple["Source", Architecture]:
        """The source by the names of its family's tensors, and the family with the checked config.

        Raises UserError for what soban does not know, or tensors that do not fit.
        """
        fit = fitted(architecture(self.config, rope_interleaved=self.checkpoint.interleaved), self.checkpoint).tell()
        if getattr(fit.architecture.config, "linear_heads_tiled", False):
            raise UserError(
                "{path}: its heads of values stand in llama.cpp's order, in which they run, but are not converted "
                "or compared", path=self.path, hint="take the model's Hugging Face folder",
            )  # fmt: skip
        return replace(self, checkpoint=fit.checkpoint), fit.architecture

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape, by its usual name; a packed matrix in two halves is one tensor."""
        return {
            name: tuple(self.layout[name][1:]) if name in self.layout else tensor.shape
            for name, tensor in self.checkpoint.tensors.items()
            if not (name.endswith(RESIDUAL) and name in self.layout)
        }

    def rows(self, name: str) -> Iterator[Floats]:
        """A tensor's rows in pieces. Raises UserError for NaN, infinities, and formats that are no weights."""
        shape = self.shapes()[name]
        step = max(1, CHUNK // (4 * shape[-1]) // formats.PANEL) * formats.PANEL if len(shape) > 1 else CHUNK
        if name in self.layout:
            parts = [part for part in (name, name + RESIDUAL) if part in self.layout]
            for start in range(0, shape[0], step):
                yield sum(self._unpacked(part, start, start + step) for part in parts)  # type: ignore[misc]
            return
        tensor = self.checkpoint.tensors[name]
        finite_check(tensor)
        for start in range(0, shape[0] if shape else 1, step):
            yield tensor.float32(start, start + step)

    def whole(self, name: str) -> Floats:
        """A tensor in one piece."""
        return np.concatenate(list(self.rows(name)))

    def _unpacked(self, name: str, start: int, stop: int) -> Floats:
        """Rows of a packed matrix; `start` begins a panel."""
        format, rows, columns = self.layout[name]
        count = min(stop, rows) - start
        first = formats.stored_bytes(format, start, columns)
        data = self.checkpoint.tensors[name].data[first : first + formats.stored_bytes(format, count, columns)]
        if format in formats.PLAIN:
            data = data.view(formats.PLAIN[format]).reshape(count, columns)
        return formats.decode(formats.Rows(format, count, columns, data))


def open_source(path: Path) -> Source:
    """The model at a path. Raises UserError for what cannot be read, or is quantised in another program's way."""
    checkpoint = open_checkpoint(path)
    if not is_plain(checkpoint):
        checkpoint = dequantised(architecture(checkpoint.config), checkpoint)
    return Source(path, checkpoint, packed_layout(checkpoint))


def balanced_source(source: Source, architecture: Architecture) -> tuple[Source, Factors]:
    """A fitted source with powers of two moved between channels that are far larger than others, and what was moved."""
    moved = equalise(architecture.plan, source.checkpoint)
    tensors = dict(source.checkpoint.tensors)
    for name in {*moved.vectors, *moved.rows, *moved.columns}:
        tensors[name] = replace(tensors[name], decode=_multiplied(tensors[name], moved))
    return replace(source, checkpoint=replace(source.checkpoint, tensors=tensors)), moved


def _multiplied(tensor: Tensor, moved: Factors) -> Callable[[int, int], Floats]:
    name = tensor.name

    def decode(start: int, stop: int) -> Floats:
        if name in moved.vectors:
            return moved.vectors[name][start:stop]
        values = tensor.float32(start, stop)
        if name in moved.rows:
            values = values * moved.rows[name][start:stop, None]
        return values * moved.columns[name] if name in moved.columns else values

    return decode


def rotated_heads(architecture: Architecture, form: str = LLAMA2C) -> dict[str, int]:
    """The tensors whose rows a kind of file has in another order, since neighbours turn together, and their heads."""
    c = architecture.config
    heads = {QUERY: c.num_attention_heads, KEY: c.kv_heads}
    if form == GGUF:
        heads = {f"blk.{{i}}.attn_{part}.{end}": heads[k] for part, k in (("q", QUERY), ("k", KEY)) for end in ENDINGS}
    names = {ours: LAYER.sub(r"\1.{i}.", theirs) for theirs, ours in architecture.plan.names(form).items()}
    return {ours: heads[kind] for ours, kind in names.items() if kind in heads}


def halves(rows: Floats, heads: int) -> Floats:
    """Rows of a q or k projection in Hugging Face's order: in each head the first of every pair, then the second."""
    return rows.reshape(heads, -1, 2, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def pairs(rows: Floats, heads: int) -> Floats:
    """The inverse: in llama2.c's order, the two of a pair side by side."""
    return rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)
