"""A conversation as programs send it, made into what a chat template takes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from soban.serve.errors import ApiError

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # as programs name what an answer was before its text
TEXTS = ("text", "input_text", "output_text", "refusal")  # kinds of parts that are text
MEDIA = {"image_url", "input_image", "image", "input_audio", "audio", "file", "input_file", "video_url"}


def turns_of(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Roles by their usual names, contents as text. Raises ApiError, which names the place, for what is no text."""
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {}  # the functions' names, by the ids of the calls, until these are answered
    for number, message in enumerate(messages):
        place, role = f"messages[{number}]", message.get("role")
        if role not in ROLES:
            raise ApiError(
                f"{place}.role is '{role}', where system, developer, user, assistant and tool are possible", 400,
                f"{place}.role",
            )  # fmt: skip
        turn: dict[str, Any] = {"role": ROLES[role]}
        content, calls = message.get("content"), message.get("tool_calls")
        if content is not None:
            turn["content"] = text_of(content, f"{place}.content")
        elif role != "assistant" or not calls:
            raise ApiError(f"{place} has no content", 400, f"{place}.content")
        if role == "assistant" and calls:
            turn["tool_calls"] = calls_of(calls, f"{place}.tool_calls")
            names |= {call["id"]: call["function"]["name"] for call in turn["tool_calls"]}
        if role == "assistant" and (thoughts := next(filter(None, map(message.get, THOUGHTS)), None)):
            turn["reasoning_content"] = text_of(thoughts, f"{place}.reasoning_content")
        if role == "tool":
            turn |= result_of(message, names)
        elif message.get("name"):
            turn["name"] = message["name"]
        turns.append(turn)
    return turns


def calls_of(calls: object, place: str) -> list[dict[str, Any]]:
    """An answer's calls. Raises ApiError, which names the place, for what is no call of a function."""
    if not isinstance(calls, list):
        raise ApiError(f"{place} is no list of calls", 400, place)
    return [_call(call, f"{place}[{number}]") for number, call in enumerate(calls)]


def _call(call: object, place: str) -> dict[str, Any]:
    fields = call if isinstance(call, Mapping) and call.get("type", "function") == "function" else {}
    match fields.get("function"):
        case {"name": str(name), "arguments": str() | dict() as arguments}:
            function = {"name": name, "arguments": read_object(arguments, place)}
            id = fields.get("id")  # which Ollama's programs do not know
            return {"id": id if isinstance(id, str) else place, "type": "function", "function": function}
    raise ApiError(f"{place} is no call of a function with a name and arguments", 400, place)


def read_object(arguments: str | dict[str, Any], place: str) -> dict[str, Any]:
    """The arguments of a call as an object; some programs send none as an empty text."""
    try:
        read = (json.loads(arguments) if arguments.strip() else {}) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise ApiError(f"{place}: the arguments are no JSON object", 400, place)
    return read


def result_of(message: Mapping[str, Any], names: dict[str, str]) -> dict[str, str]:
    """Which call a tool's turn answers: templates want to know its id, or the function's name.

    Without an id it is the first of that name that has no answer yet, or the first of all.
    """
    id, name = message.get("tool_call_id"), message.get("name") or message.get("tool_name")
    if not isinstance(id, str):
        id = next((one for one, function in names.items() if name in (None, function)), None)
    name = (names.pop(id, None) if id else None) or name
    return {key: value for key, value in (("tool_call_id", id), ("name", name)) if isinstance(value, str) and value}


def text_of(content: object, place: str, first: int = 0) -> str:
    """A content as text: it is one, or a list of parts that are, of which the first has that number."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ApiError(f"{place} is neither text nor a list of parts", 400, place)
    texts = []
    for number, part in enumerate(content, first):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in MEDIA:
            raise ApiError(f"{place}[{number}] is of type {kind}: soban reads text alone", 400, f"{place}[{number}]")
        text = next((part[name] for name in ("text", "refusal") if name in part), None) if kind in TEXTS else None
        if not isinstance(text, str):
            raise ApiError(f"{place}[{number}] is no part with text in it", 400, f"{place}[{number}]")
        texts.append(text)
    return "".join(texts)
