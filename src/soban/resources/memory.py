"""What a model takes of memory: its weights in some form, the cache of a context, and the program around them.

Everybody who asks whether a model fits asks here: the check before loading, `soban plan`, and training's forecast.
"""

import bisect
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from soban.models import Architecture
from soban.models.plan import Part
from soban.ops import formats
from soban.ops.cache import LARGE_PAGE, position_bytes, state_bytes
from soban.ops.formats import Floats, Rows
from soban.ops.native.program import plan_arena
from soban.packing.assemble import dtypes_of, halved, made_by, target_format, weight_bytes
from soban.packing.layout import RESIDUAL, packed_layout
from soban.weights.checkpoint import Checkpoint

CHUNK = 256  # tokens in one step at most: enough for the multipliers, few enough to be cancelled soon
OUTPUTS = 64  # tokens whose logits one step can give, and so the sequences that it can continue
USUAL_OUTPUTS = 16  # for which there is memory from the start: one conversation and its lookups need no more
SPARE = 2048  # tokens of earlier conversations that the cache has room for beside a whole context
SPARE_STATES = 4  # slots for states beside two for each user: snapshots, and the way back from a draft
STATES_ROOM, MOST_STATES = 64 << 20, 2 * OUTPUTS + 32  # bytes up to which there are more of them, and how many
STEP = 256  # tokens by which a context is shortened
SHORT = 512  # tokens of context without which a model is of little use
# Python, NumPy, the native library and soban's own code once a text is written: 22 MB of its own and 24 of files.
PROGRAM = 46_000_000
TORCH = 1_200_000_000  # bytes: torch, and the programs that it keeps for every shape of matrices (measured)
HUGE_ARRAY = 4 << 20  # bytes from which on NumPy asks Linux for large pages


@dataclass(frozen=True)
class Needs:
    """Bytes that a model takes when its context is full."""

    weights: int  # pages of a mapped file: what does not fit is read from the disk again
    cache: int
    buffers: int  # for what one step computes
    program: int = PROGRAM

    @property
    def own(self) -> int:
        """What has to stay in memory."""
        return self.cache + self.buffers + self.program

    @property
    def total(self) -> int:
        return self.weights + self.own


def cache_format(dtype: str, choice: str = "auto") -> str:
    """In which format the keys and values beside weights of a dtype are kept."""
    return ("f32" if dtype == "f32" else "bf16") if choice == "auto" else choice


def needs(
    arch: Architecture, checkpoint: Checkpoint, dtype: str, context: int, users: int = 1, cache: str = "auto"
) -> Needs:
    """What the checkpoint takes with weights of a dtype and a full context for each of the users."""
    return Needs(
        stored_weights(arch, checkpoint, dtype), cache_bytes(arch, context, users, cache_format(dtype, cache)),
        buffer_bytes(arch, checkpoint, dtype, users),
    )  # fmt: skip


def stored_weights(arch: Architecture, checkpoint: Checkpoint, dtype: str) -> int:
    """What the weights take in a dtype; a packed file has just one."""
    layout = packed_layout(checkpoint)
    if not layout:
        return weight_bytes(arch, checkpoint, dtype)
    vectors = sum(4 * math.prod(part.shape) for part in arch.plan.parts() if len(part.shape) != 2)
    return vectors + sum(formats.stored_bytes(*entry) for entry in layout.values())


def token_bytes(arch: Architecture, cache: str) -> int:
    """What a token takes in the cache."""
    c = arch.config
    return position_bytes(c.geometries, cache)


