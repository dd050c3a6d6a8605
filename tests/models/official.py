"""transformers as the judge of a config.json: a small random model of each family, and what both make of a change."""

import copy
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import soban
from soban.models import architecture
from soban.weights.safetensors import write_safetensors

from ..tiny import tokenizer

LLAMA: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 264, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "hidden_act": "silu", "max_position_embeddings": 64, "initializer_range": 0.02,
    "rms_norm_eps": 1e-3, "use_cache": True, "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2,
    "pretraining_tp": 1, "tie_word_embeddings": False, "rope_theta": 100.0, "rope_scaling": None,
    "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False, "torch_dtype": "float32",
    "transformers_version": "4.40.0",
}  # fmt: skip
_shared = {key: value for key, value in LLAMA.items() if key not in ("mlp_bias", "pretraining_tp", "rope_scaling")}
_plain = {key: value for key, value in _shared.items() if key not in ("attention_bias", "head_dim")}
FURTHER: dict[str, dict[str, Any]] = {
    "qwen2": {
        **_plain, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True,
        "sliding_window": 8, "max_window_layers": 1,
    },
    "qwen3": {
        **_shared, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "use_sliding_window": True,
        "sliding_window": 8, "max_window_layers": 1,
    },
    "gemma": {
        **_shared, "model_type": "gemma", "architectures": ["GemmaForCausalLM"], "hidden_act": "gelu_pytorch_tanh",
        "tie_word_embeddings": True, "use_bidirectional_attention": None,
    },
    "gemma3_text": {
        **{key: value for key, value in _shared.items() if key != "hidden_act"}, "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"], "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 8,
        "sliding_window_pattern": 2, "num_hidden_layers": 3, "rope_local_base_freq": 7.0, "query_pre_attn_scalar": 20,
        "final_logit_softcapping": 3.0, "attn_logit_softcapping": None, "tie_word_embeddings": True,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0}, "use_bidirectional_attention": False,
    },
    "gemma4_text": {
        "model_type": "gemma4_text", "architectures": ["Gemma4ForCausalLM"], "vocab_size": 264, "hidden_size": 32,
        "intermediate_size": 24, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 8, "global_head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 64,
        "rms_norm_eps": 1e-3, "sliding_window": 8, "final_logit_softcapping": 3.0, "tie_word_embeddings": True,
        "layer_types": ["sliding_attention", "full_attention"] * 3, "num_kv_shared_layers": 2,
        "use_double_wide_mlp": True, "vocab_size_per_layer_input": 264, "hidden_size_per_layer_input": 6,
        "attention_k_eq_v": False, "enable_moe_block": False, "attention_bias": False, "use_cache": True,
        "use_bidirectional_attention": None, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 7.0},
            "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 100.0},
        },
    },
    "smollm3": {
        **_plain, "model_type": "smollm3", "architectures": ["SmolLM3ForCausalLM"], "attention_bias": True,
        "mlp_bias": True, "no_rope_layers": [1, 0], "no_rope_layer_interval": 2, "use_sliding_window": True,
        "sliding_window": 8,
    },
    "phi3": {
        **_plain, "model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "sliding_window": 12,
        "original_max_position_embeddings": 16, "partial_rotary_factor": 0.75, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
        "num_attention_heads": 2, "num_key_value_heads": 1,
        "rope_scaling": {
            "type": "longrope", "short_factor": [1 + i / 9 for i in range(6)],
            "long_factor": [2 + i / 2 for i in range(6)],
        },
    },
    "granite": {
        **_plain, "model_type": "granite", "architectures": ["GraniteForCausalLM"], "attention_bias": True,
        "mlp_bias": True, "embedding_multiplier": 3.0, "logits_scaling": 2.5, "residual_multiplier": 0.6,
        "attention_multiplier": 0.2,
    },
    "hyperclovax": {
        **_shared, "model_type": "hyperclovax", "architectures": ["HyperCLOVAXForCausalLM"], "mlp_bias": True,
        "attention_bias": True, "embedding_multiplier": 3.0, "logits_scaling": 0.4, "residual_multiplier": 0.6,
        "attention_multiplier": 0.2, "use_post_norm": True,
    },
    "exaone4": {
        **_plain, "model_type": "exaone4", "architectures": ["Exaone4ForCausalLM"], "sliding_window": 8,
        "sliding_window_pattern": 2,
    },
    "olmo2": {**_plain, "model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"], "attention_bias": True},
    "stablelm": {
        **{key: value for key, value in _plain.items() if key != "rms_norm_eps"}, "model_type": "stablelm",
        "architectures": ["StableLmForCausalLM"], "layer_norm_eps": 1e-3, "partial_rotary_factor": 0.5,
        "use_qkv_bias": True, "qk_layernorm": False, "use_parallel_residual": False, "hidden_dropout": 0.0,
        "num_attention_heads": 2, "num_key_value_heads": 1,
    },
    "ministral3": {
        **{key: value for key, value in _shared.items() if key not in ("attention_bias", "rope_theta")},
        "model_type": "ministral3", "architectures": ["Ministral3ForCausalLM"], "sliding_window": 16,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 100.0, "factor": 8.0, "original_max_position_embeddings": 8,
            "beta_fast": 32.0, "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.7,
        },
    },
    "lfm2": {
        "model_type": "lfm2", "architectures": ["Lfm2ForCausalLM"], "vocab_size": 264, "hidden_size": 32,
        "intermediate_size": 72, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "norm_eps": 1e-3, "rope_theta": 100.0, "tie_word_embeddings": True,
        "conv_bias": False, "conv_L_cache": 3, "block_multiple_of": 16, "block_ffn_dim_multiplier": 0.75,
        "block_auto_adjust_ff_dim": True, "layer_types": ["conv", "conv", "full_attention", "conv"],
        "initializer_range": 0.02, "use_cache": True, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    },
    "qwen3_5_text": {
        "model_type": "qwen3_5_text", "architectures": ["Qwen3_5ForCausalLM"], "vocab_size": 264, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16, "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-3,
        "tie_word_embeddings": False, "attention_bias": False, "attention_dropout": 0.0,
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 12, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "full_attention_interval": 3, "initializer_range": 0.02, "use_cache": True,
        "pad_token_id": None, "bos_token_id": None, "eos_token_id": 2,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5, "mrope_interleaved": True,
            "mrope_section": [2, 1, 1],
        },
    },
    "gpt_neox": {
        "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "vocab_size": 264, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "gelu",
        "rotary_pct": 0.5, "rotary_emb_base": 100.0, "max_position_embeddings": 64, "layer_norm_eps": 1e-3,
        "use_parallel_residual": True, "attention_bias": True, "tie_word_embeddings": False, "bos_token_id": 1,
        "eos_token_id": 2, "hidden_dropout": 0.0, "attention_dropout": 0.0, "classifier_dropout": 0.1,
        "initializer_range": 0.02, "use_cache": True, "torch_dtype": "float32", "transformers_version": "4.40.0",
    },
    "bloom": {
        "model_type": "bloom", "architectures": ["BloomForCausalLM"], "vocab_size": 264, "hidden_size": 48,
        "n_layer": 2, "n_head": 6, "layer_norm_epsilon": 1e-3, "apply_residual_connection_post_layernorm": False,
        "hidden_dropout": 0.0, "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True,
        "pretraining_tp": 1, "slow_but_exact": False, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3,
        "tie_word_embeddings": True, "seq_length": 64,
    },
    "gptj": {
        "model_type": "gptj", "architectures": ["GPTJForCausalLM"], "vocab_size": 264, "n_embd": 32, "n_layer": 2,
        "n_head": 2, "n_positions": 64, "n_inner": None, "rotary_dim": 6, "activation_function": "gelu_new",
        "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "layer_norm_epsilon": 1e-3, "use_cache": True,
        "initializer_range": 0.02, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False, "rotary": True,
        "scale_attn_weights": True, "gradient_checkpointing": False,
    },
    "phi": {
        **{key: value for key, value in _plain.items() if key not in ("rms_norm_eps", "hidden_act")},
        "model_type": "phi", "architectures": ["PhiForCausalLM"], "layer_norm_eps": 1e-3, "hidden_act": "gelu_new",
        "partial_rotary_factor": 0.5, "qk_layernorm": False, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
        "num_attention_heads": 2, "num_key_value_heads": 1,
    },
}  # fmt: skip
# Windows, caps and scales that bite within 24 tokens
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "mistral": {
        **{key: value for key, value in _shared.items() if key != "attention_bias"}, "model_type": "mistral",
        "architectures": ["MistralForCausalLM"], "sliding_window": 8,
    },
    "gemma2": {
        **{key: value for key, value in _shared.items() if key != "hidden_act"}, "model_type": "gemma2",
        "architectures": ["Gemma2ForCausalLM"], "hidden_activation": "gelu_pytorch_tanh",
        "hidden_act": "gelu_pytorch_tanh", "sliding_window": 8, "tie_word_embeddings": True,
        "query_pre_attn_scalar": 20, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0,
        "layer_types": ["sliding_attention", "full_attention"], "use_bidirectional_attention": None,
    },
    "gpt2": {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 264, "n_embd": 32, "n_layer": 2,
        "n_head": 4, "n_positions": 64, "n_ctx": 64, "n_inner": None, "activation_function": "gelu_new",
        "attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "layer_norm_epsilon": 1e-3, "initializer_range": 0.02,
        "summary_type": "cls_index", "summary_use_proj": True, "summary_activation": None,
        "summary_proj_to_labels": True, "summary_first_dropout": 0.1, "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": False, "add_cross_attention": False,
        "use_cache": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None, "tie_word_embeddings": True,
        "task_specific_params": {"text-generation": {"do_sample": True}},
    },
    **FURTHER,
}  # fmt: skip
IDS = [int(i) for i in np.random.default_rng(3).integers(6, 262, 24)]
# Sums of float32 in another order: transformers' own distance from float64, and room for ours.
MARGIN = 8
LEAST = 1e-5

