"""Ways of tuning, in one table: what of a model learns, and peft's configuration of it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from soban.base.errors import UserError
from soban.learn.training.families import TUNED
from soban.learn.tuning.settings import TuneSettings


@dataclass(frozen=True)
class Way:
    """A way of tuning. `config`: peft's, of settings; None where the model's own weights learn."""

    config: Callable[[TuneSettings], Any] | None
    mark: str  # which stands in the names of the weights that learn
    rate: float  # the usual learning rate of a large model
    small_rate: float  # and of one that has less than 100 M weights
    runs: bool  # whether the engine computes with it


def lora(settings: TuneSettings) -> Any:
    """peft's configuration of low-rank adapters (Hu et al. 2021)."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.rank, lora_alpha=_whole(settings.alpha),  # type: ignore[arg-type]
        use_rslora=settings.rslora, use_dora=settings.dora,
        target_modules=list(settings.modules), rank_pattern=_pattern("rank-of", settings.ranks, int),
        alpha_pattern=_pattern("alpha-of", settings.alphas, float), task_type="CAUSAL_LM", **_layers(settings),
    )  # fmt: skip


def ia3(settings: TuneSettings) -> Any:
    """peft's configuration of factors for keys, values and the feed-forward's inside (Liu et al. 2022)."""
    from peft import IA3Config
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as FEED_FORWARD
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as TARGETS

    usual = TARGETS.get(settings.family, IA3_MODULES)
    inside = FEED_FORWARD.get(settings.family, IA3_MODULES[-1:])
    targets = list(settings.modules or usual)
    return IA3Config(
        target_modules=targets, feedforward_modules=[name for name in inside if name in targets], task_type="CAUSAL_LM"
    )


IA3_MODULES = ["k_proj", "v_proj", "down_proj"]  # where peft names none for a family
METHODS = {
    "lora": Way(lora, "lora_", rate=2e-4, small_rate=2e-3, runs=True),
    "ia3": Way(ia3, "ia3_", rate=3e-3, small_rate=1e-2, runs=False),
    "full": Way(None, "", rate=2e-5, small_rate=5e-4, runs=False),
}


def _whole(value: float) -> float | int:
    """As peft's users write it."""
    return int(value) if value == int(value) else value


def _layers(settings: TuneSettings) -> dict[str, Any]:
    if not settings.layers:
        return {}
    pattern = TUNED[settings.family].layers.strip(".")
    return {"layers_to_transform": list(settings.layers), "layers_pattern": pattern}


def _pattern(flag: str, words: tuple[str, ...], kind: Callable[[str], Any]) -> dict[str, Any]:
    """NAME=VALUE as peft's patterns. Raises UserError for what is not written so."""
    pattern: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            pattern[name.strip()] = kind(value)
        except ValueError:
            name = ""
        if not name.strip() or pattern[name.strip()] <= 0:
            raise UserError(
                "--{flag} {value} is not understood", flag=flag, value=word, hint="write NAME=NUMBER, as down_proj=8"
            )
    return pattern


def ambiguous(patterns: dict[str, Any], modules: list[str]) -> str | None:
    """A module that several patterns name: peft saves them in another order than it was told, so that its value would
    change."""
    for module in modules:
        if sum(re.match(rf"(.*\.)?({name})$", module) is not None for name in patterns) > 1:
            return module
    return None
