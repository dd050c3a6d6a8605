"""One wiring for the decoders that differ from Llama in data: the plan of their weights, and what they compute.

    x = embed(token) * embedding_scale
    in each layer:
        x = x + norm(attention(norm(x))) * residual_scale
        x = x + norm(feed_forward(norm(x))) * residual_scale
    logits = cap(head(norm(x)) * logit_scale)

Which of these norms, scales and caps a family has, and what else is special of it, its record says: see `Wiring`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from soban import ops
from soban.models.config import RotaryDecoder, activation
from soban.models.family import Family, ModelType
from soban.models.plan import Layer, Pair, Part, Place, Plan, Shape, Weight
from soban.models.rope import Rotation
from soban.ops.formats import Floats, bf16_bits, bf16_values

Names = Mapping[str, Mapping[str, str]]  # a tensor's role -> its name in each kind of file
NAMES: Names = {
    "embed": {"hf": "model.embed_tokens", "gguf": "token_embd"},
    "norm": {"hf": "model.norm", "gguf": "output_norm"},
    "head": {"hf": "lm_head", "gguf": "output"},
    "layer": {"hf": "model.layers.{i}.", "gguf": "blk.{i}."},
    "attention_norm": {"hf": "input_layernorm", "gguf": "attn_norm"},
    "query": {"hf": "self_attn.q_proj", "gguf": "attn_q"},
    "key": {"hf": "self_attn.k_proj", "gguf": "attn_k"},
    "value": {"hf": "self_attn.v_proj", "gguf": "attn_v"},
    "query_norm": {"hf": "self_attn.q_norm", "gguf": "attn_q_norm"},
    "key_norm": {"hf": "self_attn.k_norm", "gguf": "attn_k_norm"},
    "output": {"hf": "self_attn.o_proj", "gguf": "attn_output"},
    "mlp_norm": {"hf": "post_attention_layernorm", "gguf": "ffn_norm"},
    "gate": {"hf": "mlp.gate_proj", "gguf": "ffn_gate"},
    "up": {"hf": "mlp.up_proj", "gguf": "ffn_up"},
    "down": {"hf": "mlp.down_proj", "gguf": "ffn_down"},
}
# Those of the norms after attention and the feed-forward part, where a layer has them
AFTER: Names = {
    "output_norm": {"hf": "post_attention_layernorm", "gguf": "post_attention_norm"},
    "down_norm": {"hf": "post_feedforward_layernorm", "gguf": "post_ffw_norm"},
}
# And of the norms both before and after those parts
AROUND: Names = {**NAMES, **AFTER, "mlp_norm": {"hf": "pre_feedforward_layernorm", "gguf": "ffn_norm"}}

# How tensors end that follow from the config: frequencies, and masks of older files
COMPUTED = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")


@dataclass(frozen=True)
class Config(RotaryDecoder):
    """config.json's keys that all these families have, and ours, which no file says.

    rope_interleaved: neighbouring pairs of a head turn, as in llama2.c's files and some of GGUF's. plain_norms: what a
    family adds to its norms' weights has been added already, as in GGUF's files. compute_dtype: to which the
    embeddings' scale is rounded, where there is one.
    """

    rope_parameters: dict[str, Any]
    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int = 2048
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    rope_interleaved: bool = False
    plain_norms: bool = False
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    # keys of many: biases of attention's four matrices, and of the feed-forward part's
    attention_bias = False
    mlp_bias = False

    def __post_init__(self) -> None:
        activation("hidden_act", self.hidden_act)
        self.check()

    @property
    def norm_offset(self) -> float:
        """What the Gemmas add to the weights of their norms."""
        return 0.0 if self.plain_norms else 1.0

    @property
    def root_scale(self) -> float:
        """The root of the width, by which the Gemmas multiply their embeddings."""
        scale = np.array([self.hidden_size**0.5], np.float32)
        return float((bf16_values(bf16_bits(scale)) if self.compute_dtype == "bfloat16" else scale)[0])


@dataclass(frozen=True)
class Wiring:
    """A family's record for one config. `windows`: how far each layer looks back; `rotations`: by which of the config's
    rotations it turns, None: it does not turn.

    `before` and `after`: norms of what attention and the feed-forward part read, and of what they give. `head_norm`:
    queries and keys are normed, each head by itself or the whole row. `parallel`: attention and the feed-forward part
    both read what the layer begins with, by one norm or by two, and are added together. `gated`: the feed-forward part
    is activation(gate) * up. `growth`: queries are multiplied by 1 + first * ln(1 + floor(position / second)).
    `split_heads`: the tensor of queries, keys and values has those of one head after the other. `slopes`: a score is
    less for each position between. `older`: how names begin in older files -> how they do now.
    """

    names: Names
    eps: float
    windows: tuple[int | None, ...]
    rotations: tuple[int | None, ...]
    activation: str
    attention_scale: float
    interleaved: bool
    norm: Literal["rms", "layer"] = "rms"
    norm_offset: float = 0.0
    norm_bias: bool = False
    before: bool = True
    after: bool = False
    parallel: Literal["one norm", "two norms"] | None = None
    head_norm: Literal["head", "row"] | None = None
    gated: bool = True
    query_bias: bool = False  # of keys and values, too
    output_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    growth: tuple[float, float] | None = None
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    attention_cap: float | None = None
    logit_cap: float | None = None
    split_heads: bool = False
    embedding_norm: bool = False
    slopes: bool = False
    older: Mapping[str, str] = field(default_factory=dict)


def llama(c: Config) -> Wiring:
    """Llama's record: a norm before each part, and windows and biases where the config has them."""
    return Wiring(
        names=NAMES, eps=c.rms_norm_eps, windows=c.windows, rotations=(0,) * c.num_hidden_layers,
        activation=activation("hidden_act", c.hidden_act), attention_scale=c.head_size**-0.5,
        interleaved=c.rope_interleaved, query_bias=c.attention_bias, output_bias=c.attention_bias, mlp_bias=c.mlp_bias,
    )  # fmt: skip


