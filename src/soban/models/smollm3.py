"""SmolLM3: Llama of whose layers every fourth does not turn (Bakouch et al. 2025)."""

from dataclasses import dataclass, replace
from typing import Literal

from soban.base.errors import UserError
from soban.models import decoder
from soban.models.config import FULL, SLIDING, LayerTypes
from soban.models.decoder import Wiring
from soban.models.family import ModelType


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys. no_rope_layers: 1 where a layer turns, 0 where it does not."""

    vocab_size: int = 128256
    hidden_size: int = 2048
    num_hidden_layers: int = 36
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 4
    max_position_embeddings: int = 32768
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    mlp_bias: bool = False
    use_sliding_window: bool = False
    sliding_window: int | None = None
    no_rope_layers: tuple[Literal[0, 1], ...] | None = None
    no_rope_layer_interval: int = 4
    layer_types: LayerTypes = None

    def check(self) -> None:
        super().check()
        if self.no_rope_layers is not None and len(self.no_rope_layers) < self.num_hidden_layers:
            raise UserError(
                "config.json: {entries} no_rope_layers for {layers} layers", entries=len(self.no_rope_layers),
                layers=self.num_hidden_layers, hint="fetch config.json again",
            )  # fmt: skip

    def turns(self, layer: int) -> bool:
        if self.no_rope_layers is not None:
            return bool(self.no_rope_layers[layer])
        return (layer + 1) % self.no_rope_layer_interval != 0

    def usual_type(self, layer: int) -> str:
        return SLIDING if self.window is not None and not self.turns(layer) else FULL


def wiring(c: Config) -> Wiring:
    turns = tuple(0 if c.turns(layer) else None for layer in range(c.num_hidden_layers))
    return replace(decoder.llama(c), rotations=turns)


FAMILY = decoder.family(
    "smollm3", {"smollm3": ModelType(defaults={"rope_theta": 2_000_000.0}, nested=True)}, Config, wiring
)
