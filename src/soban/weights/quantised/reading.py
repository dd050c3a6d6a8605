"""Which method quantised a checkpoint, and the checkpoint with weights in the place of what that method stores."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.weights.checkpoint import METHODS, WEIGHTS, Checkpoint, Tensor, method_of
from soban.weights.quantised.bitsandbytes import bitsandbytes
from soban.weights.quantised.gptq import awq, gptq
from soban.weights.quantised.parts import Parts, Shape
from soban.weights.quantised.scaled import compressed, fp8

READERS: Mapping[str, Callable[[Parts], None]] = {
    "bitsandbytes": bitsandbytes, "gptq": gptq, "awq": awq, "fp8": fp8, "fbgemm_fp8": fp8,
    "compressed-tensors": compressed,
}  # fmt: skip
assert READERS.keys() == METHODS


def dequantised(checkpoint: Checkpoint, shape_of: Callable[[str], Shape | None]) -> Checkpoint:
    """The checkpoint with a weight of the model wherever its method keeps packed numbers and scales.

    `shape_of`: the shape of a weight by its name in the file; None for what is no part of the model, which stays as it
    is. Nothing is read before somebody asks for a weight's numbers. Raises UserError for a method, a setting or a
    tensor that is not known.
    """
    quantisation = checkpoint.config["quantization_config"]
    method = method_of(quantisation)
    reader = READERS.get(method) if isinstance(method, str) else None
    if reader is None:
        raise UserError(
            "config.json: weights quantised by {method} are not read; this reads {known}", method=method,
            known=", ".join(READERS), hint="take the original model: soban quantises it itself (--dtype q8 or q4)",
        )  # fmt: skip
    parts = Parts(method, quantisation, checkpoint.tensors, shape_of)
    reader(parts)
    _check_all_known(parts)
    return replace(checkpoint, tensors={**parts.tensors, **parts.weights})


def _check_all_known(parts: Parts) -> None:
    """Raises UserError where a layer of the model has a tensor left that holds no weights as such."""
    for name, tensor in parts.tensors.items():
        if tensor.format not in WEIGHTS and _of_model(parts, name, tensor):
            raise UserError(
                "{path}: tensor {name} ({format}) belongs to a form of {method} that is not read", path=tensor.source,
                name=quoted(name), format=tensor.format.upper(), method=parts.method,
                hint="take the original model: soban quantises it itself (--dtype q8 or q4)",
            )  # fmt: skip


def _of_model(parts: Parts, name: str, tensor: Tensor) -> bool:
    layer = name.rpartition(".")[0]
    while layer:  # weight.absmax and the like hang one name deeper
        if parts.shape_of(f"{layer}.weight") is not None:
            return True
        layer = layer.rpartition(".")[0]
    return parts.shape_of(name) is not None
