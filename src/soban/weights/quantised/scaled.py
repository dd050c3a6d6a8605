"""Weights of 4 to 8 bits times scales: FP8 as DeepSeek, Qwen and vLLM keep it, and what compressed-tensors writes.

FP8: Micikevicius et al. 2022 (arXiv 2209.05433); MXFP4: OCP Microscaling Formats 1.0. compressed-tensors:
https://github.com/vllm-project/compressed-tensors/tree/main/src/compressed_tensors/compressors
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.weights.checkpoint import Tensor
from soban.weights.quantised.parts import (
    ANY,
    FLOATS,
    Floats,
    Module,
    Parts,
    Shape,
    ceiled,
    check_settings,
    e8m0,
    spread,
    unpacked,
    words,
)  # fmt: skip

SCALES = (*FLOATS, "f8_e8m0")
FP8_WORDS = """
quant_method activation_scheme weight_block_size modules_to_not_convert ignored_layers ignore activation_scale_ub
kv_cache_scheme dequantize
"""
FP8_SETTINGS = {
    **dict.fromkeys(FP8_WORDS.split(), ANY),
    "fmt": ("e4m3", "float8_e4m3fn"), "scale_fmt": ("float", "ue8m0", None), "expert_dtype": ("fp8",),
    "modules_to_convert": (None,),
}  # fmt: skip
COMPRESSED_WORDS = """
quant_method config_groups ignore kv_cache_scheme global_compression_ratio version sparsity_config
"""
FORMATS = (
    "pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mxfp4-pack-quantized", "mixed-precision",
)  # fmt: skip
COMPRESSED_SETTINGS = {
    **dict.fromkeys(COMPRESSED_WORDS.split(), ANY),
    "format": FORMATS, "quantization_status": ("compressed", "frozen"), "transform_config": (None, {}),
    "moe_sparsity_config": (None,),
}  # fmt: skip
GROUP_SETTINGS = {
    **dict.fromkeys(("targets", "weights", "input_activations", "output_activations"), ANY), "format": (None, *FORMATS)
}  # fmt: skip
WEIGHT_WORDS = "group_size block_structure observer observer_kwargs actorder scale_dtype zp_dtype symmetric"
WEIGHT_SETTINGS = {
    **dict.fromkeys(WEIGHT_WORDS.split(), ANY),
    "num_bits": (2, 4, 8), "type": ("int", "float"), "dynamic": (False, None),
    "strategy": ("tensor", "channel", "group", "block", None),
}  # fmt: skip
# Beside the weights: what another program rounds its activations by.
ACTIVATIONS = ("input_scale", "input_zero_point", "output_scale", "activation_scale", "input_global_scale")
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def _e4m3() -> Floats:
    """What the 256 codes of FP8's E4M3 mean; 127 and 255 are no numbers."""
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, (codes & 7).astype(np.float32)
    values = np.where(exponent == 0, np.ldexp(mantissa, -9), np.ldexp(8 + mantissa, exponent - 10))
    values = np.where(codes & 127 == 127, np.nan, values)
    return np.where(codes & 128, -values, values).astype(np.float32)


E4M3 = _e4m3()


def fp8(parts: Parts) -> None:
    """Layers of FP8 with weight_scale_inv (DeepSeek, Qwen, Mistral) or weight_scale (vLLM, FBGEMM)."""
    parts.check(FP8_SETTINGS)
    block = _pair(parts.settings.get("weight_block_size"), "weight_block_size")
    for ending in (".weight_scale_inv", ".weight_scale"):
        for module in parts.modules(ending):
            _eight_bits(parts, module, module.name + ending, block)


def compressed(parts: Parts) -> None:
    """Layers as compressed-tensors keeps them, each as the group of settings says to which it belongs."""
    parts.check(COMPRESSED_SETTINGS)
    sparsity = parts.settings.get("sparsity_config") or {}
    if sparsity.get("format", "dense") != "dense":
        raise UserError(
            "config.json: {place} has {key}={value}; this reads {known}", place="quantization_config",
            key="sparsity_config", value=quoted(sparsity), known="dense", hint="take the original model",
        )  # fmt: skip
    groups = parts.settings.get("config_groups")
    for name, group in groups.items() if isinstance(groups, dict) else ():
        check_settings(group, GROUP_SETTINGS, f"config_groups.{name}")
        check_settings(group.get("weights") or {}, WEIGHT_SETTINGS, f"config_groups.{name}.weights")
    for module in parts.modules(".weight_packed"):
        settings = _weights_of(groups, module.name)
        if settings.get("type") == "float":
            _mxfp4(parts, module)
        else:
            _packed(parts, module, settings)
    for module in parts.modules(".weight_scale"):
        settings = _weights_of(groups, module.name)
        block = _pair(settings.get("block_structure"), "block_structure")
        _eight_bits(parts, module, f"{module.name}.weight_scale", block, settings.get("group_size"))


def _weights_of(groups: object, module: str) -> Mapping[str, Any]:
    """The settings of a layer's weights: those of the group that names it, else of one for all linear layers."""
    found: Mapping[str, Any] | None = None
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights")
        targets = [target for target in group.get("targets") or [] if isinstance(target, str)]
        if not isinstance(weights, dict):
            continue
        if any(_names(target, module) for target in targets):
            return weights
        found = found or (weights if "Linear" in targets else None)
    if found is None:
        raise UserError(
            "config.json: no group of quantization_config names the layer {name}", name=quoted(module),
            hint="fetch config.json again",
        )  # fmt: skip
    return found


