"""A LoRA adapter that peft has written as a GGUF file, which llama.cpp puts on a model's GGUF file."""

from pathlib import Path

import numpy as np

from soban.base.errors import UserError
from soban.base.files import check_absent, quoted
from soban.convert.gguf_keys import facts_of
from soban.convert.source import pairs
from soban.models import Architecture
from soban.models.plan import Part
from soban.ops.formats import Floats
from soban.weights.checkpoint import GGUF, Checkpoint
from soban.weights.gguf.adapter import WEIGHT, write_gguf_adapter
from soban.weights.gguf.architectures import READINGS
from soban.weights.low_rank import AdapterFiles, LowRank


def adapter_to_gguf(files: AdapterFiles, architecture: Architecture, checkpoint: Checkpoint, path: Path) -> None:
    """Writes the adapter of a model of this architecture. Raises UserError, before anything is written, for a layer
    that the model does not have, or that has no place in a GGUF file."""
    check_absent(path)
    name = str(checkpoint.keys["general.architecture"]) if checkpoint.form == GGUF else None
    name = name or facts_of(files.path, architecture).architecture
    c = architecture.config
    heads = {"attn_q": c.num_attention_heads, "attn_k": c.kv_heads} if READINGS[name].interleaved else {}
    left, layers = dict(files.layers), {}
    for tensor, parts in architecture.plan.tensors(GGUF).items():
        modules = {_module(part) for part in parts} & files.layers.keys()
        if not modules:
            continue
        if len({_module(part) for part in parts}) > 1:
            raise UserError(
                "{path}: {module} is one of several layers that are a single matrix in a GGUF file", path=files.path,
                module=quoted(min(modules)), hint="merge the adapter into its model with peft, and convert that",
            )  # fmt: skip
        module = modules.pop()
        low, bare = files.layers[module], tensor.removesuffix(WEIGHT)
        b = np.concatenate([_rows(part, low, files) for part in parts])
        if turned := heads.get(bare.split(".")[-1]):
            b = pairs(b, turned)
        layers[bare] = (low.a.float32(), np.ascontiguousarray(b), low.scale)
        left.pop(module, None)
    if left:
        raise UserError(
            "{path}: the adapter changes {module}, which is no layer of this model that an adapter can change",
            path=files.path, module=quoted(next(iter(left))), base=files.base or "?",
            hint="take the model that it was trained for: {base}",
        )  # fmt: skip
    write_gguf_adapter(path, name, files.base, layers)


def _module(part: Part) -> str:
    return part.wholes.get("hf", part.name).removesuffix(WEIGHT)


def _rows(part: Part, low: LowRank, files: AdapterFiles) -> Floats:
    """What is added to a part's rows, of those of the larger tensor that peft knows."""
    whole = low.b.float32()
    rows: Floats = part.slice(whole).reshape(-1, whole.shape[1]) if "hf" in part.wholes else whole
    if rows.shape[0] != part.shape[0] or low.a.shape[1] != part.shape[1]:
        raise UserError(
            "{path}: {module} is for a layer of {theirs}, and this model's has {ours}", path=files.path,
            module=quoted(_module(part)), theirs=f"{low.b.shape[0]} x {low.a.shape[1]}",
            ours=f"{part.shape[0]} x {part.shape[1]}", base=files.base or "?",
            hint="take the model that it was trained for: {base}",
        )  # fmt: skip
    return rows
