"""The model families: one file each, found by the model_type of config.json."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from soban import ops
from soban.errors import UserError
from soban.models.config import read_config
from soban.ops.recorder import LayerSlot, Program

FAMILIES = {"llama": "llama", "mistral": "llama", "gemma2": "gemma2"}  # model_type -> file


@dataclass(frozen=True)
class Architecture:
    """A family and the config of one of its models."""

    family: ModuleType
    config: Any

    def record(self, weights: Any) -> Program:
        """The whole model as a program: a batch's tokens in, logits (R, vocabulary) of the chosen tokens out."""
        program = Program()
        batch = program.batch()
        layers = [LayerSlot(i) for i in range(self.config.num_hidden_layers)]
        hidden = self.family.forward(self.config, weights, batch, layers)
        chosen = ops.take_rows(hidden, batch.outputs)  # type: ignore[arg-type]
        program.result = self.family.logits(self.config, weights, chosen)
        return program


def architecture(raw: Mapping[str, Any], compute_dtype: str = "float32") -> Architecture:
    """The family and config for config.json's object. Raises UserError for what is unknown or not implemented."""
    model_type = raw.get("model_type")
    if model_type not in FAMILIES:
        raise UserError(
            "config.json: model_type {model_type} is not implemented; this reads {known}",
            model_type=model_type, known=", ".join(FAMILIES), hint="use a model of one of these families",
        )  # fmt: skip
    if raw.get("quantization_config") is not None:
        raise UserError(
            "config.json: weights quantised by {method} are not read",
            method=raw["quantization_config"].get("quant_method", "?"),
            hint="take the original model: soban quantises it itself (--dtype q8 or q4)",
        )
    family = importlib.import_module(f"soban.models.{FAMILIES[model_type]}")
    given = dict(raw)
    given.pop("quantization_config", None)
    if model_type == "mistral":
        given.setdefault("sliding_window", 4096)  # transformers' default; null means no window
    elif model_type == "llama":
        given.pop("sliding_window", None)  # transformers' class for it has no window
    else:
        given["compute_dtype"] = compute_dtype
    return Architecture(family, read_config(family.Config, given, family.NEUTRAL))
