"""ModernBERT (Warner et al. 2024): an encoder that norms before each part, turns its heads, and mostly looks near by.

    x = norm(embed(token))
    in each layer:
        x = x + attention(norm(x))                  the first layer has no norm here
        x = x + down(gelu(a) * b)                   a, b: the halves of up(norm(x))
    x = norm(x)

One layer of three sees the whole text, the others a window to both sides, and each kind turns by frequencies of its
own. With a head, the first token's x becomes scores: out(norm(gelu(dense(x)))).
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from soban import ops
from soban.base.errors import UserError
from soban.models.config import FULL, SLIDING, Encoder, activation
from soban.models.family import Family, ModelType
from soban.models.plan import Layer, Place, Plan
from soban.models.rope import Rotation, invalid, layer_parameters

NORM_BEFORE = 1  # the first layer whose attention has a norm before it


@dataclass(frozen=True)
class Config(Encoder):
    """config.json's keys."""

    vocab_size: int = 50368
    hidden_size: int = 768
    intermediate_size: int = 1152
    num_hidden_layers: int = 22
    num_attention_heads: int = 12
    hidden_activation: str = "gelu"
    max_position_embeddings: int = 8192
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    layer_types: tuple[Literal["sliding_attention", "full_attention"], ...] | None = None
    global_attn_every_n_layers: int = 3
    local_attention: int = 128
    rope_parameters: dict[str, Any] = field(default_factory=dict)
    classifier_activation: str = "gelu"
    classifier_bias: bool = False
    classifier_pooling: str = "cls"
    tie_word_embeddings: bool = True
    architectures: tuple[str, ...] | None = None
    id2label: dict[str, Any] | None = None
    num_labels: int | None = None
    type_vocab_size = 1

    def __post_init__(self) -> None:
        activation("hidden_activation", self.hidden_activation)
        activation("classifier_activation", self.classifier_activation)
        self.check_heads(unit=2, whole=True)
        for rotation in self.rotations.values():
            rotation.check()
            if rotation.kind != "default":
                raise invalid("rope_type", rotation.kind)
        if self.layer_types is not None and len(self.layer_types) != self.num_hidden_layers:
            raise UserError(
                "config.json: {types} layer_types for {layers} layers", types=len(self.layer_types),
                layers=self.num_hidden_layers, hint="fetch config.json again",
            )  # fmt: skip
        if self.labels and self.classifier_pooling != "cls":
            raise UserError(
                "config.json: {key}={value} is not implemented", key="classifier_pooling",
                value=self.classifier_pooling, hint="use a model without it, or an engine that has it",
            )  # fmt: skip

    @functools.cached_property
    def rotations(self) -> dict[str, Rotation]:
        """By the type of layers."""
        return {
            kind: Rotation(self.head_size, self.max_position_embeddings, self.rope_parameters[kind])
            for kind in (FULL, SLIDING)
        }

    @property
    def types(self) -> tuple[str, ...]:
        """The type of each layer."""
        every = self.global_attn_every_n_layers
        usual = tuple(SLIDING if i % every else FULL for i in range(self.num_hidden_layers))
        return self.layer_types or usual


def positions(raw: Mapping[str, Any], context: int) -> dict[str, Any]:
    """The rotary parameters of each type of layers."""
    parameters, scaling = raw.get("rope_parameters") or {}, raw.get("rope_scaling") or {}
    if not isinstance(parameters, dict) or not isinstance(scaling, dict):
        raise invalid("rope_parameters", parameters or scaling)
    result = {}
    for kind, theta in ((FULL, raw.get("global_rope_theta", 160_000.0)), (SLIDING, raw.get("local_rope_theta", 1e4))):
        own = parameters.get(kind) or {}
        if not isinstance(own, dict):
            raise invalid("rope_parameters", parameters)
        result[kind] = layer_parameters({**own, **scaling}, theta, context)
    return result


