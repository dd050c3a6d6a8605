"""Gemma 1: Llama with scaled embeddings, tanh's GELU, and norms that multiply by 1 + weight (Gemma Team 2024)."""

from dataclasses import dataclass, replace

from soban.models import decoder
from soban.models.decoder import Wiring
from soban.models.family import ModelType


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys."""

    vocab_size: int = 256000
    hidden_size: int = 3072
    intermediate_size: int = 24576
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    num_key_value_heads: int = 16
    head_dim: int = 256
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 8192
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    use_bidirectional_attention: bool | None = None  # read, and without effect where a text is written

    def __post_init__(self) -> None:
        if self.hidden_act == "gelu":  # so the first releases call tanh's
            object.__setattr__(self, "hidden_act", "gelu_pytorch_tanh")
        super().__post_init__()


def wiring(c: Config) -> Wiring:
    return replace(
        decoder.llama(c),
        norm_offset=c.norm_offset,
        embedding_scale=c.root_scale,
    )


FAMILY = decoder.family("gemma", {"gemma": ModelType(unread=("sliding_window", "layer_types"))}, Config, wiring)
