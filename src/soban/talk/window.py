"""Which turns of a conversation the model is given, so that it fits the context and leaves room for an answer."""

import contextlib
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soban import messages as notices
from soban.base.errors import UserError
from soban.engine.sampling import Sampling
from soban.talk.prompt import Prompt
from soban.talk.speaker import Speaker
from soban.text.chat.contents import text_of
from soban.text.chat.systems import folded
from soban.text.chat.template import ChatTemplate, encode_chat
from soban.text.tokenizers.splice import spliced

Message = Mapping[str, Any]

MAX_SUMMARY = 256  # tokens
HANGUL = re.compile("[가-힣]")
# What the model is asked, and what stands before its summary: in the language of the conversation.
ASKED = (
    "Summarise our conversation so far in a few sentences. Keep names, facts, wishes and decisions. Write only the "
    "summary.",
    "지금까지 나눈 대화를 몇 문장으로 요약해 줘. 이름, 사실, 부탁, 결정한 것은 빠뜨리지 말고, 요약만 써 줘.",
)
HEADED = ("Summary of the conversation so far: {summary}", "지금까지의 대화 요약: {summary}")


@dataclass(frozen=True)
class Question:
    """What the model is asked for a summary."""

    prompt: Prompt
    sampling: Sampling


# Room in a window as it is made: a coroutine that asks for summaries, is sent their texts, and in the end returns the
# shorter prompt, or None.
Room = Generator[Question, str | None, list[int] | None]


