"""Qwen 3, the dense ones: Llama whose queries and keys are normed, each head by itself (Qwen Team 2025)."""

from dataclasses import dataclass, replace

from soban.models import decoder
from soban.models.config import FULL, SLIDING, LayerTypes
from soban.models.decoder import Wiring
from soban.models.family import ModelType


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys."""

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int | None = 32
    head_dim: int = 128
    max_position_embeddings: int = 32768
    attention_bias: bool = False
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    layer_types: LayerTypes = None

    def usual_type(self, layer: int) -> str:
        """The first layers see everything."""
        return SLIDING if self.window is not None and layer >= self.max_window_layers else FULL


def wiring(c: Config) -> Wiring:
    return replace(decoder.llama(c), head_norm="head")


FAMILY = decoder.family("qwen3", {"qwen3": ModelType(nested=True)}, Config, wiring)
