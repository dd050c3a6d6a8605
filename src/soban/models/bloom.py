"""BLOOM: 560M to 7.1B (BigScience 2022).

    x = norm(embed(token))
    in each layer:
        x = x + attention(norm(x))
        x = x + down(gelu(up(norm(x))))

The norms are LayerNorms. No head turns: a score is less by the head's slope for each position between (ALiBi).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from soban.models import decoder
from soban.models.decoder import Wiring
from soban.models.family import ModelType
from soban.models.rope import THETA


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys, the sizes under their usual names."""

    vocab_size: int = 250880
    hidden_size: int = 64
    intermediate_size: int | None = None  # type: ignore[assignment]
    num_hidden_layers: int = 2
    num_attention_heads: int = 8
    hidden_act: str = "gelu_new"
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    apply_residual_connection_post_layernorm: Literal[False] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "intermediate_size", 4 * self.hidden_size)
        super().__post_init__()

    def check(self) -> None:
        self.check_heads(whole=True)


def positions(raw: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Nothing turns."""
    return {"rope_type": "default", "rope_theta": THETA}


HF = {
    "embed": "transformer.word_embeddings", "norm": "transformer.ln_f", "layer": "transformer.h.{i}.",
    "query": "self_attention.query_key_value.q", "key": "self_attention.query_key_value.k",
    "value": "self_attention.query_key_value.v", "output": "self_attention.dense", "up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
}  # fmt: skip
NAMES = {
    **decoder.NAMES, **{role: {**decoder.NAMES[role], "hf": name} for role, name in HF.items()},
    "embedding_norm": {"hf": "transformer.word_embeddings_layernorm", "gguf": "token_embd_norm"},
    "qkv": {"hf": "self_attention.query_key_value", "gguf": "attn_qkv"},
}  # fmt: skip


def wiring(c: Config) -> Wiring:
    return replace(
        decoder.llama(c),
        names=NAMES,
        split_heads=True,
        embedding_norm=True,
        rotations=(None,) * c.num_hidden_layers,
        slopes=True,
        norm="layer",
        norm_bias=True,
        gated=False,
        query_bias=True,
        output_bias=True,
        mlp_bias=True,
    )


SIZES = {
    "n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "n_embed": "hidden_size",
    "seq_length": "max_position_embeddings", "layer_norm_epsilon": "rms_norm_eps",
}  # fmt: skip
UNREAD = (
    "attention_softmax_in_fp32", "bias_dropout_fusion", "masked_softmax_fusion", "offset_alibi", "skip_bias_add",
    "skip_bias_add_qkv", "slow_but_exact", "unk_token_id", "n_inner", "head_dim", "num_key_value_heads", "hidden_act",
    "sliding_window", "layer_types", "intermediate_size",
)  # fmt: skip
FAMILY = decoder.family(
    "bloom", {"bloom": ModelType(aliases=SIZES, unread=UNREAD, positions=positions)}, Config, wiring
)
