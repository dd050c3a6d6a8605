"""What can be told of a model in memory: family, size, form."""

import math

from soban.model import Model
from soban.ops.formats import Matrix


def family(model: Model) -> str:
    return model.loaded.architecture.family.name


def parameters(model: Model) -> int:
    """How many weights it has."""
    return sum(math.prod(shape) for shape in model.loaded.architecture.plan.shapes().values())


def short_count(count: int) -> str:
    """As in 2.6B, 135M."""
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.1f}M"


def weights_of(model: Model) -> int:
    """Bytes that the matrices take."""
    weights = model.loaded.weights
    matrices = [x for role in (weights, *weights.layers) for x in vars(role).values() if isinstance(x, Matrix)]
    parts = {id(part): part.data.nbytes for one in matrices for part in (*one.parts, one.residual) if part is not None}
    return sum(parts.values())
