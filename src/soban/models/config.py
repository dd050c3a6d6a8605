"""Reading config.json into a family's dataclass: every key is used, known to be harmless, or refused by name.

What is right and what a missing key means is for transformers' configuration classes to say (5.23), since they are
what models are published for: tests/models/test_config_keys.py holds each key against them.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from soban import messages
from soban.base.errors import UserError
from soban.base.files import quoted
from soban.messages import translate
from soban.models.rope import rope_parameters

Config = TypeVar("Config")

# Keys that change nothing in what the model computes: labels, training settings, switches of other programs.
HARMLESS_WORDS = """
architectures model_type transformers_version torch_dtype dtype _name_or_path name_or_path _attn_implementation
initializer_range use_cache attention_dropout bos_token_id eos_token_id pad_token_id cache_implementation
id2label label2id num_labels return_dict output_attentions output_hidden_states torchscript auto_map tokenizer_class
is_encoder_decoder is_decoder problem_type chunk_size_feed_forward unsloth_version unsloth_fixed _from_model_config
is_llama_config transformers.js_config max_sequence_length sliding_window_size _sliding_window_pattern
attn_implementation pretraining_tp quantization_config rope_interleaved text_config
rope_scaling rope_theta partial_rotary_factor original_max_position_embeddings use_bidirectional_attention
"""
HARMLESS = frozenset(HARMLESS_WORDS.split())
# Keys that transformers reads and soban does not, with the values that have no effect.
NEUTRAL: dict[str, tuple[Any, ...]] = {"per_layer_config": (None, {}), "is_causal": (True,)}
# What a model_type's class in transformers assumes where a key is missing, and our family's Config does not.
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {
        "intermediate_size": 14336, "num_key_value_heads": 8, "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "gemma2": {},
}  # fmt: skip
# What a class never looks at, though another of the same family does, or files have it: to it, such a key says nothing.
UNREAD = {"llama": ("sliding_window", "layer_types"), "mistral": ("attention_bias", "mlp_bias"),
          "gemma2": ("hidden_act",)}  # fmt: skip
FULL_AND_SLIDING = ("full_attention", "sliding_attention")
# Names by which transformers calls a function of which there is an op (ACT2FN).
ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh", "gelu_python_tanh": "gelu_tanh", "gelu_accurate": "gelu_tanh",
}  # fmt: skip


def standard(model_type: str, raw: Mapping[str, Any], cls: type[Any]) -> dict[str, Any]:
    """config.json's object as a family's Config has it: one key for each thing, without what is read nowhere."""
    given = {key: value for key, value in raw.items() if key not in UNREAD[model_type] and key != "rope_interleaved"}
    given = {**DEFAULTS[model_type], **given}
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    context = given.get("max_position_embeddings", defaults["max_position_embeddings"])
    nested = FULL_AND_SLIDING if model_type == "gemma2" or "layer_types" in given else ()
    given["rope_parameters"] = rope_parameters(raw, context, nested)
    return given


def read_config(cls: type[Config], raw: Mapping[str, Any]) -> tuple[Config, tuple[str, ...]]:
    """The config of a family from `standard`'s object, and the names of the sizes that it does not give.

    A value of the wrong type raises UserError, as does one below 1 where a size is meant.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in raw.items():
        if key in fields:
            values[key] = _checked(key, value, hints[key])
        elif key in NEUTRAL:
            if not any(type(value) is type(good) and value == good for good in NEUTRAL[key]):
                raise UserError(
                    "config.json: {key}={value} is not implemented",
                    key=key, value=quoted(value), hint="use a model without it, or an engine that has it",
                )  # fmt: skip
        elif key not in HARMLESS:
            messages.warn("config.json: unknown key {key} is ignored", key=key)
    return cls(**values), tuple(name for name, hint in hints.items() if hint is int and name not in raw)


def activation(key: str, name: str) -> str:
    """The op's name for a function by any of its names. Raises UserError for another function."""
    if name not in ACTIVATIONS:
        raise UserError(
            "config.json: {key}={value} is not implemented or not valid; this reads {expected}",
            key=key, value=name, expected=" | ".join(ACTIVATIONS), hint="use a model without it",
        )  # fmt: skip
    return ACTIVATIONS[name]


def _checked(key: str, value: Any, hint: Any) -> Any:
    """The value, if it is of the type that the field declares; an int is also a float, a list also a tuple."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    for option in options:
        origin = typing.get_origin(option)
        if origin is typing.Literal:
            if value in typing.get_args(option):
                return value
        elif option is float and type(value) in (int, float) and 0 < value < 1e30:
            return float(value)
        elif option is int and type(value) is int and 0 < value < 2**31:
            return value
        elif option in (bool, str, type(None)) and type(value) is option:
            return value
        elif origin is tuple and isinstance(value, list):
            return tuple(_checked(key, item, typing.get_args(option)[0]) for item in value)
        elif origin is dict and isinstance(value, dict):
            return value
    raise UserError(
        "config.json: {key}={value} is not implemented or not valid; this reads {expected}",
        key=key, value=value, expected=_expected(options), hint="use a model without it",
    )  # fmt: skip


def _expected(options: tuple[Any, ...]) -> str:
    names = {
        bool: translate("true or false"), int: translate("a positive integer"), float: translate("a number above 0"),
        type(None): "null", tuple: translate("a list"), dict: translate("an object in braces"),
        str: translate("a name"),
    }  # fmt: skip
    return " | ".join(
        " | ".join(map(str, typing.get_args(option)))
        if (origin := typing.get_origin(option)) is typing.Literal
        else names.get(origin or option, str(option))
        for option in options
    )


def check_layer_types(types: Sequence[str] | None, layers: int) -> None:
    """As many types as layers, or none at all."""
    if types is not None and len(types) != layers:
        raise UserError(
            "config.json: {types} layer_types for {layers} layers", types=len(types), layers=layers,
            hint="fetch config.json again",
        )  # fmt: skip


def check_heads(heads: int, kv_heads: int, size: int) -> None:
    """Query heads are shared out evenly over key heads, and their size is even, since rotary positions turn pairs."""
    if heads % kv_heads or size % 2:
        raise UserError(
            "config.json: {heads} attention heads of {size} over {kv_heads} key-value heads do not divide evenly",
            heads=heads, size=size, kv_heads=kv_heads, hint="fetch config.json again",
        )  # fmt: skip