def _names(target: str, module: str) -> bool:
    if target.startswith("re:"):
        try:
            return re.match(target[3:], module) is not None
        except re.error as error:
            raise UserError(
                "config.json: {place} has {key}={value}; this reads {known}", place="config_groups", key="targets",
                value=quoted(target), known=str(error), hint="fetch config.json again",
            ) from error  # fmt: skip
    return target == module or module.endswith(f".{target}")


def _packed(parts: Parts, module: Module, settings: Mapping[str, Any]) -> None:
    """Whole numbers in words across the inputs, from the lowest on; zeros in words down the outputs."""
    name, out, columns, bits = module.name, module.rows, module.columns, settings.get("num_bits", 8)
    stored = parts.take(f"{name}.weight_packed", ("i32",), (out, words(columns, bits)))
    size = settings.get("group_size")
    groups = 1 if size in (None, -1) else ceiled(columns, _whole(size, "group_size"))
    scales = parts.take(f"{name}.weight_scale", SCALES, (out, groups), (out,), (1,), ())
    zeros = parts.optional(f"{name}.weight_zero_point", ("i32",), (words(out, bits), groups))
    order = parts.optional(f"{name}.weight_g_idx", ("i32", "i64"), (columns,))
    parts.drop(f"{name}.weight_shape")

    def numbers(start: int, stop: int) -> Floats:
        q = unpacked(stored.data[start:stop], bits, columns).astype(np.float32)
        z = np.full((1, 1), 2 ** (bits - 1), np.float32)
        if zeros is not None:
            z = unpacked(zeros.data.T, bits, out).T[start:stop].astype(np.float32)
        s = _table(_floats(scales))
        s = s[start:stop] if len(s) > 1 else s
        index = np.arange(columns) // ceiled(columns, groups) if order is None else np.asarray(order.data, np.int64)
        z, s = (one if one.shape[1] == 1 else one[:, index] for one in (z, s))
        return (q - z) * s

    parts.add(module, stored, numbers)


def _mxfp4(parts: Parts, module: Module) -> None:
    """Floats of four bits, two a byte, the first in the lower half; a power of two for each 32."""
    name, out, columns = module.name, module.rows, module.columns
    stored = parts.take(f"{name}.weight_packed", ("u8",), (out, columns // 2))
    scales = parts.take(f"{name}.weight_scale", ("u8", "f8_e8m0"), (out, columns // 32))

    def numbers(start: int, stop: int) -> Floats:
        q = E2M1[unpacked(stored.data[start:stop], 4, columns)]
        return (q.reshape(len(q), -1, 32) * e8m0(scales.data[start:stop])[:, :, None]).reshape(len(q), -1)

    parts.add(module, stored, numbers)


def _eight_bits(
    parts: Parts, module: Module, scale: str, block: tuple[int, int] | None, group: int | None = None
) -> None:
    """FP8 or int8 with a scale for all numbers, each row, each group of a row, or each block."""
    name, (out, columns) = module.name, module.shape
    stored = parts.take(f"{name}.weight", ("f8_e4m3", "i8"), module.shape)
    usual: list[Shape] = [(), (1,), (1, 1), (out,), (out, 1)]
    if block is not None:
        usual.append((ceiled(out, block[0]), ceiled(columns, block[1])))
    elif group is not None and group != -1:
        block = (1, _whole(group, "group_size"))
        usual.append((out, ceiled(columns, block[1])))
    scales = parts.take(scale, SCALES, *usual)
    zeros = parts.optional(f"{name}.weight_zero_point", ("i8",), scales.shape)
    parts.drop(*(f"{name}.{ending}" for ending in ACTIVATIONS))
    size = (1, columns) if scales.shape in usual[3:5] or block is None else block

    def spread_out(values: npt.NDArray, start: int, stop: int) -> Floats:
        return spread(_table(values), start, stop, columns, size)

    def numbers(start: int, stop: int) -> Floats:
        q = stored.data[start:stop]
        values = E4M3[q] if stored.format == "f8_e4m3" else q.astype(np.float32)
        if zeros is not None:
            values = values - spread_out(np.asarray(zeros.data, np.float32), start, stop)
        result: Floats = values * spread_out(_floats(scales), start, stop)
        return result

    parts.add(module, stored, numbers)


def _table(values: npt.NDArray) -> npt.NDArray:
    """Scales as a table: one for all, or a row for each output or block of outputs."""
    return values if values.ndim == 2 else values.reshape(-1, 1)


def _floats(tensor: Tensor) -> Floats:
    return e8m0(tensor.data) if tensor.format == "f8_e8m0" else tensor.float32()


def _whole(value: object, key: str) -> int:
    if type(value) is int and value > 0:
        return value
    raise UserError(
        "config.json: {place} has {key}={value}; this reads {known}", place="quantization_config", key=key,
        value=quoted(value), known="-1, 32, 64, 128, ...", hint="fetch config.json again",
    )  # fmt: skip


def _pair(value: object, key: str) -> tuple[int, int] | None:
    """Rows and columns of a block."""
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2:
        return _whole(value[0], key), _whole(value[1], key)
    raise UserError(
        "config.json: {place} has {key}={value}; this reads {known}", place="quantization_config", key=key,
        value=quoted(value), known="[128, 128]", hint="fetch config.json again",
    )  # fmt: skip
