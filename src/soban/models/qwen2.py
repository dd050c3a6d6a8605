"""Qwen 2 and 2.5, and A.X 4.0 Light, which was made from it: Llama with biases on queries, keys and values."""

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
    max_position_embeddings: int = 32768
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    layer_types: LayerTypes = None

    def usual_type(self, layer: int) -> str:
        """The first layers see everything."""
        return SLIDING if self.window is not None and layer >= self.max_window_layers else FULL


def wiring(c: Config) -> Wiring:
    return replace(decoder.llama(c), query_bias=True)


FAMILY = decoder.family("qwen2", {"qwen2": ModelType(nested=True)}, Config, wiring)
