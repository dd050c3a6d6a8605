"""An adapter's layers at the places of a model's plan, as the kernels read them."""

import numpy as np

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.models import Architecture
from soban.models.plan import Part, Weight
from soban.ops.adapters import Adapter, Piece
from soban.packing.equalise import Factors
from soban.weights.checkpoint import GGUF
from soban.weights.low_rank import AdapterFiles, LowRank

WEIGHT = ".weight"


def fitted_adapter(files: AdapterFiles, architecture: Architecture, moved: Factors | None = None) -> Adapter:
    """The pieces of every matrix that the adapter changes, by the matrix's place in the model.

    `moved`: what its channels were multiplied by when the model was packed; the adapter was trained without. Raises
    UserError for layers that the model does not have, or that have other sizes there.
    """
    if getattr(architecture.config, "linear_heads_tiled", False):
        raise UserError(
            "{path}: adapters do not fit a GGUF file whose heads of values stand in llama.cpp's order",
            path=files.path, hint="take the model's Hugging Face folder",
        )  # fmt: skip
    left, turned = dict(files.layers), _turned(architecture, files.interleaved)
    fitted: dict[str, tuple[Piece, ...]] = {}
    for place, weight in architecture.plan.places():
        if pieces := _pieces(files, weight, left, turned, moved or Factors()):
            fitted[place] = pieces
    if left:
        raise UserError(
            "{path}: the adapter changes {module}, which is no layer of this model that an adapter can change",
            path=files.path, module=quoted(next(iter(left))), base=files.base or "?",
            hint="take the model that it was trained for: {base}",
        )  # fmt: skip
    return Adapter(fitted)


def _turned(architecture: Architecture, interleaved: bool) -> dict[str, int]:
    """The parts whose rows are in another order in the adapter than in the model, and their heads: neighbours turn
    together in one of them, halves in the other."""
    c = architecture.config
    if bool(getattr(c, "rope_interleaved", False)) == interleaved:
        return {}
    heads = {"attn_q": c.num_attention_heads, "attn_k": c.kv_heads}
    kinds = {part.name: (part.source(GGUF) or "").split(".")[-2:-1] for part in architecture.plan.parts()}
    return {name: heads[kind[0]] for name, kind in kinds.items() if kind and kind[0] in heads}


def _pieces(
    files: AdapterFiles, weight: Weight, left: dict[str, LowRank], turned: dict[str, int], moved: Factors
) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    row, modules = 0, []
    for part in weight.parts:  # those that are slices of one tensor are one layer, and follow one another
        module = _module(part, files.form)
        if module in files.layers and module not in modules:
            low = files.layers[module]
            parts = [p for p in weight.parts if _module(p, files.form) == module]
            rows = sum(p.shape[0] for p in parts)
            columns = low.a.shape[1]
            if columns != part.shape[1] or low.b.shape[0] != rows:
                raise UserError(
                    "{path}: {module} is for a layer of {theirs}, and this model's has {ours}", path=files.path,
                    module=quoted(module), theirs=f"{low.b.shape[0]} x {columns}", ours=f"{rows} x {part.shape[1]}",
                    base=files.base or "?", hint="take the model that it was trained for: {base}",
                )  # fmt: skip
            scaled = any(p.name in moved.columns or p.name in moved.rows for p in parts)
            both = not scaled and low.a.format == low.b.format == "bf16"
            a, b = (np.ascontiguousarray(t.data if both else t.float32()) for t in (low.a, low.b))
            if (columns_factors := moved.columns.get(part.name)) is not None:
                a = a * columns_factors
            if part.heads > 1 and files.form != GGUF:  # whose rows are not in the order of the parts there
                b = np.concatenate([p.slice(b).reshape(-1, b.shape[1]) for p in parts])
            if any(p.name in moved.rows for p in parts):
                ones = np.ones(1, np.float32)
                factors = [np.broadcast_to(moved.rows.get(p.name, ones), p.shape[:1]) for p in parts]
                b = b * np.concatenate(factors)[:, None]
            if heads := turned.get(part.name):
                split = (heads, -1, 2) if files.interleaved else (heads, 2, -1)
                b = np.ascontiguousarray(b.reshape(*split, b.shape[1]).swapaxes(1, 2)).reshape(b.shape)
            pieces.append(Piece(row, a, b, low.scale))
            left.pop(module, None)
        modules.append(module)
        row += part.shape[0]
    return tuple(pieces)


def _module(part: Part, form: str) -> str:
    """The layer's name in an adapter of a form: that of the tensor which the part is in; "" where it has none."""
    return (part.source(form) or "").removesuffix(WEIGHT)
