"""StableLM 3B and StableLM 2: LayerNorm, a share of each head turns, perhaps both parts at once (Stability AI)."""

import functools
from dataclasses import dataclass, replace
from typing import Literal

from soban.models import decoder
from soban.models.decoder import Wiring
from soban.models.family import ModelType
from soban.models.rope import Rotation


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys, under their usual names."""

    vocab_size: int = 50304
    intermediate_size: int = 6912
    hidden_size: int = 2560
    num_key_value_heads: int = 32
    max_position_embeddings: int = 4096
    rms_norm_eps: float = 1e-5
    use_qkv_bias: bool = False
    qk_layernorm: Literal[False] = False
    use_parallel_residual: bool = False

    @functools.cached_property
    def rotations(self) -> tuple[Rotation, ...]:
        about = (self.head_size, self.max_position_embeddings, self.rope_parameters)
        return (Rotation(*about, partial=True, even=True),)

    def check(self) -> None:
        super().check()
        self.check_heads(whole=True)


def wiring(c: Config) -> Wiring:
    return replace(
        decoder.llama(c),
        norm="layer",
        norm_bias=True,
        query_bias=c.use_qkv_bias,
        parallel="one norm" if c.use_parallel_residual else None,
    )


STABLELM = ModelType(
    defaults={"partial_rotary_factor": 0.25}, aliases={"layer_norm_eps": "rms_norm_eps"},
    unread=("head_dim", "sliding_window", "layer_types"),
)  # fmt: skip
FAMILY = decoder.family("stablelm", {"stablelm": STABLELM}, Config, wiring)
