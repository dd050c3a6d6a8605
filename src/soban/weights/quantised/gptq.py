"""GPTQ and AWQ: whole numbers packed in words, a scale and a zero for each group of a row.

GPTQ as AutoGPTQ and GPTQModel write it: words go down the inputs; AWQ as AutoAWQ's GEMM form: across the outputs, of
each eight in another order. Frantar et al. 2022 (arXiv 2210.17323), Lin et al. 2023 (arXiv 2306.00978).
"""

import functools

import numpy as np

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.weights.checkpoint import Tensor
from soban.weights.quantised.parts import ANY, FLOATS, Floats, Module, Parts, ceiled, unpacked, words

# What tells how the weights were chosen, or which kernels run them there.
CHOSEN_WORDS = """
quant_method desc_act sym lm_head damp_percent damp_auto_increment true_sequential static_groups meta tokenizer dataset
model_name_or_path model_file_base_name block_name_to_quantize module_name_preceding_first_block batch_size pad_token_id
model_seqlen max_input_length cache_block_outputs modules_in_block_to_quantize use_exllama disable_exllama
exllama_config use_cuda_fp16 backend act_group_aware mse quantizer modules_to_not_convert do_fuse fuse_max_seq_len
modules_to_fuse group_size q_group_size
"""
CHOSEN = dict.fromkeys(CHOSEN_WORDS.split(), ANY)
NONE: dict[str, tuple[object, ...]] = {  # other numbers for some layers, or more than weights
    "dynamic": (None, {}), "is_marlin_format": (False, None), "pack_dtype": ("int32",), "rotation": (None,),
    "adapter": (None,),
}  # fmt: skip
GPTQ_SETTINGS = {
    **CHOSEN, **NONE, "bits": (2, 3, 4, 8), "checkpoint_format": ("gptq", "gptq_v2"), "format": ("gptq", "gptq_v2")
}  # fmt: skip
AWQ_SETTINGS = {
    **CHOSEN, **NONE, "bits": (4,), "w_bit": (4,), "zero_point": (True,), "version": ("gemm", "GEMM"),
    "format": ("gemm",),
}  # fmt: skip
NIBBLES = (0, 4, 1, 5, 2, 6, 3, 7)  # where AWQ keeps the outputs 0 to 7 in a word


def gptq(parts: Parts) -> None:
    """Layers with qweight (words, out), scales and qzeros (groups, ...), and perhaps g_idx: each input's group."""
    parts.check(GPTQ_SETTINGS)
    settings = parts.settings
    bits = settings.get("bits", 4)
    # Files of the first form hold each zero less one.
    first_form = (settings.get("checkpoint_format") or settings.get("format") or "gptq") == "gptq"
    for module in parts.modules(".qweight"):
        name, out, columns = module.name, module.rows, module.columns
        packed = parts.take(f"{name}.qweight", ("i32",), (words(columns, bits), out))
        groups = _groups(parts, module)
        scales = parts.take(f"{name}.scales", FLOATS, (groups, out))
        zeros = parts.take(f"{name}.qzeros", ("i32",), (groups, words(out, bits)))
        order = parts.optional(f"{name}.g_idx", ("i32", "i64"), (columns,))
        rows = functools.partial(_gptq_rows, module, bits, int(first_form), packed, scales, zeros, order)
        parts.add(module, packed, rows)


def awq(parts: Parts) -> None:
    """Layers with qweight (in, words), qzeros (groups, words) and scales (groups, out)."""
    parts.check(AWQ_SETTINGS)
    for module in parts.modules(".qweight"):
        name, out, columns = module.name, module.rows, module.columns
        packed = parts.take(f"{name}.qweight", ("i32",), (columns, words(out, 4)))
        groups = _groups(parts, module)
        scales = parts.take(f"{name}.scales", FLOATS, (groups, out))
        zeros = parts.take(f"{name}.qzeros", ("i32",), (groups, words(out, 4)))
        parts.add(module, packed, functools.partial(_awq_rows, module, packed, scales, zeros))


def _groups(parts: Parts, module: Module) -> int:
    """How many groups a row has; -1: it is one."""
    size = parts.settings.get("group_size", parts.settings.get("q_group_size", 128))
    if type(size) is not int or (size != -1 and size < 1):
        raise UserError(
            "config.json: {place} has {key}={value}; this reads {known}", place="quantization_config",
            key="group_size", value=quoted(size), known="-1, 32, 64, 128, ...", hint="fetch config.json again",
        )  # fmt: skip
    return 1 if size == -1 else ceiled(module.columns, size)


def _gptq_rows(
    module: Module, bits: int, missing: int, packed: Tensor, scales: Tensor, zeros: Tensor, order: Tensor | None,
    start: int, stop: int,
) -> Floats:  # fmt: skip
    q = unpacked(packed.data[:, start:stop].T, bits, module.columns)
    # What is one too large wraps around: a zero of 0 is kept as the largest number.
    z = (unpacked(zeros.data, bits, module.rows)[:, start:stop].astype(np.int32) + missing) & (2**bits - 1)
    return _grouped(module, q, z.T, scales.float32()[:, start:stop].T, _order(module, scales, order))


def _awq_rows(module: Module, packed: Tensor, scales: Tensor, zeros: Tensor, start: int, stop: int) -> Floats:
    first, last = start // 8, ceiled(stop, 8)
    cut = slice(start - 8 * first, stop - 8 * first)
    q, z = (_awq_numbers(tensor, first, last)[:, cut].T for tensor in (packed, zeros))
    return _grouped(module, q, z.astype(np.int32), scales.float32()[:, start:stop].T, None)


def _awq_numbers(tensor: Tensor, first: int, last: int) -> np.ndarray:
    """Some words of each row, taken apart and in order."""
    numbers = unpacked(tensor.data[:, first:last], 4, 8 * (last - first))
    return numbers.reshape(len(numbers), -1, 8)[..., NIBBLES].reshape(len(numbers), -1)


def _order(module: Module, scales: Tensor, order: Tensor | None) -> np.ndarray | None:
    """The group of each input where they do not lie one after the other."""
    if order is None:
        return None
    groups = scales.shape[0]
    index = np.asarray(order.data, np.int64)
    if index.min() < 0 or index.max() >= groups:
        raise UserError(
            "{path}: {name} names group {value} of {count}", path=order.source, name=quoted(order.name),
            value=int(index.max() if index.min() >= 0 else index.min()), count=groups, hint="fetch the model again",
        )  # fmt: skip
    size = ceiled(module.columns, groups)
    return None if np.array_equal(index, np.arange(module.columns) // size) else index


def _grouped(module: Module, q: np.ndarray, zeros: np.ndarray, scales: Floats, order: np.ndarray | None) -> Floats:
    """(q - zero) * scale, of whole numbers (rows, columns), zeros and scales (rows, groups)."""
    values, z = q.astype(np.float32), zeros.astype(np.float32)
    if order is None and module.columns % z.shape[1] == 0:
        by_groups = values.reshape(len(values), z.shape[1], -1)
        return ((by_groups - z[:, :, None]) * scales[:, :, None]).reshape(len(values), -1)
    if order is None:
        order = np.arange(module.columns) // ceiled(module.columns, z.shape[1])
    result: Floats = (values - z[:, order]) * scales[:, order]
    return result
