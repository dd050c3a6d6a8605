"""What can be told of a model in memory: family, size, form."""

import math

from soban.model import Model

BITS = {"f32": 32.0, "bf16": 16.0, "q8": 8.25, "q4": 4.5}  # of a weight; most are kept so


def family(model: Model) -> str:
    return model.loaded.architecture.family.name


def parameters(model: Model) -> int:
    """How many weights it has."""
    return sum(math.prod(shape) for shape in model.loaded.architecture.plan.shapes().values())


def short_count(count: int) -> str:
    """As in 2.6B, 135M."""
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.1f}M"


def weights_of(model: Model) -> int:
    """Bytes that the weights take, near enough for a list."""
    return int(parameters(model) * BITS[model.loaded.dtype] / 8)
