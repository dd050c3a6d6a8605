"""The network as transformers' own class, with this project's attention, gates and norms inside it."""

import math
from typing import Any

import torch
from torch import Tensor

from soban.learn.training import attention, mlp, norms
from soban.learn.training.losses import next_token_loss
from soban.learn.training.settings import Settings

INITIAL_STD = 0.02
CLASSES = {"llama": ("LlamaConfig", "LlamaForCausalLM"), "gemma2": ("Gemma2Config", "Gemma2ForCausalLM")}


def config(settings: Settings, ids: dict[str, int]) -> Any:
    """transformers' configuration of the network; `ids`: those of bos, eos and, where there is one, pad."""
    import transformers

    shape = settings.shape
    common: dict[str, Any] = {
        "vocab_size": settings.vocab_size, "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size, "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads, "num_key_value_heads": shape.num_key_value_heads,
        "head_dim": shape.head_dim, "max_position_embeddings": shape.context, "tie_word_embeddings": True,
        "initializer_range": INITIAL_STD, "dtype": "float32", "pad_token_id": None, **ids,
    }  # fmt: skip
    if settings.family == "gemma2":
        window = shape.window or max(1, shape.context // 2)
        common |= {"sliding_window": window, "query_pre_attn_scalar": shape.head_dim}
    else:
        common |= {"rms_norm_eps": 1e-5}  # llama2.c's, which its run.c takes for granted
    return getattr(transformers, CLASSES[settings.family][0])(**common)


def new_model(settings: Settings, ids: dict[str, int]) -> Any:
    """A model with fresh float32 weights, decided by the seed."""
    import transformers

    made = config(settings, ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = getattr(transformers, CLASSES[settings.family][1])._from_config(made, attn_implementation="eager")
        narrow(model, settings.shape.num_hidden_layers)
    attention.replace_attention(model)
    norms.replace_norms(model)
    mlp.replace_gates(model)
    model.train()
    return model


def narrow(model: Any, layers: int) -> None:
    """Weights that write into the residual stream begin smaller, as GPT-2's do: it is a sum over 2 * layers of them."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight /= math.sqrt(2 * layers)


def states(model: Any, inputs: Tensor, documents: Tensor) -> Tensor:
    """Hidden states (B, T, hidden) after the last norm; `documents` (B, T) says which tokens belong together."""
    dtype = model.dtype
    full = attention.mask(documents, None, dtype)
    mask: Any = full
    if model.config.model_type == "gemma2":
        near = attention.mask(documents, model.config.sliding_window, dtype)
        mask = {"full_attention": full, "sliding_attention": near}
    positions = torch.arange(inputs.shape[1], device=inputs.device).unsqueeze(0)  # relative ones are all that counts
    result: Tensor = model.model(
        input_ids=inputs, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    return result


def loss(model: Any, inputs: Tensor, documents: Tensor, targets: Tensor) -> Tensor:
    """Nats, summed over the tokens that have a target."""
    cap = getattr(model.config, "final_logit_softcapping", None)
    return next_token_loss(states(model, inputs, documents), model.lm_head.weight, targets, cap)