def family(
    name: str, model_types: Mapping[str, ModelType], config: type[Any], wiring: Callable[[Any], Wiring] = llama
) -> Family:
    """A family whose models are wired by their record."""

    def forward(c: Any, w: Any, batch: ops.Batch, cache: Sequence[Any], longest: int = 0) -> Any:
        return _forward(c, wiring(c), w, batch, cache, longest)

    return Family(
        name, model_types, config, lambda c: _plan(c, wiring(c)), forward, lambda c, w, x: _logits(wiring(c), w, x)
    )


def _plan(c: Config, r: Wiring) -> Plan:
    at = _Places(r, _place(r.names["embed"], lambda kind: ""))
    embed = at.here.vocabulary("embed", c.vocab_size, c.hidden_size, False, **r.names["embed"])
    norm = at.norm("norm", c.hidden_size)
    head = at.here.vocabulary("head", c.vocab_size, c.hidden_size, r.head_bias, **r.names["head"])
    layers = []
    for i in range(c.num_hidden_layers):
        prefixes = {kind: prefix.format(i=i) for kind, prefix in r.names["layer"].items()}
        layers.append(_layer(c, r, _Places(r, Place(**prefixes), c.num_attention_heads if r.split_heads else 1)))
    prefix = r.names["layer"]["hf"].partition(".")[0] + "."
    first = (embed, at.norm("embedding_norm", c.hidden_size)) if r.embedding_norm else (embed,)
    ends = (*first, norm) if c.tie_word_embeddings else (*first, norm, head)
    return Plan(ends, tuple(layers), prefix=prefix, computed=COMPUTED, older=r.older)


def _place(names: Mapping[str, str], prefix: Callable[[str], str]) -> Place:
    return Place(**{kind: prefix(kind) for kind in names})


