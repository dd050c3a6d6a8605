"""A tokenizer mapped from its packed form: nothing is read but what a text needs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from soban.base.border import is_file
from soban.base.errors import UserError
from soban.text.stream.decode import ByteStream, PieceBytes, run, sentencepiece_bytes
from soban.text.tokenizers.bpe import BytePairs
from soban.text.tokenizers.facts import FACTS, read
from soban.text.tokenizers.markup import Matcher, Span, checked, framed, is_markup, policy, restored
from soban.text.tokenizers.rules import Rules
from soban.text.tokenizers.settings import AddedToken, Settings
from soban.weights.safetensors import read_safetensors


class Words:
    """Added tokens that are recognised in text: some in the text as it is, others after normalizing."""

    def __init__(self, tokens: Mapping[int, AddedToken], rules: Rules) -> None:
        self._rules = rules
        self._raw = Matcher({index: token for index, token in tokens.items() if not token.normalized})
        self._normalized = Matcher(
            {i: replace(t, content=rules.normalized(t.content)) for i, t in tokens.items() if t.normalized}
        )

    def parts(self, text: str) -> Iterator[tuple[Span, str]]:
        """The tokens, each with "", and what stands between them, normalized, with an id of -1."""
        for raw, between in _parts(self._raw, text):
            if raw.token_id >= 0:
                yield raw, ""
                continue
            normalized = self._rules.normalized(between)
            shift = raw.start - self._rules.prepend  # of positions: normalizing puts one character before the others
            for span, rest in _parts(self._normalized, normalized):
                start = max(raw.start, span.start + shift)
                yield Span(start, max(start, span.end + shift), span.token_id), rest


def _parts(matcher: Matcher, text: str) -> Iterator[tuple[Span, str]]:
    position = 0
    for span in matcher.spans(text):
        if span.start > position:
            yield Span(position, span.start, -1), text[position : span.start]
        yield span, ""
        position = span.end
    if position < len(text):
        yield Span(position, len(text), -1), text[position:]


class PackedTokenizer:
    """A `Tokenizer` over a packed file; the ids are those of the `tokenizers` library."""

    def __init__(self, arrays: Mapping[str, np.ndarray], text: str, settings: Settings, source: Path) -> None:
        """ValueError, KeyError or TypeError where the file does not hold what it should; `text`: see `Facts`."""
        self._starts, self._pieces = arrays["starts"], arrays["pieces"]
        count = len(self._starts) - 1
        if self._starts.dtype != np.uint32 or self._pieces.dtype != np.uint8 or count < 1:
            raise ValueError("pieces")
        if self._starts[-1] != len(self._pieces) or (self._starts[1:] < self._starts[:-1]).any():
            raise ValueError("starts")
        facts = read(text, count)
        self._pairs = BytePairs(arrays, facts.bits, count, source)
        self._rules = facts.rules
        self._inner = replace(self._rules, metaspace="never") if self._rules.metaspace == "first" else self._rules
        added, self._added = facts.added, facts.spellings
        self._special = {index for index, token in added.items() if token.special}
        markup = {index for index, token in added.items() if is_markup(token)}
        self._markup = frozenset(markup)
        self._all = Words(added, self._rules)
        self._plain = Words({index: token for index, token in added.items() if index not in markup}, self._rules)
        # pieces that spell markup, and what stands for them where merging leads to one in plain text
        self._apart = facts.apart
        self.vocab_size = facts.vocab_size
        self.special_tokens: Mapping[str, str] = settings.names
        by_content = {token.content: index for index, token in added.items()}

        def role(name: str) -> int | None:
            return by_content.get(settings.names.get(name, ""))

        has_bos = "bos_token" in settings.names
        self.bos_id = role("bos_token") if has_bos else next(iter(settings.bos_ids), None)
        eos_id = role("eos_token")
        self.eos_ids = settings.eos_ids if eos_id is None else (eos_id,)
        self._prefix, self._suffix = policy(settings, self.bos_id, eos_id, facts.frame)
        self._lead = facts.lead
        self._bytes = PieceBytes(self._bytes_of, self._special)

    def encode(self, text: str, *, bos: bool | None = None, special: bool = False) -> list[int]:
        """The ids of `text`; see `Tokenizer`."""
        checked(text)
        ids = self._encode(text, self._all) if special else self._encode_plain(text, self._rules)
        return framed(ids, bos, self.bos_id, self._prefix, self._suffix)

    def _encode(self, text: str, words: Words) -> list[int]:
        ids: list[int] = []
        for span, between in words.parts(text):
            ids += self._part(span, between, self._rules)
        return ids

    def _part(self, span: Span, between: str, rules: Rules) -> list[int]:
        if span.token_id >= 0:
            return [span.token_id]
        return self._pairs.encode(rules.spelled(between, first=span.start == 0), rules.cut)

    def _encode_plain(self, text: str, rules: Rules) -> list[int]:
        ids = [index for span, between in self._plain.parts(text) for index in self._part(span, between, rules)]
        if self._apart.keys().isdisjoint(ids):
            return ids
        return [part for index in ids for part in self._apart.get(index, [index])]

    def find_markup(self, text: str) -> list[Span]:
        """Where tokens that steer the model are written in the text."""
        spans = (span for span, _ in self._all.parts(text))
        return [span for span in spans if span.token_id in self._markup and span.end > span.start]

    def encode_rendered(self, text: str, hidden: Mapping[str, str]) -> list[int]:
        """The ids of a rendered template: tokens are recognised except in what placeholders hide."""
        ids: list[int] = []
        stretch: list[int] = []  # ids since the last markup token
        start = 0
        end = Span(len(text), len(text), -1)
        for span, between in (*self._all.parts(text), (end, "")):
            if span is not end and span.token_id not in self._markup:
                stretch += self._part(span, between, self._rules)
                continue
            covered = text[start : span.start]
            if not hidden.keys().isdisjoint(covered):
                stretch = self._encode_plain(restored(covered, hidden), self._inner if start else self._rules)
            ids += stretch
            if span.token_id >= 0:
                ids.append(span.token_id)
            stretch, start = [], span.end
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds to the text; b"" for special tokens and ids that are none."""
        return self._bytes[token_id]

    def _bytes_of(self, token_id: int) -> bytes:
        piece = self._added.get(token_id)
        if piece is None and 0 <= token_id < len(self._starts) - 1:
            data = self._pieces[self._starts[token_id] : self._starts[token_id + 1]]
            piece = data.tobytes().decode(errors="replace")
        return b"" if piece is None else sentencepiece_bytes(piece)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`."""
        return run(ByteStream(self.token_bytes if skip_special else self._bytes_of, lead=self._lead), ids)

    def stream(self, after: Sequence[int] = ()) -> ByteStream:
        """A decoder for what follows the tokens `after`."""
        stream = ByteStream(self.token_bytes, lead=self._lead)
        for token_id in after:
            stream.feed(token_id)
        return stream


def open_packed(path: Path, settings: Settings) -> PackedTokenizer | None:
    """The tokenizer in a packed file; None if it is missing or damaged."""
    if not is_file(path):
        return None
    try:
        tensors, metadata = read_safetensors(path)
        arrays = {name: tensor.data for name, tensor in tensors.items()}
        return PackedTokenizer(arrays, metadata[FACTS], settings, path)
    except (UserError, ValueError, KeyError, TypeError, IndexError):
        return None
