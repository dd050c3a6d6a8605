"""The models that are merged: opened, and looked at for whether they fit each other, before anything is computed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from soban import messages
from soban.base.errors import UserError
from soban.base.files import quoted
from soban.convert.source import Floats, Source, open_source
from soban.convert.wholes import whole_rows
from soban.models import Architecture
from soban.models.plan import EMBED, Shape
from soban.weights.adapter import open_adapter
from soban.weights.checkpoint import GGUF, HF
from soban.weights.low_rank import AdapterFiles, LowRank

WEIGHT, BIAS = ".weight", ".bias"
TOKENIZER = "tokenizer.json"
# Keys of config.json that say nothing of what is computed.
SILENT = {
    "_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache", "bos_token_id",
    "eos_token_id", "pad_token_id", "quantization_config", "tie_word_embeddings", "vocab_size", "initializer_range",
    "max_position_embeddings", "attention_dropout", "_attn_implementation", "pretraining_tp", "unsloth_version",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Parent:
    """A model that is merged, perhaps with an adapter, by the name that the recipe gives it."""

    name: str
    source: Source
    architecture: Architecture
    adapter: AdapterFiles | None = None
    shapes: dict[str, Shape] = field(default_factory=dict)  # of its tensors, by Hugging Face's names

    @property
    def embedding(self) -> str:
        """The name of its first matrix, whose rows are the vocabulary's."""
        part = self.architecture.plan.end(EMBED)
        assert part is not None
        return part.name

    @property
    def vocabularies(self) -> tuple[str, ...]:
        """The tensors whose rows are the vocabulary's."""
        return (self.embedding, self.architecture.plan.head)

    @property
    def tied(self) -> bool:
        return self.architecture.plan.head not in self.shapes

    @cached_property
    def layers(self) -> list[list[str]]:
        """The tensors of each layer, in the order of the plan."""
        plan = self.architecture.plan
        names = []
        for layer in plan.layers:
            parts = (part for weight in layer.weights for part in (*weight.parts, *weight.biases))
            names.append(list(dict.fromkeys(part.wholes.get("hf", part.name) for part in parts)))
        return names

    @cached_property
    def tokens(self) -> dict[str, int] | None:
        """Its tokens and their ids, as the model's file spells them; None where it has no file that tells."""
        if self.source.checkpoint.form == GGUF:
            tokens = self.source.checkpoint.keys.get("tokenizer.ggml.tokens")
            return None if tokens is None else {str(token): n for n, token in enumerate(tokens)}
        path = self.source.folder / TOKENIZER
        if not path.is_file():
            return None
        from soban.text.tokenizers.library import library_errors, open_library

        with library_errors(path):
            return open_library(path, path.read_bytes())[0].get_vocab(with_added_tokens=True)

    def adapter_of_words(self) -> bool:
        """Whether its adapter changes the vocabulary's tensors."""
        files = self.adapter
        changed = {module + WEIGHT for module in (*files.layers, *files.factors)} if files else set()
        return not changed.isdisjoint(self.vocabularies)

    def rows(self, name: str) -> Iterator[Floats]:
        """A tensor's numbers in float32, in pieces of whole rows; what the adapter adds to it, too."""
        pieces = whole_rows(self.source, self.architecture, name)
        module = name.removesuffix(WEIGHT).removesuffix(BIAS)
        if self.adapter is None:
            yield from pieces
        elif (factor := self.adapter.factors.get(module)) is not None:
            yield from _scaled(pieces, factor.float32(), is_bias=name.endswith(BIAS))
        elif (low := self.adapter.layers.get(module)) is not None and name.endswith(WEIGHT):
            yield from _added(pieces, low)
        else:
            yield from pieces


def _scaled(pieces: Iterator[Floats], factor: Floats, *, is_bias: bool) -> Iterator[Floats]:
    """Rows times their factors, (out, 1), or columns times theirs, (1, in), which leave a bias alone."""
    start = 0
    for piece in pieces:
        if factor.shape[1] == 1:
            some = factor[start : start + len(piece)]
            yield piece * (some[:, 0] if is_bias else some)
        else:
            yield piece if is_bias else piece * factor
        start += len(piece)


