"""Llama 1 to 3.2, Mistral, SmolLM, and llama2.c's models."""

from dataclasses import dataclass, replace

from soban.models import decoder
from soban.models.config import LayerTypes
from soban.models.decoder import Wiring
from soban.models.family import ModelType


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys, those of Mistral's, too."""

    attention_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = None
    layer_types: LayerTypes = None


LLAMA2C = {
    "embed": "tok_embeddings", "norm": "norm", "head": "output", "layer": "layers.{i}.",
    "attention_norm": "attention_norm", "query": "attention.wq", "key": "attention.wk", "value": "attention.wv",
    "output": "attention.wo", "mlp_norm": "ffn_norm", "gate": "feed_forward.w1", "up": "feed_forward.w3",
    "down": "feed_forward.w2",
}  # fmt: skip
NAMES = {role: {**decoder.NAMES[role], "llama2c": name} for role, name in LLAMA2C.items()}


def wiring(c: Config) -> Wiring:
    return replace(decoder.llama(c), names=NAMES)


MISTRAL = {
    "intermediate_size": 14336, "num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096,
}  # fmt: skip
FAMILY = decoder.family(
    "llama",
    {
        "llama": ModelType(unread=("sliding_window", "layer_types")),
        "mistral": ModelType(defaults=MISTRAL, unread=("attention_bias", "mlp_bias")),
    },
    Config, wiring,
)  # fmt: skip
