"""Gemma 2: 2B, 9B and 27B (Gemma Team 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from soban import ops
from soban.models.config import RotaryDecoder, activation
from soban.models.family import Family, ModelType
from soban.models.plan import Layer, Pair, Place, Plan
from soban.ops.formats import bf16_bits, bf16_values

NORM_OFFSET = 1.0  # what is added to a norm's weight


@dataclass(frozen=True)
class Config(RotaryDecoder):
    """config.json's keys, and one of ours: compute_dtype, to which the embeddings' scale is rounded."""

    rope_parameters: dict[str, Any]
    vocab_size: int = 256000
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    max_position_embeddings: int = 8192
    hidden_activation: str = "gelu_pytorch_tanh"
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    query_pre_attn_scalar: float = 256.0
    attn_logit_softcapping: float | None = 50.0
    final_logit_softcapping: float | None = 30.0
    sliding_window: int | None = 4096
    layer_types: tuple[Literal["sliding_attention", "full_attention", "attention"], ...] | None = None
    use_bidirectional_attention: bool | None = None  # read, and without effect where a text is written
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    usual_types: ClassVar = ("sliding_attention", "full_attention")

    def __post_init__(self) -> None:
        activation("hidden_activation", self.hidden_activation)
        self.check()

    @property
    def embedding_scale(self) -> float:
        scale = np.array([self.hidden_size**0.5], np.float32)
        return float((bf16_values(bf16_bits(scale)) if self.compute_dtype == "bfloat16" else scale)[0])


def plan(c: Config) -> Plan:
    d, f = c.hidden_size, c.intermediate_size
    q, kv = c.num_attention_heads * c.head_size, c.kv_heads * c.head_size
    at = Place(hf="", gguf="")
    embed = at.vocabulary("embed", c.vocab_size, d, hf="model.embed_tokens", gguf="token_embd")
    norm = at.vector("norm", d, hf="model.norm", gguf="output_norm")
    head = at.vocabulary("head", c.vocab_size, d, hf="lm_head", gguf="output")
    layers = []
    for i in range(c.num_hidden_layers):
        at, has = Place(hf=f"model.layers.{i}.", gguf=f"blk.{i}."), c.attention_bias
        first = at.vector("attention_norm", d, hf="input_layernorm", gguf="attn_norm")
        qkv = at.matrix(
            "qkv",
            at.rows(q, d, bias=has, hf="self_attn.q_proj", gguf="attn_q"),
            at.rows(kv, d, bias=has, hf="self_attn.k_proj", gguf="attn_k"),
            at.rows(kv, d, bias=has, hf="self_attn.v_proj", gguf="attn_v", precise=True),
        )
        output = at.matrix("output", at.rows(d, q, bias=has, hf="self_attn.o_proj", gguf="attn_output"))
        after = at.vector("output_norm", d, hf="post_attention_layernorm", gguf="post_attention_norm")
        second = at.vector("mlp_norm", d, hf="pre_feedforward_layernorm", gguf="ffn_norm")
        up = at.rows(f, d, hf="mlp.up_proj", gguf="ffn_up")
        mlp = at.matrix("gate_up", at.rows(f, d, hf="mlp.gate_proj", gguf="ffn_gate"), up)
        down = at.matrix("down", at.rows(d, f, hf="mlp.down_proj", gguf="ffn_down"))
        last = at.vector("down_norm", d, hf="post_feedforward_layernorm", gguf="post_ffw_norm")
        pairs = (
            Pair(first.parts[0], qkv.parts, offset=NORM_OFFSET),
            Pair(second.parts[0], mlp.parts, offset=NORM_OFFSET),
            Pair(up.parts[0], down.parts),
        )
        layers.append(Layer((first, qkv, output, after, second, mlp, down, last), pairs))
    return Plan((embed, norm) if c.tie_word_embeddings else (embed, norm, head), tuple(layers))


def norm(c: Config, x: Any, weight: Any) -> Any:
    return ops.rms_norm(x, weight, c.rms_norm_eps, offset=NORM_OFFSET)


def forward(c: Config, w: Any, batch: ops.Batch, cache: Sequence[Any], longest: int = 0) -> Any:
    """Hidden states (T, hidden) after the last norm, for the T tokens of `batch`, of texts of up to `longest`."""
    angles = ops.rotary(batch.positions, batch.rotation, c.rotation.table(longest), c.rotation.scale)
    gate = activation("hidden_activation", c.hidden_activation)
    x = ops.embed(batch.tokens, w.embed, c.embedding_scale)
    for layer, layer_cache, window in zip(w.layers, cache, c.windows, strict=True):
        x = ops.add(x, attention(c, layer, x, angles, batch, layer_cache, window))
        h = ops.linear(norm(c, x, layer.mlp_norm), layer.gate_up, batch)
        x = ops.add(x, norm(c, ops.linear(ops.glu(h, gate), layer.down, batch), layer.down_norm))
    return norm(c, x, w.norm)


def attention(c: Config, layer: Any, x: Any, angles: Any, batch: ops.Batch, cache: Any, window: int | None) -> Any:
    """What attention adds to the residual stream (T, hidden)."""
    q, kv = c.num_attention_heads * c.head_size, c.kv_heads * c.head_size
    qkv = ops.linear(norm(c, x, layer.attention_norm), layer.qkv, batch)
    queries = ops.rope(qkv[:, :q], angles)
    keys = ops.rope(qkv[:, q : q + kv], angles)
    mixed = ops.attention(
        queries, keys, qkv[:, q + kv :], batch, cache,
        scale=c.query_pre_attn_scalar**-0.5, softcap=c.attn_logit_softcapping, window=window,
    )  # fmt: skip
    return norm(c, ops.linear(mixed, layer.output, batch), layer.output_norm)


def logits(c: Config, w: Any, x: Any) -> Any:
    """Hidden states (R, hidden) -> a score for each entry of the vocabulary (R, vocabulary)."""
    scores = ops.scores(x, w.head)
    return scores if c.final_logit_softcapping is None else ops.softcap(scores, c.final_logit_softcapping)


FAMILY = Family(
    name="gemma2", model_types={"gemma2": ModelType(unread=("hidden_act",), nested=True)},
    config=Config, plan=plan, forward=forward, logits=logits,
)  # fmt: skip