def _added(pieces: Iterator[Floats], low: LowRank) -> Iterator[Floats]:
    """Rows with what the adapter adds to them, and of the length that it gives them, if it does."""
    a, b = low.a.float32(), low.b.float32()
    magnitude = None if low.magnitude is None else low.magnitude.float32()
    start = 0
    for piece in pieces:
        stop = start + len(piece)
        rows = piece + np.float32(low.scale) * (b[start:stop] @ a)
        if magnitude is not None:
            lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
            rows *= (magnitude[start:stop] / np.maximum(lengths, 1e-30)).astype(np.float32)[:, None]
        yield rows
        start = stop


def opened(name: str, path: Path, adapter: Path | None = None) -> Parent:
    """The model at a path. Raises UserError for what is damaged, and for an adapter that is not this model's."""
    source, architecture = open_source(path).fitted()
    shapes = architecture.plan.file_shapes()
    files = None if adapter is None else open_adapter(adapter, merging=True)
    if files is not None:
        _check_adapter(files, shapes, architecture)
    return Parent(name, source, architecture, files, shapes)


def _check_adapter(files: AdapterFiles, shapes: Mapping[str, Shape], architecture: Architecture) -> None:
    """UserError for an adapter in llama.cpp's form, and for layers that the model does not have in that size."""
    if files.form != HF:
        raise UserError(
            "{path}: its layers have llama.cpp's names", path=files.path,
            hint="take the adapter as peft saved it, or run it with --adapter",
        )  # fmt: skip
    sizes = {module: (low.b.shape[0], low.a.shape[1]) for module, low in files.layers.items()}
    for module in (*sizes, *files.factors):
        shape = shapes.get(module + WEIGHT)
        factor = files.factors.get(module)
        if shape is not None and factor is not None and factor.shape in ((shape[0], 1), (1, shape[-1])):
            continue
        theirs = sizes.get(module) or (factor.shape if factor is not None else ())
        if shape is not None and shape == theirs:
            continue
        raise UserError(
            "{path}: {module} is for a layer of {theirs}, and this model's has {ours}", path=files.path,
            module=quoted(module), theirs=" x ".join(map(str, theirs)), base=files.base or "?", ours=_size(shape),
            hint="take the model that it was trained for: {base}",
        )  # fmt: skip
    parts = {part.source(): part for part in architecture.plan.parts()}
    if any(parts[module + WEIGHT].transposed for module in (*sizes, *files.factors)):
        raise UserError(
            "{path}: this model's layers lie on their side, which is not merged with adapters", path=files.path,
            hint="run it with --adapter",
        )  # fmt: skip


def check_together(parents: Sequence[Parent], *, vocabularies: bool, layers: bool) -> None:
    """That tensors can be mixed with each other. `vocabularies`: those of the vocabulary have to agree, too; `layers`:
    so have their numbers of layers.

    Raises UserError, with names and sizes; a difference in the configs that changes what is computed is told.
    """
    first = parents[0]
    for other in parents[1:]:
        kinds = [str(one.source.config.get("model_type")) for one in (first, other)]
        if kinds[0] != kinds[1]:
            raise UserError(
                "{first} is of the family {ours}, {other} of {theirs}: they have no weights in common",
                first=first.name, ours=kinds[0], other=other.name, theirs=kinds[1], hint="merge models of one family",
            )  # fmt: skip
        for name in dict.fromkeys((*first.shapes, *other.shapes)):
            shapes = [one.shapes.get(name) for one in (first, other)]
            if name in first.vocabularies and (None in shapes or not vocabularies):
                shapes = [shape and shape[1:] for shape in shapes if shape]
            if len(set(shapes)) > 1 and (layers or None not in shapes):
                raise UserError(
                    "{tensor} is {ours} in {first} and {theirs} in {other}", tensor=name, first=first.name,
                    other=other.name, ours=_size(shapes[0]), theirs=_size(shapes[1]),
                    hint="merge models of one size; --tokenizer makes different vocabularies fit",
                )  # fmt: skip
        if differing := _differing(first.source.config, other.source.config):
            messages.warn(
                "{other}: config.json has other values than {first}'s for {keys}; the merged model has {first}'s",
                other=other.name, first=first.name, keys=", ".join(differing),
            )  # fmt: skip
    if len({one.tied for one in parents}) > 1:
        messages.warn(
            "some of these models write by their embedding, others have a matrix of their own for it: the merged one "
            "has its own"
        )


def _size(shape: Shape | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape))


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    keys = (ours.keys() | theirs.keys()) - SILENT
    return sorted(key for key in keys if key in ours and key in theirs and ours[key] != theirs[key])
