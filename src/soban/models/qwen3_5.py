"""Qwen 3.5, what it has of text: the gated delta rule in most layers, attention in every fourth (Qwen Team 2026).

    x = embed(token)
    in each layer:
        x = x + mixed(norm(x))
        x = x + down(silu(gate(norm(x))) * up(norm(x)))
    logits = head(norm(x))

A norm is x / rms(x) * (1 + weight). Attention is Qwen 3's, of whose heads a quarter turns, and what it finds is
multiplied by sigmoid(a further projection of norm(x)). The other layers carry a memory through the text (Yang et al.
2024):

    queries, keys, values = silu(convolution(projection(norm(x)))), over the last four tokens, each column by itself
    found = delta_rule(queries and keys of length 1, values), by how much each head forgets and learns at this token
    mixed = out(found / rms(found) * weight * silu(gate(norm(x))))
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from soban import ops
from soban.base.errors import UserError
from soban.models import decoder
from soban.models.config import FULL, activation
from soban.models.family import Family, ModelType
from soban.models.plan import Layer, Pair, Part, Place, Plan, Weight
from soban.models.rope import Rotation
from soban.ops.cache import LayerGeometry
from soban.ops.schema import MOST_TAPS

LINEAR = "linear_attention"
LENGTH_EPS = 1e-6  # in the root of queries' and keys' lengths


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys, and one of ours: linear_heads_tiled, which the reader of GGUF files sets where a head of keys
    serves values' heads that lie apart, and not some that follow one another.
    """

    vocab_size: int = 248320
    intermediate_size: int = 12288
    num_attention_heads: int = 16
    num_key_value_heads: int = 4
    head_dim: int = 256
    max_position_embeddings: int = 32768
    attention_bias: bool = False
    linear_conv_kernel_dim: int = 4
    linear_key_head_dim: int = 128
    linear_value_head_dim: int = 128
    linear_num_key_heads: int = 16
    linear_num_value_heads: int = 32
    linear_heads_tiled: bool = False
    full_attention_interval: int = 4
    layer_types: tuple[Literal["linear_attention", "full_attention"], ...] | None = None

    def check(self) -> None:
        super().check()
        if self.linear_num_value_heads % self.linear_num_key_heads:
            raise UserError(
                "config.json: {heads} heads of values over {key_heads} of keys do not divide evenly",
                heads=self.linear_num_value_heads, key_heads=self.linear_num_key_heads,
                hint="fetch config.json again",
            )  # fmt: skip
        if self.linear_conv_kernel_dim > MOST_TAPS:
            raise UserError(
                "config.json: {key}={value} is not implemented or not valid; this reads {expected}",
                key="linear_conv_kernel_dim", value=self.linear_conv_kernel_dim, expected=f"1 to {MOST_TAPS}",
                hint="use a model without it",
            )  # fmt: skip

    def usual_type(self, layer: int) -> str:
        return LINEAR if (layer + 1) % self.full_attention_interval else FULL

    @functools.cached_property
    def rotations(self) -> tuple[Rotation, ...]:
        """A part of each head turns."""
        return (Rotation(self.head_size, self.max_position_embeddings, self.rope_parameters, partial=True),)

    @property
    def keys(self) -> int:
        """The width of a memory's keys, and of its queries."""
        return self.linear_num_key_heads * self.linear_key_head_dim

    @property
    def values(self) -> int:
        return self.linear_num_value_heads * self.linear_value_head_dim

    @property
    def inputs(self) -> int:
        """Numbers that a memory's convolution keeps of the tokens before."""
        return (self.linear_conv_kernel_dim - 1) * (2 * self.keys + self.values)

    @property
    def geometries(self) -> tuple[LayerGeometry, ...]:
        memory = LayerGeometry(0, 0, state=self.inputs + self.values * self.linear_key_head_dim)
        attention = LayerGeometry(self.kv_heads, self.head_size)
        return tuple(memory if kind == LINEAR else attention for kind in self.types)


