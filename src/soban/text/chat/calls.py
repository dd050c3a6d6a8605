"""How a template writes thoughts and calls of tools, and conversations that hold some for templates that cannot."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.text.chat.contents import text_of
from soban.text.chat.form import ANSWER, ChatForm, Vocabulary
from soban.text.chat.template import ChatTemplate, Message

FIRST, SECOND, ID = "soban_first", "soban_second", "aB3dE6gH9"  # an id as Mistral's templates insist on
LONG_ID = "call_0123456789abcdef01234567"
OBJECT = {"soban": "value"}
WRITTEN = re.compile(r'\{\s*"soban":\s*"value"\s*\}')
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
UNFINISHED = re.compile(r"(?:<[^<>\s]*|\[[A-Z_]*)$")
MAX_TOOLS = 128  # as OpenAI's servers take
# Marks between which models think; of those whose template has both, the first.
THOUGHTS = (
    ("<think>", "</think>"), ("<|channel>thought", "<channel|>"), ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"), ("<seed:think>", "</seed:think>"), ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
)  # fmt: skip
SWITCHES = ("enable_thinking", "thinking")  # by which templates are told whether to think


@dataclass(frozen=True)
class Thinking:
    """The marks around thoughts; `in_prompt`: the prompt ends with the first one, so that an answer begins within."""

    begin: str
    end: str
    in_prompt: bool = False


@dataclass(frozen=True)
class CallForm:
    """How calls are written: begin NAME middle ARGUMENTS, between NAME middle ARGUMENTS, ..., end.

    Arguments are JSON. `between` is None where there is one call at the most. `own`: the template has no form, and
    this is soban's. `as_text`: the template takes the arguments of a call as text. `short_ids`: it refuses ids that are
    not nine letters and digits.
    """

    begin: str
    middle: str
    between: str | None
    end: str
    own: bool = False
    as_text: bool = False
    short_ids: bool = False


# As Hermes and Qwen learnt it, and many others know it.
OWN = CallForm(
    '<tool_call>\n{"name": "',
    '", "arguments": ',
    '}\n</tool_call>\n<tool_call>\n{"name": "',
    "}\n</tool_call>",
    own=True,
)
DESCRIBED = """# Tools

You may call functions to help with the user's request. These are their signatures:
{tools}

To call one, write its name and its arguments as JSON, like this, and nothing after it:
<tool_call>
{{"name": "FUNCTION", "arguments": {{"PARAMETER": "VALUE"}}}}
</tool_call>"""


def checked_tools(tools: object) -> list[dict[str, Any]]:
    """Tools in OpenAI's form. Raises UserError, by the place, for what is none."""
    if isinstance(tools, str) or not isinstance(tools, Sequence) or len(tools) > MAX_TOOLS:
        raise UserError(
            "tools is no list of at most {most} functions", most=MAX_TOOLS,
            hint='give [{{"type": "function", "function": {{"name": "now", "parameters": {{}}}}}}], say',
        )  # fmt: skip
    functions: dict[str, dict[str, Any]] = {}
    for n, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(name, str) or not NAME.fullmatch(name):
            raise UserError(
                "tools[{n}] is {value}, which is no function with a name of letters, digits and _ . -", n=n,
                value=quoted(tool),
                hint='give {{"type": "function", "function": {{"name": "now", "parameters": {{}}}}}}',
            )  # fmt: skip
        if name in functions:
            raise UserError("two tools have the name {name}", name=name, hint="give each a name of its own")
        parameters = function.get("parameters") or {"type": "object", "properties": {}}
        if not isinstance(parameters, Mapping):
            raise UserError(
                "tools[{n}]: parameters is of type {kind}",
                n=n,
                kind=type(parameters).__name__,
                hint="give a JSON schema",
            )
        described = {"description": "", **function, "parameters": dict(parameters)}
        functions[name] = {"type": "function", "function": described}
    return list(functions.values())


def read_thinking(template: ChatTemplate, names: Mapping[str, Any]) -> Thinking | None:
    """The marks of thoughts, if a template has some."""
    for begin, end in THOUGHTS:
        if begin in template.source and end in template.source:
            prompt = _rendered(template, names, [{"role": "user", "content": "a"}], add_generation_prompt=True)
            return Thinking(begin, end, (prompt or "").rstrip().endswith(begin))
    return None


def can_be_told(template: ChatTemplate) -> bool:
    """Whether a template asks if the model is to think."""
    return not template.base.names.isdisjoint(SWITCHES)


def read_calls(tokenizer: Vocabulary, template: ChatTemplate, form: ChatForm) -> CallForm:
    """How a template writes calls, by rendering some; `OWN` where it takes no tools, or arguments that are no JSON.

    `form` says how it ends an answer.
    """
    names = {**tokenizer.special_tokens, **template.tokens}
    tools = [_tool(FIRST), _tool(SECOND)]
    question: list[Message] = [{"role": "user", "content": "a"}]
    begun = _rendered(template, names, question, add_generation_prompt=True, tools=tools)
    if begun is None or FIRST not in begun:
        return OWN
    for arguments in (OBJECT, json.dumps(OBJECT)):
        one = _calls(template, names, question, begun, tools, [FIRST], arguments)
        parts = None if one is None else _split(one, FIRST)
        if parts is None or parts[1].endswith("{"):  # braces of the template's own, around what is no JSON then
            continue
        begin, middle, end = parts
        begin = _after_thoughts(begin)
        cuts = [span.start for span in tokenizer.find_markup(end) if span.token_id in form.ends]
        cuts += [end.find(stop) for stop in form.stops if stop in end]
        between = None
        two = _calls(template, names, question, begun, tools, [FIRST, SECOND], arguments)
        if two is not None and (first := _split(two, FIRST)) and (second := _split(first[2], SECOND)):
            between = second[0] if second[1] == middle else None
        return CallForm(
            begin, middle, between, end[: min(cuts, default=None)].rstrip(), as_text=isinstance(arguments, str),
            short_ids=_calls(template, names, question, begun, tools, [FIRST], arguments, id=LONG_ID) is None,
        )  # fmt: skip
    return OWN


