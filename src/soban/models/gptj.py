"""GPT-J: GPT-J 6B, GPT4All-J, Dolly v1 (Wang and Komatsuzaki 2021).

    x = x + attention(norm(x)) + down(gelu(up(norm(x))))

The norms are LayerNorms; of each head the first rotary_dim numbers turn, neighbours together; the head has a bias.
"""

import functools
from dataclasses import dataclass, replace
from typing import Literal

from soban.base.errors import UserError
from soban.models import decoder
from soban.models.decoder import Wiring
from soban.models.family import ModelType
from soban.models.rope import THETA, Rotation


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys, the sizes under their usual names."""

    vocab_size: int = 50400
    intermediate_size: int | None = None  # type: ignore[assignment]
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    hidden_act: str = "gelu_new"
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: Literal[False] = False
    rotary_dim: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "intermediate_size", self.intermediate_size or 4 * self.hidden_size)
        super().__post_init__()

    @functools.cached_property
    def rotations(self) -> tuple[Rotation, ...]:
        share = (self.rotary_dim + 0.5) / self.head_size  # so that no rounding takes one away
        about = {"rope_type": "default", "rope_theta": THETA, "partial_rotary_factor": share}
        return (Rotation(self.head_size, self.max_position_embeddings, about, partial=True),)

    def check(self) -> None:
        self.check_heads(whole=True)
        if self.rotary_dim % 2 or self.rotary_dim > self.head_size:
            raise UserError(
                "config.json: rotary_dim={turned}, and heads of {size}", turned=self.rotary_dim, size=self.head_size,
                hint="fetch config.json again",
            )  # fmt: skip
        super().check()


HF = {
    "embed": "transformer.wte", "norm": "transformer.ln_f", "layer": "transformer.h.{i}.", "attention_norm": "ln_1",
    "query": "attn.q_proj", "key": "attn.k_proj", "value": "attn.v_proj", "output": "attn.out_proj",
    "up": "mlp.fc_in", "down": "mlp.fc_out",
}  # fmt: skip
NAMES = {**decoder.NAMES, **{role: {**decoder.NAMES[role], "hf": name} for role, name in HF.items()}}


def wiring(c: Config) -> Wiring:
    return replace(
        decoder.llama(c),
        names=NAMES,
        interleaved=True,
        norm="layer",
        norm_bias=True,
        parallel="one norm",
        gated=False,
        mlp_bias=True,
        head_bias=True,
    )


SIZES = {
    "n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings", "n_inner": "intermediate_size", "activation_function": "hidden_act",
    "layer_norm_epsilon": "rms_norm_eps",
}  # fmt: skip
UNREAD = ("n_ctx", "rotary", "scale_attn_weights", "gradient_checkpointing", "task_specific_params", "head_dim",
          "num_key_value_heads", "sliding_window", "layer_types")  # fmt: skip
FAMILY = decoder.family("gptj", {"gptj": ModelType(aliases=SIZES, unread=UNREAD)}, Config, wiring)
