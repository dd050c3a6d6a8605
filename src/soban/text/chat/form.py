"""What a chat template shows of itself: how a turn ends, what leads an answer, whether it takes a system text."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from soban.base.errors import UserError
from soban.text.chat.template import ChatTemplate, Message
from soban.text.tokenizers.markup import HTML_TAG, Span

# In a private plane, so that no template means anything by them.
ANSWER, QUESTION, SYSTEM, FIRST = "\U0010f001", "\U0010f002", "\U0010f003", "\U0010f004"
LONGEST_STOP = 60  # characters
# What no answer has in its text: <|user|>, <end_of_turn>, <<SYS>>, [INST]. Thoughts and calls are parts of answers.
MARK = re.compile(
    r"<\|[^<>|\s]{1,40}\|?>|<[^<>|\s]{1,40}\|>|<</?[a-z_]{2,30}>>|\[/?[a-z_]{2,30}\]|</?[a-z][a-z_]{0,40}>",
    re.IGNORECASE,
)
PARTS = re.compile("think|tool|reason|answer|call|function|channel|code|output", re.IGNORECASE)


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
    stops: tuple[str, ...] = ()  # texts that it writes itself and that no answer holds
    heads: tuple[str, ...] = ()  # texts with which a line of its own begins, as the next turn does
    lead: str = ""  # blanks that it puts between its last word and the answer
    tail: str = ""  # blanks that it puts between the answer and the token that ends it
    takes_system: bool = False

    def for_text(self) -> "ChatForm":
        """For a text that a model goes on with, though it has learnt to answer: it may have any words but marks."""
        return ChatForm(self.ends, tuple(stop for stop in self.stops if MARK.search(stop)))


def read_form(tokenizer: Vocabulary, template: ChatTemplate) -> ChatForm:
    """The form of a template, by rendering small conversations; what it refuses to render stays unknown."""
    from soban.text.chat.limits import MAX_SECONDS

    until = time.thread_time() + MAX_SECONDS  # for all of them

    def rendered(roles: str, add_generation_prompt: bool = False) -> str:
        contents = {"s": ("system", SYSTEM), "u": ("user", FIRST), "a": ("assistant", ANSWER), "q": ("user", QUESTION)}
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
    ends, stops, heads = _markup_at_start(tokenizer, after or gap), template.stops, template.heads
    if not ends and not stops and not heads and gap.strip() and len(gap) <= LONGEST_STOP:
        if "\n" in gap[: len(gap) - len(gap.lstrip())]:
            heads = (gap.strip(),)
        else:
            stops = (gap.strip(), gap.rstrip())
    for stop in template.stops:
        ends |= _markup_at_start(tokenizer, stop)
    with_system = rendered("su")
    spelled_marks = {mark for text in (with_system, between, begun) for mark in _marks(tokenizer, text)}
    marks = (blank + mark for mark in sorted(spelled_marks) for blank in ("", " ", "\n", "\n\n"))
    stops = tuple(dict.fromkeys([*stops, *marks]))
    tail = after[: len(after) - len(after.lstrip())] if ends else ""
    return ChatForm(ends, stops, heads, lead if lead.isspace() else "", tail, SYSTEM in with_system)


def _marks(tokenizer: Vocabulary, text: str) -> list[str]:
    """The marks that a template has written and that are no tokens, so that a model spells them."""
    tokens = [(span.start, span.end) for span in tokenizer.find_markup(text)]
    return [
        mark[0]
        for mark in MARK.finditer(text)
        if not HTML_TAG.fullmatch(mark[0])
        and not PARTS.search(mark[0])
        and not any(start < mark.end() and mark.start() < end for start, end in tokens)
    ]


def _markup_at_start(tokenizer: Vocabulary, text: str) -> frozenset[int]:
    """The token that a text begins with, if that steers the model."""
    text = text.lstrip()
    return frozenset(span.token_id for span in tokenizer.find_markup(text)[:1] if not text[: span.start].strip())


def token_of(text: str, tokenizer: Vocabulary) -> int | None:
    """The token that a text spells from end to end, if that steers the model: such a token is never shown as text."""
    spans = tokenizer.find_markup(text)
    return spans[0].token_id if spans and (spans[0].start, spans[0].end) == (0, len(text)) else None
