"""GPT-NeoX: Polyglot-Ko, KoAlpaca-Polyglot, Pythia, Dolly v2, StableLM alpha (Black et al. 2022).

    x = x + attention(norm(x)) + down(gelu(up(other norm(x))))

The norms are LayerNorms, a quarter of each head turns, and one tensor has queries, keys and values, head by head.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from soban.models import decoder
from soban.models.decoder import Wiring
from soban.models.family import ModelType
from soban.models.rope import THETA, Rotation, rope_parameters


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys, the epsilon under its usual name."""

    vocab_size: int = 50432
    hidden_size: int = 6144
    intermediate_size: int = 24576
    num_hidden_layers: int = 44
    num_attention_heads: int = 64
    hidden_act: str = "gelu"
    rms_norm_eps: float = 1e-5
    use_parallel_residual: bool = True
    attention_bias: bool = True

    @functools.cached_property
    def rotations(self) -> tuple[Rotation, ...]:
        return (Rotation(self.head_size, self.max_position_embeddings, self.rope_parameters, partial=True),)

    def check(self) -> None:
        super().check()
        self.check_heads(whole=True)


def positions(raw: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Theta and the share of a head have names of their own."""
    keys = {"rope_theta": raw.get("rotary_emb_base", THETA), "partial_rotary_factor": raw.get("rotary_pct", 0.25)}
    return rope_parameters({**raw, **keys}, context)


HF = {
    "embed": "gpt_neox.embed_in", "norm": "gpt_neox.final_layer_norm", "layer": "gpt_neox.layers.{i}.",
    "query": "attention.query_key_value.q", "key": "attention.query_key_value.k",
    "value": "attention.query_key_value.v", "output": "attention.dense", "up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
}  # fmt: skip
QKV = {"hf": "attention.query_key_value", "gguf": "attn_qkv"}
NAMES = {**decoder.NAMES, **{role: {**decoder.NAMES[role], "hf": name} for role, name in HF.items()}, "qkv": QKV}


def wiring(c: Config) -> Wiring:
    return replace(
        decoder.llama(c),
        names=NAMES,
        older={"embed_out.": "lm_head."},
        split_heads=True,
        norm="layer",
        norm_bias=True,
        parallel="two norms" if c.use_parallel_residual else None,
        gated=False,
        mlp_bias=True,
    )


NEOX = ModelType(
    aliases={"layer_norm_eps": "rms_norm_eps"}, positions=positions,
    unread=("head_dim", "num_key_value_heads", "rotary_pct", "rotary_emb_base", "sliding_window", "layer_types"),
)  # fmt: skip
FAMILY = decoder.family("gpt_neox", {"gpt_neox": NEOX}, Config, wiring)
