"""Reading config.json into a family's dataclass: every key is used, known to be harmless, or refused by name."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from soban import messages
from soban.errors import UserError
from soban.messages import translate

Config = TypeVar("Config")

# Keys that change nothing in what the model computes: labels, training settings, switches of other programs.
HARMLESS_WORDS = """
architectures model_type transformers_version torch_dtype dtype _name_or_path _attn_implementation
initializer_range use_cache attention_dropout bos_token_id eos_token_id pad_token_id cache_implementation
id2label label2id return_dict output_attentions output_hidden_states torchscript auto_map tokenizer_class
is_encoder_decoder problem_type chunk_size_feed_forward unsloth_version unsloth_fixed _from_model_config
is_llama_config transformers.js_config max_sequence_length sliding_window_size _sliding_window_pattern
attn_implementation pretraining_tp quantization_config
"""
HARMLESS = frozenset(HARMLESS_WORDS.split())


def read_config(cls: type[Config], raw: Mapping[str, Any], neutral: Mapping[str, Any]) -> Config:
    """The config of a family from config.json's object.

    `neutral` names keys that transformers reads and soban does not, with the value that has no effect: any other
    value raises UserError, as does a value of the wrong type or below 1 where a size is meant.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in raw.items():
        if key in fields:
            values[key] = _checked(key, value, hints[key])
        elif key in neutral:
            if value not in (None, neutral[key]):
                raise UserError(
                    "config.json: {key}={value} is not implemented",
                    key=key, value=value, hint="use a model without it, or an engine that has it",
                )  # fmt: skip
        elif key not in HARMLESS:
            messages.warn("config.json: unknown key {key} is ignored", key=key)
    missing = [n for n, f in fields.items() if n not in values and f.default is dataclasses.MISSING]
    if missing:
        raise UserError(
            "config.json: {keys} missing", keys=", ".join(missing), hint="fetch the model's files again"
        )  # fmt: skip
    return cls(**values)


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
        elif option in (bool, type(None)) and type(value) is option:
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
    }  # fmt: skip
    return " | ".join(
        " | ".join(map(str, typing.get_args(option)))
        if (origin := typing.get_origin(option)) is typing.Literal
        else names.get(origin or option, str(option))
        for option in options
    )


def check_heads(heads: int, kv_heads: int, size: int) -> None:
    """Query heads are shared out evenly over key heads, and their size is even, since rotary positions turn pairs."""
    if heads % kv_heads or size % 2:
        raise UserError(
            "config.json: {heads} attention heads of {size} over {kv_heads} key-value heads do not divide evenly",
            heads=heads, size=size, kv_heads=kv_heads, hint="fetch config.json again",
        )  # fmt: skip
