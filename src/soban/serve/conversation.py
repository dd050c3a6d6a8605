"""A conversation as programs send it, made into what a chat template takes."""

from collections.abc import Mapping, Sequence
from typing import Any

from soban.serve.errors import ApiError

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
TEXTS = ("text", "input_text", "output_text", "refusal")  # kinds of parts that are text
MEDIA = {"image_url", "input_image", "image", "input_audio", "audio", "file", "input_file", "video_url"}


def turns_of(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Roles by their usual names, contents as text. Raises ApiError, which names the place, for what is no text."""
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        place, role = f"messages[{number}]", message.get("role")
        if role not in ROLES:
            raise ApiError(
                f"{place}.role is '{role}', where system, developer, user, assistant and tool are possible", 400,
                f"{place}.role",
            )  # fmt: skip
        turn: dict[str, Any] = {"role": ROLES[role]}
        content = message.get("content")
        if content is not None:
            turn["content"] = text_of(content, f"{place}.content")
        elif role != "assistant" or not message.get("tool_calls"):
            raise ApiError(f"{place} has no content", 400, f"{place}.content")
        turn |= {name: message[name] for name in ("name", "tool_calls", "tool_call_id") if message.get(name)}
        turns.append(turn)
    return turns


def text_of(content: object, place: str) -> str:
    """A content as text: it is one, or a list of parts that are."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ApiError(f"{place} is neither text nor a list of parts", 400, place)
    texts = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in MEDIA:
            raise ApiError(f"{place}[{number}] is of type {kind}: soban reads text alone", 400, f"{place}[{number}]")
        text = next((part[name] for name in ("text", "refusal") if name in part), None) if kind in TEXTS else None
        if not isinstance(text, str):
            raise ApiError(f"{place}[{number}] is no part with text in it", 400, f"{place}[{number}]")
        texts.append(text)
    return "".join(texts)
