"""Gemma 3, what it has of text: 270M, 1B, 4B and larger (Gemma Team 2025).

Gemma 2 without the cap on attention; queries and keys are normed, each head by itself; five layers with a window stand
before one without, and turn by frequencies of their own.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from soban.base.errors import UserError
from soban.models import decoder
from soban.models.config import FULL, SLIDING, activation
from soban.models.decoder import Wiring
from soban.models.family import ModelType
from soban.models.rope import Rotation, invalid, layer_parameters


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys."""

    vocab_size: int = 262208
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    max_position_embeddings: int = 131072
    hidden_activation: str = "gelu_pytorch_tanh"
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    query_pre_attn_scalar: float = 256.0
    final_logit_softcapping: float | None = None
    sliding_window: int | None = 4096
    sliding_window_pattern: int = 6
    layer_types: tuple[Literal["sliding_attention", "full_attention"], ...] | None = None
    use_bidirectional_attention: Literal[False] | None = False

    def __post_init__(self) -> None:
        activation("hidden_activation", self.hidden_activation)
        self.check()

    def usual_type(self, layer: int) -> str:
        return SLIDING if (layer + 1) % self.sliding_window_pattern else FULL

    @functools.cached_property
    def rotations(self) -> tuple[Rotation, ...]:
        """That of the layers without a window, and that of the others."""
        both = (
            Rotation(self.head_size, self.max_position_embeddings, self.rope_parameters[kind])
            for kind in (FULL, SLIDING)
        )
        return tuple(both)

    def check(self) -> None:
        super().check()
        if all(one.varies for one in self.rotations):
            raise UserError(
                "config.json: two kinds of rotary positions that both go by the text's length are not implemented",
                hint="use a model without it, or an engine that has it",
            )

    @property
    def longest(self) -> int:
        """max_position_embeddings, in which a linear factor is counted already."""
        return self.max_position_embeddings if self.rotation.kind == "linear" else super().longest


def positions(raw: Mapping[str, Any], context: int) -> dict[str, Any]:
    """The rotary parameters of each type of layers, in the order of precedence that transformers has."""
    parameters, scaling = raw.get("rope_parameters"), raw.get("rope_scaling")
    if parameters is not None and not isinstance(parameters, dict):
        raise invalid("rope_parameters", parameters)
    if scaling is not None and not (
        isinstance(scaling, dict) and (parameters is None or isinstance(parameters.get(FULL), dict))
    ):
        raise invalid("rope_scaling", scaling)
    full, local = ((parameters or {}).get(kind) or {} for kind in (FULL, SLIDING))
    if not isinstance(full, dict) or not isinstance(local, dict):
        raise invalid("rope_parameters", parameters)
    share = raw.get("partial_rotary_factor")
    usual = {} if share is None else {"partial_rotary_factor": share}
    full, local = {**usual, **full, **(scaling or {})}, {**usual, **local}
    return {
        FULL: layer_parameters(full, raw.get("rope_theta", 1_000_000.0), context),
        SLIDING: layer_parameters(local, raw.get("rope_local_base_freq", 10_000.0), context),
    }


def wiring(c: Config) -> Wiring:
    return replace(
        decoder.llama(c),
        names=decoder.AROUND,
        rotations=tuple(0 if kind == FULL else 1 for kind in c.types),
        norm_offset=c.norm_offset,
        after=True,
        head_norm="head",
        activation=activation("hidden_activation", c.hidden_activation),
        attention_scale=c.query_pre_attn_scalar**-0.5,
        logit_cap=c.final_logit_softcapping,
        embedding_scale=c.root_scale,
    )


# transformers reads the cap on attention and leaves it out
UNREAD = ("hidden_act", "attn_logit_softcapping", "rope_local_base_freq")
FAMILY = decoder.family("gemma3", {"gemma3_text": ModelType(unread=UNREAD, positions=positions)}, Config, wiring)