def plan(c: Config) -> Plan:
    d, f, biased = c.hidden_size, c.intermediate_size, {"bias": c.attention_bias}
    at = Place(hf="model.")
    ends = [
        at.vocabulary("embed", c.vocab_size, d, hf="embeddings.tok_embeddings"),
        at.vector("embedding_norm", d, bias=c.norm_bias, hf="embeddings.norm"),
        at.vector("norm", d, bias=c.norm_bias, hf="final_norm"),
    ]
    if c.labels:
        bare = Place(hf="")
        ends += [
            bare.matrix("dense", bare.rows(d, d, bias=c.classifier_bias, hf="head.dense", precise=True)),
            bare.vector("head_norm", d, bias=c.norm_bias, hf="head.norm"),
            bare.matrix("scores", bare.rows(c.labels, d, bias=True, hf="classifier", precise=True)),
        ]
    layers = []
    for i in range(c.num_hidden_layers):
        at = Place(hf=f"model.layers.{i}.")
        whole = {"hf": "attn.Wqkv"}
        qkv = [
            at.rows(d, d, hf=f"attn.Wqkv.{part}", wholes=whole, first=k * d, precise=part == "v", **biased)
            for k, part in enumerate("qkv")
        ]
        norm = [at.vector("attention_norm", d, bias=c.norm_bias, hf="attn_norm")] if i >= NORM_BEFORE else []
        layers.append(Layer((
            *norm, at.matrix("qkv", *qkv),
            at.matrix("output", at.rows(d, d, hf="attn.Wo", **biased)),
            at.vector("mlp_norm", d, bias=c.norm_bias, hf="mlp_norm"),
            at.matrix("up", at.rows(2 * f, d, bias=c.mlp_bias, hf="mlp.Wi")),
            at.matrix("down", at.rows(d, f, bias=c.mlp_bias, hf="mlp.Wo")),
        )))  # fmt: skip
    return Plan(tuple(ends), tuple(layers), beside=("decoder.", *(() if c.labels else ("head.", "classifier."))))


def norm(c: Config, x: Any, weight: Any) -> Any:
    scale, bias = weight if c.norm_bias else (weight, None)
    return ops.layer_norm(x, scale, bias, c.norm_eps)


def forward(c: Config, w: Any, batch: ops.Batch, cache: Sequence[Any], longest: int = 0) -> Any:
    """Hidden states (T, hidden) of the T tokens of `batch`, which has texts as wholes."""
    d, gelu, window = c.hidden_size, activation("hidden_activation", c.hidden_activation), c.local_attention // 2 + 1
    angles = {
        kind: ops.rotary(batch.positions, batch.rotation, rotation.table(longest))
        for kind, rotation in c.rotations.items() if kind in c.types
    }  # fmt: skip
    x = norm(c, ops.embed(batch.tokens, w.embed, 1.0), w.embedding_norm)
    for i, (kind, layer, layer_cache) in enumerate(zip(c.types, w.layers, cache, strict=True)):
        before = norm(c, x, layer.attention_norm) if i >= NORM_BEFORE else x
        qkv = ops.linear(before, layer.qkv, batch)
        q, k = (ops.rope(qkv[:, part * d : (part + 1) * d], angles[kind]) for part in (0, 1))
        mixed = ops.attention(
            q, k, qkv[:, 2 * d :], batch, layer_cache, c.head_size**-0.5,
            window=window if kind == SLIDING else None, causal=False,
        )  # fmt: skip
        x = ops.add(x, ops.linear(mixed, layer.output, batch))
        h = ops.glu(ops.linear(norm(c, x, layer.mlp_norm), layer.up, batch), gelu)
        x = ops.add(x, ops.linear(h, layer.down, batch))
    return norm(c, x, w.norm)


def logits(c: Config, w: Any, x: Any) -> Any:
    """(R, hidden) -> (R, labels)."""
    dense = ops.activation(ops.linear(x, w.dense), activation("classifier_activation", c.classifier_activation))
    return ops.linear(norm(c, dense, w.head_norm), w.scores)


UNREAD = (
    "initializer_cutoff_factor", "embedding_dropout", "mlp_dropout", "decoder_bias", "deterministic_flash_attn",
    "sparse_prediction", "sparse_pred_ignore_index", "reference_compile", "cls_token_id", "sep_token_id",
    "gradient_checkpointing", "layer_norm_eps", "position_embedding_type", "repad_logits_with_grad",
    "global_rope_theta", "local_rope_theta", "sentence_transformers", "sbert_ce_default_activation_function",
)  # fmt: skip
FAMILY = Family(
    "modernbert", {"modernbert": ModelType(unread=UNREAD, positions=positions)}, Config, plan, forward, logits,
    encoder=True,
)  # fmt: skip