@dataclass(frozen=True)
class _Places:
    """Weights by their roles, at the model's ends or in a layer."""

    wiring: Wiring
    here: Place
    heads: int = 1

    def norm(self, role: str, size: int) -> Weight:
        return self.here.vector(role, size, bias=self.wiring.norm_bias, **self.wiring.names[role])

    def rows(self, role: str, shape: Shape, bias: bool, whole: str = "", first: int = 0, precise: bool = False) -> Any:
        """One matrix. Where `whole` has a name, that tensor holds it, from its row `first` on, and others."""
        names = self.wiring.names
        if whole not in names:
            return self.here.rows(shape[0], shape[1], bias=bias, precise=precise, **names[role])
        about = {"precise": precise, "wholes": names[whole], "first": first, "heads": self.heads}
        return self.here.rows(shape[0], shape[1], bias=bias, hf=names[role]["hf"], **about)


def _layer(c: Config, r: Wiring, at: _Places) -> Layer:
    d, f, has = c.hidden_size, c.intermediate_size, r.query_bias
    q, kv = c.num_attention_heads * c.head_size, c.kv_heads * c.head_size
    qkv = at.here.matrix(
        "qkv",
        at.rows("query", (q, d), has, "qkv"),
        at.rows("key", (kv, d), has, "qkv", q),
        at.rows("value", (kv, d), has, "qkv", q + kv, precise=True),
    )
    output = at.here.matrix("output", at.rows("output", (d, q), r.output_bias))
    gate = [at.rows("gate", (f, d), r.mlp_bias, "gate_up")] if r.gated else []
    up = at.rows("up", (f, d), r.mlp_bias, "gate_up", f)
    mlp = at.here.matrix("gate_up" if r.gated else "up", *gate, up)
    down = at.here.matrix("down", at.rows("down", (d, f), r.mlp_bias))
    first = [at.norm("attention_norm", d)] if r.before else []
    one = r.parallel == "one norm"
    second = [at.norm("mlp_norm", d)] if r.before and not one else []
    sizes = (q, kv) if r.head_norm == "row" else (c.head_size, c.head_size)
    heads = [at.norm("query_norm", sizes[0]), at.norm("key_norm", sizes[1])] if r.head_norm else []
    after, last = ([at.norm(role, d)] if r.after else [] for role in ("output_norm", "down_norm"))
    pairs = [_pair(r, norm, qkv.parts + mlp.parts if one else qkv.parts) for norm in first]
    pairs += [_pair(r, norm, mlp.parts) for norm in second]
    if r.gated:
        pairs.append(Pair(up.parts[0], down.parts, bias=up.biases[0] if up.biases else None))
    return Layer((*first, qkv, *heads, output, *after, *second, mlp, down, *last), tuple(pairs))


def _pair(r: Wiring, norm: Weight, readers: tuple[Part, ...]) -> Pair:
    return Pair(norm.parts[0], readers, bias=norm.biases[0] if norm.biases else None, offset=r.norm_offset)


def _norm(r: Wiring, x: Any, weight: Any) -> Any:
    if r.norm == "rms":
        return ops.rms_norm(x, weight, r.eps, offset=r.norm_offset)
    weight, bias = weight if r.norm_bias else (weight, None)
    return ops.layer_norm(x, weight, bias, r.eps)


def _forward(c: Config, r: Wiring, w: Any, batch: ops.Batch, cache: Sequence[Any], longest: int) -> Any:
    """Hidden states (T, hidden) after the last norm, for the T tokens of `batch`, of texts of up to `longest`."""
    turns = [_turns(r, batch, rotation.scale, table) for rotation, table in _tables(c, longest)]
    x = ops.embed(batch.tokens, w.embed, r.embedding_scale)
    x = _norm(r, x, w.embedding_norm) if r.embedding_norm else x
    for i, (layer, layer_cache) in enumerate(zip(w.layers, cache, strict=True)):
        index = r.rotations[i]
        angles = None if index is None else turns[index]
        h = _norm(r, x, layer.attention_norm) if r.before else x
        mixed = _attention(c, r, layer, h, angles, batch, layer_cache, r.windows[i])
        if r.parallel:
            h = h if r.parallel == "one norm" else _norm(r, x, layer.mlp_norm)
            x = ops.add(ops.add(x, mixed), _feed_forward(r, layer, h, batch))
            continue
        x = _added(r, x, mixed, layer.output_norm if r.after else None)
        h = _norm(r, x, layer.mlp_norm) if r.before else x
        x = _added(r, x, _feed_forward(r, layer, h, batch), layer.down_norm if r.after else None)
    return _norm(r, x, w.norm)


