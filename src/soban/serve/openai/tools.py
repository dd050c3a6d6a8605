"""Tools, and which of them may be called, in OpenAI's two spellings: within `function`, or `flat` (/v1/responses)."""

from collections.abc import Mapping
from typing import Any

from soban.serve.answers import choice_of, tool_of
from soban.serve.errors import ApiError

WORDS = ("auto", "none", "required")


def options_of(
    tools: list[dict[str, Any]] | None, choice: str | dict[str, Any] | None, parallel: bool | None, *, flat: bool
) -> dict[str, Any]:
    """The options of `Model.start_answer`. Raises ApiError, by the place, for tools and choices that are none."""
    functions = [_tool(tool, f"tools[{n}]", flat) for n, tool in enumerate(tools or [])]
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        functions, choice = _allowed(choice if flat else choice.get("allowed_tools"), functions, flat)
    elif isinstance(choice, dict):
        choice = choice_of(_name_of(choice, flat), functions)
    elif choice is not None and choice not in WORDS:
        raise _no_choice(choice)
    if not functions and choice in (None, "auto", "none"):
        return {}
    return {"tools": functions, "tool_choice": choice, "parallel_tool_calls": parallel is not False}


def _tool(tool: Mapping[str, Any], place: str, flat: bool) -> dict[str, Any]:
    if (kind := tool.get("type")) != "function":
        raise ApiError(f"{place} is of type {kind}: soban calls functions alone", 400, place)
    function = tool if flat else tool.get("function")
    if not isinstance(function, Mapping):
        raise ApiError(f"{place}.function is missing", 400, f"{place}.function")
    return tool_of(function.get("name"), function.get("description"), function.get("parameters"), place)


def _name_of(choice: Mapping[str, Any], flat: bool) -> object:
    """The name of the function that a choice names."""
    function = choice if flat else choice.get("function")
    if choice.get("type") != "function" or not isinstance(function, Mapping):
        raise _no_choice(choice)
    return function.get("name")


def _allowed(
    choice: object, tools: list[dict[str, Any]], flat: bool
) -> tuple[list[dict[str, Any]], str | dict[str, Any]]:
    """Those of the tools that a choice leaves, and its mode."""
    match choice:
        case {"mode": "auto" | "required" as mode, "tools": [_, *_] as left}:
            choices = [choice_of(_name_of(one, flat), tools) if isinstance(one, Mapping) else None for one in left]
            names = [one["function"]["name"] for one in choices if one]
            return [tool for tool in tools if tool["function"]["name"] in names], mode
    raise _no_choice(choice)


def _no_choice(choice: object) -> ApiError:
    value = choice if isinstance(choice, str) else "an object of another kind"
    return ApiError(
        f"tool_choice is {value}, where auto, none, required and a function's name are possible", 400, "tool_choice"
    )
