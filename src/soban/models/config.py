"""Reading config.json into a family's dataclass: every key is used, known to be harmless, or refused by name.

What is right and what a missing key means is for transformers' configuration classes to say (5.23), since they are
what models are published for: tests/models/test_config_keys.py holds each key against them.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeVar

from soban import messages
from soban.base.errors import UserError
from soban.base.files import quoted
from soban.messages import translate
from soban.models.family import ModelType
from soban.models.rope import Rotation, rope_parameters
from soban.ops.cache import LayerGeometry

Config = TypeVar("Config")
USUAL_LABELS = 2  # where a config.json has neither names nor a number of labels

# Keys that change nothing in what the model computes: labels, training settings, switches of other programs.
HARMLESS_WORDS = """
architectures model_type transformers_version torch_dtype dtype _name_or_path name_or_path _attn_implementation
initializer_range use_cache attention_dropout bos_token_id eos_token_id pad_token_id cache_implementation
id2label label2id num_labels return_dict output_attentions output_hidden_states torchscript auto_map tokenizer_class
is_encoder_decoder is_decoder problem_type chunk_size_feed_forward unsloth_version unsloth_fixed _from_model_config
is_llama_config transformers.js_config max_sequence_length sliding_window_size _sliding_window_pattern
attn_implementation pretraining_tp quantization_config rope_interleaved text_config
attn_pdrop embd_pdrop resid_pdrop hidden_dropout classifier_dropout summary_type summary_use_proj summary_activation
summary_proj_to_labels summary_first_dropout rope_scaling rope_theta partial_rotary_factor
original_max_position_embeddings use_bidirectional_attention
"""
HARMLESS = frozenset(HARMLESS_WORDS.split())
# Keys that transformers reads and soban does not, with the values that have no effect.
NEUTRAL: dict[str, tuple[Any, ...]] = {"per_layer_config": (None, {}), "is_causal": (True,)}
FULL, SLIDING = "full_attention", "sliding_attention"
LayerTypes = tuple[Literal["sliding_attention", "full_attention", "attention"], ...] | None
# Names by which transformers calls a function of which there is an op (ACT2FN).
ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh", "gelu_python_tanh": "gelu_tanh", "gelu_accurate": "gelu_tanh", "gelu": "gelu",
    "gelu_python": "gelu", "quick_gelu": "quick_gelu", "relu": "relu",
}  # fmt: skip


class Decoder:
    """The sizes of a decoder, for a family's Config, whose fields are config.json's keys. This one has no rotation."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int

    def check_heads(self, unit: int = 1, whole: bool = False) -> None:
        """Raises UserError for heads that are not shared out evenly, or whose size is no multiple of the unit.

        `whole`: together they have to be as wide as the model.
        """
        odd = whole and self.hidden_size % self.num_attention_heads
        if odd or self.num_attention_heads % self.kv_heads or self.head_size % unit or not self.head_size:
            raise UserError(
                "config.json: {heads} attention heads of {size} over {kv_heads} key-value heads do not divide evenly",
                heads=self.num_attention_heads, size=self.head_size, kv_heads=self.kv_heads,
                hint="fetch config.json again",
            )  # fmt: skip

    @property
    def kv_heads(self) -> int:
        return self.num_attention_heads

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def geometries(self) -> tuple[LayerGeometry, ...]:
        """What each layer keeps of a position."""
        return (LayerGeometry(self.kv_heads, self.head_size),) * self.num_hidden_layers

    @property
    def longest(self) -> int:
        """Tokens that a text may have."""
        return self.max_position_embeddings

    def row(self, length: int, before: int | None = None) -> int:
        """Which rotation a text of `length` tokens has, see `Rotation.row`; there is just one."""
        return 0

    def slices(self, layers: int) -> dict[str, Any]:
        """The keys of the same model with only the first so many layers."""
        changed: dict[str, Any] = {"num_hidden_layers": layers}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, tuple) and len(value) >= self.num_hidden_layers:  # an entry for each layer
                changed[field.name] = value[:layers]
        return changed


class Encoder(Decoder):
    """The sizes of an encoder, which sees a text as a whole: its layers keep nothing, and share one place for keys."""

    architectures: tuple[str, ...] | None
    id2label: dict[str, Any] | None
    num_labels: int | None

    @property
    def labels(self) -> int:
        """How many scores the model gives a text; 0: it gives vectors alone."""
        if not self.architectures or not self.architectures[0].endswith("ForSequenceClassification"):
            return 0
        return len(self.id2label) if self.id2label else self.num_labels or USUAL_LABELS

    @property
    def geometries(self) -> tuple[LayerGeometry, ...]:
        own = LayerGeometry(self.kv_heads, self.head_size)
        return (own, *[dataclasses.replace(own, shared_with=0)] * (self.num_hidden_layers - 1))


