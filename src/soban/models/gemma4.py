"""Gemma 4, what it has of text: E2B, E4B and the dense larger ones (Gemma Team 2026).

    x = embed(token) * sqrt(hidden_size)
    own = (norm(projection(x) / sqrt(hidden_size)) + table(token) * sqrt(width)) / sqrt(2)    for each layer its part
    in each layer:
        x = x + norm(attention(norm(x)))
        x = x + norm(down(gelu(gate(norm(x))) * up(norm(x))))
        x = x + norm(out(gelu(in(x)) * own part))
        x = x * the layer's number
    logits = final_cap * tanh(head(norm(x)) / final_cap)

A norm is x / rms(x) * weight. Queries and keys are normed head by head, and values, without a weight; scores have no
scale. Five layers with a window stand before one without, whose heads are wider and of whose pairs a quarter turns. The
last layers have no keys and values of their own: they look at those of the last layer of their kind that has, and their
feed-forward part may be twice as wide.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from soban import ops
from soban.base.errors import UserError
from soban.models.config import FULL, SLIDING, RotaryDecoder, activation
from soban.models.family import Family, ModelType
from soban.models.plan import Layer, Pair, Part, Place, Plan, Weight
from soban.models.rope import Rotation, invalid, layer_parameters
from soban.ops.cache import LayerGeometry
from soban.ops.formats import bf16_bits, bf16_values


@dataclass(frozen=True)
class Config(RotaryDecoder):
    """config.json's keys, and one of ours: compute_dtype, to which the embeddings' scale is rounded."""

    rope_parameters: dict[str, Any]
    vocab_size: int = 262144
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 30
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    global_head_dim: int = 512
    num_global_key_value_heads: int | None = None
    per_layer_config: dict[str, Any] | None = None
    max_position_embeddings: int = 131072
    hidden_activation: str = "gelu_pytorch_tanh"
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    attention_bias: Literal[False] = False
    sliding_window: int = 512
    layer_types: tuple[Literal["sliding_attention", "full_attention"], ...] | None = None
    final_logit_softcapping: float | None = None
    use_bidirectional_attention: Literal["vision"] | None = None  # without effect on text
    vocab_size_per_layer_input: int = 262144
    hidden_size_per_layer_input: int | Literal[0] = 256
    attention_k_eq_v: bool = False
    num_kv_shared_layers: int | Literal[0] = 0
    enable_moe_block: Literal[False] = False
    use_double_wide_mlp: bool = False
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        activation("hidden_activation", self.hidden_activation)
        self.check()
        own = self.types[: self.own_layers]
        if set(own) != set(self.types):
            raise UserError(
                "config.json: {shared} of {layers} layers share keys and values with none of their kind",
                shared=self.num_kv_shared_layers, layers=self.num_hidden_layers, hint="fetch config.json again",
            )  # fmt: skip
        for layer, about in (self.per_layer_config or {}).items():
            if not isinstance(about, dict) or not about.keys() <= {"head_dim", "num_key_value_heads"}:
                raise UserError(
                    "config.json: {key}={value} is not implemented", key=f"per_layer_config.{layer}", value=about,
                    hint="use a model without it, or an engine that has it",
                )  # fmt: skip

    @property
    def own_layers(self) -> int:
        """How many layers, the first ones, have keys and values of their own."""
        return self.num_hidden_layers - self.num_kv_shared_layers

    @functools.cached_property
    def types(self) -> tuple[str, ...]:
        """The last layer always sees everything."""
        usual = tuple(SLIDING if (i + 1) % 6 else FULL for i in range(self.num_hidden_layers))
        return (*(self.layer_types or usual)[:-1], FULL)

    def slices(self, layers: int) -> dict[str, Any]:
        """Those that share are the last ones."""
        return {**super().slices(layers), "num_kv_shared_layers": max(0, layers - self.own_layers)}

    def head(self, layer: int) -> tuple[int, int]:
        """The width of a layer's heads, and how many of them are of keys and values."""
        if self.per_layer_config is not None:
            own = self.per_layer_config.get(str(layer), {})
            return own.get("head_dim", self.head_dim), own.get("num_key_value_heads", self.num_key_value_heads)
        if self.types[layer] == SLIDING:
            return self.head_dim, self.num_key_value_heads
        fewer = self.num_global_key_value_heads if self.attention_k_eq_v else None
        return self.global_head_dim, fewer or self.num_key_value_heads

    @functools.cached_property
    def sources(self) -> tuple[int | None, ...]:
        """The layer at whose keys and values each one looks that has none; None: at its own."""
        last = {kind: i for i, kind in enumerate(self.types[: self.own_layers])}
        return tuple(None if i < self.own_layers else last[kind] for i, kind in enumerate(self.types))

    @property
    def geometries(self) -> tuple[LayerGeometry, ...]:
        layers = range(self.num_hidden_layers)
        return tuple(LayerGeometry(self.head(i)[1], self.head(i)[0], self.sources[i]) for i in layers)

    @functools.cached_property
    def rotations(self) -> tuple[Rotation, ...]:
        """That of the layers without a window, and that of the others."""
        sizes = {kind: self.head(self.types.index(kind))[0] for kind in self.types}
        return tuple(
            Rotation(sizes.get(kind, self.head_dim), self.max_position_embeddings, self.rope_parameters[kind])
            for kind in (FULL, SLIDING)
        )

    @property
    def longest(self) -> int:
        return self.max_position_embeddings

    @property
    def inner(self) -> int:
        """The width of what each layer gets of a token besides; 0: nothing."""
        return self.hidden_size_per_layer_input

    def root(self, size: int) -> float:
        scale = np.array([size**0.5], np.float32)
        rounded = bf16_values(bf16_bits(scale)) if self.compute_dtype == "bfloat16" else scale
        return float(rounded[0])


