"""What a chat template shows of itself: how a turn ends, what leads an answer, whether it takes a system text."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from soban.errors import UserError
from soban.text.chat import ChatTemplate, Message
from soban.text.markup import Span

# In a private plane, so that no template means anything by them.
ANSWER, QUESTION, SYSTEM = "\U0010f001", "\U0010f002", "\U0010f003"
LONGEST_STOP = 60  # characters


class Vocabulary(Protocol):
    """What of a tokenizer a template's form depends on."""

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """The tokens with a role: bos_token -> "<bos>"."""

    def find_markup(self, text: str) -> list[Span]:
        """Where tokens that steer the model are written in the text."""


@dataclass(frozen=True)
class ChatForm:
    """What a template says about an answer's beginning and end."""

    ends: frozenset[int] = frozenset()  # tokens with which it ends an answer
    stops: tuple[str, ...] = ()  # texts with which it begins the next turn, where no token ends one
    lead: str = ""  # blanks that it puts between its last word and the answer
    takes_system: bool = False


def read_form(tokenizer: Vocabulary, template: ChatTemplate) -> ChatForm:
    """The form of a template, by rendering small conversations; what it refuses to render stays unknown."""
    from soban.text.limits import MAX_SECONDS

    until = time.thread_time() + MAX_SECONDS  # for all of them

    def rendered(roles: str, add_generation_prompt: bool = False) -> str:
        contents = {"s": ("system", SYSTEM), "u": ("user", "x"), "a": ("assistant", ANSWER), "q": ("user", QUESTION)}
        messages: list[Message] = [{"role": contents[r][0], "content": contents[r][1]} for r in roles]
        names: dict[str, Any] = {**tokenizer.special_tokens, **template.tokens}
        try:
            return template.render(messages, add_generation_prompt=add_generation_prompt, until=until, **names)
        except UserError:
            return ""

    begun, answered, between = rendered("u", True), rendered("ua"), rendered("uaq")
    lead = answered[len(begun) : answered.find(ANSWER)] if answered.startswith(begun) else ""
    after = answered.partition(ANSWER)[2]
    gap = between.partition(ANSWER)[2].partition(QUESTION)[0]
    ends, stops = _markup_at_start(tokenizer, after or gap), template.stops
    if not ends and not stops and gap.strip() and len(gap) <= LONGEST_STOP:
        stops = (gap.strip(), gap.rstrip())
    for stop in template.stops:
        ends |= _markup_at_start(tokenizer, stop)
    return ChatForm(ends, stops, lead if lead.isspace() else "", SYSTEM in rendered("su"))


def _markup_at_start(tokenizer: Vocabulary, text: str) -> frozenset[int]:
    """The token that a text begins with, if that steers the model."""
    text = text.lstrip()
    return frozenset(span.token_id for span in tokenizer.find_markup(text)[:1] if not text[: span.start].strip())


def token_of(text: str, tokenizer: Vocabulary) -> int | None:
    """The token that a text spells from end to end, if that steers the model: such a token is never shown as text."""
    spans = tokenizer.find_markup(text)
    return spans[0].token_id if spans and (spans[0].start, spans[0].end) == (0, len(text)) else None
