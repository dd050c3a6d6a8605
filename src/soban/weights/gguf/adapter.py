"""A LoRA adapter in llama.cpp's form: a GGUF file of pairs NAME.lora_a (rank, in) and NAME.lora_b (out, rank).

As llama.cpp reads it (llama-adapter.cpp) and convert_lora_to_gguf.py writes it: one alpha for all, 0 or none meaning
the rank of each pair, and rows of q and k in the order in which the architecture's own file has them.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.ops.formats import Floats
from soban.weights.checkpoint import GGUF, Tensor, finite_check
from soban.weights.gguf.architectures import READINGS
from soban.weights.gguf.reading import read_gguf, text
from soban.weights.gguf.writing import write_gguf
from soban.weights.low_rank import AdapterFiles, LowRank

KIND, ALPHA = "adapter.type", "adapter.lora.alpha"
SIDES = (".lora_a", ".lora_b")
WEIGHT = ".weight"


def open_gguf_adapter(path: Path) -> AdapterFiles:
    """The adapter in a GGUF file, its layers by GGUF's names. Raises UserError for what is damaged or no LoRA."""
    contents = read_gguf(path)
    kinds = (text(contents.keys, "general.type", path), text(contents.keys, KIND, path))
    if kinds != ("adapter", "lora"):
        raise UserError(
            "{path}: no LoRA adapter (general.type={kind}, {key}={value})", path=path, kind=quoted(kinds[0]), key=KIND,
            value=quoted(kinds[1]), hint="give a file that convert_lora_to_gguf.py or soban convert has written",
        )  # fmt: skip
    architecture = text(contents.keys, "general.architecture", path)
    if architecture not in READINGS:
        raise UserError(
            "{path}: models of the architecture {architecture} are not read; this reads {known}", path=path,
            architecture=quoted(architecture), known=", ".join(READINGS), hint="use a model of one of these families",
        )  # fmt: skip
    alpha = contents.keys.get(ALPHA, 0.0)
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not np.isfinite(alpha):
        raise UserError(
            "{path}: {key}={value}, where a number belongs", path=path, key=ALPHA, value=quoted(alpha),
            hint="fetch it again",
        )  # fmt: skip
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in contents.tensors.items():
        side = next((side for side in SIDES if name.endswith(WEIGHT + side)), None)
        if side is None:
            raise UserError(
                "{path}: {name} is no part of a plain LoRA, which is all that this reads", path=path,
                name=quoted(name), hint="merge the adapter into its model with peft, and run that",
            )  # fmt: skip
        pairs.setdefault(name.removesuffix(WEIGHT + side), {})[side] = tensor
    layers = {name: _layer(path, name, pair, float(alpha)) for name, pair in pairs.items()}
    if not layers:
        raise UserError("{path}: there is no layer in this adapter", path=path, hint="fetch it again")
    base = contents.keys.get("general.base_model.0.name")
    interleaved = READINGS[architecture].interleaved
    return AdapterFiles(path, layers, base if isinstance(base, str) else None, GGUF, interleaved)


def _layer(path: Path, name: str, pair: Mapping[str, Tensor], alpha: float) -> LowRank:
    if len(pair) < 2 or any(len(tensor.shape) != 2 for tensor in pair.values()):
        raise UserError(
            "{path}: {module} has not the two matrices of a LoRA", path=path, module=quoted(name),
            hint="fetch the adapter again",
        )  # fmt: skip
    a, b = (pair[side] for side in SIDES)
    if b.shape[1] != a.shape[0]:
        raise UserError(
            "{path}: the matrices of {module} are of rank {a} and {b}", path=path, module=quoted(name), a=a.shape[0],
            b=b.shape[1], hint="fetch the adapter again",
        )  # fmt: skip
    for tensor in (a, b):
        finite_check(tensor)
    return LowRank(a, b, alpha / a.shape[0] if alpha else 1.0)


def write_gguf_adapter(
    path: Path, architecture: str, base: str | None, layers: Mapping[str, tuple[Floats, Floats, float]]
) -> None:
    """Writes layers by GGUF's names, each (rank, in), (out, rank) and the scale of their product, in float32.

    The file has one alpha, that of the first; where another's is not the same, its second matrix is multiplied.
    """
    alphas = {name: scale * len(a) for name, (a, _, scale) in layers.items()}
    alpha = next((value for value in alphas.values() if value), 1.0)
    tensors: dict[str, Floats] = {}
    for name, (a, b, _) in layers.items():
        tensors[name + WEIGHT + SIDES[0]] = a
        tensors[name + WEIGHT + SIDES[1]] = b if alphas[name] == alpha else b * np.float32(alphas[name] / alpha)
    keys = {
        "general.architecture": architecture, "general.type": "adapter", "general.name": path.stem, KIND: "lora",
        ALPHA: float(alpha), "general.file_type": 0,
    }  # fmt: skip
    if base is not None:
        keys |= {"general.base_model.count": 1, "general.base_model.0.name": base}
    entries = [(name, "f32", values.shape) for name, values in tensors.items()]
    write_gguf(path, keys, entries, lambda name: [np.ascontiguousarray(tensors[name], np.float32)])
