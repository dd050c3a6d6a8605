"""Phi 3, 3.5 and 4 mini: Llama with one tensor for q, k and v; a share of each head may turn (Microsoft 2024)."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from soban.models import decoder
from soban.models.decoder import Wiring
from soban.models.family import ModelType
from soban.models.rope import Rotation, invalid, rope_parameters


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys."""

    vocab_size: int = 32064
    hidden_size: int = 3072
    intermediate_size: int = 8192
    max_position_embeddings: int = 4096
    original_max_position_embeddings: int = 4096
    rms_norm_eps: float = 1e-5
    sliding_window: int | None = None

    @functools.cached_property
    def rotations(self) -> tuple[Rotation, ...]:
        return (Rotation(self.head_size, self.max_position_embeddings, self.rope_parameters, partial=True),)

    def check(self) -> None:
        super().check()
        if self.rope_parameters["rope_type"] not in ("default", "longrope"):
            raise invalid("rope_scaling", self.rope_parameters["rope_type"])


def positions(raw: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Older files call longrope "su" or "yarn"."""
    parameters = rope_parameters(raw, context)
    return parameters | ({"rope_type": "longrope"} if parameters["rope_type"] in ("su", "yarn") else {})


NAMES = {
    **decoder.NAMES, "qkv": {"hf": "self_attn.qkv_proj", "gguf": "attn_qkv"},
    "gate_up": {"hf": "mlp.gate_up_proj", "gguf": "ffn_up"},
}  # fmt: skip


def wiring(c: Config) -> Wiring:
    return replace(decoder.llama(c), names=NAMES)


PHI3 = ModelType(
    defaults={"partial_rotary_factor": 1.0, "original_max_position_embeddings": 4096}, unread=("layer_types",),
    positions=positions,
)  # fmt: skip
FAMILY = decoder.family("phi3", {"phi3": PHI3}, Config, wiring)