class RotaryDecoder(Decoder):
    """One with rotary positions, and perhaps fewer heads for keys and values, and windows."""

    num_key_value_heads: int | None
    head_dim: int | None
    rope_parameters: dict[str, Any]
    sliding_window: int | None = None
    use_sliding_window = True  # a key of some, by which it is on
    layer_types: tuple[Any, ...] | None = None
    usual_types: ClassVar[tuple[str, ...]] = (SLIDING,)  # of the layers in turn, where the config is silent

    def check(self) -> None:
        """Raises UserError for what does not go together."""
        self.check_heads(unit=2)  # rotary positions turn pairs
        for rotation in self.rotations:
            rotation.check()
        if self.layer_types is not None and len(self.layer_types) != self.num_hidden_layers:
            raise UserError(
                "config.json: {types} layer_types for {layers} layers", types=len(self.layer_types),
                layers=self.num_hidden_layers, hint="fetch config.json again",
            )  # fmt: skip

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        return self.head_dim or super().head_size

    @functools.cached_property
    def rotations(self) -> tuple[Rotation, ...]:
        """Each way in which some layer's heads turn."""
        return (Rotation(self.head_size, self.max_position_embeddings, self.rope_parameters),)

    @functools.cached_property  # asked for at each token
    def rotation(self) -> Rotation:
        """The one that goes by the text's length, or the first."""
        return next((one for one in self.rotations if one.varies), self.rotations[0])

    @property
    def longest(self) -> int:
        return self.rotation.limit

    def row(self, length: int, before: int | None = None) -> int:
        return self.rotation.row(length, before)

    @property
    def window(self) -> int | None:
        """How far those layers look back that have a window."""
        return self.sliding_window if self.use_sliding_window else None

    def usual_type(self, layer: int) -> str:
        """A layer's type where the config is silent."""
        return self.usual_types[layer % len(self.usual_types)]

    @property
    def types(self) -> tuple[str, ...]:
        """The type of each layer."""
        return self.layer_types or tuple(self.usual_type(layer) for layer in range(self.num_hidden_layers))

    @property
    def windows(self) -> tuple[int | None, ...]:
        """How far each layer looks back; None: to the beginning."""
        return tuple(self.window if kind == SLIDING else None for kind in self.types)


def standard(model_type: ModelType, raw: Mapping[str, Any], cls: type[Any]) -> dict[str, Any]:
    """config.json's object as a family's Config has it: one key for each thing, without what is read nowhere."""
    usual = {**raw, **{ours: raw[theirs] for theirs, ours in model_type.aliases.items() if theirs in raw}}
    unread = {*model_type.unread, *model_type.aliases, "rope_interleaved"}
    values = {**model_type.defaults, **{key: value for key, value in usual.items() if key not in unread}}
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    if "rope_parameters" in defaults:
        context = values.get("max_position_embeddings", defaults["max_position_embeddings"])
        nested = (FULL, SLIDING) if model_type.nested or "layer_types" in values else ()
        about = {**model_type.defaults, **raw}
        read = model_type.positions or (lambda raw, context: rope_parameters(raw, context, nested))
        values["rope_parameters"] = read(about, context)
    return values


def read_config(
    cls: type[Config], raw: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> tuple[Config, tuple[str, ...]]:
    """The config of a family from `standard`'s object, and the names of the sizes that it does not give.

    `names`: what a key is called in the file where that is another name.

    A value of the wrong type raises UserError, as does one below 1 where a size is meant.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in raw.items():
        if key in fields:
            values[key] = _checked((names or {}).get(key, key), value, hints[key])
        elif key in NEUTRAL:
            if not any(type(value) is type(good) and value == good for good in NEUTRAL[key]):
                raise UserError(
                    "config.json: {key}={value} is not implemented",
                    key=key, value=quoted(value), hint="use a model without it, or an engine that has it",
                )  # fmt: skip
        elif key not in HARMLESS:
            messages.warn("config.json: unknown key {key} is ignored", key=key)
    return cls(**values), tuple(name for name in fields if hints[name] is int and name not in raw)


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
            if any(type(value) is type(literal) and value == literal for literal in typing.get_args(option)):
                return value
        elif option is float and type(value) in (int, float) and 1e-30 <= value < 1e30:
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
