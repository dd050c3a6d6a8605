"""Llama 1 to 3.2, Mistral, SmolLM, and llama2.c's models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from soban import ops
from soban.models.config import activation, check_heads, check_layer_types
from soban.models.rope import Rotation

NORM_OFFSET = 0.0  # what is added to a norm's weight


@dataclass(frozen=True)
class Config:
    """config.json's keys, and one of ours: rope_interleaved, for llama2.c's files, which turn neighbouring pairs."""

    rope_parameters: dict[str, Any]
    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    max_position_embeddings: int = 2048
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = None
    layer_types: tuple[Literal["sliding_attention", "full_attention", "attention"], ...] | None = None
    rope_interleaved: bool = False

    def __post_init__(self) -> None:
        check_heads(self.num_attention_heads, self.kv_heads, self.head_size)
        activation("hidden_act", self.hidden_act)
        self.rotation.check()
        check_layer_types(self.layer_types, self.num_hidden_layers)

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Each layer's window; without types all have the same."""
        types = ("sliding_attention",) * self.num_hidden_layers if self.layer_types is None else self.layer_types
        return tuple(self.sliding_window if kind == "sliding_attention" else None for kind in types)

    @property
    def rotation(self) -> Rotation:
        return Rotation(self.head_size, self.max_position_embeddings, self.rope_parameters)

    @property
    def longest(self) -> int:
        """Tokens that a text may have."""
        return self.rotation.limit


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
        "ffn_norm": {"post_attention_layernorm.weight": (d,)},
        "gate_up": {"mlp.gate_proj.weight": (f, d), "mlp.up_proj.weight": (f, d)},
        "down": {"mlp.down_proj.weight": (d, f)},
    }
    biased = {"qkv": c.attention_bias, "output": c.attention_bias, "gate_up": c.mlp_bias, "down": c.mlp_bias}
    for name in (name for name, has in biased.items() if has):
        table[name] |= {key.replace(".weight", ".bias"): shape[:1] for key, shape in table[name].items()}
    return table


def forward(c: Config, w: Any, batch: ops.Batch, cache: Sequence[Any], longest: int = 0) -> Any:
    """Hidden states (T, hidden) after the last norm, for the T tokens of `batch`, of texts of up to `longest`."""
    angles = ops.rotary(batch.positions, batch.rotation, c.rotation.table(longest), c.rotation.scale)
    x = ops.embed(batch.tokens, w.embed, 1.0)
    for layer, layer_cache, window in zip(w.layers, cache, c.windows, strict=True):
        x = ops.add(x, attention(c, layer, x, angles, batch, layer_cache, window))
        h = ops.linear(ops.rms_norm(x, layer.ffn_norm, c.rms_norm_eps), layer.gate_up)
        x = ops.add(x, ops.linear(ops.glu(h, activation("hidden_act", c.hidden_act)), layer.down))
    return ops.rms_norm(x, w.norm, c.rms_norm_eps)


def attention(c: Config, layer: Any, x: Any, angles: Any, batch: ops.Batch, cache: Any, window: int | None) -> Any:
    """What attention adds to the residual stream (T, hidden)."""
    q, kv = c.num_attention_heads * c.head_size, c.kv_heads * c.head_size
    qkv = ops.linear(ops.rms_norm(x, layer.attention_norm, c.rms_norm_eps), layer.qkv)
    queries = ops.rope(qkv[:, :q], angles, c.rope_interleaved)
    keys = ops.rope(qkv[:, q : q + kv], angles, c.rope_interleaved)
    values = qkv[:, q + kv :]
    mixed = ops.attention(queries, keys, values, batch, cache, scale=c.head_size**-0.5, window=window)
    return ops.linear(mixed, layer.output)


def logits(c: Config, w: Any, x: Any) -> Any:
    """Hidden states (R, hidden) -> a score for each entry of the vocabulary (R, vocabulary)."""
    return ops.scores(x, w.head)
