"""The model families: one file each, found by the model_type of config.json."""

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from soban import ops
from soban.base.errors import UserError
from soban.models.config import read_config, standard
from soban.models.family import Family
from soban.models.plan import Plan
from soban.ops.recorder import LayerSlot, Program

MOST_LAYERS = 10_000  # far above any model; a config that says more would keep us counting
FAMILIES = {  # model_type -> file
    "llama": "llama", "mistral": "llama", "mistral3": "llama", "ministral3": "ministral3", "qwen2": "qwen2",
    "qwen3": "qwen3", "gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3", "gemma3": "gemma3",
    "smollm3": "smollm3", "phi3": "phi3", "granite": "granite", "hyperclovax": "hyperclovax", "exaone": "exaone",
    "exaone4": "exaone4", "olmo2": "olmo2", "stablelm": "stablelm", "gpt2": "gpt2", "gpt_neox": "gpt_neox",
    "gptj": "gptj", "phi": "phi", "bloom": "bloom", "gemma4_text": "gemma4", "gemma4": "gemma4", "bert": "bert",
    "roberta": "roberta", "xlm-roberta": "roberta", "lfm2": "lfm2", "qwen3_5_text": "qwen3_5", "qwen3_5": "qwen3_5",
    "modernbert": "modernbert",
}  # fmt: skip
# Of these, the ones with parts for images, too -> the model_type of their text_config, where it says none
TEXT_PARTS = {
    "gemma3": "gemma3_text", "gemma4": "gemma4_text", "mistral3": "mistral", "qwen3_5": "qwen3_5_text",
}  # fmt: skip
UNTIED = ("qwen3_5",)  # of those, the ones with a head of their own where the whole model's config is silent


@dataclass(frozen=True)
class Architecture:
    """A family and the config of one of its models; `absent`: what the config takes from the family's defaults.

    `text_only`: whether the model's files have other parts, of images say, which are left out.
    """

    family: Family
    config: Any
    absent: tuple[str, ...] = ()
    text_only: bool = False

    @property
    def encoder(self) -> bool:
        """Whether the model makes vectors and scores of texts, and writes none."""
        return self.family.encoder

    @functools.cached_property
    def plan(self) -> Plan:
        """The model's weights."""
        return self.family.plan(self.config)

    def record(self, weights: Any, longest: int = 0, *, hidden: bool = False) -> Program:
        """The whole model as a program: a batch's tokens in, logits (R, vocabulary) of the chosen tokens out.

        `longest`: tokens that a text may have; above the length that the model learnt from, some turn otherwise.
        `hidden`: what comes out are the hidden states (R, hidden) instead, of which the head makes logits. An encoder
        without a head gives no others.
        """
        program = Program()
        batch = program.batch()
        layers = [LayerSlot(i) for i in range(self.config.num_hidden_layers)]
        states = self.family.forward(self.config, weights, batch, layers, longest)
        outputs = ops.take_rows(states, batch.outputs)  # type: ignore[arg-type]
        hidden = hidden or (self.encoder and not self.config.labels)
        program.result = outputs if hidden else self.family.logits(self.config, weights, outputs)  # type: ignore[assignment]
        return program


def ties_embeddings(raw: Mapping[str, Any]) -> bool:
    """Whether a config.json says, or is silent and means, that a model writes by its embedding."""
    kind, default = raw.get("model_type"), False
    if isinstance(kind, str) and kind in FAMILIES:
        default = kind not in UNTIED if kind in TEXT_PARTS else _family(kind).config.tie_word_embeddings
    return bool(raw.get("tie_word_embeddings", default))


def is_encoder(raw: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a model that makes vectors and scores of texts, and writes none."""
    kind = raw.get("model_type")
    return isinstance(kind, str) and kind in FAMILIES and _family(kind).encoder


def _text_part(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys of the text part, where a config.json has those of others beside it."""
    if not isinstance(raw.get("model_type"), str) or raw["model_type"] not in TEXT_PARTS:
        return raw
    text = raw.get("text_config")
    if not isinstance(text, dict):
        raise UserError(
            "config.json: {model_type} without a text_config", model_type=raw["model_type"],
            hint="fetch config.json again",
        )  # fmt: skip
    own = raw["model_type"] in UNTIED
    tied = {"tie_word_embeddings": raw.get("tie_word_embeddings", not own)}  # which the whole model's class says
    return {"model_type": TEXT_PARTS[raw["model_type"]], **text, **tied}


def _family(model_type: str) -> Family:
    family: Family = importlib.import_module(f"soban.models.{FAMILIES[model_type]}").FAMILY
    return family


def architecture(
    raw: Mapping[str, Any], compute_dtype: str = "float32", rope_interleaved: bool = False, plain_norms: bool = False
) -> Architecture:
    """The family and config for config.json's object. Raises UserError for what is unknown or not implemented.

    compute_dtype, rope_interleaved and plain_norms are not the config's to say: see `models.decoder.Config`.
    """
    whole, raw = raw, _text_part(raw)
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise UserError(
            "config.json: model_type {model_type} is not implemented; this reads {known}",
            model_type=model_type, known=", ".join(FAMILIES), hint="use a model of one of these families",
        )  # fmt: skip
    family = _family(model_type)
    kind = family.model_types[model_type]
    values = standard(kind, raw, family.config)
    ours = {"compute_dtype": compute_dtype, "rope_interleaved": rope_interleaved, "plain_norms": plain_norms}
    fields = {field.name for field in dataclasses.fields(family.config)}
    values |= {key: value for key, value in ours.items() if key in fields}
    names = {ours: theirs for theirs, ours in kind.aliases.items() if theirs in raw}
    layers = values.get("num_hidden_layers")
    if type(layers) is int and layers > MOST_LAYERS:  # a config may list them as soon as it is made
        raise UserError(
            "config.json: num_hidden_layers={layers}; this reads up to {most}", layers=layers, most=MOST_LAYERS,
            hint="fetch config.json again",
        )  # fmt: skip
    config, absent = read_config(family.config, values, names)
    return Architecture(family, config, absent, text_only=whole is not raw)
