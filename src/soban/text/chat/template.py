"""Chat templates: a conversation to the token ids that the model was taught, whatever its users type."""

import copy
import functools
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from soban.base.errors import UserError
from soban.messages import translate
from soban.text.chat.contents import checked_message, one_part, plain, text_of, with_parts
from soban.text.chat.systems import check_late_systems, with_system
from soban.text.chat.turns import alternating, tell, with_contents
from soban.text.tokenizers.markup import checked, restored, single_bos
from soban.text.tokenizers.settings import read_bytes, read_json, read_settings
from soban.text.tokenizers.tokenizer import Tokenizer

Message = Mapping[str, Any]

MAX_SOURCE = 200_000  # characters; the longest known template has 30,000
MAX_WORDS = 30_000  # words and signs in it, which take time to compile; that one has 8,000
MAX_TRIALS = 64  # renderings spent on finding out what a template itself reads in an answer
WORD = re.compile(r"\w+|[^\w\s]")
FIRST_PLACEHOLDER = 0xF0000  # a private plane, so no text means anything by it


class ChatTemplate:
    """A Jinja template. `tokens`: the tokens that it may name, such as bos_token.

    `origin`: its file or its name, for errors. `stops`: texts that end an answer, `heads`: those that do at a line's
    beginning. `bos`: the tokenizer's own policy says whether a BOS stands first, where the template, which is no
    model's own, cannot know.
    """

    def __init__(
        self,
        source: str,
        tokens: Mapping[str, str],
        *,
        origin: str | Path = "template",
        stops: tuple[str, ...] = (),
        heads: tuple[str, ...] = (),
        bos: bool = False,
    ) -> None:
        self.source, self.origin = source, origin
        self.tokens = dict(tokens)
        self.stops, self.heads, self.bos = stops, heads, bos
        self.values: dict[str, Any] = {}
        self.base = self  # the template without such values
        self._compiled: Any = None
        self._lock = threading.Lock()

    def with_values(self, **values: Any) -> "ChatTemplate":
        """The same template, always rendered with these values, such as tools."""
        if not values:
            return self
        template = copy.copy(self)
        template.values = {**self.values, **values}
        return template

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """What the template wants to be given, such as messages and tools; nothing where it cannot be read."""
        from jinja2 import TemplateError, meta

        from soban.text.chat.sandbox import Sandbox

        try:
            return frozenset(meta.find_undeclared_variables(Sandbox().parse(self.source)))
        except (TemplateError, RecursionError):
            return frozenset()

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        until: float | None = None,
        **extra: object,
    ) -> str:
        """The conversation as the template writes it; UserError where it fails, refuses or wants too much.

        `until`: when it has to be done, on this thread's clock; by default there is time for one rendering.
        """
        names = {"tools": None, "documents": None, **self.tokens, **self.values, **extra}
        values = plain({**names, "messages": list(messages), "add_generation_prompt": add_generation_prompt})
        with self._lock:
            return self.base._rendered(values, until)

    def _rendered(self, values: dict[str, Any], until: float | None) -> str:
        from soban.text.chat.limits import MAX_TEXT, Budget, TooMuch
        from soban.text.chat.sandbox import Sandbox

        if len(self.source) > MAX_SOURCE:
            raise UserError(
                "{origin}: the chat template has {count} characters; at most {most} are read",
                origin=self.origin,
                count=len(self.source),
                most=MAX_SOURCE,
                hint="choose another template, such as chatml",
            )
        if self._compiled is None and (count := sum(1 for _ in WORD.finditer(self.source))) > MAX_WORDS:
            raise UserError(
                "{origin}: the chat template has {count} words and signs; at most {most} are read",
                origin=self.origin, count=count, most=MAX_WORDS, hint="choose another template, such as chatml",
            )  # fmt: skip
        try:
            if self._compiled is None:
                self._compiled = Sandbox().compiled(self.source)
            self._compiled.environment.budget = Budget(len(values["messages"]), until)
            pieces, length = [], 0
            for piece in self._compiled.generate(values):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_TEXT:
                    raise TooMuch(translate("it writes more than a conversation can need"))
            return "".join(pieces)
        except RecursionError:
            reason = translate("it is nested too deeply")
        except TooMuch as error:
            reason = str(error)
        except Exception as error:  # a template is a stranger's program: whatever it raises is its fault
            reason = f'"{" ".join(str(error).split())[:300] or type(error).__name__}"'  # in its words, or the library's
        raise UserError(
            "{origin}: the chat template fails on this conversation: {reason}",
            origin=self.origin,
            reason=reason,
            hint="mend it, or choose another template, such as chatml"
            if isinstance(self.origin, Path)
            else "choose another template, such as chatml",
        )


