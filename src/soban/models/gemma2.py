"""Gemma 2: 2B, 9B and 27B (Gemma Team 2024).

    x = embed(token) * sqrt(hidden_size)
    in each layer:
        x = x + norm(attention(norm(x)))
        x = x + norm(down(gelu(gate(norm(x))) * up(norm(x))))
    logits = final_cap * tanh(head(norm(x)) / final_cap)

A norm is x / rms(x) * (1 + weight). Attention's scores are attention_cap * tanh(q . k * scale / attention_cap), where
scale is query_pre_attn_scalar ** -0.5; every other layer, from the first on, looks back no further than its window.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from soban.models import decoder
from soban.models.config import FULL, SLIDING, LayerTypes, activation
from soban.models.decoder import Wiring
from soban.models.family import ModelType


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys."""

    vocab_size: int = 256000
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    max_position_embeddings: int = 8192
    hidden_activation: str = "gelu_pytorch_tanh"
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    query_pre_attn_scalar: float = 256.0
    attn_logit_softcapping: float | None = 50.0
    final_logit_softcapping: float | None = 30.0
    sliding_window: int | None = 4096
    layer_types: LayerTypes = None
    use_bidirectional_attention: bool | None = None  # read, and without effect where a text is written

    usual_types: ClassVar = (SLIDING, FULL)

    def __post_init__(self) -> None:
        activation("hidden_activation", self.hidden_activation)
        self.check()


def wiring(c: Config) -> Wiring:
    return replace(
        decoder.llama(c),
        names=decoder.AROUND,
        norm_offset=c.norm_offset,
        after=True,
        activation=activation("hidden_activation", c.hidden_activation),
        attention_scale=c.query_pre_attn_scalar**-0.5,
        attention_cap=c.attn_logit_softcapping,
        logit_cap=c.final_logit_softcapping,
        embedding_scale=c.root_scale,
    )


FAMILY = decoder.family("gemma2", {"gemma2": ModelType(unread=("hidden_act",), nested=True)}, Config, wiring)
