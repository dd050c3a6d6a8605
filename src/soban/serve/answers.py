"""What the three ways of asking for an answer have in common: how one is begun, tools, and whether to think."""

from collections.abc import Mapping, Sequence
from typing import Any

from soban.base.errors import UserError
from soban.model import Model
from soban.serve import errors
from soban.serve.errors import ApiError
from soban.serve.settings import Limits
from soban.talk.answer import Answering
from soban.talk.parts import ToolCall

TOOL_FIELDS = ("tool_choice", "tools")


def quiet(note: str) -> None:
    """Notes of a request are nothing for the server's log."""


def begin(
    model: Model,
    messages: Sequence[Mapping[str, Any]],
    limits: Limits,
    *,
    thinking: bool | None = None,
    names: tuple[str, str],
    **options: Any,
) -> Answering:
    """An answer to a conversation; `options` are those of `Model.start_answer`.

    `names`: what the API calls the messages, and the thinking. Raises UserError and ApiError.
    """
    conversation, thoughts = names
    if len(messages) > limits.messages:
        raise ApiError(f"{len(messages)} messages, where {limits.messages} are possible", 400, conversation)
    check_thinking(model, thinking, thoughts)
    try:
        return model.start_answer(messages, thinking=thinking, show=quiet, **options)
    except UserError as error:
        blamed = next((name for name in TOOL_FIELDS if error.template.startswith(name)), None)
        if blamed is None:
            raise
        raise errors.of(error, blamed) from error


def check_thinking(model: Model, thinking: bool | None, name: str) -> None:
    """Raises ApiError for a model that cannot do as it is told; `name` is the field's."""
    if thinking and model.thinking is None:
        raise ApiError(f"{name}: the template of this model knows no thoughts; leave it out", 400, name)
    if thinking is False and model.thinking is not None and not model.thinks_as_told:
        raise ApiError(f"{name}: the template of this model cannot be told not to think; leave it out", 400, name)


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments as an object; none where a stop string has cut them off."""
    try:
        return call.values()
    except ValueError:
        return {}


def tool_of(name: object, description: object, parameters: object, place: str) -> dict[str, Any]:
    """A tool as the library takes it, with what a model is to see of it. Raises ApiError, by the place."""
    if description is not None and not isinstance(description, str):
        raise ApiError(f"{place}: the description is no text", 400, place)
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


def choice_of(name: object, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The tool_choice for one of the tools. Raises ApiError where it is none of them."""
    names = [tool["function"].get("name") for tool in tools]
    if name not in names:
        raise ApiError(f"tool_choice: '{name}' is none of the tools", 400, "tool_choice")
    return {"type": "function", "function": {"name": name}}