def positions(raw: Mapping[str, Any], context: int) -> dict[str, Any]:
    """The rotary parameters of both types of layers; these models have no older keys for them."""
    parameters = raw.get("rope_parameters")
    if parameters is None:
        parameters = {
            SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
            FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0},
        }
    if not isinstance(parameters, dict) or not all(isinstance(parameters.get(kind), dict) for kind in (FULL, SLIDING)):
        raise invalid("rope_parameters", parameters)
    return {kind: layer_parameters(parameters[kind], None, context) for kind in (FULL, SLIDING)}


def plan(c: Config) -> Plan:
    d, wide = c.hidden_size, c.inner * c.num_hidden_layers
    at = Place(hf="", gguf="")
    ends = [
        at.vocabulary("embed", c.vocab_size, d, False, hf="model.embed_tokens", gguf="token_embd"),
        at.vector("norm", d, hf="model.norm", gguf="output_norm"),
    ]
    if c.inner:
        table = at.rows(
            c.vocab_size_per_layer_input, wide, hf="model.embed_tokens_per_layer", gguf="per_layer_token_embd"
        )
        projection = at.rows(wide, d, hf="model.per_layer_model_projection", gguf="per_layer_model_proj", precise=True)
        ends += [
            at.matrix("own_table", table),
            at.matrix("own_projection", projection),
            at.vector("own_norm", c.inner, hf="model.per_layer_projection_norm", gguf="per_layer_proj_norm"),
        ]
    if not c.tie_word_embeddings:
        ends.append(at.vocabulary("head", c.vocab_size, d, False, hf="lm_head", gguf="output"))
    layers = tuple(_layer(c, i) for i in range(c.num_hidden_layers))
    left = (f"layers.{i}.self_attn.{part}.weight" for i in range(c.own_layers, c.num_hidden_layers) for part in NOT_OWN)
    return Plan(tuple(ends), layers, computed=(".rotary_emb.inv_freq", *left))


NOT_OWN = ("k_proj", "v_proj", "k_norm", "v_norm")  # which files have for layers that do not use them


def _layer(c: Config, i: int) -> Layer:
    at, d, own = Place(hf=f"model.layers.{i}.", gguf=f"blk.{i}."), c.hidden_size, c.sources[i] is None
    size, heads = c.head(i)
    f = c.intermediate_size * (2 if c.use_double_wide_mlp and not own else 1)
    q, kv = c.num_attention_heads * size, heads * size
    first = at.vector("attention_norm", d, hf="input_layernorm", gguf="attn_norm")
    rows = [at.rows(q, d, hf="self_attn.q_proj", gguf="attn_q")]
    norms = [at.vector("query_norm", size, hf="self_attn.q_norm", gguf="attn_q_norm")]
    if own:
        same = _same(c, i)
        rows.append(at.rows(kv, d, hf="self_attn.k_proj", gguf="attn_k", precise=same))
        rows += [] if same else [at.rows(kv, d, hf="self_attn.v_proj", gguf="attn_v", precise=True)]
        norms.append(at.vector("key_norm", size, hf="self_attn.k_norm", gguf="attn_k_norm"))
    qkv = at.matrix("qkv", *rows)
    second = at.vector("mlp_norm", d, hf="pre_feedforward_layernorm", gguf="ffn_norm")
    up = at.rows(f, d, hf="mlp.up_proj", gguf="ffn_up")
    mlp = at.matrix("gate_up", at.rows(f, d, hf="mlp.gate_proj", gguf="ffn_gate"), up)
    down = at.matrix("down", at.rows(d, f, hf="mlp.down_proj", gguf="ffn_down"))
    weights = [
        first, qkv, *norms, at.matrix("output", at.rows(d, q, hf="self_attn.o_proj", gguf="attn_output")),
        at.vector("output_norm", d, hf="post_attention_layernorm", gguf="post_attention_norm"),
        second, mlp, down, at.vector("down_norm", d, hf="post_feedforward_layernorm", gguf="post_ffw_norm"),
    ]  # fmt: skip
    if c.inner:
        weights += [
            at.matrix("own_in", at.rows(c.inner, d, hf="per_layer_input_gate", gguf="inp_gate")),
            at.matrix("own_out", at.rows(d, c.inner, hf="per_layer_projection", gguf="proj")),
            at.vector("own_out_norm", d, hf="post_per_layer_input_norm", gguf="post_norm"),
        ]
    number = Part(f"model.layers.{i}.layer_scalar", (1,), {"gguf": f"blk.{i}.layer_output_scale.weight"})
    weights.append(Weight("number", "vector", (number,)))
    pairs = (Pair(first.parts[0], qkv.parts), Pair(second.parts[0], mlp.parts), Pair(up.parts[0], down.parts))
    return Layer(tuple(weights), pairs)