def plan(c: Config) -> Plan:
    at = Place(hf="model.", gguf="")
    ends = [
        at.vocabulary("embed", c.vocab_size, c.hidden_size, hf="embed_tokens", gguf="token_embd"),
        at.vector("norm", c.hidden_size, hf="norm", gguf="output_norm"),
    ]
    if not c.tie_word_embeddings:
        ends.append(Place(hf="", gguf="").vocabulary("head", c.vocab_size, c.hidden_size, hf="lm_head", gguf="output"))
    return Plan(tuple(ends), tuple(_layer(c, i) for i in range(c.num_hidden_layers)))


def _layer(c: Config, i: int) -> Layer:
    at, d, f = Place(hf=f"model.layers.{i}.", gguf=f"blk.{i}."), c.hidden_size, c.intermediate_size
    first = at.vector("mixer_norm", d, hf="input_layernorm", gguf="attn_norm")
    mixer = _memory(c, i, at) if c.types[i] == LINEAR else _attention(c, at)
    second = at.vector("mlp_norm", d, hf="post_attention_layernorm", gguf="post_attention_norm")
    up = at.rows(f, d, hf="mlp.up_proj", gguf="ffn_up")
    mlp = at.matrix("gate_up", at.rows(f, d, hf="mlp.gate_proj", gguf="ffn_gate"), up)
    down = at.matrix("down", at.rows(d, f, hf="mlp.down_proj", gguf="ffn_down"))
    pairs = (
        Pair(first.parts[0], mixer[0].parts, offset=c.norm_offset),
        Pair(second.parts[0], mlp.parts, offset=c.norm_offset), Pair(up.parts[0], down.parts),
    )  # fmt: skip
    return Layer((first, *mixer, second, mlp, down), pairs)


def _memory(c: Config, i: int, at: Place) -> tuple[Weight, ...]:
    d, heads, width = c.hidden_size, c.linear_num_value_heads, 2 * c.keys + c.values
    hf, gguf = f"model.layers.{i}.linear_attn.", f"blk.{i}.ssm_"
    # Hugging Face's has those of a column beside each other; here, those of a token
    shape = (c.linear_conv_kernel_dim, 1, width)
    taps = Part(f"{hf}conv1d.weight", shape, {"gguf": f"{gguf}conv1d.weight"}, transposed=True)
    return (
        at.matrix(
            "mix_in",
            at.rows(width, d, hf="linear_attn.in_proj_qkv", gguf="attn_qkv"),
            at.rows(c.values, d, hf="linear_attn.in_proj_z", gguf="attn_gate"),
            at.rows(heads, d, hf="linear_attn.in_proj_b", gguf="ssm_beta", precise=True),
            at.rows(heads, d, hf="linear_attn.in_proj_a", gguf="ssm_alpha", precise=True),
        ),
        Weight("taps", "vector", (taps,)),
        Weight("decay", "vector", (Part(f"{hf}A_log", (heads,), {"gguf": f"{gguf}a"}),)),
        Weight("decay_bias", "vector", (Part(f"{hf}dt_bias", (heads,), {"gguf": f"{gguf}dt.bias"}),)),
        at.vector("value_norm", c.linear_value_head_dim, hf="linear_attn.norm", gguf="ssm_norm"),
        at.matrix("mix_out", at.rows(d, c.values, hf="linear_attn.out_proj", gguf="ssm_out")),
    )


def _attention(c: Config, at: Place) -> tuple[Weight, ...]:
    d, q, kv, has = c.hidden_size, c.num_attention_heads * c.head_size, c.kv_heads * c.head_size, c.attention_bias
    # The rows of a head's query are followed by those of its gate; here the parts are neighbours, as adapters want it
    both: dict[str, Any] = {
        "wholes": {"hf": "self_attn.q_proj", "gguf": "attn_q"}, "heads": c.num_attention_heads,
        "by_head": ("hf", "gguf"), "bias": has,
    }  # fmt: skip
    qkv = at.matrix(
        "qkv",
        at.rows(q, d, hf="self_attn.q_proj.query", **both),
        at.rows(q, d, hf="self_attn.q_proj.gate", first=q, **both),
        at.rows(kv, d, bias=has, hf="self_attn.k_proj", gguf="attn_k"),
        at.rows(kv, d, bias=has, hf="self_attn.v_proj", gguf="attn_v", precise=True),
    )
    return (
        qkv,
        at.vector("query_norm", c.head_size, hf="self_attn.q_norm", gguf="attn_q_norm"),
        at.vector("key_norm", c.head_size, hf="self_attn.k_norm", gguf="attn_k_norm"),
        at.matrix("output", at.rows(d, q, bias=has, hf="self_attn.o_proj", gguf="attn_output")),
    )


