"""OLMo 2: norms only after each part, and of queries and keys as whole rows (Team OLMo 2024)."""

from dataclasses import dataclass, replace

from soban.models import decoder
from soban.models.decoder import Wiring
from soban.models.family import ModelType


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys."""

    vocab_size: int = 50304
    rms_norm_eps: float = 1e-5
    attention_bias: bool = False


NAMES = {**decoder.NAMES, **decoder.AFTER}


def wiring(c: Config) -> Wiring:
    return replace(decoder.llama(c), names=NAMES, before=False, after=True, head_norm="row")


FAMILY = decoder.family("olmo2", {"olmo2": ModelType(unread=("sliding_window", "layer_types"))}, Config, wiring)
