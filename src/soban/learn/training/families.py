"""What training knows of each family, in one table: transformers' classes, what of them is replaced, a new config."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from soban.learn.training.presets import Shape

# What computes in place of a module: "attention" (cap: the module's attribute with a soft cap; normed: each head
# of queries and keys is), "norm" (offset: what is
# added to its weight), "mlp" (activation)
Replacement = tuple[Literal["attention", "norm", "mlp"], Mapping[str, Any]]


@dataclass(frozen=True)
class Activations:
    """Numbers that a layer keeps of a token until the backward pass, and that pass through the layer at hand."""

    hidden: int  # times the width of the network
    inner: int  # times that of the feed-forward part
    shares: int  # times that of attention: a number for each head and token of the context
    passing: int  # times attention's, there and back


@dataclass(frozen=True)
class Family:
    """A family. `keys`: those of its config.json that a shape has, with the shape's own names; `config`: what else a
    new model of a shape gets. `replaced`: its modules that compute by ours, by class; the others are transformers' own.
    """

    config_class: str
    model_class: str
    replaced: Mapping[str, Replacement]
    activations: Activations
    keys: Mapping[str, str] = field(default_factory=dict)
    config: Callable[[Shape], dict[str, Any]] = lambda shape: {}
    layers: str = ".layers."  # which stands in the names of the weights of its layers
    residual: tuple[str, ...] = ()  # how weights end that write into the residual stream, and begin smaller
    logit_cap: str = ""  # the key of the config that says where logits are capped
    restarting: bool = False  # whether positions are counted from where a document begins: those that are learnt are

    @property
    def windowed(self) -> bool:
        """Whether some of its layers look back only so far."""
        return "window" in self.keys.values()

    @property
    def groups(self) -> bool:
        """Whether several heads may share one of keys and values."""
        return "num_key_value_heads" in self.keys.values()

    @property
    def attends(self) -> bool:
        """Whether its attention is replaced by ours."""
        return any(kind == "attention" for kind, _ in self.replaced.values())


DECODER = {
    "hidden_size": "hidden_size", "intermediate_size": "intermediate_size", "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads", "num_key_value_heads": "num_key_value_heads",
    "max_position_embeddings": "context",
}  # fmt: skip
RESIDUAL = ("o_proj.weight", "down_proj.weight")
FAMILIES = {
    "llama": Family(
        "LlamaConfig", "LlamaForCausalLM", keys=DECODER,
        # 1e-5 is llama2.c's, which its run.c takes for granted
        config=lambda shape: {"head_dim": shape.head_dim, "rms_norm_eps": 1e-5},
        replaced={
            "LlamaAttention": ("attention", {}), "LlamaRMSNorm": ("norm", {"offset": 0.0}),
            "LlamaMLP": ("mlp", {"activation": "silu"}),
        },
        activations=Activations(hidden=10, inner=4, shares=1, passing=5), residual=RESIDUAL,
    ),
    "gemma2": Family(
        "Gemma2Config", "Gemma2ForCausalLM", keys=DECODER | {"sliding_window": "window"},
        config=lambda shape: {
            "head_dim": shape.head_dim, "query_pre_attn_scalar": shape.head_dim,
            "sliding_window": shape.window or max(1, shape.context // 2),
        },
        replaced={
            "Gemma2Attention": ("attention", {"cap": "attn_logit_softcapping"}),
            "Gemma2RMSNorm": ("norm", {"offset": 1.0}), "Gemma2MLP": ("mlp", {"activation": "gelu_tanh"}),
        },
        # whose soft caps have slopes, and which has twice the norms
        activations=Activations(hidden=14, inner=4, shares=2, passing=8), residual=RESIDUAL,
        logit_cap="final_logit_softcapping",
    ),
    "qwen3": Family(
        "Qwen3Config", "Qwen3ForCausalLM", keys=DECODER, config=lambda shape: {"head_dim": shape.head_dim},
        replaced={
            "Qwen3Attention": ("attention", {"normed": True}), "Qwen3RMSNorm": ("norm", {"offset": 0.0}),
            "Qwen3MLP": ("mlp", {"activation": "silu"}),
        },
        activations=Activations(hidden=12, inner=4, shares=1, passing=6), residual=RESIDUAL,
    ),
    "gemma3_text": Family(
        "Gemma3TextConfig", "Gemma3ForCausalLM", keys=DECODER | {"sliding_window": "window"},
        config=lambda shape: {
            "head_dim": shape.head_dim, "query_pre_attn_scalar": shape.head_dim,
            "sliding_window": shape.window or max(1, shape.context // 2),
        },
        replaced={
            "Gemma3Attention": ("attention", {"normed": True}), "Gemma3RMSNorm": ("norm", {"offset": 1.0}),
            "Gemma3MLP": ("mlp", {"activation": "gelu_tanh"}),
        },
        activations=Activations(hidden=16, inner=4, shares=1, passing=6), residual=RESIDUAL,
        logit_cap="final_logit_softcapping",
    ),
    "gpt2": Family(
        "GPT2Config", "GPT2LMHeadModel",
        keys={
            "n_embd": "hidden_size", "n_inner": "intermediate_size", "n_layer": "num_hidden_layers",
            "n_head": "num_attention_heads", "n_positions": "context",
        },
        config=lambda shape: dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0),
        replaced={}, activations=Activations(hidden=10, inner=8, shares=2, passing=5), layers=".h.",
        residual=("c_proj.weight",), restarting=True,
    ),
}  # fmt: skip


def _further(prefix: str, **replaced: Replacement) -> Family:
    """A family that is tuned and not trained from nothing; `replaced`: its modules by the ends of their names."""
    return Family(
        f"{prefix}Config", f"{prefix}ForCausalLM", {prefix + name: one for name, one in replaced.items()},
        Activations(hidden=16, inner=6, shares=4, passing=8), restarting=not replaced,
    )  # fmt: skip


_LIKE_LLAMA: dict[str, Replacement] = {
    "Attention": ("attention", {}), "RMSNorm": ("norm", {"offset": 0.0}), "MLP": ("mlp", {"activation": "silu"}),
}  # fmt: skip
_LIKE_GEMMA: dict[str, Replacement] = {
    "Attention": ("attention", {}), "RMSNorm": ("norm", {"offset": 1.0}), "MLP": ("mlp", {"activation": "gelu_tanh"}),
}  # fmt: skip
# Those that can be tuned: through transformers' own modules where nothing is replaced.
TUNED = FAMILIES | {
    "mistral": _further("Mistral", **_LIKE_LLAMA),
    "qwen2": _further("Qwen2", **_LIKE_LLAMA),
    "gemma": _further("Gemma", **_LIKE_GEMMA),
    "smollm3": _further("SmolLM3"),
    "phi3": _further("Phi3"),
    "exaone4": _further("Exaone4"),
    "olmo2": _further("Olmo2"),
    "stablelm": _further("StableLm"),
    "ministral3": _further("Ministral3"),
}