def load_template(folder: Path) -> ChatTemplate | None:
    """A model folder's template, or None: chat_template.jinja, chat_template.json, tokenizer_config.json."""
    tokens = read_settings(folder, {}).names
    path = folder / "chat_template.jinja"
    if path.is_file():
        return ChatTemplate(read_source(path), tokens, origin=path)
    for name in ("chat_template.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and (value := read_json(path).get("chat_template")) is not None:
            return ChatTemplate(default_template(path, value), tokens, origin=path)
    return None


def read_source(path: Path) -> str:
    """The text of a model's Jinja file."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("{path}: not UTF-8 text", path=path, hint="fetch it again") from None


def default_template(path: Path, value: object) -> str:
    """The template in a `chat_template` value: a text, a list of named ones, or an object of them."""
    if isinstance(value, str):
        return value
    entries: dict[object, object] = dict(value) if isinstance(value, dict) else {}
    for entry in value if isinstance(value, list) else []:
        if isinstance(entry, dict):
            entries[str(entry.get("name"))] = entry.get("template")
    texts = {name: template for name, template in entries.items() if isinstance(template, str)}
    if "default" in texts:
        return texts["default"]
    if len(texts) == 1:
        return next(iter(texts.values()))
    raise UserError(
        "{path}: chat_template holds neither a template nor one named default",
        path=path,
        hint="choose a template by name, such as chatml",
    )


def encode_chat(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = True,
    strict: bool = False,
) -> list[int]:
    """The ids of a conversation, as transformers' apply_chat_template gives them, with one BOS at the most.

    Tokens that are written out in a message's content stay text. A content may be a list of parts that are text; a
    template that reads no such lists gets them joined. What the template refuses is mended and told: a system
    message goes into the first user turn, also where the template drops it, and messages that do not alternate are
    joined. With `strict` these are UserErrors.
    """
    render = Rendering(tokenizer, template, len(messages), add_generation_prompt)

    def encoded(conversation: list[Any]) -> list[int]:
        parted = [_without_seams(tokenizer, message) for message in with_parts(render, conversation)]
        placed = with_system(render, parted, strict)
        check_late_systems(render, placed)
        text, hidden = _protected(tokenizer, render, placed)
        return tokenizer.encode_rendered(text, hidden)

    ids = _mended(encoded, [checked_message(plain(message)) for message in messages], strict)
    if template.bos and tokenizer.encode("")[:1] == [tokenizer.bos_id]:
        ids = [*tokenizer.encode("")[:1], *ids]
    return single_bos(ids, tokenizer.bos_id)


class Rendering:
    """Renders one conversation, as often as is needed, within the time of one rendering."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, turns: int, add_generation_prompt: bool) -> None:
        from soban.text.chat.limits import MAX_SECONDS, SECONDS_PER_TURN

        self.template, self.add_generation_prompt = template, add_generation_prompt
        # a tokenizer.model names its own BOS and EOS, where the folder has no other word for them
        self.names = {**tokenizer.special_tokens, **template.tokens}
        self.seconds = MAX_SECONDS + SECONDS_PER_TURN * turns
        self.spent = 0.0

    def __call__(self, messages: list[Any], values: Mapping[str, Any] | None = None) -> str:
        """The text of the messages; `values`: in place of the template's own."""
        start = time.thread_time()
        try:
            text = self.template.render(
                messages,
                add_generation_prompt=self.add_generation_prompt,
                until=start + self.seconds - self.spent,
                **{**self.names, **(values or {})},
            )
        finally:
            self.spent += time.thread_time() - start
        return checked(text)


def _mended(encoded: Callable[[list[Any]], list[int]], messages: list[Any], strict: bool) -> list[int]:
    """The ids of the messages, or where their order is refused, of the same in an order that is not."""
    filled, changes = with_contents(messages)
    if strict and changes:
        raise UserError("a message has no content", hint="give it a text, which may be empty")
    try:
        ids = encoded(filled)
    except UserError as refusal:
        ordered, changed = alternating(filled)
        if strict or not changed:
            raise
        try:
            ids = encoded(ordered)
        except UserError:
            raise refusal from None  # the words about the conversation as it was given
        changes |= changed
    tell(changes)
    return ids


def _protected(tokenizer: Tokenizer, render: Rendering, messages: list[Any]) -> tuple[str, dict[str, str]]:
    """The rendered conversation with placeholders for the tokens that its messages spell, and what these stand for.

    Templates read some tokens in an assistant's answer themselves (`</think>`): where hiding one changes what the
    template writes, it is left to the template. A user's, system's or tool's words are hidden whatever happens, and so
    are those in the template's values, such as descriptions of tools: message number -1.
    """
    text, values = render(messages), render.template.values
    spellings = [(n, word) for n, message in enumerate(messages) for word in _spelled(tokenizer, message)]
    spellings += [(-1, word) for word in _spelled(tokenizer, values)]
    if not spellings:
        return text, {}
    placeholders = _placeholders(text, messages, [word for _, word in spellings])
    hidden = {placeholder: word for word, placeholder in placeholders.items()}

    def hide(pairs: list[tuple[int, str]]) -> str:
        trial = []
        for n, message in enumerate(messages):
            words = {word: placeholders[word] for m, word in pairs if m == n}
            trial.append(_replaced(message, words) if words else message)
        words = {word: placeholders[word] for m, word in pairs if m < 0}
        return render(trial, _replaced(values, words) if words else None)

    protected = hide(spellings)
    if restored(protected, hidden) != text and len(spellings) <= MAX_TRIALS:
        essential = [
            pair
            for pair in spellings
            if pair[0] < 0
            or messages[pair[0]].get("role") != "assistant"
            or 2 * render.spent > render.seconds
            or restored(hide([pair]), hidden) == text
        ]
        protected = hide(essential)
    return protected, hidden


def _without_seams(tokenizer: Tokenizer, message: Any) -> Any:
    """The message, its parts made one where their ends would spell a token together, which nobody else would notice."""
    parts = message.get("content")
    if not isinstance(parts, list):
        return message
    texts = [checked(part["text"]) for part in parts]

    def spelled(texts: list[str]) -> int:
        return sum(len(tokenizer.find_markup(text)) for text in texts)

    trimmed = [text.strip() for text in texts]  # as some templates write them
    if spelled(texts) == spelled(["".join(texts)]) and spelled(trimmed) == spelled(["".join(trimmed)]):
        return message
    return {**message, "content": [one_part(text_of(message))]}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in ("role", "type"):
                yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _spelled(tokenizer: Tokenizer, message: Any) -> list[str]:
    """The tokens that a message spells, without the blanks around them that some swallow."""
    words = (
        text[span.start : span.end].strip()
        for text in _strings(message)
        for span in tokenizer.find_markup(checked(text))
    )
    return list(dict.fromkeys(word for word in words if word))


def _placeholders(text: str, messages: list[Any], words: list[str]) -> dict[str, str]:
    """A character for each word that stands in no text of the conversation."""
    characters = set(text).union(*(set(string) for string in _strings(messages)))
    free = (chr(code) for code in range(FIRST_PLACEHOLDER, FIRST_PLACEHOLDER + 0xFFFD) if chr(code) not in characters)
    distinct = sorted(set(words), key=len, reverse=True)
    return dict(zip(distinct, free, strict=False))


def _replaced(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        pattern = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
        return re.sub(pattern, lambda match: words[match[0]], value)
    if isinstance(value, dict):
        return {key: item if key in ("role", "type") else _replaced(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, words) for item in value]
    return value
