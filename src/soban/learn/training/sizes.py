"""How large a network is before it is made: its weights are counted in the plan of its family."""

import math
from typing import Any

from soban.learn.training.families import FAMILIES
from soban.learn.training.settings import Settings
from soban.models import architecture
from soban.models.plan import Plan

INITIAL_STD = 0.02


def new_config(settings: Settings) -> dict[str, Any]:
    """The keys of config.json that a new model is made of; it writes by its embedding."""
    family = FAMILIES[settings.family]
    shape = {key: getattr(settings.shape, name) for key, name in family.keys.items()}
    return {
        "vocab_size": settings.vocab_size, "tie_word_embeddings": True, "initializer_range": INITIAL_STD,
        **shape, **family.config(settings.shape),
    }  # fmt: skip


def plan(settings: Settings) -> Plan:
    """Of the network's weights, by the names that they have in transformers, too."""
    return architecture({"model_type": settings.family, **new_config(settings)}).plan


def parameters(settings: Settings) -> int:
    """How many weights there are; the output layer shares the embedding's."""
    return sum(math.prod(shape) for shape in plan(settings).shapes().values())


def learning(settings: Settings) -> int:
    """How many of them learn."""
    return sum(math.prod(shape) for name, shape in plan(settings).file_shapes().items() if settings.learns_by(name))


def flops_per_token(settings: Settings) -> float:
    """Operations for a token's forward and backward pass: six a weight of a matrix, and attention's own."""
    weights, shape = plan(settings), settings.shape
    matrices = sum(math.prod(part.shape) for layer in weights.layers for part in layer.matrices())
    # scores and mixture, half of which no token may see
    attention = 2 * shape.context * shape.hidden_size * shape.num_hidden_layers
    return 6.0 * (matrices + attention + settings.vocab_size * shape.hidden_size)
