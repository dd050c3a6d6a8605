"""Phi 1, 1.5 and 2 (Li et al. 2023).

    x = x + attention(norm(x)) + down(gelu(up(norm(x))))

The norms are LayerNorms, half of each head turns, and every matrix has a bias, the head's, too.
"""

import functools
from dataclasses import dataclass, replace
from typing import Literal

from soban.models import decoder
from soban.models.decoder import Wiring
from soban.models.family import ModelType
from soban.models.rope import Rotation


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys, the epsilon under its usual name."""

    vocab_size: int = 51200
    hidden_size: int = 2048
    intermediate_size: int = 8192
    num_hidden_layers: int = 24
    hidden_act: str = "gelu_new"
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: Literal[False] = False
    qk_layernorm: Literal[False] = False

    @functools.cached_property
    def rotations(self) -> tuple[Rotation, ...]:
        about = (self.head_size, self.max_position_embeddings, self.rope_parameters)
        return (Rotation(*about, partial=True, even=True),)


HF = {"norm": "model.final_layernorm", "output": "self_attn.dense", "up": "mlp.fc1", "down": "mlp.fc2"}
NAMES = {**decoder.NAMES, **{role: {**decoder.NAMES[role], "hf": name} for role, name in HF.items()}}


def wiring(c: Config) -> Wiring:
    return replace(
        decoder.llama(c),
        names=NAMES,
        norm="layer",
        norm_bias=True,
        parallel="one norm",
        gated=False,
        query_bias=True,
        output_bias=True,
        mlp_bias=True,
        head_bias=True,
    )


PHI = ModelType(
    defaults={"partial_rotary_factor": 0.5}, aliases={"layer_norm_eps": "rms_norm_eps"},
    unread=("sliding_window", "layer_types"),
)  # fmt: skip
FAMILY = decoder.family("phi", {"phi": PHI}, Config, wiring)
