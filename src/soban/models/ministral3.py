"""Ministral 3: Mistral whose queries grow with the position, as Llama 4's do (Mistral AI 2025)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from soban.models import decoder
from soban.models.decoder import Wiring
from soban.models.family import ModelType
from soban.models.rope import rope_parameters


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys."""

    vocab_size: int = 131072
    intermediate_size: int = 14336
    num_hidden_layers: int = 34
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 262144
    rms_norm_eps: float = 1e-5
    sliding_window: int | None = None

    @property
    def growth(self) -> tuple[float, float]:
        """How fast queries grow, and from which length on."""
        rotation = self.rotation
        return rotation.number("llama_4_scaling_beta", least=0.0), rotation.number("original_max_position_embeddings")

    def check(self) -> None:
        super().check()
        assert self.growth[1] > 0

    @property
    def longest(self) -> int:
        """max_position_embeddings, in which the factor is counted already."""
        return self.max_position_embeddings


USUAL = {
    "type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "original_max_position_embeddings": 16384,
    "beta_fast": 32.0, "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1,
}  # fmt: skip


def positions(raw: Mapping[str, Any], context: int) -> dict[str, Any]:
    return rope_parameters({**raw, "rope_parameters": raw.get("rope_parameters") or USUAL}, context)


def wiring(c: Config) -> Wiring:
    return replace(decoder.llama(c), growth=c.growth)


MINISTRAL = ModelType(defaults={"head_dim": 128}, unread=("layer_types",), positions=positions)
FAMILY = decoder.family("ministral3", {"ministral3": MINISTRAL}, Config, wiring)
