"""The Gemma 2 network as trainable torch functions, with the parameter names of a Hugging Face checkpoint."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from soban.models import architecture
from soban.models.assemble import expected_shapes

INITIAL_STD = 0.02


@dataclass(frozen=True)
class Config:
    """The keys of config.json that decide the shape and the arithmetic, under their own names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    sliding_window: int
    query_pre_attn_scalar: int
    attn_logit_softcapping: float = 50.0
    final_logit_softcapping: float = 30.0
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0

    def layer_type(self, layer: int) -> str:
        """Local and full attention take turns, local first."""
        return "full_attention" if layer % 2 else "sliding_attention"

    def as_json(self) -> dict[str, Any]:
        """The content of config.json, but for the ids of special tokens."""
        return asdict(self) | {
            "architectures": ["Gemma2ForCausalLM"],
            "model_type": "gemma2",
            "dtype": "float32",
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "initializer_range": INITIAL_STD,
            "layer_types": [self.layer_type(i) for i in range(self.num_hidden_layers)],
            "tie_word_embeddings": True,
            "use_cache": True,
        }


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Every parameter's name and shape, by the table that loading uses; the head is the embedding."""
    return expected_shapes(architecture(config.as_json()))


def parameter_count(config: Config) -> int:
    """How many numbers the network learns."""
    return sum(math.prod(shape) for shape in shapes(config).values())


def initial(config: Config, seed: int) -> dict[str, Tensor]:
    """Fresh float32 parameters: norms are zero (they multiply by 1 + w), the rest normal with a small deviation."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {}
    for name, shape in shapes(config).items():
        norm_weight = len(shape) == 1
        values = torch.zeros(shape) if norm_weight else torch.randn(shape, generator=generator) * INITIAL_STD
        parameters[name] = values.requires_grad_()
    return parameters


def hidden_states(config: Config, weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """Hidden states (B, T, hidden) after the last norm, for token ids (B, T)."""
    x = functional.embedding(tokens, weights["model.embed_tokens.weight"]) * math.sqrt(config.hidden_size)
    cos, sin = rotations(config, tokens.shape[1])
    for i in range(config.num_hidden_layers):
        layer = f"model.layers.{i}."
        window = config.sliding_window if config.layer_type(i) == "sliding_attention" else tokens.shape[1]
        y = norm(config, x, weights[layer + "input_layernorm.weight"])
        y = attention(config, weights, layer + "self_attn.", y, cos, sin, visible(tokens.shape[1], window))
        x = x + norm(config, y, weights[layer + "post_attention_layernorm.weight"])
        y = norm(config, x, weights[layer + "pre_feedforward_layernorm.weight"])
        y = feed_forward(weights, layer + "mlp.", y)
        x = x + norm(config, y, weights[layer + "post_feedforward_layernorm.weight"])
    return norm(config, x, weights["model.norm.weight"])


def logits(config: Config, weights: dict[str, Tensor], states: Tensor) -> Tensor:
    """Soft-capped scores (..., vocabulary) of the next token, for hidden states (..., hidden)."""
    cap = config.final_logit_softcapping
    # Dividing the states, not the scores, saves two passes over the largest array of a step
    return torch.tanh(functional.linear(states / cap, weights["model.embed_tokens.weight"])) * cap


def norm(config: Config, x: Tensor, weight: Tensor) -> Tensor:
    """x over its root mean square, times (1 + weight)."""
    return functional.rms_norm(x, weight.shape, 1.0 + weight, config.rms_norm_eps)


def attention(
    config: Config, weights: dict[str, Tensor], prefix: str, x: Tensor, cos: Tensor, sin: Tensor, hidden: Tensor
) -> Tensor:
    """Soft-capped attention; `hidden` (T, T) is -inf where a query may not look and 0 elsewhere."""
    batch, length, _ = x.shape
    groups = config.num_attention_heads // config.num_key_value_heads
    q = functional.linear(x, weights[prefix + "q_proj.weight"]).view(batch, length, -1, config.head_dim).transpose(1, 2)
    k = functional.linear(x, weights[prefix + "k_proj.weight"]).view(batch, length, -1, config.head_dim).transpose(1, 2)
    v = functional.linear(x, weights[prefix + "v_proj.weight"]).view(batch, length, -1, config.head_dim).transpose(1, 2)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    # The queries that share a key head are rows of one product: (B, key heads, groups * T, D)
    cap = config.attn_logit_softcapping
    q = (q * (config.query_pre_attn_scalar**-0.5 / cap)).reshape(batch, -1, groups * length, config.head_dim)
    scores = (q @ k.transpose(2, 3)).view(batch, -1, groups, length, length)
    scores = torch.tanh(scores) * cap + hidden
    mixed = scores.softmax(-1).view(batch, -1, groups * length, length) @ v
    mixed = mixed.view(batch, -1, length, config.head_dim).transpose(1, 2).reshape(batch, length, -1)
    return functional.linear(mixed, weights[prefix + "o_proj.weight"])


def feed_forward(weights: dict[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    """GeGLU with the tanh form of GELU."""
    gate = functional.gelu(functional.linear(x, weights[prefix + "gate_proj.weight"]), approximate="tanh")
    up = functional.linear(x, weights[prefix + "up_proj.weight"])
    return functional.linear(gate * up, weights[prefix + "down_proj.weight"])


def visible(length: int, window: int) -> Tensor:
    """(T, T): 0 where a query sees a key (itself and up to window - 1 before it), -inf elsewhere."""
    seen = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - window)
    return torch.zeros(length, length).masked_fill(~seen, -torch.inf)


def rotations(config: Config, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, head_dim) of the rotary positions 0..T-1; both halves of a head turn alike."""
    frequencies = config.rope_theta ** (-torch.arange(0, config.head_dim, 2).float() / config.head_dim)
    angles = torch.outer(torch.arange(length).float(), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, H, T, D) turned by its positions."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin
