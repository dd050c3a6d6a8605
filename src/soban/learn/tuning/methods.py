"""Ways of tuning, in one table: what of a model learns, and peft's configuration of it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from soban.base.errors import UserError
from soban.learn.training.families import FAMILIES
from soban.learn.tuning.settings import TuneSettings


@dataclass(frozen=True)
class Way:
    """A way of tuning. `config`: peft's, of settings; None where the model's own weights learn."""

    config: Callable[[TuneSettings], Any] | None
    learns: Callable[[str], bool]  # whether the weight of this name does
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


METHODS = {
    "lora": Way(lora, lambda name: "lora_" in name, rate=2e-4, small_rate=2e-3, runs=True),
}


def _whole(value: float) -> float | int:
    """As peft's users write it."""
    return int(value) if value == int(value) else value


def _layers(settings: TuneSettings) -> dict[str, Any]:
    if not settings.layers:
        return {}
    pattern = FAMILIES[settings.family].layers.strip(".")
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