class Window:
    """The part of a conversation that the model sees: `ids`, after `dropped` turns, for which `summary` stands.

    No model is asked here: where a summary is needed, a `Question` says so. `cached` are tokens that the model has
    computed for this conversation; they are kept where the text is the same.
    """

    def __init__(
        self,
        speaker: Speaker,
        template: ChatTemplate,
        messages: Sequence[Message],
        sampling: Sampling,
        on_full: str = "error",
        *,
        strict: bool = False,
        dropped: int = 0,
        summary: str = "",
        cached: Sequence[int] = (),
    ) -> None:
        self.speaker, self.template, self.strict, self.cached = speaker, template, strict, cached
        self.sampling, self.on_full, self.context = sampling, on_full, speaker.shared.engine.context
        self.most = self.context - max(1, self.context // 16)  # tokens of a prompt that is still worth answering
        self.system, self.turns = split(messages)
        self.dropped, self.summary = min(dropped, max(0, len(self.turns) - 1)), summary
        self.ids: list[int] = []

    def size(self) -> int:
        """How many tokens the conversation takes as it is."""
        return len(self._ids(self._from_turn(self.dropped, self.summary), False, add_generation_prompt=False))

    @property
    def prompt(self) -> Prompt:
        """What the model is given."""
        return Prompt(self.ids, self.speaker.chat_form(self.template))

    def fit(self, write: Callable[[Question], str]) -> "Window":
        """Fills `ids`, after making room for the answer where that is allowed; `write` gives the summary, if need be.

        Raises UserError where it does not fit.
        """
        self.ids = self._encoded(self.dropped, self.summary)
        sampling = self.sampling
        if self.on_full == "error":
            self._check_length(sampling.wanted)
            return self
        reserved = min(sampling.max_new_tokens or self.context, self.context // 4)
        if len(self.ids) > min(self.context + 1 - reserved, self.most):
            room, summary = self._forget(self.context // 2, 0), None
            with contextlib.suppress(StopIteration):
                while True:
                    summary = write(room.send(summary))
        if len(self.ids) > self.most:
            raise UserError(
                "the newest message and what stays with it have {tokens} tokens; the context holds {context}",
                tokens=len(self.ids), context=self.context, hint="shorten it",
            )  # fmt: skip
        return self

    def _check_length(self, count: int) -> None:
        """Raises UserError where the prompt and an answer of so many tokens do not fit, with a remedy that helps."""
        # the last token of an answer is never fed, so it needs no place
        most = self.context + 1
        if len(self.ids) + count <= most:
            return
        newest = len(self._encoded(len(self.turns) - 1, "")) if len(self.turns) > 1 else len(self.ids)
        if newest + 1 > most:
            raise UserError(
                "the message has {tokens} tokens, and the context holds {context}", tokens=newest,
                context=self.context, hint="shorten it",
            )  # fmt: skip
        raise UserError(
            "the conversation has {tokens} tokens and up to {wanted} are to follow, but the context holds {context}",
            tokens=len(self.ids), wanted=count, context=self.context,
            hint="lower max_new_tokens, or choose on_full slide, which ends the answer where the context is full"
            if newest + count > most
            else "begin a new one, or choose on_full slide to forget the oldest turns",
        )  # fmt: skip

    def refill(self, answer: list[int]) -> Room:
        """A shorter prompt, with the tokens of the answer so far at its end; None where nothing more can go."""
        ids = self._encoded(self.dropped, self.summary)
        if len(ids) + len(answer) > self.context * 3 // 4:
            if self.dropped >= len(self.turns) - 1:
                return None
            ids = (yield from self._forget(self.context * 3 // 4, len(answer))) or []
        return ids + answer if len(ids) + len(answer) <= self.most else None

    def _encoded(self, dropped: int, summary: str) -> list[int]:
        return self._ids(self._from_turn(dropped, summary), self.strict)

    def _ids(self, messages: Sequence[Message], strict: bool, *, add_generation_prompt: bool = True) -> list[int]:
        tokenizer = self.speaker.tokenizer
        ids = encode_chat(
            tokenizer, self.template, messages, add_generation_prompt=add_generation_prompt, strict=strict
        )  # fmt: skip
        return spliced(tokenizer, self.cached, ids) if self.cached else ids

    def _from_turn(self, dropped: int, summary: str) -> list[Message]:
        """The system messages, and the turns from `dropped` on, with the summary of those before."""
        turns = [message for turn in self.turns[dropped:] for message in turn]
        if not summary:
            return [*self.system, *turns]
        text = in_language(HEADED, summary).format(summary=summary)
        if not (self.system or self.speaker.chat_form(self.template).takes_system):
            return folded([text], turns)
        texts = [own for message in self.system if (own := text_of(message))]
        return [{"role": "system", "content": "\n\n".join([*texts, text])}, *turns]

    def _forget(self, most: int, extra: int) -> Room:
        """The ids after as few of the oldest turns as it takes for `extra` tokens more to be at most `most`.

        More is forgotten at once than is needed for the moment: what stays has to be computed anew, as it stands in
        other positions now.
        """
        summarise = self.on_full == "summarise"
        room = most - extra - (self._summary_tokens() if summarise else 0)
        first, last = self.dropped + 1, len(self.turns) - 1
        while first < last:
            middle = (first + last) // 2
            if len(self._encoded(middle, "")) <= room:
                last = middle
            else:
                first = middle + 1
        if last <= self.dropped:  # there is but one turn
            return self.ids
        question = self._question(last) if summarise else None
        self.summary = ((yield question) or "").strip() if question else ""
        self.dropped = last
        if self.summary:
            notices.warn(
                "the context of {context} tokens is full: a summary stands for the {count} oldest turns",
                context=self.context, count=last,
            )  # fmt: skip
        elif summarise:
            notices.warn(
                "the context of {context} tokens is full and has no room for a summary: the {count} oldest turns are "
                "forgotten", context=self.context, count=last,
            )  # fmt: skip
        else:
            notices.warn(
                "the context of {context} tokens is full: the {count} oldest turns are forgotten",
                context=self.context, count=last,
            )  # fmt: skip
        self.ids = self._encoded(last, self.summary)
        return self.ids

    def _summary_tokens(self) -> int:
        return min(MAX_SUMMARY, self.context // 8)

    def _question(self, end: int) -> Question | None:
        """What asks for a summary of the turns before `end`, and of the one that stood for those before them.

        It is asked in the conversation itself, whose tokens the cache still holds. None where there is no room for it.
        """
        for start in range(self.dropped, end):
            messages = [*self._from_turn(start, self.summary)]
            past = sum(map(len, self.turns[end:]))
            request = in_language(ASKED, "".join(map(text_of, messages)))
            ids = self._ids([*messages[: len(messages) - past], {"role": "user", "content": request}], False)
            if len(ids) + self._summary_tokens() <= self.context:
                prompt = Prompt(ids, self.speaker.chat_form(self.template))
                return Question(prompt, Sampling(max_new_tokens=self._summary_tokens()))
        return None


def split(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The system messages at the beginning, and the turns: a user's message and all that follows it."""
    count = next((n for n, message in enumerate(messages) if message.get("role") != "system"), len(messages))
    turns: list[list[Message]] = []
    for message in messages[count:]:
        if message.get("role") == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return list(messages[:count]), turns


def in_language(texts: tuple[str, str], sample: str) -> str:
    """The Korean of two texts where the sample has Hangul, else the English."""
    return texts[1] if HANGUL.search(sample) else texts[0]
