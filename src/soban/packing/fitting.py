"""A checkpoint's tensors as the model's: their names, their shapes, whose the head is, what has no place."""

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from soban import messages
from soban.base.errors import UserError
from soban.models import Architecture
from soban.models.plan import EMBED, Part, Plan, Shape
from soban.ops import formats
from soban.packing.layout import RESIDUAL, Layout, packed_layout
from soban.weights.checkpoint import GGUF, METHODS, WEIGHTS, Checkpoint, Tensor, method_of

COMPARED = 1 << 22  # numbers that are compared in one go
WRAPPERS = ("model.language_model.", "language_model.")  # before the text part's names, where there are other parts
WITHOUT_TRACE = ("bitnet",)  # methods whose weights may lie there as plain numbers, and are rounded in every step


class Misfit(UserError):
    """Tensors are not those that the config promises; `code` and `tensor`: how, for programs, and the first of them."""

    def __init__(self, template: str, *, code: str, tensor: str, hint: str, **fields: object) -> None:
        super().__init__(template, hint=hint, name=tensor, **fields)
        self.code, self.tensor = code, tensor


@dataclass(frozen=True)
class Fitted:
    """A model and its checkpoint, whose tensors have the model's names; `spare`: names of tensors without a place."""

    architecture: Architecture
    checkpoint: Checkpoint
    spare: tuple[str, ...]

    def tell(self) -> "Fitted":
        """The same, after a note where something is left out."""
        if self.architecture.text_only:
            messages.warn(
                "{path}: only the text part of this model is used; {count} tensors of its other parts are left out",
                path=self.checkpoint.path, count=len(self.spare),
            )  # fmt: skip
        elif self.spare:
            messages.warn(
                "{path}: {count} tensors have no place in this model and are left out, the first is {name}",
                path=self.checkpoint.path, count=len(self.spare), name=self.spare[0],
            )  # fmt: skip
        return self


def fitted(architecture: Architecture, checkpoint: Checkpoint) -> Fitted:
    """The two made to fit each other, as transformers does it, so that all who ask for sizes get the same.

    Where the config says that the head is the embedding and the file has another head, the file is right. Raises
    UserError, with names and shapes, for what is missing or quantised in another program's way.
    """
    checkpoint = dequantised(architecture, checkpoint)
    layout, plan = packed_layout(checkpoint), architecture.plan
    tensors = dict(checkpoint.tensors) if layout else _renamed(checkpoint, architecture)
    config, embed = architecture.config, plan.end(EMBED)
    if config.tie_word_embeddings and embed is not None and plan.head in tensors:
        if embed.name not in tensors:
            tensors[embed.name] = replace(tensors[plan.head], name=embed.name)
        elif not same_numbers(tensors[plan.head], tensors[embed.name]):
            architecture = replace(architecture, config=replace(config, tie_word_embeddings=False))
    checkpoint = replace(checkpoint, tensors=tensors)
    _check(architecture, checkpoint, layout)
    expected = architecture.plan.shapes()
    spare = tuple(
        name for name in tensors
        if name not in expected and name != plan.head and not name.endswith(plan.computed)
        and not name.startswith(plan.beside) and not (name.endswith(RESIDUAL) and name in layout)
    )  # fmt: skip
    if spare and checkpoint.form == GGUF:  # whoever made the file meant it to be computed with
        raise Misfit(
            "{path}: {name} has no place in this model: it is of a kind that is not implemented", code="tensor-spare",
            tensor=spare[0], path=checkpoint.path, hint="use a model without it, or an engine that has it",
        )  # fmt: skip
    return Fitted(architecture, checkpoint, spare)


def stale_quantisation(checkpoint: Checkpoint) -> Any:
    """The method that quantization_config names though the weights are plain numbers; None where it is not so."""
    quantisation = checkpoint.config.get("quantization_config")
    if quantisation is None or quantised_by(checkpoint) is not None or not is_plain(checkpoint):
        return None
    return method_of(quantisation)


