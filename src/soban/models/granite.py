"""Granite 3: Llama with multipliers for embeddings, attention and residuals; logits are divided (IBM 2024)."""

from dataclasses import dataclass, replace

from soban.models import decoder
from soban.models.decoder import Wiring
from soban.models.family import ModelType


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys."""

    attention_bias: bool = False
    mlp_bias: bool = False
    embedding_multiplier: float = 1.0
    logits_scaling: float = 1.0
    residual_multiplier: float = 1.0
    attention_multiplier: float = 1.0


def wiring(c: Config) -> Wiring:
    return replace(
        decoder.llama(c),
        embedding_scale=c.embedding_multiplier,
        attention_scale=c.attention_multiplier,  # in place of the root of the head's size
        residual_scale=c.residual_multiplier,
        logit_scale=1.0 / c.logits_scaling,
    )


FAMILY = decoder.family("granite", {"granite": ModelType(unread=("sliding_window", "layer_types"))}, Config, wiring)
