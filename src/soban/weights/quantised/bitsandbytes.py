"""bitsandbytes: nf4 and fp4, of which a table says what sixteen codes mean, and rows of int8 with their largest number.

Dettmers et al. 2022 (arXiv 2208.07339) and 2023 (arXiv 2305.14314). What its layers keep in a file:
https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/functional.py (QuantState.as_dict)
"""

import functools
from typing import Any

import numpy as np

from soban.base.errors import UserError
from soban.base.files import parse_object, quoted
from soban.weights.checkpoint import Tensor
from soban.weights.quantised.parts import ANY, FLOATS, Floats, Module, Parts, ceiled

# The tensors themselves say all of it.
WORDS = """
quant_method load_in_4bit load_in_8bit _load_in_4bit _load_in_8bit bnb_4bit_compute_dtype bnb_4bit_quant_storage
bnb_4bit_use_double_quant llm_int8_enable_fp32_cpu_offload llm_int8_has_fp16_weight llm_int8_skip_modules
llm_int8_threshold
"""
SETTINGS = {**dict.fromkeys(WORDS.split(), ANY), "bnb_4bit_quant_type": ("nf4", "fp4")}
STATE = ".weight.quant_state.bitsandbytes__"
LARGEST = np.float32(127)  # of an int8, which stands for the largest of its row
ROW_MAJOR = 0  # weight_format: other orders belong to a kind of GPU


def bitsandbytes(parts: Parts) -> None:
    """Layers with four bits a weight, and those with eight."""
    parts.check(SETTINGS)
    for kind in ("nf4", "fp4"):
        for module in parts.modules(STATE + kind):
            _four_bits(parts, module, kind)
    for module in parts.modules(".SCB"):
        name = module.name
        stored = parts.take(f"{name}.weight", ("i8",), module.shape)
        scales = parts.take(f"{name}.SCB", FLOATS, (module.rows,))
        order = parts.optional(f"{name}.weight_format", ("u8",), ())
        parts.add(module, stored, functools.partial(_eight_bits, stored, scales, order))


def _four_bits(parts: Parts, module: Module, kind: str) -> None:
    name, count = f"{module.name}.weight", module.rows * module.columns
    state = parts.take(f"{module.name}{STATE}{kind}", ("u8",))
    stored = parts.take(name, ("u8", *FLOATS))
    if stored.data.nbytes != ceiled(count, 2):
        raise UserError(
            "{path}: {name} has {size} bytes; {shape} with four bits are {wanted}", path=stored.source,
            name=quoted(name), size=stored.data.nbytes, shape=module.shape, wanted=ceiled(count, 2),
            hint="check that config.json belongs to these weights",
        )  # fmt: skip
    table = parts.take(f"{name}.quant_map", ("f32",), (16,))
    scales = parts.take(f"{name}.absmax", ("f32", "u8"))
    outer = None
    if scales.format == "u8":  # the scales are quantised, too
        outer = (parts.take(f"{name}.nested_quant_map", ("f32",), (256,)),
                 parts.take(f"{name}.nested_absmax", ("f32",)))  # fmt: skip
    parts.add(module, stored, functools.partial(_four_bit_rows, module, state, stored, table, scales, outer))


def _eight_bits(stored: Tensor, scales: Tensor, order: Tensor | None, start: int, stop: int) -> Floats:
    if order is not None and int(order.data) != ROW_MAJOR:
        raise UserError(
            "{path}: {name} is {value}: its weights lie in an order for one kind of GPU", path=order.source,
            name=quoted(order.name), value=int(order.data), hint="save the model anew with today's bitsandbytes",
        )  # fmt: skip
    numbers: Floats = stored.data[start:stop] * (scales.float32()[start:stop, None] / LARGEST)
    return numbers


def _four_bit_rows(
    module: Module, state: Tensor, stored: Tensor, table: Tensor, scales: Tensor, outer: tuple[Tensor, Tensor] | None,
    start: int, stop: int,
) -> Floats:  # fmt: skip
    settings = _state(module, state, scales.shape[0])
    first, last, block = start * module.columns, stop * module.columns, settings["blocksize"]
    data = np.ascontiguousarray(stored.data).view(np.uint8).reshape(-1)[first // 2 : ceiled(last, 2)]
    codes = np.stack((data >> 4, data & 15), axis=1).reshape(-1)[first % 2 :][: last - first]
    chosen = slice(first // block, ceiled(last, block))
    if outer is None:
        sizes = np.asarray(scales.data[chosen], np.float32)
    else:
        meaning, largest = (tensor.float32() for tensor in outer)
        group = np.arange(chosen.start, chosen.stop) // settings["nested_blocksize"]
        sizes = meaning[scales.data[chosen]] * largest[group] + np.float32(settings["nested_offset"])
    each = np.repeat(sizes, block)[first - chosen.start * block :][: last - first]
    return (table.float32()[codes] * each).reshape(stop - start, module.columns)


def _state(module: Module, state: Tensor, blocks: int) -> dict[str, Any]:
    """The numbers that the file keeps as JSON, checked against the tensors beside them."""
    try:
        settings = parse_object(state.data.tobytes())
    except ValueError:
        settings = {}
    block, nested = settings.get("blocksize"), settings.get("nested_blocksize", 256)
    fits = type(block) is int and block > 0 and ceiled(module.rows * module.columns, block) == blocks
    if not fits or settings.get("shape") != list(module.shape) or type(nested) is not int or nested < 1:
        raise UserError(
            "{path}: {name} is {value}, which does not fit {shape}", path=state.source, name=quoted(state.name),
            value=quoted(settings), shape=module.shape, hint="fetch the model again",
        )  # fmt: skip
    return {"nested_offset": 0.0, "nested_blocksize": nested, **settings}