def state_slots(arch: Architecture, users: int) -> int:
    """How many states of whole texts the cache has room for; 0 where no layer keeps one.

    Each user's text has two, and some are for snapshots and drafts; of small ones there are more.
    """
    each = state_bytes(arch.config.geometries)
    if not each:
        return 0
    return max(2 * users + SPARE_STATES, min(MOST_STATES, STATES_ROOM // each))


def cache_bytes(arch: Architecture, context: int, users: int, format: str) -> int:
    """What `context` tokens of each user take in the cache, in whole pages of memory."""
    c, each = arch.config, token_bytes(arch, format)
    layers = sum(geometry.heads > 0 for geometry in c.geometries)
    regions = 2 * layers  # keys and values of a layer lie together
    states = state_slots(arch, users) * state_bytes(c.geometries) if context else 0
    if not layers:
        return states
    size = each * context * users // regions
    reserved = each * (context + min(context, SPARE)) * users // regions
    # Linux gives a large array memory in large pages, so a short text takes one of each region.
    if sys.platform == "linux" and reserved * layers >= HUGE_ARRAY:
        size = min(reserved, -(-size // LARGE_PAGE) * LARGE_PAGE)
    return size * regions + states


def fitting_context(arch: Architecture, cache: str, room: int, most: int, users: int = 1) -> int:
    """The longest context, at most `most` and in steps of 256 tokens below that, whose cache fits; 0 if none does."""

    def size_of(tokens: int) -> int:
        return cache_bytes(arch, tokens, users, cache)

    if most <= 0 or size_of(most) <= room:
        return max(0, most)
    return STEP * bisect.bisect_right(range(STEP, most + 1, STEP), room, key=size_of)  # more tokens never take less


def fitting_users(arch: Architecture, context: int, cache: str, room: int) -> int:
    """For how many full contexts, at least one, the cache may have room; more than a step has outputs never meet."""

    def size_of(users: int) -> int:
        return cache_bytes(arch, context, users, cache)

    return max(1, bisect.bisect_right(range(1, OUTPUTS + 1), room, key=size_of))


@dataclass(frozen=True)
class Form:
    """A way to load a model: the dtype of its weights, the format of its cache, and the context."""

    dtype: str
    cache: str
    context: int

    def flags(self, beside: "Form") -> str:
        """What to write on the command line for this form where another is what was asked for."""
        parts = [f"--dtype {self.dtype}"] if self.dtype != beside.dtype else []
        # `auto` gives f32 beside f32 weights and bf16 beside others: whoever changes the dtype gets that by himself
        if self.cache != (beside.cache if self.dtype == beside.dtype else cache_format(self.dtype)):
            parts.append(f"--cache-dtype {self.cache}")
        if self.context != beside.context:
            parts.append(f"--context {self.context}")
        return " ".join(parts)


def fitting_forms(
    arch: Architecture, checkpoint: Checkpoint, first: Form, free: int, users: int = 1, most: int = 3
) -> list[Form]:
    """Forms that fit where the wanted one does not: those that change least first, the most exact before others."""
    dtypes = (first.dtype,) if packed_layout(checkpoint) else dtypes_of(arch, checkpoint)
    later = dtypes[dtypes.index(first.dtype) :]
    same = [Form(dtype, cache_format(dtype), first.context) for dtype in later]
    small = [Form(dtype, "int8", first.context) for dtype in later]
    forms: list[Form] = []
    for form in (*same, *small):
        if form != first and fits(arch, checkpoint, form, free, users):
            forms.append(form)
    for form in (*same, *small):
        if form == first or form in forms:
            continue
        room = free - needs(arch, checkpoint, form.dtype, 0).total
        context = fitting_context(arch, form.cache, room, first.context - 1, users)
        if context >= SHORT:
            forms.append(Form(form.dtype, form.cache, context))
    return forms[:most]


def fits(arch: Architecture, checkpoint: Checkpoint, form: Form, free: int, users: int = 1) -> bool:
    return needs(arch, checkpoint, form.dtype, form.context, users, form.cache).total <= free


def activation_floats(config: Any, longest: int) -> int:
    """How many floats a token leaves behind for the gradients, in texts of up to `longest` tokens.

    A dozen of the width in a layer, four of the inner and query widths, three scores; three logits. Counted in
    plain training, without recomputation; Korthikanti et al. 2022 (arXiv 2205.05198) count 17 of the width and 2.5
    scores for GPT, whose layers have no gates.
    """
    query = config.num_attention_heads * config.head_size
    scores = config.num_attention_heads * longest
    layer = 12 * config.hidden_size + 4 * config.intermediate_size + 4 * query + 3 * scores
    return config.num_hidden_layers * layer + 3 * config.vocab_size


def buffer_bytes(arch: Architecture, checkpoint: Checkpoint, dtype: str, users: int = 1) -> int:
    """What a step writes into; every layer uses the same places, so two of them tell, or one of each kind."""
    states = [geometry.state > 0 for geometry in arch.config.geometries]
    part = shortened(arch, min(len(states), max(2, 1 + max(states.index(kind) for kind in set(states)))))
    program = part.record(hollow(part, checkpoint, dtype))
    outputs = USUAL_OUTPUTS if users <= USUAL_OUTPUTS else OUTPUTS
    return 4 * plan_arena(program, {"tokens": CHUNK, "outputs": outputs})[1]


def shortened(arch: Architecture, layers: int, vocabulary: int | None = None) -> Architecture:
    """The same model with only the first so many layers, and as many entries of the vocabulary."""
    c = arch.config
    changed = {**c.slices(layers), "vocab_size": vocabulary or c.vocab_size}
    return Architecture(arch.family, replace(c, **changed))


def hollow(arch: Architecture, checkpoint: Checkpoint, dtype: str) -> Any:
    """Weights as `assemble` makes them, of the right shapes and formats, with nothing in them.

    `arch` may be a slice of the checkpoint's model: the formats are those that the whole has.
    """
    layout = packed_layout(checkpoint)

    def rows(part: Part) -> Rows:
        tensor = checkpoint.tensors[part.name]
        format = layout[part.name][0] if layout else target_format(part, tensor, dtype)
        count, columns = part.shape
        return Rows(format, count, columns, empty(format, count, columns))

    def vectors(parts: Sequence[Part]) -> Floats:
        return np.zeros(sum(math.prod(part.shape) for part in parts), np.float32)

    def residual(part: Part) -> Rows | None:
        tensor = checkpoint.tensors[part.name]
        large = part.name + RESIDUAL in layout if layout else halved(part, tensor.shape, dtype)
        return rows(part) if large else None

    return arch.plan.build(made_by(rows, vectors, residual))


def empty(format: str, rows: int, columns: int) -> Any:
    """An array of the size that a matrix has in a format, all of it the same few bytes of memory."""
    if format in formats.PLAIN:
        return np.broadcast_to(np.zeros((), formats.PLAIN[format]), (rows, columns))
    return np.broadcast_to(np.zeros((), np.uint8), (formats.stored_bytes(format, rows, columns),))


def parameters(arch: Architecture) -> int:
    """How many numbers a model consists of, those that several tensors share counted once."""
    return sum(math.prod(part.shape) for part in arch.plan.parts())


def layer_matrices(arch: Architecture) -> list[tuple[int, int]]:
    """Rows and columns of every matrix of every layer."""
    return [(part.shape[0], part.shape[1]) for layer in arch.plan.layers for part in layer.matrices()]
