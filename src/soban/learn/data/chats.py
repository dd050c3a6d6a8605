"""Conversations as documents: their turns, the text that they are kept as, and that text through a chat template."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soban.base.errors import UserError
from soban.learn.data.shards import write_json
from soban.text.chat.contents import MARKER
from soban.text.chat.systems import folded
from soban.text.chat.template import ChatTemplate, encode_chat
from soban.text.chat.templates import find_template
from soban.text.tokenizers.fast import FastTokenizer, load_fast
from soban.text.tokenizers.library import library_errors
from soban.text.tokenizers.settings import NAMED, read_json, read_settings

Message = dict[str, str]

ROLES = {
    "system": "system", "user": "user", "human": "user", "prompter": "user", "assistant": "assistant",
    "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
}  # fmt: skip
# Before each turn of a kept conversation, in place of a line end; a cleaned text holds no control characters.
MARKS = {"system": "\x01", "user": "\x02", "assistant": "\x03"}
MARKED = re.compile("([\x01-\x03])")
AS_TEXT = str.maketrans(dict.fromkeys(MARKS.values(), "\n"))
HELLO = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
ROLE_OF = {mark: role for role, mark in MARKS.items()}


@dataclass(frozen=True)
class Conversation:
    """Roles and words, in turns."""

    turns: tuple[tuple[str, str], ...]


Document = str | Conversation


def parts(document: Document) -> list[str]:
    """The words of each turn; of a text itself."""
    return [document] if isinstance(document, str) else [words for _, words in document.turns]


def fault(document: Document, words: Sequence[str]) -> str | None:
    """Why a conversation with these words cannot be learnt from; None if it can."""
    if isinstance(document, str):
        return None
    roles = [ROLES.get(role) for role, _ in document.turns]
    if None in roles:
        return "roles"
    turns = roles[roles[:1] == ["system"] :]
    if any(role != ("assistant" if number % 2 else "user") for number, role in enumerate(turns)):
        return "order"
    if len(turns) < 2:
        return "unanswered"
    return None if all(words) else "silent"


def text_of(document: Document, words: Sequence[str]) -> str:
    """The text that a faultless document with these words is kept as, up to the last answer."""
    if isinstance(document, str):
        return words[0]
    roles = [ROLES[role] for role, _ in document.turns]
    count = len(roles) - (roles[-1] == "user")
    return "".join(MARKS[role] + text for role, text in zip(roles[:count], words, strict=False))


def plain(text: str) -> str:
    """The words of a kept text, a conversation's turns on lines of their own."""
    return text.translate(AS_TEXT).removeprefix("\n") if is_conversation(text) else text


def is_conversation(text: str) -> bool:
    """Whether a kept text is a conversation."""
    return text[:1] in ROLE_OF


def messages(text: str) -> list[Message]:
    """The messages of a kept conversation."""
    _, *pieces = MARKED.split(text)
    return [{"role": ROLE_OF[mark], "content": words} for mark, words in zip(pieces[::2], pieces[1::2], strict=True)]


class Writer:
    """A chat template as a model is taught it: with a BOS before all, and system messages where it has a place."""

    def __init__(self, name: str, tokenizer: FastTokenizer | None = None) -> None:
        """`tokenizer`: None while there is none yet; then no special tokens are written."""
        self._tokenizer, self.template = tokenizer, find_template(name)
        self._names: dict[str, Any] = dict.fromkeys(NAMED, "") | dict(tokenizer.special_tokens if tokenizer else {})
        turns = [{"role": "user", "content": MARKER}, {"role": "assistant", "content": MARKER}]
        if not self._render(turns).startswith(self._names["bos_token"]):
            source = "{{- bos_token }}" + self.template.source
            self.template = ChatTemplate(source, {}, origin=self.template.origin)
        try:
            self._takes_system = MARKER in self._render([{"role": "system", "content": MARKER}, *HELLO])
        except UserError:
            self._takes_system = False

    def _render(self, turns: list[Message]) -> str:
        return self.template.render(turns, add_generation_prompt=False, **self._names)

    def _messages(self, text: str) -> list[Message]:
        """The messages of a kept conversation, as the template takes them."""
        dialogue = messages(text)
        if self._takes_system or dialogue[0]["role"] != "system":
            return dialogue
        return folded([dialogue[0]["content"]], dialogue[1:])

    def render(self, text: str) -> str:
        """A kept document as the model is to write it; plain text as it is."""
        return self._render(self._messages(text)) if is_conversation(text) else text

    def encode(self, conversations: Sequence[str]) -> list[list[int]]:
        """The ids of kept conversations, as transformers' apply_chat_template gives them.

        Tokens that are spelled in somebody's words stay text, as `encode_chat` has it.
        """
        assert self._tokenizer is not None
        rare = [number for number, text in enumerate(conversations) if self._tokenizer.find_markup(text)]
        rendered = [self.render(text) for text in conversations]
        with library_errors(self._tokenizer.path):
            ids = [
                encoding.ids
                for encoding in self._tokenizer.library.encode_batch_fast(rendered, add_special_tokens=False)
            ]
        for number in rare:
            turns = self._messages(conversations[number])
            ids[number] = encode_chat(self._tokenizer, self.template, turns, add_generation_prompt=False)
        return ids


def writer_in(folder: Path, name: str) -> Writer:
    """The writer for the tokenizer in a folder of training data, whose tokenizer_config.json gets its template."""
    writer = Writer(name, load_fast(folder / "tokenizer.json", read_settings(folder, {})))
    path = folder / "tokenizer_config.json"
    write_json(path, (read_json(path) if path.is_file() else {}) | {"chat_template": writer.template.source})
    return writer
