"""The model that is tuned: transformers' class of its family over the checkpoint's weights, plain or packed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from soban.base.errors import UserError
from soban.learn.training.families import TUNED
from soban.learn.training.network import BY, replace_modules
from soban.learn.tuning.packed import PackedEmbedding, PackedLinear
from soban.loading.loaded import packed_form
from soban.models import Architecture, architecture
from soban.models.plan import Part
from soban.ops import formats
from soban.ops.formats import Matrix, Rows
from soban.packing.equalise import Factors, equalise
from soban.packing.fitting import fitted
from soban.packing.layout import RESIDUAL, packed_layout
from soban.weights.checkpoint import Checkpoint

Base = Literal["q4", "q8", "bf16", "f32"]
WEIGHT = ".weight"
ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}  # transformers' names


@dataclass(frozen=True, eq=False)
class Frozen:
    """A model whose weights stay as they are."""

    model: Any  # transformers' class
    architecture: Architecture
    base: Base
    files: tuple[Path, ...]  # that its weights are mapped from


def family_name(config: Mapping[str, Any]) -> str:
    """The family of a model. Raises UserError for one that cannot be tuned."""
    name = config.get("model_type")
    if name not in TUNED:
        raise UserError(
            "models of the family {family} cannot be tuned here", family=str(name)[:40], known=", ".join(TUNED),
            hint="take one of {known}",
        )  # fmt: skip
    return str(name)


def frozen(checkpoint: Checkpoint, base: Base) -> Frozen:
    """The model of a checkpoint; `base`: how its matrices are kept. Raises UserError for what cannot be tuned."""
    name = family_name(checkpoint.config)
    fit = fitted(architecture(checkpoint.config), checkpoint)
    arch, checkpoint = fit.architecture, fit.checkpoint
    if packed_layout(checkpoint):
        weights, moved = checkpoint, Factors()
    elif base in formats.QUANTISED:
        weights, moved = packed_form(arch, checkpoint, base, lambda share: None), equalise(arch.plan, checkpoint)
    else:
        weights, moved = checkpoint, Factors()
    model = _empty(name, {**checkpoint.config, "tie_word_embeddings": arch.config.tie_word_embeddings})
    if packed_layout(weights):
        _pack(model, arch, weights, moved)
    _fill(model, arch, checkpoint, torch.bfloat16 if base == "bf16" else torch.float32)
    replace_modules(model, name, _replaceable(model.config, name))
    for weight in model.parameters():
        weight.requires_grad_(False)
    model.train()
    return Frozen(model, arch, base, weights.files)


def _empty(name: str, config: Mapping[str, Any]) -> Any:
    """transformers' model without weights: its parameters take no memory yet."""
    import transformers
    from accelerate import init_empty_weights

    family = TUNED[name]
    configuration = getattr(transformers, family.config_class).from_dict(dict(config))
    for key, value in configuration.to_dict().items():
        if key.endswith(("_pdrop", "_dropout")) and isinstance(value, float):
            setattr(configuration, key, 0.0)  # of the model's first training
    with init_empty_weights(include_buffers=False):
        model = getattr(transformers, family.model_class)._from_config(configuration, attn_implementation="eager")
    model.tie_weights()
    return model


def _replaceable(config: Any, name: str) -> list[str]:
    """Which kinds of modules compute by ours: not a gate whose activation is another than the family's usual one."""
    usual = next((about["activation"] for kind, about in TUNED[name].replaced.values() if kind == "mlp"), None)
    own = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    return [kind for kind in BY if kind != "mlp" or ACTIVATIONS.get(str(own)) == usual]


def _tensors(arch: Architecture) -> dict[str, list[Part]]:
    """The parts of each tensor of transformers' model, by its name."""
    return arch.plan.tensors("hf")


def _pack(model: Any, arch: Architecture, weights: Checkpoint, moved: Factors) -> None:
    """Puts packed layers in the place of those whose matrices are packed."""
    layout = packed_layout(weights)
    head = model.get_output_embeddings()

    def rows(name: str) -> Rows:
        format, count, columns = layout[name]
        data = weights.tensors[name].data[: formats.stored_bytes(format, count, columns)]
        if format in formats.PLAIN:
            return Rows(format, count, columns, data.view(formats.PLAIN[format]).reshape(count, columns))
        return Rows(format, count, columns, data)

    for whole, parts in _tensors(arch).items():
        if not all(part.name in layout for part in parts):
            continue
        residual = rows(parts[0].name + RESIDUAL) if parts[0].name + RESIDUAL in layout else None
        matrix = Matrix(tuple(rows(part.name) for part in parts), None, residual)
        place = whole.removesuffix(WEIGHT)
        module = model.get_submodule(place)
        if isinstance(module, nn.Embedding):
            model.set_submodule(place, PackedEmbedding(matrix, float(getattr(module, "scalar_embed_scale", 1.0))))
            if head is not None and head.weight is module.weight:
                model.set_output_embeddings(PackedLinear(matrix, None, None, None))
            continue
        bias = torch.empty(matrix.shape[0]) if getattr(module, "bias", None) is not None else None
        model.set_submodule(place, PackedLinear(matrix, bias, *_factors(parts, moved)))


def _factors(parts: list[Part], moved: Factors) -> tuple[Tensor | None, Tensor | None]:
    """What the columns and the rows of a matrix were multiplied by; None where they are as they were."""
    columns = moved.columns.get(parts[0].name)
    rows = None
    if any(part.name in moved.rows for part in parts):
        ones = np.ones(1, np.float32)
        rows = np.concatenate([np.broadcast_to(moved.rows.get(p.name, ones), p.shape[:1]) for p in parts])
    return tuple(None if one is None else torch.from_numpy(one.copy()) for one in (columns, rows))  # type: ignore[return-value]


def _fill(model: Any, arch: Architecture, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    """Gives every parameter its numbers: mapped where the file has them in that type, else converted."""
    tensors = _tensors(arch)
    for name, parameter in list(model.named_parameters()):
        parts = tensors.get(name)
        if parts is None:
            raise UserError(
                "{path}: {name} of transformers' model has no place in this one", path=checkpoint.path, name=name,
                hint="this model cannot be tuned here",
            )  # fmt: skip
        value = torch.cat([_numbers(checkpoint, part, dtype) for part in parts])
        value = value.T.contiguous() if parts[0].transposed else value
        if value.shape != parameter.shape:
            raise UserError(
                "{path}: {name} of transformers' model has no place in this one", path=checkpoint.path, name=name,
                hint="this model cannot be tuned here",
            )  # fmt: skip
        place, _, last = name.rpartition(".")
        setattr(model.get_submodule(place), last, nn.Parameter(value, requires_grad=False))
    if not any(isinstance(module, PackedEmbedding) for module in model.modules()):
        model.tie_weights()


def _numbers(checkpoint: Checkpoint, part: Part, dtype: torch.dtype) -> Tensor:
    tensor = checkpoint.tensors[part.name]
    if dtype == torch.bfloat16 and tensor.format == "bf16":
        bits = np.ascontiguousarray(tensor.rows())
        return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(tensor.float32())).to(dtype)
