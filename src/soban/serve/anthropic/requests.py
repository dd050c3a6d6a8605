"""What Anthropic's API takes, field by field, as the library's messages and options; the rest is refused by name."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from soban.model import Model
from soban.serve.answers import choice_of, tool_of
from soban.serve.conversation import ROLES, text_of
from soban.serve.errors import ApiError
from soban.serve.openai.choosing import checked_stops
from soban.serve.openai.requests import Body, Ignored, Refused
from soban.serve.settings import Limits

CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class Thinking(Body):
    """Thoughts have no budget of their own here: they count among `max_tokens`, as at Anthropic's."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(None, ge=1)
    display: Literal["summarized"] | None = None


class ToolChoice(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Output(Body):
    """`effort`: of all that there are, this one is what nobody asks for."""

    format: dict[str, Any] | None = None
    effort: Literal["high"] | None = None


class CountRequest(Body):
    """A conversation, of which the tokens are to be counted."""

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: Output | None = None
    cache_control: Ignored = None


class MessagesRequest(CountRequest):
    """What /v1/messages takes."""

    max_tokens: int = Field(ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    metadata: Ignored = None
    service_tier: Ignored = None
    inference_geo: Ignored = None
    container: Refused = None
    mcp_servers: Refused = None
    context_management: Refused = None


def options_of(body: MessagesRequest, limits: Limits) -> dict[str, Any]:
    """How the answer is to be written. Raises ApiError for what is beyond the server's limits."""
    options: dict[str, Any] = {"max_new_tokens": body.max_tokens}
    options |= {name: v for name in ("temperature", "top_p", "top_k") if (v := getattr(body, name)) is not None}
    if body.stop_sequences:
        options["stop"] = checked_stops(body.stop_sequences, limits)
    return options


def ways_of(model: Model, body: CountRequest) -> dict[str, Any]:
    """What is said of tools, thoughts and form, as options of `answers.begin`. Raises ApiError, by the place."""
    ways: dict[str, Any] = {}
    if body.thinking is not None:
        switches = {"enabled": True, "disabled": False, "adaptive": None if model.thinking is None else True}
        ways["thinking"] = switches[body.thinking.type]
    if body.output_config and body.output_config.format:
        match body.output_config.format:
            case {"type": "json_schema", "schema": dict() as schema}:
                ways["schema"] = schema
            case _:
                raise ApiError("output_config.format: json_schema with a schema", 400, "output_config.format")
    tools = [_tool(tool, f"tools[{n}]") for n, tool in enumerate(body.tools or [])]
    choice = body.tool_choice or ToolChoice(type="auto")
    if tools or choice.type in ("any", "tool"):
        ways["tools"] = tools
        ways["tool_choice"] = choice_of(choice.name, tools) if choice.type == "tool" else CHOICES[choice.type]
        ways["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    return ways


def _tool(tool: Mapping[str, Any], place: str) -> dict[str, Any]:
    if (kind := tool.get("type")) not in (None, "custom"):
        raise ApiError(f"{place} is of type {kind}: soban knows no tools but those that are described", 400, place)
    if not isinstance(tool.get("input_schema"), Mapping):
        raise ApiError(f"{place}.input_schema is missing", 400, f"{place}.input_schema")
    return tool_of(tool.get("name"), tool.get("description"), tool["input_schema"], place)


def turns_of(body: CountRequest) -> list[dict[str, Any]]:
    """The conversation as the library takes it, the system text first. Raises ApiError, which names the place."""
    turns: list[dict[str, Any]] = []
    if body.system:
        turns.append({"role": "system", "content": text_of(body.system, "system")})
    names: dict[str, str] = {}  # the tools' names, by the ids of the calls
    for number, message in enumerate(body.messages):
        place, role, content = f"messages[{number}]", message.get("role"), message.get("content")
        if role not in ("user", "assistant", "system"):
            raise ApiError(f"{place}.role is '{role}', where user and assistant are possible", 400, f"{place}.role")
        place += ".content"
        if isinstance(content, list) and role == "assistant":
            turns.append(_answer(content, place, names))
        elif isinstance(content, list) and role == "user":
            turns += _question(content, place, names)
        else:
            turns.append({"role": ROLES[role], "content": text_of(content, place)})
    return turns


def _answer(blocks: Sequence[Any], place: str, names: dict[str, str]) -> dict[str, Any]:
    """An assistant's blocks as one turn."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for number, block in enumerate(blocks):
        match block:
            case {"type": "tool_use", "id": str(id), "name": str(name), "input": dict() as arguments}:
                names[id] = name
                function = {"name": name, "arguments": arguments}
                calls.append({"id": id, "type": "function", "function": function})
            case {"type": "tool_use"}:
                raise ApiError(f"{place}[{number}] lacks an id, a name or an input", 400, f"{place}[{number}]")
            case {"type": "thinking", "thinking": str(text)}:
                thoughts.append(text)
            case {"type": "redacted_thinking"}:  # which nobody but Anthropic can read
                pass
            case _:
                texts.append(text_of([block], place, number))
    turn: dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
    turn |= {"tool_calls": calls} if calls else {}
    return turn | ({"reasoning_content": "\n".join(thoughts)} if thoughts else {})


def _question(blocks: Sequence[Any], place: str, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """A user's blocks: results of tools are turns of their own, the text between them is the user's."""
    turns: list[dict[str, Any]] = []
    for number, block in enumerate(blocks):
        match block:
            case {"type": "tool_result", "tool_use_id": str(id)}:
                text = text_of(block.get("content") or "", f"{place}[{number}].content")
                turn = {
                    "role": "tool",
                    "tool_call_id": id,
                    "content": f"Error: {text}" if block.get("is_error") else text,
                }
                turns.append(turn | ({"name": names[id]} if id in names else {}))
            case {"type": "tool_result"}:
                raise ApiError(f"{place}[{number}].tool_use_id is missing", 400, f"{place}[{number}].tool_use_id")
            case _:
                text = text_of([block], place, number)
                if turns and turns[-1]["role"] == "user":
                    turns[-1]["content"] += text
                else:
                    turns.append({"role": "user", "content": text})
    return turns or [{"role": "user", "content": ""}]
