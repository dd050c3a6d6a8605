"""EXAONE 4: norms only after each part, and of each head of queries and keys (LG AI Research 2025).

Where some layers have a window, those without one do not turn; where none has, all turn.
"""

from dataclasses import dataclass, replace
from typing import Literal

from soban.base.errors import UserError
from soban.models import decoder
from soban.models.config import FULL, SLIDING
from soban.models.decoder import Wiring
from soban.models.family import ModelType


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys."""

    vocab_size: int = 102400
    intermediate_size: int = 16384
    num_key_value_heads: int = 32
    rms_norm_eps: float = 1e-5
    sliding_window: int | None = 4096
    sliding_window_pattern: int | Literal[0] | None = 4
    layer_types: tuple[Literal["sliding_attention", "full_attention"], ...] | None = None

    def check(self) -> None:
        super().check()
        if self.layer_types is None and self.sliding_window is not None and not self.sliding_window_pattern:
            raise UserError(
                "config.json: sliding_window={window} without a sliding_window_pattern", window=self.sliding_window,
                hint="fetch config.json again",
            )  # fmt: skip

    def usual_type(self, layer: int) -> str:
        every = self.sliding_window_pattern if self.sliding_window is not None else 0
        return SLIDING if every and (layer + 1) % every else FULL


NAMES = {**decoder.NAMES, **decoder.AFTER}


def wiring(c: Config) -> Wiring:
    turns = tuple(0 if kind == SLIDING or c.sliding_window is None else None for kind in c.types)
    return replace(decoder.llama(c), names=NAMES, rotations=turns, before=False, after=True, head_norm="head")


FAMILY = decoder.family("exaone4", {"exaone4": ModelType(nested=True)}, Config, wiring)
