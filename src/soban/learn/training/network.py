"""The network as transformers' own class, with this project's attention, norms and mlp inside it, where it has them."""

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from soban.learn.training import attention, mlp, norms
from soban.learn.training.families import FAMILIES, TUNED, Family
from soban.learn.training.losses import next_token_loss
from soban.learn.training.settings import Settings
from soban.learn.training.sizes import new_config

BY: dict[str, Callable[..., Any]] = {"attention": attention.forward_of, "norm": norms.forward_of, "mlp": mlp.forward_of}


def config(settings: Settings, ids: dict[str, int]) -> Any:
    """transformers' configuration of the network; `ids`: those of bos, eos and, where there is one, pad."""
    import transformers

    family = FAMILIES[settings.family]
    keys = {**new_config(settings), "dtype": "float32", "pad_token_id": None, **ids}
    return getattr(transformers, family.config_class)(**keys)


def new_model(settings: Settings, ids: dict[str, int]) -> Any:
    """A model with fresh float32 weights, decided by the seed."""
    import transformers

    family, configuration = FAMILIES[settings.family], config(settings, ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = getattr(transformers, family.model_class)._from_config(configuration, attn_implementation="eager")
        narrow(model, family, settings.shape.num_hidden_layers)
    replace_modules(model, settings.family)
    model.train()
    return model


def replace_modules(model: Any, family: str, kinds: Collection[str] = tuple(BY)) -> None:
    """Lets the modules that the family's row names compute by ours, where they are of these kinds."""
    for module in model.modules():
        kind, about = TUNED[family].replaced.get(type(module).__name__, ("", {}))
        if kind in kinds:
            module.forward = BY[kind](module, **about)


def narrow(model: Any, family: Family, layers: int) -> None:
    """Weights that write into the residual stream begin smaller, as GPT-2's do: it is a sum over 2 * layers of them."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(family.residual):
                weight /= math.sqrt(2 * layers)


def states(model: Any, inputs: Tensor, documents: Tensor) -> Tensor:
    """Hidden states (B, T, hidden) after the last norm; `documents` (B, T) says which tokens belong together."""
    family, dtype = TUNED[model.config.model_type], model.dtype

    def mask(window: int | None) -> Tensor:
        first = attention.firsts(documents, window)
        return attention.mask(first, dtype) if family.attends else attention.hidden(first, dtype)

    kinds, window = getattr(model.config, "layer_types", None), getattr(model.config, "sliding_window", None)
    masks: Any = mask(None if kinds else window)
    if family.windowed or "sliding_attention" in (kinds or ()):
        masks = {"full_attention": masks, "sliding_attention": mask(window)}
    positions = torch.arange(inputs.shape[1], device=inputs.device).unsqueeze(0)
    if family.restarting:  # elsewhere relative ones are all that counts
        positions = positions - attention.firsts(documents, None)
    result: Tensor = model.base_model(
        input_ids=inputs, attention_mask=masks, position_ids=positions, use_cache=False
    ).last_hidden_state
    return result


def head(model: Any) -> Tensor:
    """The output's matrix (vocabulary, hidden)."""
    weight: Tensor = model.get_output_embeddings().weight
    return weight


def logit_cap(model: Any) -> float | None:
    """The soft cap of its logits."""
    key = TUNED[model.config.model_type].logit_cap
    return getattr(model.config, key) if key else None


def loss(model: Any, inputs: Tensor, documents: Tensor, targets: Tensor) -> Tensor:
    """Nats, summed over the tokens that have a target."""
    return next_token_loss(states(model, inputs, documents), head(model), targets, logit_cap(model))
