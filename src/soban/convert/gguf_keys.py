"""A model's config as the keys of a GGUF file, with the tensors that stand for some of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.models import Architecture
from soban.models.config import activation
from soban.models.rope import Rotation
from soban.ops.formats import Floats
from soban.weights.gguf.architectures import FREQUENCIES


@dataclass(frozen=True)
class Told:
    """An architecture's name, its keys without that name, and small float32 tensors."""

    architecture: str
    keys: dict[str, Any]
    tensors: dict[str, Floats] = field(default_factory=dict)


def facts_of(path: Path, architecture: Architecture) -> Told:
    """What a GGUF file says of a model. Raises UserError for what has no place in one."""
    if (name := architecture.family.name) not in FAMILIES:
        raise UserError(
            "{path}: models of the family {family} are not written as GGUF files; these are: {known}", path=path,
            family=name, known=", ".join(FAMILIES), hint="keep it as a Hugging Face folder",
        )  # fmt: skip
    return FAMILIES[name](path, architecture.config)


def _refused(path: Path, key: str, value: object) -> UserError:
    return UserError(
        "{path}: {key}={value} has no place in a GGUF file: llama.cpp computes otherwise", path=path, key=key,
        value=quoted(value), hint="keep it as a Hugging Face folder: soban and transformers run it as it is",
    )  # fmt: skip


def _check(path: Path, **facts: tuple[Any, Any]) -> None:
    """Raises UserError for the first key whose value is not the one that llama.cpp has in its code."""
    for key, (value, fixed) in facts.items():
        if value != fixed:
            raise _refused(path, key, value)


def _sizes(c: Any) -> dict[str, Any]:
    return {
        "vocab_size": c.vocab_size, "context_length": c.max_position_embeddings, "embedding_length": c.hidden_size,
        "block_count": c.num_hidden_layers, "feed_forward_length": c.intermediate_size or 4 * c.hidden_size,
        "attention.head_count": c.num_attention_heads, "attention.head_count_kv": c.kv_heads,
    }  # fmt: skip


def _rotary(c: Any) -> dict[str, Any]:
    return _sizes(c) | {
        "attention.key_length": c.head_size, "attention.value_length": c.head_size,
        "rope.dimension_count": c.head_size, "attention.layer_norm_rms_epsilon": c.rms_norm_eps,
        "rope.freq_base": c.rotation.theta,
    }  # fmt: skip


def _scaling(path: Path, rotation: Rotation) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Keys for the ways of stretching that have some; the frequencies' divisors for those that have a table alone."""
    kind = rotation.kind
    if kind == "default":
        return {}, {}
    if kind == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": rotation.number("factor")}, {}
    if kind == "yarn":
        odd = {"attention_factor", "mscale", "mscale_all_dim"} & rotation.parameters.keys()
        if odd or rotation.parameters.get("truncate", True) is not True:
            raise _refused(path, "rope_scaling", dict(rotation.parameters))
        keys = {
            "rope.scaling.type": "yarn", "rope.scaling.factor": rotation.factor,
            "rope.scaling.original_context_length": int(rotation.number("original_max_position_embeddings")),
            "rope.scaling.yarn_beta_fast": rotation.number("beta_fast", 32.0),
            "rope.scaling.yarn_beta_slow": rotation.number("beta_slow", 1.0),
        }  # fmt: skip
        return keys, {}
    table = rotation.table(0)
    if kind == "dynamic" or rotation.scale != 1 or not (table == table[0]).all() or not table.all():
        raise _refused(path, "rope_scaling", kind)
    plain = Rotation(rotation.size, rotation.context, {"rope_type": "default", "rope_theta": rotation.theta})
    return {}, {FREQUENCIES: (plain.frequencies(1) / table[0]).astype(np.float32)}


def _llama(path: Path, c: Any) -> Told:
    window = next((w for w in c.windows if w and w < c.max_position_embeddings), None)
    _check(path, hidden_act=(activation("hidden_act", c.hidden_act), "silu"), sliding_window=(window, None))
    keys, tensors = _scaling(path, c.rotation)
    return Told("llama", _rotary(c) | keys, tensors)


def _gemma2(path: Path, c: Any) -> Told:
    # No key has the scale of the queries: llama.cpp takes the head's size, but with 46 layers, as the 27B has them.
    scalar = c.hidden_size // c.num_attention_heads if c.num_hidden_layers == 46 else c.head_size
    usual = (c.usual_types * c.num_hidden_layers)[: c.num_hidden_layers]
    _check(
        path, query_pre_attn_scalar=(c.query_pre_attn_scalar, scalar), rope_scaling=(c.rotation.kind, "default"),
        hidden_activation=(activation("hidden_activation", c.hidden_activation), "gelu_tanh"),
        layer_types=(tuple(c.layer_types or usual), usual), attention_bias=(c.attention_bias, False),
    )  # fmt: skip
    caps = {"attn_logit_softcapping": c.attn_logit_softcapping, "final_logit_softcapping": c.final_logit_softcapping}
    for key, value in {**caps, "sliding_window": c.sliding_window}.items():
        if value is None:  # a missing key means a number
            raise _refused(path, key, value)
    return Told("gemma2", _rotary(c) | caps | {"attention.sliding_window": c.sliding_window})


def _gpt2(path: Path, c: Any) -> Told:
    _check(
        path, activation_function=(activation("activation_function", c.activation_function), "gelu_tanh"),
        scale_attn_weights=(c.scale_attn_weights, True),
        scale_attn_by_inverse_layer_idx=(c.scale_attn_by_inverse_layer_idx, False),
    )  # fmt: skip
    return Told("gpt2", _sizes(c) | {"attention.layer_norm_epsilon": c.layer_norm_epsilon})


FAMILIES: dict[str, Callable[[Path, Any], Told]] = {"llama": _llama, "gemma2": _gemma2, "gpt2": _gpt2}
