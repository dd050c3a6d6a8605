"""The operations of which models are made: over arrays they compute, over recorded values they are written down."""

from soban.ops.batch import Batch, make_batch
from soban.ops.cache import Cache, make_cache
from soban.ops.formats import Matrix
from soban.ops.reference import add, attention, embed, glu, linear, rms_norm, rope, rotary, softcap, take_rows
from soban.ops.run import Runner, all_finite, encode, runner

__all__ = [
    "Batch", "Cache", "Matrix", "Runner", "add", "all_finite", "attention", "embed", "encode", "glu", "linear",
    "make_batch", "make_cache", "rms_norm", "rope", "rotary", "runner", "softcap", "take_rows",
]  # fmt: skip