def _tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"soban": {"type": "string"}}, "required": ["soban"]}
    return {"type": "function", "function": {"name": name, "description": "a", "parameters": parameters}}


def _rendered(
    template: ChatTemplate, names: Mapping[str, Any], messages: Sequence[Message], **values: Any
) -> str | None:
    try:
        return template.render(messages, **{"add_generation_prompt": False, **names, **values})
    except UserError:
        return None


def _calls(
    template: ChatTemplate, names: Mapping[str, Any], question: list[Message], begun: str, tools: list[dict[str, Any]],
    functions: list[str], arguments: object, id: str = ID,
) -> str | None:  # fmt: skip
    """What follows the prompt where an answer calls these tools; None where the template refuses it."""
    calls = [{"id": id, "type": "function", "function": {"name": name, "arguments": arguments}} for name in functions]
    answer = {"role": "assistant", "content": "", "tool_calls": calls}
    text = _rendered(template, names, [*question, answer], tools=tools)
    if text is None:
        return None
    plain = _rendered(template, names, [*question, {"role": "assistant", "content": ANSWER}], tools=tools) or ""
    alike = max(_alike(text, begun), _alike(text, plain.partition(ANSWER)[0]))
    while alike and UNFINISHED.search(text[:alike]):  # within a mark that both have begun
        alike -= 1
    after = text[alike:]
    return after.replace(f', "id": "{ID}"', "")


def _alike(text: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(text, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(text), len(other)))


def _split(text: str, name: str) -> tuple[str, str, str] | None:
    """What stands before a call's name, between it and its arguments, and after these."""
    before, separator, after = text.partition(name)
    arguments = WRITTEN.search(after)
    if not separator or not arguments:
        return None
    return before, after[: arguments.start()], after[arguments.end() :]


def _after_thoughts(begin: str) -> str:
    for _, end in THOUGHTS:
        begin = begin.rpartition(end)[2]
    return begin.lstrip()


def with_calls(messages: Sequence[Message], form: CallForm, tools: list[dict[str, Any]]) -> list[Message]:
    """The conversation as the template takes it: calls with arguments of its kind, or all in soban's own form."""
    plain = [_plain(message, form) for message in messages]
    if not form.own:
        return plain
    turns: list[Message] = [_as_text(message) for message in plain]
    if not tools:
        return turns
    described = DESCRIBED.format(tools="\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools))
    if turns and turns[0].get("role") == "system":
        return [{**turns[0], "content": f"{text_of(turns[0])}\n\n{described}"}, *turns[1:]]
    return [{"role": "system", "content": described}, *turns]


def _plain(message: Message, form: CallForm) -> Message:
    """Arguments of calls as objects, or as text where the template wants that; a content where there is none."""
    if not isinstance(message, Mapping):
        return message
    if form.short_ids and isinstance(id := message.get("tool_call_id"), str):
        message = {**message, "tool_call_id": _short(id)}
    if not (calls := message.get("tool_calls")):
        return message
    try:
        copies = [{**call, "function": {**call["function"]}} for call in calls]
        for call in copies:
            arguments = call["function"].get("arguments", {})
            read = (json.loads(arguments) if arguments.strip() else {}) if isinstance(arguments, str) else arguments
            call["function"]["arguments"] = json.dumps(read, ensure_ascii=False) if form.as_text else read
            if form.short_ids and isinstance(id := call.get("id"), str):
                call["id"] = _short(id)
            if not isinstance(call["function"]["name"], str) or not isinstance(read, dict):
                raise TypeError
    except (TypeError, KeyError, AttributeError, ValueError):
        raise UserError(
            "a message has tool_calls {value}, which are no calls with a function's name and arguments as JSON",
            value=quoted(calls), hint="give them as the answer had them",
        ) from None  # fmt: skip
    content = message.get("content")
    return {**message, "content": "" if content is None else content, "tool_calls": copies}


def _short(id: str) -> str:
    """An id of nine letters and digits, the same for the same one."""
    return id if len(id) == len(ID) and id.isalnum() else hashlib.sha256(id.encode()).hexdigest()[: len(ID)]


def _as_text(message: Message) -> Message:
    """A message with its calls written out, or a tool's result as the user's words."""
    if message.get("role") == "tool":
        content = message.get("content")
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        return {"role": "user", "content": f"<tool_response>\n{text}\n</tool_response>"}
    if not (calls := message.get("tool_calls")):
        return message
    blocks = [
        f'<tool_call>\n{{"name": "{call["function"]["name"]}", "arguments": '
        f"{json.dumps(call['function']['arguments'], ensure_ascii=False)}}}\n</tool_call>"
        for call in calls
    ]
    return {"role": "assistant", "content": "\n".join([*filter(None, [text_of(message)]), *blocks])}