Logits = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """Logits, or why there are none; `error`: how far the logits in float32 are from those in float64."""

    logits: Logits | None = None
    refusal: str = ""
    error: float = 0.0


def folder_of(path: Path, config: dict[str, Any], seed: int = 0) -> Path:
    """A model's folder with a tokenizer and random weights."""
    path.mkdir(parents=True, exist_ok=True)
    write(path, weights(config, seed))
    files = {"config.json": config, "tokenizer.json": tokenizer(), "tokenizer_config.json": {}}
    for name, content in files.items():
        (path / name).write_text(json.dumps(content), encoding="utf-8")
    return path


def weights(config: dict[str, Any], seed: int = 0) -> dict[str, npt.NDArray]:
    """Random numbers, wide enough that positions change the logits."""
    dice = np.random.default_rng(seed)
    shapes = architecture(config).plan.file_shapes()
    return {name: dice.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "int32": "I32", "uint8": "U8", "int8": "I8"}


def write(folder: Path, tensors: dict[str, npt.NDArray], name: str = "model.safetensors") -> None:
    """One file of weights."""
    (folder / name).unlink(missing_ok=True)
    entries = [(key, NAMES[str(value.dtype)], value.shape) for key, value in tensors.items()]
    write_safetensors(folder / name, entries, lambda key: [np.ascontiguousarray(tensors[key])], {"format": "pt"})


