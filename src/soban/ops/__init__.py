"""The operations of which models are made: over arrays they compute, over recorded values they are written down."""

from soban.ops.adapters import Adapter, Piece
from soban.ops.batch import Batch, make_batch
from soban.ops.cache import Cache, LayerGeometry, make_cache
from soban.ops.formats import Matrix
from soban.ops.reference import (
    activation,
    add,
    attention,
    convolution,
    delta_rule,
    glu,
    head_norm,
    layer_norm,
    linear,
    refine,
    rms_norm,
    rope,
    rotary,
    scale,
    softcap,
    take_rows,
)  # fmt: skip
from soban.ops.run import Runner, all_finite, encode, repack, runner
from soban.ops.vocabulary import embed, scores

__all__ = [
    "Adapter", "Batch", "Cache", "LayerGeometry", "Matrix", "Piece", "Runner", "activation", "add", "all_finite",
    "attention", "convolution", "delta_rule", "embed", "encode", "glu", "head_norm", "layer_norm", "linear",
    "make_batch", "make_cache", "refine", "repack", "rms_norm", "rope", "rotary", "runner", "scale", "scores",
    "softcap", "take_rows",
]  # fmt: skip