def quantised_by(checkpoint: Checkpoint) -> str | None:
    """The method by which another program has quantised weights of a fitted checkpoint; None where none has."""
    return next((tensor.format for tensor in checkpoint.tensors.values() if tensor.format in METHODS), None)


def dequantised(architecture: Architecture, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with weights in the place of what another program's method stores, by the names of its file.

    Raises UserError where config.json tells of quantised weights, and they are, in a way that is not read.
    """
    if checkpoint.config.get("quantization_config") is None or is_plain(checkpoint):
        return checkpoint
    from soban.weights.quantised import reading  # imported where it is met: a start waits for all that is

    shapes, embed = architecture.plan.file_shapes(), architecture.plan.end(EMBED)
    if embed is not None:
        shapes.setdefault(architecture.plan.head, embed.shape)
    return reading.dequantised(checkpoint, lambda name: shapes.get(_usual_name(architecture, shapes.keys(), name)))


def is_plain(checkpoint: Checkpoint) -> bool:
    """Whether no tensor is quantised in another program's way: all are floating-point numbers, or packed by soban."""
    if method_of(checkpoint.config.get("quantization_config")) in WITHOUT_TRACE:
        return False
    layout = packed_layout(checkpoint)
    return all(tensor.format in WEIGHTS or name in layout for name, tensor in checkpoint.tensors.items())


def _renamed(checkpoint: Checkpoint, architecture: Architecture) -> dict[str, Tensor]:
    """The tensors by the names of the plan, as views where the file holds them in another way."""
    plan = architecture.plan
    if checkpoint.form != "hf":
        names = plan.names(checkpoint.form)
        pairs = ((names.get(name, name), tensor) for name, tensor in checkpoint.tensors.items())
        return _viewed({name: replace(tensor, name=name) for name, tensor in pairs}, plan, checkpoint.form)
    expected = {part.source() for part in plan.parts()} | {plan.head}
    tensors: dict[str, Tensor] = {}
    for name, tensor in checkpoint.tensors.items():  # a file has the prefix once too often, or not at all
        usual = _usual_name(architecture, expected, name)
        usual = usual if usual == name or usual not in checkpoint.tensors else name
        tensors[usual] = tensor if usual == name else replace(tensor, name=usual)
    shapes, file_shapes = plan.shapes(), plan.file_shapes()
    for name in file_shapes.keys() & tensors.keys() - shapes.keys():
        if tensors[name].shape != file_shapes[name]:
            raise _misshapen(architecture, checkpoint, name, tensors[name].shape, file_shapes[name])
    return _viewed(tensors, plan, "hf")


def _usual_name(architecture: Architecture, expected: Container[str | None], name: str) -> str:
    """The name that the plan has for a tensor of a Hugging Face file; the file's own where it has none."""
    plan = architecture.plan
    wrapper = next((one for one in WRAPPERS if architecture.text_only and name.startswith(one)), "")
    bare = name.removeprefix(wrapper)
    bare = next((new + bare.removeprefix(old) for old, new in plan.older.items() if bare.startswith(old)), bare)
    bare = next((bare.removesuffix(old) + new for old, new in plan.endings.items() if bare.endswith(old)), bare)
    options = (bare, bare.removeprefix(plan.prefix), plan.prefix + bare)
    return next((option for option in options if option in expected), name)


def _viewed(tensors: dict[str, Tensor], plan: Plan, form: str) -> dict[str, Tensor]:
    """Transposed tensors the right way round, and those that hold several parts taken apart."""
    wholes = set()
    for part in plan.parts():
        whole, turned = part.wholes.get(form), part.transposed and form == "hf"
        if not (whole or turned) or (tensor := tensors.get(whole or part.name)) is None:
            continue
        if tensor.decode is not None:
            tensors[part.name] = _picked(tensor, part, form)
            wholes.update([whole] if whole else [])
            continue
        data, shape = (tensor.data.T, tensor.shape[::-1]) if turned else (tensor.data, tensor.shape)
        if whole:
            wholes.add(whole)
            data = part.slice(data, form)
            rows = data.shape[0] if data.ndim == len(shape) else data.shape[0] * data.shape[1]
            shape = (rows, *shape[1:])
        tensors[part.name] = replace(tensor, name=part.name, shape=shape, data=data)
    return {name: tensor for name, tensor in tensors.items() if name not in wholes}


def _picked(tensor: Tensor, part: Part, form: str) -> Tensor:
    """A part of a tensor that another program has quantised: its rows are those of the larger one that it has."""
    if part.transposed:
        raise UserError(
            "{path}: {name} is quantised by {method} and lies on its side, which is not read", path=tensor.source,
            name=tensor.name, method=tensor.format,
            hint="take the original model: soban quantises it itself (--dtype q8 or q4)",
        )  # fmt: skip
    rows, decode = part.slice(np.arange(tensor.shape[0]), form).reshape(-1), tensor.decode
    assert decode is not None

    def picked(start: int, stop: int) -> np.ndarray:
        some = rows[start:stop]
        first = int(some[0]) if len(some) else 0
        return decode(first, int(some[-1]) + 1 if len(some) else 0)[some - first]

    return replace(tensor, name=part.name, shape=(len(rows), *tensor.shape[1:]), decode=picked)


def same_numbers(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, each in its own format; a piece at a time, until they differ."""
    if one.shape != other.shape:
        return False
    if one.data is other.data:
        return True
    same_format = one.format == other.format and all(t.scales is None and t.decode is None for t in (one, other))
    step = max(1, COMPARED // max(1, int(np.prod(one.shape[1:]))))
    for start in range(0, one.shape[0] if one.shape else 1, step):
        a, b = (t.data[start : start + step] if same_format else t.float32(start, start + step) for t in (one, other))
        if not np.array_equal(a, b):
            return False
    return True


def _check(architecture: Architecture, checkpoint: Checkpoint, layout: Layout) -> None:
    """Every tensor that the config promises is there and has its shape; otherwise UserError with names and shapes."""
    expected = architecture.plan.shapes()
    if missing := [name for name in expected if name not in checkpoint.tensors]:
        raise _silent(architecture, missing[0]) or Misfit(
            "{path}: {count} tensors that config.json promises are missing, the first is {name}",
            code="tensors-missing", tensor=missing[0], path=checkpoint.path, count=len(missing),
            hint="fetch the model again",
        )  # fmt: skip
    for name, (format, rows, columns) in layout.items():
        whole = layout.get(name.removesuffix(RESIDUAL))
        tensor = checkpoint.tensors.get(name)
        size = -(-formats.stored_bytes(format, rows, columns) // 64) * 64
        if tensor is None or tensor.format != "u8" or tensor.data.shape != (size,) or whole != layout[name]:
            raise Misfit(
                "{path}: {name} is not the packed {format} matrix that it is said to be", code="tensor-shape",
                tensor=name, path=checkpoint.path, format=format, hint="delete the file, or fetch the model again",
            )  # fmt: skip
    for name, shape in expected.items():
        actual = tuple(layout[name][1:]) if name in layout else checkpoint.tensors[name].shape
        if actual != shape:
            raise _misshapen(architecture, checkpoint, name, actual, shape)


def _misshapen(architecture: Architecture, checkpoint: Checkpoint, name: str, actual: Shape, shape: Shape) -> Misfit:
    return _silent(architecture, name) or Misfit(
        "{path}: {name} has the shape {held}, config.json promises {shape}", code="tensor-shape", tensor=name,
        path=checkpoint.path, held=actual, shape=shape, hint="check that config.json belongs to these weights",
    )  # fmt: skip


def _silent(architecture: Architecture, tensor: str) -> Misfit | None:
    """What is said where the weights are not those of a config that is silent about some size."""
    if not architecture.absent:
        return None
    return Misfit(
        "config.json: {keys} missing", code="config-incomplete", tensor=tensor, keys=", ".join(architecture.absent),
        hint="fetch the model's files again",
    )  # fmt: skip
