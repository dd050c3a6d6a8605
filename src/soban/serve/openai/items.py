"""The items of /v1/responses as a conversation: what was said, thought and called, each an item of its own."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from soban.serve.conversation import ROLES, read_object, text_of
from soban.serve.errors import ApiError

SPEAKERS = ("user", "assistant", "system", "developer")


def turns_of_items(items: Sequence[Mapping[str, Any]], place: str = "input") -> list[dict[str, Any]]:
    """The turns: thoughts, text and calls that follow each other are one answer. Raises ApiError, by the place."""
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for number, item in enumerate(items):
        where = f"{place}[{number}]"
        kind = item.get("type") or ("message" if "role" in item else None)
        if kind == "message":
            _message(item, where, turns)
        elif kind == "function_call":
            _call(item, where, turns, names)
        elif kind == "function_call_output":
            turns.append(_result(item, where, names))
        elif kind == "reasoning":
            parts = item.get("content") or item.get("summary") or []
            _answer(turns, "reasoning_content")["reasoning_content"] = _thoughts(parts, where)
        else:
            raise ApiError(
                f"{where} is of type {kind}, where message, function_call, function_call_output, reasoning and "
                "item_reference are possible", 400, where,
            )  # fmt: skip
    return [{"content": "", **turn} if turn["role"] == "assistant" else turn for turn in turns]


PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}  # of ids


def whole(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as OpenAI lists it: with an id of its own, its type, and its text in parts."""
    kind = item.get("type") or "message"
    item = {"id": f"{PREFIXES[kind]}_{uuid.uuid4().hex}", "type": kind, "status": "completed", **item}
    if kind == "reasoning":
        return {"summary": [], **item}
    if kind == "message" and isinstance(content := item["content"], str):
        said = item["role"] == "assistant"
        part = {"type": "output_text", "annotations": [], "logprobs": []} if said else {"type": "input_text"}
        item["content"] = [{**part, "text": content}]
    return item


def _answer(turns: list[dict[str, Any]], *new: str) -> dict[str, Any]:
    """The answer that goes on, or another one where it has something that begins a new one, or what may not follow."""
    later = {"reasoning_content": ("content", "tool_calls"), "content": ("tool_calls",)}
    if turns and turns[-1]["role"] == "assistant":
        fields = {name for one in new for name in (one, *later.get(one, ()))}
        if fields.isdisjoint(turns[-1]):
            return turns[-1]
    turns.append({"role": "assistant"})
    return turns[-1]


def _message(item: Mapping[str, Any], where: str, turns: list[dict[str, Any]]) -> None:
    role = item.get("role")
    if role not in SPEAKERS:
        raise ApiError(f"{where}.role is '{role}', where {', '.join(SPEAKERS)} are possible", 400, f"{where}.role")
    text = text_of(item.get("content"), f"{where}.content")
    if role == "assistant":
        _answer(turns, "content")["content"] = text
    else:
        turns.append({"role": ROLES[role], "content": text})


def _call(item: Mapping[str, Any], where: str, turns: list[dict[str, Any]], names: dict[str, str]) -> None:
    match item:
        case {"call_id": str(id), "name": str(name), "arguments": str(arguments)}:
            names[id] = name
            function = {"name": name, "arguments": read_object(arguments, where)}
            call = {"id": id, "type": "function", "function": function}
            _answer(turns).setdefault("tool_calls", []).append(call)
        case _:
            raise ApiError(f"{where} lacks a call_id, a name or arguments", 400, where)


def _result(item: Mapping[str, Any], where: str, names: Mapping[str, str]) -> dict[str, Any]:
    id = item.get("call_id")
    if not isinstance(id, str):
        raise ApiError(f"{where}.call_id is missing", 400, f"{where}.call_id")
    turn = {"role": "tool", "tool_call_id": id, "content": text_of(item.get("output"), f"{where}.output")}
    return turn | ({"name": names[id]} if id in names else {})


def _thoughts(parts: object, where: str) -> str:
    match parts:
        case list() if all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in parts):
            return "\n".join(part["text"] for part in parts)
    raise ApiError(f"{where}: the thoughts are no list of texts", 400, where)
