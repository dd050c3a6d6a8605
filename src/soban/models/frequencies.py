"""Rotary frequencies: how fast each pair of a head turns with the position, and the ways of stretching them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from soban.errors import UserError
from soban.ops.formats import Floats


def rope_frequencies(size: int, theta: float, scaling: Mapping[str, Any] | None) -> Floats:
    """(size / 2,) radians a position. `scaling` is config.json's rope_scaling: none, linear or llama3.

    Raises UserError for another kind. Sources: Su et al. 2021; Llama 3.1's model card for the smoothed stretch.
    """
    frequencies = (1.0 / theta ** (np.arange(0, size, 2) / size)).astype(np.float32)
    scaling = scaling or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return frequencies
    if kind == "linear":
        return frequencies / np.float32(_number(scaling, "factor"))
    if kind == "llama3":
        return _llama3(frequencies, scaling)
    raise UserError(
        "config.json: rope_scaling of type {kind} is not implemented; this reads default, linear and llama3",
        kind=kind, hint="use another model",
    )  # fmt: skip


def _llama3(frequencies: Floats, scaling: Mapping[str, Any]) -> Floats:
    """Slow pairs are divided by the factor, fast ones stay, those between are blended."""
    factor, low, high = (_number(scaling, key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    if low >= high:
        raise UserError(
            "config.json: rope_scaling's low_freq_factor {low} is not below its high_freq_factor {high}",
            low=low, high=high, hint="fetch config.json again",
        )  # fmt: skip
    turns = _number(scaling, "original_max_position_embeddings") * frequencies.astype(np.float64) / (2 * np.pi)
    stays = np.clip((turns - low) / (high - low), 0, 1)
    return ((1 - stays) * frequencies / factor + stays * frequencies).astype(np.float32)


def _number(scaling: Mapping[str, Any], key: str) -> float:
    value: Any = scaling.get(key)
    if type(value) not in (int, float) or not 0 < value < 1e30:  # bool is no number here
        raise UserError(
            "config.json: rope_scaling or rope_parameters needs {key} as a number above 0, not {value}",
            key=key, value=value, hint="fetch config.json again",
        )  # fmt: skip
    return float(value)


def rope_settings(config: Any) -> tuple[float, Mapping[str, Any] | None]:
    """theta and scaling, from rope_theta and rope_scaling or from rope_parameters, which holds both."""
    parameters = config.rope_parameters
    if parameters is None:
        return config.rope_theta, config.rope_scaling
    return _number({"rope_theta": config.rope_theta, **parameters}, "rope_theta"), parameters
