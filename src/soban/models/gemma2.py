"""Gemma 2: 2B, 9B and 27B (Gemma Team 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from soban import ops
from soban.models.config import activation, check_heads, check_layer_types
from soban.models.rope import Rotation
from soban.ops.formats import bf16_bits, bf16_values

NORM_OFFSET = 1.0  # what is added to a norm's weight


@dataclass(frozen=True)
class Config:
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
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        check_heads(self.num_attention_heads, self.kv_heads, self.head_size)
        activation("hidden_activation", self.hidden_activation)
        self.rotation.check()
        check_layer_types(self.layer_types, self.num_hidden_layers)

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads

    @property
    def head_size(self) -> int:
        return self.head_dim

    @property
    def rotation(self) -> Rotation:
        return Rotation(self.head_size, self.max_position_embeddings, self.rope_parameters)

    @property
    def longest(self) -> int:
        """Tokens that a text may have."""
        return self.rotation.limit

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Each layer's window; where the config is silent, every other layer has one, the first among them."""
        usual = ("sliding_attention", "full_attention") * self.num_hidden_layers
        types = usual[: self.num_hidden_layers] if self.layer_types is None else self.layer_types
        return tuple(self.sliding_window if kind == "sliding_attention" else None for kind in types)

    @property
    def embedding_scale(self) -> float:
        scale = np.array([self.hidden_size**0.5], np.float32)
        return float((bf16_values(bf16_bits(scale)) if self.compute_dtype == "bfloat16" else scale)[0])


def tensors(c: Config) -> dict[str, dict[str, tuple[int, ...]]]:
    """A layer's weights: our name -> the checkpoint's names and shapes, stacked one below the other."""
    d, f = c.hidden_size, c.intermediate_size
    q, kv = c.num_attention_heads * c.head_size, c.kv_heads * c.head_size
    table: dict[str, dict[str, tuple[int, ...]]] = {
        "attention_norm": {"input_layernorm.weight": (d,)},
        "qkv": {
            "self_attn.q_proj.weight": (q, d),
            "self_attn.k_proj.weight": (kv, d),
            "self_attn.v_proj.weight": (kv, d),
        },
        "output": {"self_attn.o_proj.weight": (d, q)},
        "output_norm": {"post_attention_layernorm.weight": (d,)},
        "ffn_norm": {"pre_feedforward_layernorm.weight": (d,)},
        "gate_up": {"mlp.gate_proj.weight": (f, d), "mlp.up_proj.weight": (f, d)},
        "down": {"mlp.down_proj.weight": (d, f)},
        "down_norm": {"post_feedforward_layernorm.weight": (d,)},
    }
    for name in ("qkv", "output") if c.attention_bias else ():
        table[name] |= {key.replace(".weight", ".bias"): shape[:1] for key, shape in table[name].items()}
    return table


def norm(c: Config, x: Any, weight: Any) -> Any:
    return ops.rms_norm(x, weight, c.rms_norm_eps, offset=NORM_OFFSET)


def forward(c: Config, w: Any, batch: ops.Batch, cache: Sequence[Any], longest: int = 0) -> Any:
    """Hidden states (T, hidden) after the last norm, for the T tokens of `batch`, of texts of up to `longest`."""
    angles = ops.rotary(batch.positions, batch.rotation, c.rotation.table(longest), c.rotation.scale)
    gate = activation("hidden_activation", c.hidden_activation)
    x = ops.embed(batch.tokens, w.embed, c.embedding_scale)
    for layer, layer_cache, window in zip(w.layers, cache, c.windows, strict=True):
        x = ops.add(x, attention(c, layer, x, angles, batch, layer_cache, window))
        h = ops.linear(norm(c, x, layer.ffn_norm), layer.gate_up)
        x = ops.add(x, norm(c, ops.linear(ops.glu(h, gate), layer.down), layer.down_norm))
    return norm(c, x, w.norm)


def attention(c: Config, layer: Any, x: Any, angles: Any, batch: ops.Batch, cache: Any, window: int | None) -> Any:
    """What attention adds to the residual stream (T, hidden)."""
    q, kv = c.num_attention_heads * c.head_size, c.kv_heads * c.head_size
    qkv = ops.linear(norm(c, x, layer.attention_norm), layer.qkv)
    queries = ops.rope(qkv[:, :q], angles)
    keys = ops.rope(qkv[:, q : q + kv], angles)
    mixed = ops.attention(
        queries, keys, qkv[:, q + kv :], batch, cache,
        scale=c.query_pre_attn_scalar**-0.5, softcap=c.attn_logit_softcapping, window=window,
    )  # fmt: skip
    return norm(c, ops.linear(mixed, layer.output), layer.output_norm)


def logits(c: Config, w: Any, x: Any) -> Any:
    """Hidden states (R, hidden) -> a score for each entry of the vocabulary (R, vocabulary)."""
    scores = ops.scores(x, w.head)
    return scores if c.final_logit_softcapping is None else ops.softcap(scores, c.final_logit_softcapping)
