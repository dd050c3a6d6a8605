"""HyperCLOVA X SEED: multipliers as Granite's, but logits are multiplied; norms before and after each part (NAVER)."""

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
    attention_multiplier: float | None = None
    use_post_norm: bool = True


AFTER = {"output_norm": {"hf": "post_norm1"}, "down_norm": {"hf": "post_norm2"}}
NAMES = {role: {"hf": names["hf"]} for role, names in {**decoder.NAMES, **AFTER}.items()}  # GGUF has none of it


def wiring(c: Config) -> Wiring:
    plain = decoder.llama(c)
    return replace(
        plain,
        names=NAMES,
        after=c.use_post_norm,
        embedding_scale=c.embedding_multiplier,
        attention_scale=plain.attention_scale if c.attention_multiplier is None else c.attention_multiplier,
        residual_scale=c.residual_multiplier,
        logit_scale=c.logits_scaling,
    )


FAMILY = decoder.family(
    "hyperclovax", {"hyperclovax": ModelType(unread=("sliding_window", "layer_types"))}, Config, wiring
)
