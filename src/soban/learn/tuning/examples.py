"""Examples: what a model is shown, as token ids, and which of them it learns to write."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soban.base.errors import UserError
from soban.learn.data.chats import ROLES, Conversation, Document, fault
from soban.text.chat.form import read_form
from soban.text.chat.template import ChatTemplate, encode_chat
from soban.text.chat.templates import find_template
from soban.text.tokenizers.tokenizer import Tokenizer

USUAL_TEMPLATE = "plain"  # where the model has none of its own


@dataclass(frozen=True, eq=False)
class Example:
    """Token ids; `learnt` says of each whether the model is to learn to write it, after all those before it."""

    ids: NDArray[np.int64]
    learnt: NDArray[np.bool_]
    bytes: int  # of the text that is learnt
    prompt: int  # tokens before the last answer: what the model is given, where it is asked
    text: str  # of all, by which duplicates are known

    @property
    def learns(self) -> int:
        """How many tokens it teaches: the first of a text is given."""
        return int(self.learnt[1:].sum())


class Form:
    """How documents are written for a model: by its chat template, which is kept with what is learnt from them."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None, ends: Sequence[int]) -> None:
        """`template`: None where texts are learnt and no answers. `ends`: tokens that end an answer."""
        self.tokenizer, self.template = tokenizer, template
        self.eos = next(iter(ends), None)
        self.ends = frozenset(ends) | (read_form(tokenizer, template).ends if template else frozenset())

    def example(self, document: Document) -> Example | str:
        """What is learnt of a document, or why it cannot be: a fault of `data.chats`, "empty" or "template"."""
        if isinstance(document, str):
            return self._text(document)
        if self.template is None:
            return "unanswered"
        words = [text.strip() for _, text in document.turns]
        if (problem := fault(document, words)) is not None:
            return problem
        count = len(words) - (ROLES[document.turns[-1][0]] == "user")
        messages = [
            {"role": ROLES[role], "content": text}
            for (role, _), text in zip(document.turns[:count], words[:count], strict=True)
        ]
        return self._answers(messages)

    def _text(self, text: str) -> Example | str:
        ids = self.tokenizer.encode(text)
        if not text.strip():
            return "empty"
        if self.eos is not None and ids[-1:] != [self.eos]:
            ids = [*ids, self.eos]
        learnt = np.ones(len(ids), bool)
        return Example(np.array(ids, np.int64), learnt, len(text.encode()), 1, text)

    def _answers(self, messages: list[dict[str, str]]) -> Example | str:
        """A conversation: its answers are learnt, up to the token that ends each; where the template writes earlier
        answers otherwise once others follow, the last alone."""
        assert self.template is not None
        whole = encode_chat(self.tokenizer, self.template, messages, add_generation_prompt=False)
        learnt, size, prompt = np.zeros(len(whole), bool), 0, 0
        places = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
        for place in places:
            given = encode_chat(self.tokenizer, self.template, messages[:place])
            written = encode_chat(self.tokenizer, self.template, messages[: place + 1], add_generation_prompt=False)
            if whole[: len(given)] != given or whole[: len(written)] != written:
                if place == places[-1]:
                    return "template"
                continue
            stop = next((at + 1 for at in range(len(given), len(written)) if written[at] in self.ends), len(written))
            learnt[len(given) : stop] = True
            size, prompt = size + len(messages[place]["content"].encode()), len(given)
        ids = np.array(whole, np.int64)
        end = int(np.flatnonzero(learnt)[-1]) + 1
        if whole[end - 1] not in self.ends and self.eos is not None:
            ids, learnt = np.append(ids[:end], self.eos), np.append(learnt[:end], True)
        else:
            ids, learnt = ids[:end], learnt[:end]  # what the template writes behind it nobody reads
        return Example(ids, learnt, size, prompt, "\n".join(message["content"] for message in messages))


def form_of(
    tokenizer: Tokenizer, template: ChatTemplate | None, name: str | None, ends: Sequence[int], bos_id: int | None
) -> Form:
    """The form of a model's own template, or of that with a name. Its BOS stands in the template itself, for so the
    template can be kept. Raises UserError for a name that is none, and a template without a place for an answer."""
    chosen = find_template(name) if name is not None else template or find_template(USUAL_TEMPLATE)
    turns: list[dict[str, Any]] = [{"role": "user", "content": "a"}]
    ids = encode_chat(tokenizer, chosen, turns)
    names: dict[str, Any] = dict(tokenizer.special_tokens)
    bos = names.get("bos_token")
    if bos is not None and ids[:1] == [bos_id] and not chosen.render(turns, **names).startswith(bos):
        chosen = ChatTemplate("{{- bos_token }}" + chosen.source, {}, origin=chosen.origin)
    form = Form(tokenizer, chosen, ends)
    trial = form.example(Conversation((("user", "a"), ("assistant", "b"))))
    if isinstance(trial, str):
        raise UserError(
            "{origin}: this chat template has no place for an answer that a question begins", origin=chosen.origin,
            hint="choose another with --template, such as chatml",
        )  # fmt: skip
    return form


def shown(example: Example, tokenizer: Tokenizer) -> str:
    """An example's tokens, one after the other; what is learnt stands in brackets."""
    pieces, inside = [], False
    for token, learnt in zip(example.ids.tolist(), example.learnt.tolist(), strict=True):
        word = tokenizer.decode([token], skip_special=False)
        if learnt != inside:
            pieces.append("⟦" if learnt else "⟧")
            inside = learnt
        pieces.append(word + "·")
    return "".join(pieces) + ("⟧" if inside else "")


def cut(example: Example, most: int) -> Example:
    """Of a text that is too long its beginning; an answer is never cut."""
    return replace(example, ids=example.ids[:most], learnt=example.learnt[:most])