def forward(c: Config, w: Any, batch: ops.Batch, cache: Sequence[Any], longest: int = 0) -> Any:
    """Hidden states (T, hidden) after the last norm, for the T tokens of `batch`, of texts of up to `longest`."""
    angles = ops.rotary(batch.positions, batch.rotation, c.rotation.table(longest), c.rotation.scale)
    function = activation("hidden_act", c.hidden_act)
    x = ops.embed(batch.tokens, w.embed, 1.0)
    for kind, layer, layer_cache in zip(c.types, w.layers, cache, strict=True):
        h = norm(c, x, layer.mixer_norm)
        mixed = (
            memory(c, layer, h, function, batch, layer_cache)
            if kind == LINEAR
            else attention(c, layer, h, angles, batch, layer_cache)
        )
        x = ops.add(x, mixed)
        h = ops.linear(norm(c, x, layer.mlp_norm), layer.gate_up, batch)
        x = ops.add(x, ops.linear(ops.glu(h, function), layer.down, batch))
    return norm(c, x, w.norm)


def norm(c: Config, x: Any, weight: Any) -> Any:
    return ops.rms_norm(x, weight, c.rms_norm_eps, c.norm_offset)


def memory(c: Config, layer: Any, h: Any, function: str, batch: ops.Batch, cache: Any) -> Any:
    """(T, hidden) -> (T, hidden)."""
    size, inputs = c.linear_key_head_dim, 2 * c.keys + c.values
    projected = ops.linear(h, layer.mix_in, batch)
    mixed = ops.activation(ops.convolution(projected[:, :inputs], layer.taps, None, batch, cache), function)
    # x / sqrt(sum of squares + eps), by a norm that takes their mean
    length = np.full(size, size**-0.5, np.float32)
    keys = ops.head_norm(mixed[:, : 2 * c.keys], length, LENGTH_EPS / size)
    found = ops.delta_rule(
        keys, mixed[:, 2 * c.keys :], projected[:, inputs + c.values :], batch, cache, -np.exp(layer.decay),
        layer.decay_bias, c.linear_num_key_heads, c.inputs, size**-0.5, c.linear_heads_tiled,
    )  # fmt: skip
    found = ops.head_norm(found, layer.value_norm, c.rms_norm_eps)
    gate = projected[:, inputs : inputs + c.values]
    return ops.linear(ops.glu(gate, "silu", found), layer.mix_out, batch)


def attention(c: Config, layer: Any, h: Any, angles: Any, batch: ops.Batch, cache: Any) -> Any:
    """(T, hidden) -> (T, hidden)."""
    q, kv = c.num_attention_heads * c.head_size, c.kv_heads * c.head_size
    projected = ops.linear(h, layer.qkv, batch)
    gate, values = projected[:, q : 2 * q], projected[:, 2 * q + kv :]
    queries = ops.head_norm(projected[:, :q], layer.query_norm, c.rms_norm_eps, c.norm_offset)
    keys = ops.head_norm(projected[:, 2 * q : 2 * q + kv], layer.key_norm, c.rms_norm_eps, c.norm_offset)
    queries, keys = (ops.rope(x, angles, False, c.head_size) for x in (queries, keys))
    mixed = ops.attention(queries, keys, values, batch, cache, c.head_size**-0.5)
    return ops.linear(ops.glu(gate, "sigmoid", mixed), layer.output, batch)


# Files have them; the class in transformers does not look at them
UNREAD = ("sliding_window", "attn_output_gate", "mamba_ssm_dtype", "mlp_only_layers", "mtp_num_hidden_layers",
          "mtp_use_dedicated_embeddings")  # fmt: skip
MODEL_TYPE = ModelType(unread=UNREAD, defaults={"partial_rotary_factor": 0.25})
FAMILY = Family("qwen3_5", {"qwen3_5_text": MODEL_TYPE}, Config, plan, forward)
