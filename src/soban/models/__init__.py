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

MOST_LAYERS = 10_000  # far above any model; a config that says more would keep us counting
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


def architecture(
    raw: Mapping[str, Any], compute_dtype: str = "float32", rope_interleaved: bool = False
) -> Architecture:
    """The family and config for config.json's object. Raises UserError for what is unknown or not implemented.

    compute_dtype and rope_interleaved are not the config's to say: see the families' `Config`.
    """
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise UserError(
            "config.json: model_type {model_type} is not implemented; this reads {known}",
            model_type=model_type, known=", ".join(FAMILIES), hint="use a model of one of these families",
        )  # fmt: skip
    if (quantised := raw.get("quantization_config")) is not None:
        raise UserError(
            "config.json: weights quantised by {method} are not read",
            method=quantised.get("quant_method", "?") if isinstance(quantised, dict) else quantised,
            hint="take the original model: soban quantises it itself (--dtype q8 or q4)",
        )
    layers = raw.get("num_hidden_layers")
    if type(layers) is int and layers > MOST_LAYERS:
        raise UserError(
            "config.json: num_hidden_layers={layers}; this reads up to {most}", layers=layers, most=MOST_LAYERS,
            hint="fetch config.json again",
        )  # fmt: skip
    family = importlib.import_module(f"soban.models.{FAMILIES[model_type]}")
    given = {key: value for key, value in raw.items() if key not in ("quantization_config", "rope_interleaved")}
    if model_type == "gemma2":
        given["compute_dtype"] = compute_dtype
        given.pop("hidden_act", None)  # transformers' class for it reads hidden_activation alone
    else:
        given["rope_interleaved"] = rope_interleaved
    if model_type == "mistral":
        given.setdefault("sliding_window", 4096)  # transformers' default; null means no window
    elif model_type == "llama":
        given.pop("sliding_window", None)  # transformers' class for it has no window
    return Architecture(family, read_config(family.Config, given, family.NEUTRAL))
