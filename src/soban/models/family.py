"""What a family of models is: one record, which its file exports."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from soban import ops
from soban.models.plan import Plan


@dataclass(frozen=True)
class ModelType:
    """One of the model_types that a family serves, as its configuration class in transformers reads a config.json.

    `defaults`: what that class assumes where a key is missing, and the family's Config does not. `unread`: keys at
    which it never looks, though another of the family does, or files have them. `nested`: whether the rotary parameters
    of windowed layers and of the others stand apart. `aliases`: a key of the file -> its usual name. `positions`: from
    the file's object and max_position_embeddings to the rotary parameters, where that is not done in the usual way.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    nested: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    positions: Callable[[Mapping[str, Any], int], dict[str, Any]] | None = None


def plain_logits(config: Any, weights: Any, x: Any) -> Any:
    """The head alone."""
    return ops.scores(x, weights.head)


@dataclass(frozen=True)
class Family:
    """A family: how its config is read, which weights it has, and what it computes.

    `config`: a frozen dataclass whose fields are config.json's keys; it checks itself, and tells the sizes that
    `models.config.Decoder` names. `forward(config, weights, batch, cache, longest)`: hidden states (T, hidden);
    `logits(config, weights, x)`: (R, hidden) -> (R, vocabulary). Both call ops, and nothing else. `encoder`: it writes
    nothing; texts become vectors, and if its config has labels, logits are (R, labels) of a text's first token.
    """

    name: str
    model_types: Mapping[str, ModelType]
    config: type[Any]
    plan: Callable[[Any], Plan]
    forward: Callable[..., Any]
    logits: Callable[..., Any] = plain_logits
    encoder: bool = False
