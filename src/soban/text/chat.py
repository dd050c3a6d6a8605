"""Chat templates: a conversation to the token ids that the model was taught, whatever its users type."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from soban import messages as notices
from soban.errors import UserError
from soban.text.markup import checked, restored, single_bos
from soban.text.settings import read_bytes, read_json, read_settings
from soban.text.tokenizer import Tokenizer
from soban.text.turns import alternating, tell, with_contents

Message = Mapping[str, Any]
Render = Callable[[list[Any]], str]

MAX_SOURCE = 200_000  # characters; the longest known template has 30,000
MAX_TRIALS = 64  # renderings spent on finding out what a template itself reads in an answer
FIRST_PLACEHOLDER = 0xF0000  # a private plane, so no text means anything by it
ROLE = re.compile(r"[\w-]+")
MARKER = "\U0010f000system\U0010f000"


class ChatTemplate:
    """A model's Jinja template. `tokens`: the tokens that it may name, such as bos_token.

    `stops`: texts that end an answer. `bos`: the tokenizer's own policy says whether a BOS stands first, where the
    template, which is no model's own, cannot know.
    """

    def __init__(
        self, source: str, tokens: Mapping[str, str], *, stops: tuple[str, ...] = (), bos: bool = False
    ) -> None:
        self.source = source
        self.tokens = dict(tokens)
        self.stops, self.bos = stops, bos
        self._compiled: Any = None
        self._lock = threading.Lock()

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
        names = {"tools": None, "documents": None, **self.tokens, **extra}
        values = plain({**names, "messages": list(messages), "add_generation_prompt": add_generation_prompt})
        with self._lock:
            return self._rendered(values, until)

    def _rendered(self, values: dict[str, Any], until: float | None) -> str:
        from soban.text.limits import MAX_TEXT, Budget, TooMuch
        from soban.text.sandbox import Sandbox

        if len(self.source) > MAX_SOURCE:
            raise UserError(
                "the chat template has {count} characters; at most {most} are read",
                count=len(self.source),
                most=MAX_SOURCE,
                hint="take another, as in --template chatml",
            )
        try:
            if self._compiled is None:
                self._compiled = Sandbox().compiled(self.source)
            self._compiled.environment.budget = Budget(len(values["messages"]), until)
            pieces, length = [], 0
            for piece in self._compiled.generate(values):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_TEXT:
                    raise TooMuch("it writes more than a conversation can need")
            return "".join(pieces)
        except RecursionError:
            reason = "it is nested too deeply"
        except Exception as error:  # a template is a stranger's program: whatever it raises is its fault
            reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            "the model's chat template fails on this conversation: {reason}",
            reason=reason,
            hint="take another, as in --template chatml",
        )


def load_template(folder: Path) -> ChatTemplate | None:
    """A model folder's template, or None: chat_template.jinja, chat_template.json, tokenizer_config.json."""
    tokens = read_settings(folder, {}).names
    path = folder / "chat_template.jinja"
    if path.is_file():
        return ChatTemplate(read_source(path), tokens)
    for name in ("chat_template.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and (found := read_json(path).get("chat_template")) is not None:
            return ChatTemplate(_default(path, found), tokens)
    return None


def read_source(path: Path) -> str:
    """The text of a Jinja file."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("{path}: not UTF-8 text", path=path, hint="fetch it again") from None


def _default(path: Path, found: object) -> str:
    """The template in a `chat_template` value: a text, or a list of named ones."""
    if isinstance(found, str):
        return found
    named: dict[object, str] = {}
    for entry in found if isinstance(found, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("template"), str):
            named[entry.get("name")] = entry["template"]
    if "default" in named:
        return named["default"]
    if len(named) == 1:
        return next(iter(named.values()))
    raise UserError(
        "{path}: chat_template holds neither a template nor one named default",
        path=path,
        hint="name a template, as in --template chatml",
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

    Tokens that are written out in a message's content stay text. What the template refuses is mended and told: a system
    message goes into the first user turn, also where the template drops it, and messages that do not alternate are
    joined. With `strict` these are UserErrors.
    """
    render = Rendering(tokenizer, template, len(messages), add_generation_prompt)

    def encoded(conversation: list[Any]) -> list[int]:
        placed = _with_system(render, conversation, strict)
        _check_late_systems(render, placed)
        text, hidden = _protected(tokenizer, render, placed)
        return tokenizer.encode_rendered(text, hidden)

    ids = _mended(encoded, [_checked_role(plain(message)) for message in messages], strict)
    if template.bos and tokenizer.encode("")[:1] == [tokenizer.bos_id]:
        ids = [*tokenizer.encode("")[:1], *ids]
    return single_bos(ids, tokenizer.bos_id)


class Rendering:
    """Renders one conversation, as often as is needed, within the time of one rendering."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, turns: int, add_generation_prompt: bool) -> None:
        from soban.text.limits import MAX_SECONDS, SECONDS_PER_TURN

        self.template, self.add_generation_prompt = template, add_generation_prompt
        # a tokenizer.model names its own BOS and EOS, where the folder has no other word for them
        self.names = {**tokenizer.special_tokens, **template.tokens}
        self.seconds = MAX_SECONDS + SECONDS_PER_TURN * turns
        self.spent = 0.0

    def __call__(self, messages: list[Any]) -> str:
        start = time.thread_time()
        try:
            text = self.template.render(
                messages,
                add_generation_prompt=self.add_generation_prompt,
                until=start + self.seconds - self.spent,
                **self.names,
            )
        finally:
            self.spent += time.thread_time() - start
        return checked(text)


def _mended(encoded: Callable[[list[Any]], list[int]], messages: list[Any], strict: bool) -> list[int]:
    """The ids of the messages, or where their order is refused, of the same in an order that is not."""
    filled, done = with_contents(messages)
    if strict and done:
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
        done |= changed
    tell(done)
    return ids


def plain(value: Any, depth: int = 0) -> Any:
    """The value rebuilt of JSON types, so that a template meets no methods of ours; UserError for anything else."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if depth > 50:
        raise UserError("a message is nested too deeply", hint="give it as role and content")
    if isinstance(value, Mapping):
        return {plain(key, depth + 1): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    raise UserError(
        "a message holds a {kind}, which is no text, number, list or object",
        kind=type(value).__name__,
        hint="give plain values, as in JSON",
    )


def _checked_role(message: Any) -> Any:
    """The message; its role is written between the template's own tokens, so it must be a word."""
    if not isinstance(message, dict):
        raise UserError(
            "a message is {value!r} where an object with role and content belongs",
            value=message,
            hint="give it as role and content",
        )
    role = message.get("role")
    if not isinstance(role, str) or not ROLE.fullmatch(role):
        raise UserError("a message has the role {role!r}", role=role, hint="use system, user or assistant")
    return message


def _with_system(render: Render, messages: list[Any], strict: bool) -> list[Any]:
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
        return _with_system(render, [{"role": "system", "content": joined}, *messages[count:]], strict)
    folded_in = folded(contents, messages[count:])
    # the template may have refused something else: then its own words are the ones to hear
    render(folded_in)
    if strict:
        raise refusal or UserError(
            "the model's chat template has no place for a system message",
            hint="leave out the system message, or strict",
        )
    if any(content.strip() for content in contents):
        notices.warn("the model has no system role: the system text goes into the first user turn")
    return folded_in


def _leading_systems(messages: list[Any]) -> int:
    return next((n for n, message in enumerate(messages) if message.get("role") != "system"), len(messages))


def _check_late_systems(render: Render, messages: list[Any]) -> None:
    """UserError where a system message after the first turn is missing from what the template writes."""
    first = _leading_systems(messages)
    late = [n for n, m in enumerate(messages) if n > first and m["role"] == "system" and text_of(m).strip()]
    if late and _drops(render, messages, late):
        raise UserError(
            "the model's chat template has no place for a system message",
            hint="leave out the system message, or strict",
        )


def _drops(render: Render, messages: list[Any], chosen: Sequence[int]) -> bool:
    """Whether the template leaves out one of the chosen messages: a text is put into them that stands nowhere else."""
    marked = [{**message, "content": MARKER} if n in chosen else message for n, message in enumerate(messages)]
    return render(marked).count(MARKER) < len(chosen)


def text_of(message: Mapping[str, Any]) -> str:
    """What a message says, be it one text or several parts."""
    content = message.get("content") or ""
    if isinstance(content, list):
        return "".join(part.get("text", "") if isinstance(part, dict) else str(part) for part in content)
    return str(content)


def folded(contents: list[str], rest: list[Any]) -> list[Any]:
    """The messages `rest`, the contents put before the first user's words."""
    text = "\n\n".join(content for content in contents if content.strip())
    if not text:
        return rest
    if not rest or rest[0].get("role") != "user":
        return [{"role": "user", "content": text}, *rest]
    first = dict(rest[0])
    if isinstance(first.get("content"), list):
        first["content"] = [{"type": "text", "text": text + "\n\n"}, *first["content"]]
    else:
        first["content"] = f"{text}\n\n{first.get('content') or ''}"
    return [first, *rest[1:]]


def _protected(tokenizer: Tokenizer, render: Rendering, messages: list[Any]) -> tuple[str, dict[str, str]]:
    """The rendered conversation with placeholders for the tokens that its messages spell, and what these stand for.

    Templates read some tokens in an assistant's answer themselves (`</think>`): where hiding one changes what the
    template writes, it is left to the template. A user's, system's or tool's words are hidden whatever happens.
    """
    text = render(messages)
    found = [(n, word) for n, message in enumerate(messages) for word in _spelled(tokenizer, message)]
    if not found:
        return text, {}
    placeholders = _placeholders(text, messages, [word for _, word in found])
    hidden = {placeholder: word for word, placeholder in placeholders.items()}

    def hide(pairs: list[tuple[int, str]]) -> str:
        trial = []
        for n, message in enumerate(messages):
            words = {word: placeholders[word] for m, word in pairs if m == n}
            trial.append(_replaced(message, words) if words else message)
        return render(trial)

    protected = hide(found)
    if restored(protected, hidden) != text and len(found) <= MAX_TRIALS:
        kept = [
            pair
            for pair in found
            if messages[pair[0]].get("role") != "assistant"
            or 2 * render.spent > render.seconds
            or restored(hide([pair]), hidden) == text
        ]
        protected = hide(kept)
    return protected, hidden


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
    taken = set(text).union(*(set(string) for string in _strings(messages)))
    free = (chr(code) for code in range(FIRST_PLACEHOLDER, FIRST_PLACEHOLDER + 0xFFFD) if chr(code) not in taken)
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
