"""One wiring for the encoders that are kinds of BERT: the plan of their weights, and what they compute.

    x = norm(embed(token) + type(token) + position(token))
    in each layer:
        x = norm(x + attention(x))                  each token sees the whole text
        x = norm(x + down(gelu(up(x))))

The norms are LayerNorms, and everything has biases. With a head, the first token's x becomes scores of the text, or of
the two texts that it holds: out(tanh(dense(x))).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from soban import ops
from soban.base.errors import UserError
from soban.models.config import Encoder, activation
from soban.models.family import Family, ModelType
from soban.models.plan import Layer, Place, Plan

BESIDE = ("cls.", "lm_head.", "pooler.")  # heads for other ends
COMPUTED = (".position_ids", ".token_type_ids")
ENDINGS = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}  # of the first BERT's files


@dataclass(frozen=True)
class Config(Encoder):
    """config.json's keys."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False
    tie_word_embeddings: bool = True
    architectures: tuple[str, ...] | None = None
    id2label: dict[str, Any] | None = None
    num_labels: int | None = None
    name: ClassVar[str]  # with which tensors' names begin
    head: ClassVar[tuple[str, str]]  # those of the head's two matrices

    def __post_init__(self) -> None:
        activation("hidden_act", self.hidden_act)
        self.check_heads(whole=True)
        if self.longest < 1:
            raise UserError(
                "config.json: max_position_embeddings={positions} leaves no place for a text",
                positions=self.max_position_embeddings, hint="fetch config.json again",
            )  # fmt: skip

    @property
    def first_position(self) -> int:
        """Of a text, in the table of positions."""
        return 0

    @property
    def longest(self) -> int:
        return self.max_position_embeddings - self.first_position


def plan(c: Config) -> Plan:
    d, f, n = c.hidden_size, c.intermediate_size, c.longest
    at = Place(hf=f"{c.name}.embeddings.")
    positions = {"hf": "position_embeddings"}
    ends = [
        at.vocabulary("embed", c.vocab_size, d, hf="word_embeddings"),
        at.matrix("positions", at.rows(
            n, d, hf="position_embeddings.text", wholes=positions, first=c.first_position, precise=True
        )),
        at.matrix("types", at.rows(c.type_vocab_size, d, hf="token_type_embeddings", precise=True)),
        at.vector("norm", d, bias=True, hf="LayerNorm"),
    ]  # fmt: skip
    if c.labels:
        bare = Place(hf="")
        ends += [
            bare.matrix("dense", bare.rows(d, d, bias=True, hf=c.head[0], precise=True)),
            bare.matrix("scores", bare.rows(c.labels, d, bias=True, hf=c.head[1], precise=True)),
        ]
    layers = []
    for i in range(c.num_hidden_layers):
        at = Place(hf=f"{c.name}.encoder.layer.{i}.")
        qkv = [
            at.rows(d, d, bias=True, hf=f"attention.self.{part}", precise=part == "value")
            for part in ("query", "key", "value")
        ]
        layers.append(Layer((
            at.matrix("qkv", *qkv),
            at.matrix("output", at.rows(d, d, bias=True, hf="attention.output.dense")),
            at.vector("attention_norm", d, bias=True, hf="attention.output.LayerNorm"),
            at.matrix("up", at.rows(f, d, bias=True, hf="intermediate.dense")),
            at.matrix("down", at.rows(d, f, bias=True, hf="output.dense")),
            at.vector("mlp_norm", d, bias=True, hf="output.LayerNorm"),
        )))  # fmt: skip
    beside = (*BESIDE, *(() if c.labels else ("classifier.",)), *(f"{c.name}.{head}" for head in BESIDE))
    return Plan(
        tuple(ends), tuple(layers), prefix=f"{c.name}.", computed=COMPUTED, endings=ENDINGS, beside=beside
    )  # fmt: skip


def norm(c: Config, x: Any, weight: tuple[Any, Any]) -> Any:
    return ops.layer_norm(x, weight[0], weight[1], c.layer_norm_eps)


def forward(c: Config, w: Any, batch: ops.Batch, cache: Sequence[Any], longest: int = 0) -> Any:
    """Hidden states (T, hidden) of the T tokens of `batch`, which has texts as wholes."""
    d, gelu = c.hidden_size, activation("hidden_act", c.hidden_act)
    x = ops.add(ops.embed(batch.tokens, w.embed, 1.0), ops.embed(batch.types, w.types, 1.0))
    x = norm(c, ops.add(x, ops.embed(batch.positions, w.positions, 1.0)), w.norm)
    for layer, layer_cache in zip(w.layers, cache, strict=True):
        qkv = ops.linear(x, layer.qkv, batch)
        mixed = ops.attention(
            qkv[:, :d], qkv[:, d : 2 * d], qkv[:, 2 * d :], batch, layer_cache, c.head_size**-0.5, causal=False
        )
        x = norm(c, ops.add(x, ops.linear(mixed, layer.output, batch)), layer.attention_norm)
        h = ops.activation(ops.linear(x, layer.up, batch), gelu)
        x = norm(c, ops.add(x, ops.linear(h, layer.down, batch)), layer.mlp_norm)
    return x


def logits(c: Config, w: Any, x: Any) -> Any:
    """(R, hidden) -> (R, labels)."""
    return ops.linear(ops.softcap(ops.linear(x, w.dense), 1.0), w.scores)  # a cap of 1 is tanh


UNREAD = (
    "gradient_checkpointing", "hidden_dropout_prob", "attention_probs_dropout_prob", "output_past", "pooler_type",
    "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head",
    "sentence_transformers", "sbert_ce_default_activation_function",
)  # fmt: skip


def family(name: str, config: type[Config], model_types: Mapping[str, ModelType]) -> Family:
    """The family whose Config is a kind of BERT's."""
    return Family(name, model_types, config, plan, forward, logits, encoder=True)
