"""Llama 1 to 3.2, Mistral, SmolLM, and llama2.c's models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from soban import ops
from soban.models.config import RotaryDecoder, activation
from soban.models.family import Family, ModelType
from soban.models.plan import Layer, Pair, Place, Plan


@dataclass(frozen=True)
class Config(RotaryDecoder):
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
        activation("hidden_act", self.hidden_act)
        self.check()


def plan(c: Config) -> Plan:
    d, f = c.hidden_size, c.intermediate_size
    q, kv = c.num_attention_heads * c.head_size, c.kv_heads * c.head_size
    at = Place(hf="", gguf="", llama2c="")
    embed = at.vocabulary(
        "embed", c.vocab_size, d, hf="model.embed_tokens", gguf="token_embd", llama2c="tok_embeddings"
    )
    norm = at.vector("norm", d, hf="model.norm", gguf="output_norm", llama2c="norm")
    head = at.vocabulary("head", c.vocab_size, d, hf="lm_head", gguf="output", llama2c="output")
    layers = []
    for i in range(c.num_hidden_layers):
        at = Place(hf=f"model.layers.{i}.", gguf=f"blk.{i}.", llama2c=f"layers.{i}.")
        first = at.vector("attention_norm", d, hf="input_layernorm", gguf="attn_norm", llama2c="attention_norm")
        second = at.vector("mlp_norm", d, hf="post_attention_layernorm", gguf="ffn_norm", llama2c="ffn_norm")
        has = c.attention_bias
        qkv = at.matrix(
            "qkv",
            at.rows(q, d, bias=has, hf="self_attn.q_proj", gguf="attn_q", llama2c="attention.wq"),
            at.rows(kv, d, bias=has, hf="self_attn.k_proj", gguf="attn_k", llama2c="attention.wk"),
            at.rows(kv, d, bias=has, hf="self_attn.v_proj", gguf="attn_v", llama2c="attention.wv", precise=True),
        )
        output = at.matrix(
            "output", at.rows(d, q, bias=has, hf="self_attn.o_proj", gguf="attn_output", llama2c="attention.wo")
        )
        has = c.mlp_bias
        gate = at.rows(f, d, bias=has, hf="mlp.gate_proj", gguf="ffn_gate", llama2c="feed_forward.w1")
        up = at.rows(f, d, bias=has, hf="mlp.up_proj", gguf="ffn_up", llama2c="feed_forward.w3")
        down = at.rows(d, f, bias=has, hf="mlp.down_proj", gguf="ffn_down", llama2c="feed_forward.w2")
        mlp = at.matrix("gate_up", gate, up)
        pairs = (
            Pair(first.parts[0], qkv.parts),
            Pair(second.parts[0], mlp.parts),
            Pair(up.parts[0], down.parts, bias=up.biases[0] if has else None),
        )
        layers.append(Layer((first, qkv, output, second, mlp, at.matrix("down", down)), pairs))
    return Plan((embed, norm) if c.tie_word_embeddings else (embed, norm, head), tuple(layers))


def forward(c: Config, w: Any, batch: ops.Batch, cache: Sequence[Any], longest: int = 0) -> Any:
    """Hidden states (T, hidden) after the last norm, for the T tokens of `batch`, of texts of up to `longest`."""
    angles = ops.rotary(batch.positions, batch.rotation, c.rotation.table(longest), c.rotation.scale)
    x = ops.embed(batch.tokens, w.embed, 1.0)
    for layer, layer_cache, window in zip(w.layers, cache, c.windows, strict=True):
        x = ops.add(x, attention(c, layer, x, angles, batch, layer_cache, window))
        h = ops.linear(ops.rms_norm(x, layer.mlp_norm, c.rms_norm_eps), layer.gate_up, batch)
        x = ops.add(x, ops.linear(ops.glu(h, activation("hidden_act", c.hidden_act)), layer.down, batch))
    return ops.rms_norm(x, w.norm, c.rms_norm_eps)


def attention(c: Config, layer: Any, x: Any, angles: Any, batch: ops.Batch, cache: Any, window: int | None) -> Any:
    """What attention adds to the residual stream (T, hidden)."""
    q, kv = c.num_attention_heads * c.head_size, c.kv_heads * c.head_size
    qkv = ops.linear(ops.rms_norm(x, layer.attention_norm, c.rms_norm_eps), layer.qkv, batch)
    queries = ops.rope(qkv[:, :q], angles, c.rope_interleaved)
    keys = ops.rope(qkv[:, q : q + kv], angles, c.rope_interleaved)
    values = qkv[:, q + kv :]
    mixed = ops.attention(queries, keys, values, batch, cache, scale=c.head_size**-0.5, window=window)
    return ops.linear(mixed, layer.output, batch)


MISTRAL = {
    "intermediate_size": 14336, "num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096,
}  # fmt: skip
FAMILY = Family(
    name="llama",
    model_types={
        "llama": ModelType(unread=("sliding_window", "layer_types")),
        "mistral": ModelType(defaults=MISTRAL, unread=("attention_bias", "mlp_bias")),
    },
    config=Config, plan=plan, forward=forward,
)  # fmt: skip
