"""The system messages of a conversation, for templates that have no place for them."""

from collections.abc import Sequence
from typing import Any

from soban import messages as notices
from soban.base.errors import UserError
from soban.text.chat.contents import MARKER, Render, one_part, text_of


def with_system(render: Render, messages: list[Any], strict: bool) -> list[Any]:
    """The conversation, its system messages folded into the first user turn where there is no place for them."""
    count = _leading_systems(messages)
    if count == 0:
        return messages
    try:
        text = render(messages)
        refusal = None
    except UserError as error:
        text, refusal = "", error
    contents = [text_of(message) for message in messages[:count]]
    if refusal is None and all(content.strip() in text for content in contents):
        return messages
    if refusal is None and not _drops(render, messages, range(count)):
        return messages
    if count > 1 and not strict:
        joined = "\n\n".join(content for content in contents if content.strip())
        return with_system(render, [{"role": "system", "content": joined}, *messages[count:]], strict)
    folded_in = folded(contents, messages[count:])
    # the template may have refused something else: then its own words are the ones to hear
    render(folded_in)
    if strict:
        raise refusal or _no_place()
    if any(content.strip() for content in contents):
        notices.warn("the model has no system role: the system text goes into the first user turn")
    return folded_in


def _leading_systems(messages: list[Any]) -> int:
    return next((n for n, message in enumerate(messages) if message.get("role") != "system"), len(messages))


def check_late_systems(render: Render, messages: list[Any]) -> None:
    """UserError where a system message after the first turn is missing from what the template writes."""
    first = _leading_systems(messages)
    late = [n for n, m in enumerate(messages) if n > first and m["role"] == "system" and text_of(m).strip()]
    if late and _drops(render, messages, late):
        raise _no_place()


def _drops(render: Render, messages: list[Any], indices: Sequence[int]) -> bool:
    """Whether the template leaves out one of the chosen messages: a text is put into them that stands nowhere else."""
    marked = [{**message, "content": MARKER} if n in indices else message for n, message in enumerate(messages)]
    return render(marked).count(MARKER) < len(indices)


def folded(contents: list[str], rest: list[Any]) -> list[Any]:
    """The messages `rest`, the contents put before the first user's words."""
    text = "\n\n".join(content for content in contents if content.strip())
    if not text:
        return rest
    if not rest or rest[0].get("role") != "user":
        return [{"role": "user", "content": text}, *rest]
    first = dict(rest[0])
    if isinstance(first.get("content"), list):
        first["content"] = [one_part(f"{text}\n\n{text_of(first)}")]
    else:
        first["content"] = f"{text}\n\n{first.get('content') or ''}"
    return [first, *rest[1:]]


def _no_place() -> UserError:
    return UserError(
        "the chat template has no place for a system message", hint="leave out the system message, or strict"
    )
