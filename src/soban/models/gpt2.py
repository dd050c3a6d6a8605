"""GPT-2, and DistilGPT-2, KoGPT2 and others of its kind (Radford et al. 2019)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from soban import ops
from soban.models.config import Decoder, activation
from soban.models.family import Family, ModelType
from soban.models.plan import Layer, Place, Plan

QKV = {"hf": "attn.c_attn", "gguf": "attn_qkv"}  # one tensor for queries, keys and values


@dataclass(frozen=True)
class Config(Decoder):
    """config.json's keys, the sizes under their usual names: hidden_size for n_embd, and so on."""

    vocab_size: int = 50257
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 1024
    intermediate_size: int | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    add_cross_attention: Literal[False] = False
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "intermediate_size", self.intermediate_size or 4 * self.hidden_size)
        activation("activation_function", self.activation_function)
        self.check_heads(whole=True)

    def scale(self, layer: int) -> float:
        """What a layer's attention scores are multiplied by."""
        scale = self.head_size**-0.5 if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale


def plan(c: Config) -> Plan:
    d, n, turned = c.hidden_size, c.max_position_embeddings, {"bias": True, "transposed": True}
    f, at, layers = c.intermediate_size or 4 * d, Place(hf="transformer.", gguf=""), []
    ends = [
        at.vocabulary("embed", c.vocab_size, d, hf="wte", gguf="token_embd"),
        at.matrix("positions", at.rows(n, d, hf="wpe", gguf="position_embd", precise=True)),
        at.vector("norm", d, bias=True, hf="ln_f", gguf="output_norm"),
    ]
    if not c.tie_word_embeddings:
        ends.append(Place(hf="", gguf="").vocabulary("head", c.vocab_size, d, hf="lm_head", gguf="output"))
    for i in range(c.num_hidden_layers):
        at = Place(hf=f"transformer.h.{i}.", gguf=f"blk.{i}.")
        qkv = [
            at.rows(d, d, hf=f"attn.c_attn.{part}", wholes=QKV, first=k * d, precise=part == "v", **turned)
            for k, part in enumerate("qkv")
        ]
        layers.append(Layer((
            at.vector("attention_norm", d, bias=True, hf="ln_1", gguf="attn_norm"),
            at.matrix("qkv", *qkv),
            at.matrix("output", at.rows(d, d, hf="attn.c_proj", gguf="attn_output", **turned)),
            at.vector("mlp_norm", d, bias=True, hf="ln_2", gguf="ffn_norm"),
            at.matrix("up", at.rows(f, d, hf="mlp.c_fc", gguf="ffn_up", **turned)),
            at.matrix("down", at.rows(d, f, hf="mlp.c_proj", gguf="ffn_down", **turned)),
        )))  # fmt: skip
    return Plan(tuple(ends), tuple(layers), prefix="transformer.", computed=(".attn.bias", ".attn.masked_bias"))


def norm(c: Config, x: Any, weight: tuple[Any, Any]) -> Any:
    return ops.layer_norm(x, weight[0], weight[1], c.layer_norm_epsilon)


def forward(c: Config, w: Any, batch: ops.Batch, cache: Sequence[Any], longest: int = 0) -> Any:
    """Hidden states (T, hidden) after the last norm, for the T tokens of `batch`."""
    d, gelu = c.hidden_size, activation("activation_function", c.activation_function)
    x = ops.add(ops.embed(batch.tokens, w.embed, 1.0), ops.embed(batch.positions, w.positions, 1.0))
    for i, (layer, layer_cache) in enumerate(zip(w.layers, cache, strict=True)):
        qkv = ops.linear(norm(c, x, layer.attention_norm), layer.qkv, batch)
        mixed = ops.attention(qkv[:, :d], qkv[:, d : 2 * d], qkv[:, 2 * d :], batch, layer_cache, scale=c.scale(i))
        x = ops.add(x, ops.linear(mixed, layer.output, batch))
        h = ops.activation(ops.linear(norm(c, x, layer.mlp_norm), layer.up, batch), gelu)
        x = ops.add(x, ops.linear(h, layer.down, batch))
    return norm(c, x, w.norm)


SIZES = {
    "n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings", "n_inner": "intermediate_size",
}  # fmt: skip
GPT2 = ModelType(aliases=SIZES, unread=("n_ctx", "reorder_and_upcast_attn", "task_specific_params"))
FAMILY = Family("gpt2", {"gpt2": GPT2}, Config, plan, forward)
