"""A vocabulary as llguidance reads it, and which of its tokens bring a text to its end."""

import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from soban.text.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLTokenizer

Ids = npt.NDArray[np.int64]

BEFORE = "\x02"  # stands before a text that is encoded as one that goes on; it is part of no longer token
BRACKETED = re.compile(rb"(?s)\s*(?:<.*>|\[.*\]|\{.*\})\s*")  # what tokens look like that steer a model
LETTERS = re.compile(rb"[A-Za-z]+")
CLOSERS = frozenset(b'"}]')
LONG = 64  # tokens of many letters that are tried where a text has to be long


class Words:
    """The tokens' bytes. One more token, `end`, which the model does not have, stands for all that end a text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.end = tokenizer.vocab_size
        self.bytes = [tokenizer.token_bytes(token) for token in range(self.end)]
        self.steering = [token for token, data in enumerate(self.bytes) if not data or self._steers(token, data)]
        for token in self.steering:
            self.bytes[token] = b""
        self._by_bytes: dict[bytes, int] = {}
        for token, data in enumerate(self.bytes):
            if data:
                self._by_bytes.setdefault(data, token)
        self._longest = max(map(len, self._by_bytes), default=0)
        self._goes_on = self._joined(tokenizer.encode("a", bos=False)) == b"a"  # and puts no blank before a text
        self.closing, self.closing_string = self._closing()
        self.library = self._library()

    def _steers(self, token: int, data: bytes) -> bool:
        if not BRACKETED.fullmatch(data):
            return False
        text = data.decode(errors="replace")
        return any(span.token_id == token for span in self.tokenizer.find_markup(text))

    def _library(self) -> "LLTokenizer":
        from llguidance import LLTokenizer, TokenizerWrapper  # imported where it is needed: a start waits for it

        return LLTokenizer(TokenizerWrapper(_Wrapped(self)), slices=LLTokenizer.json_slices())

    def _joined(self, ids: list[int]) -> bytes:
        return b"".join(self.bytes[token] for token in ids)

    def encode(self, text: bytes) -> list[int]:
        """The tokens of a text that goes on with another, as the tokenizer makes them; their bytes are the text's.

        Where the tokenizer itself would change the text (it composes letters, say), the longest tokens that fit.
        Whatever no token has is left out.
        """
        if not text:
            return []
        words = text.decode(errors="replace")
        if self._goes_on:
            ids = self.tokenizer.encode(words, bos=False)
        else:
            before = self.tokenizer.encode(BEFORE, bos=False)
            ids = self.tokenizer.encode(BEFORE + words, bos=False)
            ids = ids[len(before) :] if ids[: len(before)] == before else []
        return ids if self._joined(ids) == text else self._greedy(text)

    def marked(self, text: str) -> list[int]:
        """The same of a text in which tokens that steer may be written out, which then stand for themselves."""
        ids, place = [], 0
        for span in self.tokenizer.find_markup(text):
            ids += [*self.encode(text[place : span.start].encode()), span.token_id]
            place = span.end
        return ids + self.encode(text[place:].encode())

    def _greedy(self, text: bytes) -> list[int]:
        ids, place = [], 0
        while place < len(text):
            for length in range(min(self._longest, len(text) - place), 0, -1):
                token = self._by_bytes.get(text[place : place + length])
                if token is not None:
                    ids.append(token)
                    place += length
                    break
            else:
                place += 1
        return ids

    def _closing(self) -> tuple[Ids, Ids]:
        """What to try where a text of JSON has to end soon, in this order: between its parts, and within a string."""
        only = {data: token for data, token in self._by_bytes.items() if set(data) <= CLOSERS}
        single = [bytes([byte]) for byte in range(0x20, 0x7F)] + [bytes([byte]) for byte in range(0x80, 0x100)]
        brackets = sorted((data for data in only if data[:1] != b'"'), key=lambda data: -len(data))
        quotes = sorted((data for data in only if data[:1] == b'"'), key=lambda data: -len(data))
        empty = [data for data in quotes if data[1:2] == b'"']
        simple = [
            *(b"%d" % digit for digit in range(10)),
            b"null",
            b"true",
            b"false",
            *b"n t f".split(),
            b"[]",
            b"{}",
            b"[",
            b"{",
            b'"',
        ]
        letters = sorted(filter(LETTERS.fullmatch, self._by_bytes), key=lambda data: -len(data))[:LONG]
        return self._ids([*brackets, *empty, *simple, *quotes, *single]), self._ids([*quotes, *letters, *single])

    def closes(self, token: int) -> bool:
        """Whether it is of nothing but what closes strings, lists and objects."""
        return set(self.bytes[token]) <= CLOSERS

    def token(self, text: bytes) -> int | None:
        """The token of exactly these bytes."""
        return self._by_bytes.get(text)

    def _ids(self, texts: list[bytes]) -> Ids:
        ids = (self._by_bytes[data] for data in dict.fromkeys(texts) if data in self._by_bytes)
        return np.fromiter(ids, np.int64)


class _Wrapped:
    """What llguidance asks of a tokenizer."""

    def __init__(self, words: Words) -> None:
        self._encode = words.encode
        self.eos_token_id, self.bos_token_id = words.end, None
        # the names of tokens that steer are never looked for: a grammar names them by their numbers
        self.tokens = [data or b"<%d>" % token for token, data in enumerate(words.bytes)] + [b"<end>"]
        self.special_token_ids = [*words.steering, words.end]

    def __call__(self, text: bytes | str) -> list[int]:
        return self._encode(text if isinstance(text, bytes) else text.encode())