def _same(c: Config, layer: int) -> bool:
    """Whether a layer's keys, before they are normed and turned, are its values, too."""
    return c.attention_k_eq_v and c.types[layer] == FULL


def norm(c: Config, x: Any, weight: Any) -> Any:
    return ops.rms_norm(x, weight, c.rms_norm_eps)


def forward(c: Config, w: Any, batch: ops.Batch, cache: Sequence[Any], longest: int = 0) -> Any:
    """Hidden states (T, hidden) after the last norm, for the T tokens of `batch`, of texts of up to `longest`."""
    turns = {
        kind: ops.rotary(batch.positions, batch.rotation, rotation.table(longest), rotation.scale)
        for kind, rotation in zip((FULL, SLIDING), c.rotations, strict=True)
        if kind in c.types
    }
    gelu = activation("hidden_activation", c.hidden_activation)
    x = ops.embed(batch.tokens, w.embed, c.root(c.hidden_size))
    own = per_layer(c, w, x, batch) if c.inner else None
    for i, (layer, layer_cache, window) in enumerate(zip(w.layers, cache, c.windows, strict=True)):
        mixed = attention(c, i, layer, norm(c, x, layer.attention_norm), turns[c.types[i]], batch, layer_cache, window)
        x = ops.add(x, norm(c, mixed, layer.output_norm))
        h = ops.linear(norm(c, x, layer.mlp_norm), layer.gate_up, batch)
        x = ops.add(x, norm(c, ops.linear(ops.glu(h, gelu), layer.down, batch), layer.down_norm))
        if own is not None:
            part = own[:, i * c.inner : (i + 1) * c.inner]
            h = ops.linear(ops.glu(ops.linear(x, layer.own_in, batch), gelu, part), layer.own_out, batch)
            x = ops.add(x, norm(c, h, layer.own_out_norm))
        x = ops.scale(x, float(layer.number[0]))
    return norm(c, x, w.norm)


def per_layer(c: Config, w: Any, x: Any, batch: ops.Batch) -> Any:
    """(T, hidden) -> (T, layers * inner): what each layer gets of a token besides."""
    projected = ops.scale(ops.linear(x, w.own_projection), c.hidden_size**-0.5)
    table = ops.embed(batch.tokens, w.own_table, c.root(c.inner))
    return ops.scale(ops.add(ops.head_norm(projected, w.own_norm, c.rms_norm_eps), table), 2**-0.5)


def attention(
    c: Config, i: int, layer: Any, h: Any, angles: Any, batch: ops.Batch, cache: Any, window: int | None
) -> Any:
    """(T, hidden) -> (T, hidden)."""
    size, heads = c.head(i)
    q, kv = c.num_attention_heads * size, heads * size
    qkv = ops.linear(h, layer.qkv, batch)
    queries = ops.rope(ops.head_norm(qkv[:, :q], layer.query_norm, c.rms_norm_eps), angles)
    keys = values = None
    if c.sources[i] is None:
        raw = qkv[:, q : q + kv]
        keys = ops.rope(ops.head_norm(raw, layer.key_norm, c.rms_norm_eps), angles)
        raw = raw if _same(c, i) else qkv[:, q + kv :]
        values = ops.head_norm(raw, np.ones(size, np.float32), c.rms_norm_eps)
    mixed = ops.attention(queries, keys, values, batch, cache, scale=1.0, window=window)
    return ops.linear(mixed, layer.output, batch)


def logits(c: Config, w: Any, x: Any) -> Any:
    """Hidden states (R, hidden) -> a score for each entry of the vocabulary (R, vocabulary)."""
    scores = ops.scores(x, w.head)
    return scores if c.final_logit_softcapping is None else ops.softcap(scores, c.final_logit_softcapping)


FAMILY = Family("gemma4", {"gemma4_text": ModelType(positions=positions)}, Config, plan, forward, logits)
