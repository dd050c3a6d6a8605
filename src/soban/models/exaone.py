"""EXAONE 3 and 3.5: Llama under other names (LG AI Research 2024)."""

from dataclasses import dataclass, replace

from soban.models import decoder
from soban.models.decoder import Wiring
from soban.models.family import ModelType


@dataclass(frozen=True)
class Config(decoder.Config):
    """config.json's keys, under their usual names."""

    vocab_size: int = 102400
    rms_norm_eps: float = 1e-5


HF = {
    "embed": "transformer.wte", "norm": "transformer.ln_f", "layer": "transformer.h.{i}.", "attention_norm": "ln_1",
    "query": "attn.attention.q_proj", "key": "attn.attention.k_proj", "value": "attn.attention.v_proj",
    "output": "attn.attention.out_proj", "mlp_norm": "ln_2", "gate": "mlp.c_fc_0", "up": "mlp.c_fc_1",
    "down": "mlp.c_proj",
}  # fmt: skip
NAMES = {**decoder.NAMES, **{role: {**decoder.NAMES[role], "hf": name} for role, name in HF.items()}}


def wiring(c: Config) -> Wiring:
    return replace(decoder.llama(c), names=NAMES)


USUAL = {
    "num_layers": "num_hidden_layers", "activation_function": "hidden_act", "layer_norm_epsilon": "rms_norm_eps",
}  # fmt: skip
EXAONE = ModelType(aliases=USUAL, unread=("embed_dropout", "sliding_window", "layer_types"))
FAMILY = decoder.family("exaone", {"exaone": EXAONE}, Config, wiring)
