"""Tokens that are written out in text: finding them, and keeping a user's words from turning into them."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from soban.base.errors import UserError
from soban.text.tokenizers.settings import AddedToken, Settings

# Gemma's vocabulary has HTML tags as tokens of ordinary text.
HTML_TAG = re.compile(
    r"</?(?:a|b|blockquote|br|caption|code|div|em|h[1-6]|hr|i|li|ol|p|pre|s|span|strong|sub|sup|table|tbody|td|tfoot|th|thead|tr|u|ul)>"
)
# Unicode's White_Space, which the tokenizers library swallows; Python's own isspace has four more.
BLANK = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
BLANKS = re.compile(f"{BLANK.pattern}*")
LETTER_LIKE = re.compile("[\u200c\u200d\u24b6-\u24e9\U0001f130-\U0001f149\U0001f150-\U0001f169\U0001f170-\U0001f189]")
BRACKETED = re.compile(r"(?s)\s*(?:<.*>|\[.*\]|\{.*\})\s*")


@dataclass(frozen=True)
class Span:
    """Where a token is written in a text."""

    start: int
    end: int
    token_id: int


def is_markup(token: AddedToken) -> bool:
    """Whether the token steers the model, so that a user who types its text must not get it.

    Special tokens do, and those that look like `<tool_call>`; runs of blanks, HTML tags and added words are plain text.
    """
    if token.special:
        return True
    return bool(BRACKETED.fullmatch(token.content)) and not HTML_TAG.fullmatch(token.content)


def checked(text: str) -> str:
    """The text, if it can be UTF-8; UserError where it holds half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            "the text holds half a character (U+{code}) at position {position}",
            code=f"{ord(text[error.start]):04X}",
            position=error.start,
            hint="save it as UTF-8",
        ) from None
    return text


def policy(
    settings: Settings, bos_id: int | None, eos_id: int | None, frame: tuple[list[int], list[int]]
) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text: by tokenizer_config.json, else by its post-processor's frame."""
    if settings.add_bos is not None or settings.add_eos is not None:
        return (
            [bos_id] if settings.add_bos and bos_id is not None else [],
            [eos_id] if settings.add_eos and eos_id is not None else [],
        )
    return frame


def framed(ids: list[int], bos: bool | None, bos_id: int | None, prefix: list[int], suffix: list[int]) -> list[int]:
    """The ids with what stands around them: `prefix` and `suffix` are the tokenizer's own policy, for `bos` None.

    An explicit `bos` says whether the BOS stands, and nothing else is added. There are never two BOS.
    """
    if bos is not None:
        prefix, suffix = ([bos_id] if bos and bos_id is not None else []), []
    if ids[: len(prefix)] != prefix:
        ids = prefix + ids
    return single_bos(ids + suffix, bos_id)


def single_bos(ids: list[int], bos_id: int | None) -> list[int]:
    """The ids with all but one of several leading BOS dropped."""
    first = 0
    while bos_id is not None and ids[first : first + 2] == [bos_id, bos_id]:
        first += 1
    return ids[first:]


class Matcher:
    """Finds tokens in a text, leftmost and longest first; cheap however many tokens there are."""

    def __init__(self, tokens: Mapping[int, AddedToken]) -> None:
        self._tokens = {token.content: (index, token) for index, token in tokens.items() if token.content}
        lengths: dict[str, set[int]] = {}
        for content in self._tokens:
            lengths.setdefault(content[0], set()).add(len(content))
        self._lengths = {first: sorted(sizes, reverse=True) for first, sizes in lengths.items()}
        self._first = re.compile(f"[{re.escape(''.join(self._lengths))}]") if self._lengths else None

    def spans(self, text: str) -> Iterator[Span]:
        """The tokens of the text in order, with the blanks that they swallow, as the tokenizers library finds them.

        It looks on behind what it has found, also where that then is no single word.
        """
        if self._first is None:
            return
        end = 0  # of the last token with its blanks
        candidate = self._first.search(text)
        while candidate:
            start = candidate.start()
            sizes = self._lengths[text[start]]
            # a slice at the text's end may be shorter, and then another token
            size = next((n for n in sizes if text[start : start + n] in self._tokens and start + n <= len(text)), 0)
            if size and (span := self._span(text, start, start + size, end)) and span.end > span.start:
                yield span
                end = span.end
            candidate = self._first.search(text, start + max(size, 1))

    def _span(self, text: str, start: int, end: int, floor: int) -> Span | None:
        index, token = self._tokens[text[start:end]]
        if token.single_word and (_is_word(text[start - 1 : start]) or _is_word(text[end : end + 1])):
            return None
        if token.rstrip and (blanks := BLANKS.match(text, end)):
            end = blanks.end()
        if token.lstrip:
            while start > floor and BLANK.match(text, start - 1):
                start -= 1
            start = max(start, floor)
        return Span(start, end, index)


def _is_word(character: str) -> bool:
    """Whether it is what Unicode counts as part of words (UTS 18, \\w); Python's isalnum has ² and lacks accents."""
    if not character:
        return False
    kind = unicodedata.category(character)
    return kind[0] in "LM" or kind in ("Nd", "Nl", "Pc") or bool(LETTER_LIKE.match(character))


def restored(text: str, hidden: Mapping[str, str]) -> str:
    """The text with its placeholders replaced by what they stand for."""
    return text.translate({ord(placeholder): original for placeholder, original in hidden.items()}) if hidden else text
