"""LFM2 and LFM2.5, the dense ones: short convolutions, and attention in some layers (Liquid AI 2025).

    x = embed(token)
    in each layer:
        x = x + mixed(norm(x))             attention, or out(c * convolution(b * y)), where (b, c, y) = in(norm(x))
        x = x + w2(silu(w1(norm(x))) * w3(norm(x)))
    logits = head(norm(x))

A convolution goes over the last few tokens, each column by itself: what it needs of those before is the state of a
text. Queries and keys are normed, each head by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from soban import ops
from soban.base.errors import UserError
from soban.models import decoder
from soban.models.config import FULL
from soban.models.family import Family, ModelType
from soban.models.plan import Layer, Pair, Part, Place, Plan, Weight
from soban.ops.cache import LayerGeometry
from soban.ops.schema import MOST_TAPS

CONV = "conv"


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys. intermediate_size is not yet the width of the feed-forward part, see `inner_size`."""

    vocab_size: int = 65536
    hidden_size: int = 2560
    intermediate_size: int = 12288
    num_hidden_layers: int = 32
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 128_000
    hidden_act: Literal["silu"] = "silu"
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    conv_bias: bool = False
    conv_L_cache: int = 3
    block_multiple_of: int = 256
    block_ffn_dim_multiplier: float = 1.0
    block_auto_adjust_ff_dim: bool = True
    full_attn_idxs: tuple[int | Literal[0], ...] | None = None
    layer_types: tuple[Literal["full_attention", "conv"], ...] | None = None

    def check(self) -> None:
        super().check()
        if self.conv_L_cache > MOST_TAPS:
            raise UserError(
                "config.json: {key}={value} is not implemented or not valid; this reads {expected}",
                key="conv_L_cache", value=self.conv_L_cache, expected=f"1 to {MOST_TAPS}",
                hint="use a model without it",
            )  # fmt: skip

    def usual_type(self, layer: int) -> str:
        return FULL if self.full_attn_idxs is None or layer in self.full_attn_idxs else CONV

    @property
    def inner_size(self) -> int:
        """The width of the feed-forward part: two thirds of what the key says, in whole blocks."""
        size = self.intermediate_size
        if not self.block_auto_adjust_ff_dim:
            return size
        size = int(self.block_ffn_dim_multiplier * int(2 * size / 3))
        return -(-size // self.block_multiple_of) * self.block_multiple_of

    @property
    def geometries(self) -> tuple[LayerGeometry, ...]:
        convolution = LayerGeometry(0, 0, state=(self.conv_L_cache - 1) * self.hidden_size)
        attention = LayerGeometry(self.kv_heads, self.head_size)
        return tuple(convolution if kind == CONV else attention for kind in self.types)


def plan(c: Config) -> Plan:
    at = Place(hf="model.", gguf="")
    ends = [
        at.vocabulary("embed", c.vocab_size, c.hidden_size, hf="embed_tokens", gguf="token_embd"),
        at.vector("norm", c.hidden_size, hf="embedding_norm", gguf="token_embd_norm"),
    ]
    if not c.tie_word_embeddings:
        ends.append(Place(hf="", gguf="").vocabulary("head", c.vocab_size, c.hidden_size, hf="lm_head", gguf="output"))
    return Plan(tuple(ends), tuple(_layer(c, i) for i in range(c.num_hidden_layers)))


def _layer(c: Config, i: int) -> Layer:
    at, d, f = Place(hf=f"model.layers.{i}.", gguf=f"blk.{i}."), c.hidden_size, c.inner_size
    first = at.vector("mixer_norm", d, hf="operator_norm", gguf="attn_norm")
    mixer = _convolution(c, i, at) if c.types[i] == CONV else _attention(c, at)
    second = at.vector("mlp_norm", d, hf="ffn_norm", gguf="ffn_norm")
    up = at.rows(f, d, hf="feed_forward.w3", gguf="ffn_up")
    mlp = at.matrix("gate_up", at.rows(f, d, hf="feed_forward.w1", gguf="ffn_gate"), up)
    down = at.matrix("down", at.rows(d, f, hf="feed_forward.w2", gguf="ffn_down"))
    pairs = (
        Pair(first.parts[0], mixer[0].parts), Pair(second.parts[0], mlp.parts), Pair(up.parts[0], down.parts),
    )  # fmt: skip
    return Layer((first, *mixer, second, mlp, down), pairs)


def _convolution(c: Config, i: int, at: Place) -> tuple[Weight, ...]:
    d, has = c.hidden_size, c.conv_bias
    # Hugging Face's has those of a column beside each other; here, those of a token
    taps = Part(
        f"model.layers.{i}.conv.conv.weight", (c.conv_L_cache, 1, d), {"gguf": f"blk.{i}.shortconv.conv.weight"},
        transposed=True,
    )  # fmt: skip
    bias = Part(f"model.layers.{i}.conv.conv.bias", (d,), {"gguf": f"blk.{i}.shortconv.conv.bias"})
    return (
        at.matrix("mix_in", at.rows(3 * d, d, bias=has, hf="conv.in_proj", gguf="shortconv.in_proj")),
        Weight("taps", "vector", (taps,), (bias,) if has else ()),
        at.matrix("mix_out", at.rows(d, d, bias=has, hf="conv.out_proj", gguf="shortconv.out_proj")),
    )


def _attention(c: Config, at: Place) -> tuple[Weight, ...]:
    d, q, kv = c.hidden_size, c.num_attention_heads * c.head_size, c.kv_heads * c.head_size
    qkv = at.matrix(
        "qkv",
        at.rows(q, d, hf="self_attn.q_proj", gguf="attn_q"),
        at.rows(kv, d, hf="self_attn.k_proj", gguf="attn_k"),
        at.rows(kv, d, hf="self_attn.v_proj", gguf="attn_v", precise=True),
    )
    return (
        qkv,
        at.vector("query_norm", c.head_size, hf="self_attn.q_layernorm", gguf="attn_q_norm"),
        at.vector("key_norm", c.head_size, hf="self_attn.k_layernorm", gguf="attn_k_norm"),
        at.matrix("output", at.rows(d, q, hf="self_attn.out_proj", gguf="attn_output")),
    )


def forward(c: Config, w: Any, batch: ops.Batch, cache: Sequence[Any], longest: int = 0) -> Any:
    """Hidden states (T, hidden) after the last norm, for the T tokens of `batch`, of texts of up to `longest`."""
    angles = ops.rotary(batch.positions, batch.rotation, c.rotation.table(longest), c.rotation.scale)
    x = ops.embed(batch.tokens, w.embed, 1.0)
    for kind, layer, layer_cache in zip(c.types, w.layers, cache, strict=True):
        h = norm(c, x, layer.mixer_norm)
        mixed = (
            convolution(c, layer, h, batch, layer_cache)
            if kind == CONV
            else attention(c, layer, h, angles, batch, layer_cache)
        )
        x = ops.add(x, mixed)
        h = ops.linear(norm(c, x, layer.mlp_norm), layer.gate_up, batch)
        x = ops.add(x, ops.linear(ops.glu(h, "silu"), layer.down, batch))
    return norm(c, x, w.norm)


def norm(c: Config, x: Any, weight: Any) -> Any:
    return ops.rms_norm(x, weight, c.rms_norm_eps)


def convolution(c: Config, layer: Any, h: Any, batch: ops.Batch, cache: Any) -> Any:
    """(T, hidden) -> (T, hidden)."""
    d = c.hidden_size
    mixed = ops.linear(h, layer.mix_in, batch)
    inner = ops.glu(mixed[:, :d], "identity", mixed[:, 2 * d :])
    taps, bias = layer.taps if c.conv_bias else (layer.taps, None)
    inner = ops.convolution(inner, taps, bias, batch, cache)
    return ops.linear(ops.glu(mixed[:, d : 2 * d], "identity", inner), layer.mix_out, batch)


def attention(c: Config, layer: Any, h: Any, angles: Any, batch: ops.Batch, cache: Any) -> Any:
    """(T, hidden) -> (T, hidden)."""
    q, kv = c.num_attention_heads * c.head_size, c.kv_heads * c.head_size
    qkv = ops.linear(h, layer.qkv, batch)
    queries = ops.rope(ops.head_norm(qkv[:, :q], layer.query_norm, c.rms_norm_eps), angles)
    keys = ops.rope(ops.head_norm(qkv[:, q : q + kv], layer.key_norm, c.rms_norm_eps), angles)
    mixed = ops.attention(queries, keys, qkv[:, q + kv :], batch, cache, c.head_size**-0.5)
    return ops.linear(mixed, layer.output, batch)


ALIASES = {"norm_eps": "rms_norm_eps", "tie_embedding": "tie_word_embeddings", "block_ff_dim": "intermediate_size"}
# Files have them; the class in transformers does not look at them
UNREAD = ("hidden_act", "sliding_window", "block_dim", "block_mlp_init_scale", "block_norm_eps", "block_out_init_scale",
          "block_use_swiglu", "block_use_xavier_init", "conv_dim", "conv_dim_out", "conv_use_xavier_init", "num_heads",
          "theta", "use_pos_enc")  # fmt: skip
FAMILY = Family(
    "lfm2",
    {"lfm2": ModelType(aliases=ALIASES, unread=UNREAD, defaults={"rope_theta": 1_000_000.0})},
    Config,
    plan,
    forward,
)