def configure(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def theirs(folder: Path, ids: list[int] = IDS) -> Verdict:
    """What transformers makes of a folder. Weights that it would make up are a refusal, too."""
    import torch
    import transformers

    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
        if info["missing_keys"]:
            return Verdict(refusal=f"{sorted(info['missing_keys'])[0]} would be random")
        with torch.no_grad():
            single = model(torch.tensor([ids])).logits[0].numpy().astype(np.float64)
            double = model.double()(torch.tensor([ids])).logits[0].numpy()
    except Exception as error:  # it raises whatever comes along
        return Verdict(refusal=f"{type(error).__name__}: {error}")
    if not np.isfinite(single).all():
        return Verdict(refusal="logits that are no numbers")
    return Verdict(double, error=float(np.abs(double - single).max()))


def ours(folder: Path, ids: list[int] = IDS) -> Verdict:
    """What soban makes of it; anything but a UserError is raised."""
    try:
        return Verdict(soban.load(folder, dtype="f32").logits(ids).astype(np.float64))
    except soban.UserError as error:
        assert "\n" not in str(error)
        return Verdict(refusal=str(error))


def difference(official: Verdict, own: Verdict) -> str:
    """ "" where both agree; else "laxer" or "stricter" than transformers, or "other logits"."""
    if official.logits is None or own.logits is None:
        return "" if (official.logits is None) == (own.logits is None) else (
            "laxer" if official.logits is None else "stricter"
        )  # fmt: skip
    far = np.abs(official.logits - own.logits).max()
    return "" if far <= LEAST + MARGIN * official.error else f"other logits, by {far:.2g}"


def changed(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A config with keys set, or taken out where the value is ABSENT."""
    made = copy.deepcopy(config) | copy.deepcopy(changes)
    return {key: value for key, value in made.items() if value is not ABSENT}


class _Absent:
    def __repr__(self) -> str:
        return "absent"

    def __deepcopy__(self, memo: object) -> "_Absent":
        return self


ABSENT = _Absent()


def of_other_types(value: Any) -> Iterator[Any]:
    """Other values for a key: none at all, null, and one or more of each type of JSON, and near ones."""
    yield from (ABSENT, None, True, False, 0, 1, -1, 2, 3, 0.5, "x", "", [], {}, [1], {"a": 1})
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield from (float(value), str(value), [value], value * 2)