def _tables(c: Config, longest: int) -> Iterator[tuple[Rotation, Floats]]:
    """The frequencies of each rotation; those of one row are repeated where another's go by the text's length."""
    tables = [rotation.table(longest) for rotation in c.rotations]
    rows = max(map(len, tables))
    for rotation, table in zip(c.rotations, tables, strict=True):
        yield rotation, table if len(table) == rows else np.repeat(table, rows, axis=0)


def _turns(r: Wiring, batch: ops.Batch, scale: float, table: Floats) -> tuple[Any, Any]:
    """By what queries turn, and keys."""
    keys = ops.rotary(batch.positions, batch.rotation, table, scale)
    queries = keys if r.growth is None else ops.rotary(batch.positions, batch.rotation, table, scale, *r.growth)
    return queries, keys


def _added(r: Wiring, x: Any, part: Any, norm: Any) -> Any:
    part = part if norm is None else _norm(r, part, norm)
    return ops.add(x, part if r.residual_scale == 1.0 else ops.scale(part, r.residual_scale))


def _attention(
    c: Config, r: Wiring, layer: Any, h: Any, angles: Any, batch: ops.Batch, cache: Any, window: int | None
) -> Any:
    """(T, hidden) -> (T, hidden)."""
    q, kv = c.num_attention_heads * c.head_size, c.kv_heads * c.head_size
    qkv = ops.linear(h, layer.qkv, batch)
    queries, keys, values = qkv[:, :q], qkv[:, q : q + kv], qkv[:, q + kv :]
    if r.head_norm is not None:
        queries = ops.head_norm(queries, layer.query_norm, r.eps, r.norm_offset)
        keys = ops.head_norm(keys, layer.key_norm, r.eps, r.norm_offset)
    if angles is not None:
        queries, keys = (
            ops.rope(x, turn, r.interleaved, c.head_size) for x, turn in zip((queries, keys), angles, strict=True)
        )
    mixed = ops.attention(
        queries, keys, values, batch, cache, scale=r.attention_scale, softcap=r.attention_cap, window=window,
        slopes=_slopes(c.num_attention_heads) if r.slopes else None,
    )  # fmt: skip
    return ops.linear(mixed, layer.output, batch)


def _slopes(heads: int) -> Floats:
    """What the scores of each head lose for a position; of heads beyond a power of two (Press et al. 2022)."""
    power = 2 ** math.floor(math.log2(heads))
    steps = [(i + 1) * 8 / power for i in range(power)] + [(2 * i + 1) * 4 / power for i in range(heads - power)]
    return np.exp2(-np.array(steps)).astype(np.float32)


def _feed_forward(r: Wiring, layer: Any, h: Any, batch: ops.Batch) -> Any:
    """(T, hidden) -> (T, hidden)."""
    if r.gated:
        return ops.linear(ops.glu(ops.linear(h, layer.gate_up, batch), r.activation), layer.down, batch)
    return ops.linear(ops.activation(ops.linear(h, layer.up, batch), r.activation), layer.down, batch)


def _logits(r: Wiring, w: Any, x: Any) -> Any:
    """Hidden states (R, hidden) -> a score for each entry of the vocabulary (R, vocabulary)."""
    scores = ops.scores(x, w.head)
    scores = scores if r.logit_scale == 1.0 else ops.scale(scores, r.logit_scale)
    return scores if r.logit_cap is None else ops.softcap(scores, r.logit_cap)
