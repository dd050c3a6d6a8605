"""SentencePiece: text to ids by a tokenizer.model, exactly as the sentencepiece library does it."""

import functools
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace

from soban.text.stream.decode import ByteStream, PieceBytes, run, sentencepiece_bytes
from soban.text.tokenizers.charsmap import Charsmap
from soban.text.tokenizers.markup import Matcher, Span, checked, framed, is_markup, restored
from soban.text.tokenizers.merge import WordCache, crosses_words, merge
from soban.text.tokenizers.settings import AddedToken, Settings
from soban.text.tokenizers.spm_file import CHAR, UNIGRAM, WORD, PieceType, SentencePieceFile
from soban.text.tokenizers.unigram import unigram

SPACE = "▁"
SPACES = re.compile(" {2,}")
MATCHABLE = (PieceType.NORMAL, PieceType.USER_DEFINED, PieceType.UNUSED)


class SentencePieceTokenizer:
    """A `Tokenizer` over a tokenizer.model and the settings beside it."""

    def __init__(self, model: SentencePieceFile, settings: Settings) -> None:
        self._model = model
        added = added_tokens(model, settings)
        by_content = {token.content: index for index, token in added.items()}
        markup = {index: token for index, token in added.items() if is_markup(token)}
        self._markup = Matcher(markup)
        self._control = {index for index, token in added.items() if token.special}
        self._controls = Matcher({index: token for index, token in added.items() if token.special})
        user_defined = {i: replace(t, content=self._escape(t.content)) for i, t in added.items() if not t.special}
        words = {i: t for i, t in user_defined.items() if i not in markup}
        if model.model_type == WORD:  # takes words whole
            user_defined, words = {}, {}
        elif model.model_type == UNIGRAM:  # weighs its own pieces against others
            words = {index: token for index, token in words.items() if index >= len(model.pieces)}
            user_defined = {i: t for i, t in user_defined.items() if i in markup or i in words}
        self._written = Matcher(user_defined)
        self._plain = Matcher(words)
        own = {index for index, piece in enumerate(model.pieces) if piece.type is PieceType.USER_DEFINED}
        self._outside = Matcher({index: token for index, token in user_defined.items() if index not in own})
        self._exempt = Matcher({index: token for index, token in added.items() if not token.special})
        self._charsmap = Charsmap(model.charsmap) if model.charsmap else None
        self._pieces = {index: piece.text for index, piece in enumerate(model.pieces)} | {
            index: token.content for index, token in added.items() if index >= len(model.pieces)
        }
        self._words = _word_encoder(model, markup)
        # with the pieces that steer the model, which Unigram weighs as it does the others
        self._marked = unigram(model, (), _unknown(model)) if model.model_type == UNIGRAM else None
        self._bytes = PieceBytes(self._bytes_of, self._control)
        self.vocab_size = max(self._pieces) + 1
        self.special_tokens: Mapping[str, str] = roles(model) | dict(settings.names)
        self.bos_id = by_content.get(self.special_tokens.get("bos_token", ""))
        eos_id = by_content.get(self.special_tokens.get("eos_token", ""))
        self.eos_ids = settings.eos_ids if eos_id is None else (eos_id,)
        # SentencePiece models are Llama's and Gemma's, whose policy is a BOS and no EOS
        self._prefix = [self.bos_id] if settings.add_bos is not False and self.bos_id is not None else []
        self._suffix = [eos_id] if settings.add_eos and eos_id is not None else []

    def encode(self, text: str, *, bos: bool | None = None, special: bool = False) -> list[int]:
        """The ids of `text`; see `Tokenizer`."""
        checked(text)
        ids = self.encode_rendered(text, {}) if special else self._encode_between(text, self._plain, {})
        return framed(ids, bos, self.bos_id, self._prefix, self._suffix)

    def find_markup(self, text: str) -> list[Span]:
        """Where tokens that steer the model are written in the text."""
        return list(self._markup.spans(text))

    def encode_rendered(self, text: str, hidden: Mapping[str, str]) -> list[int]:
        """The ids of a rendered template: tokens are recognised except in what placeholders hide."""
        ids: list[int] = []
        start = 0
        for span in self._controls.spans(text):
            ids += self._encode_between(text[start : span.start], self._written, hidden)
            ids.append(span.token_id)
            start = span.end
        return ids + self._encode_between(text[start:], self._written, hidden)

    def _encode_between(self, text: str, matcher: Matcher, hidden: Mapping[str, str]) -> list[int]:
        """The ids of a text without control tokens; `matcher` finds the user-defined pieces."""
        if not text:
            return []
        text = self._normalize(text)
        hidden = {placeholder: self._escape(original) for placeholder, original in hidden.items()}
        words = self._words
        if self._marked and matcher is self._written and hidden.keys().isdisjoint(text):
            words, matcher = self._marked, self._outside
        ids: list[int] = []
        start = 0
        for span in matcher.spans(text):
            ids += words(restored(text[start : span.start], hidden))
            ids.append(span.token_id)
            start = span.end
        ids += words(restored(text[start:], hidden))
        unk = self._model.unk_id
        # a run of unknown characters is one unknown token
        return [index for n, index in enumerate(ids) if index != unk or not n or ids[n - 1] != unk]

    def _normalize(self, text: str) -> str:
        """SentencePiece's normalizer (src/normalizer.cc)."""
        model = self._model
        if self._charsmap is not None:
            text = self._mapped(text, self._charsmap)
        if model.remove_extra_whitespaces:
            text = SPACES.sub(" ", text.lstrip(" "))
            if not text:
                return ""
        text = self._escape(" " * model.add_dummy_prefix + text)
        return text.rstrip(self._escape(" ")) if model.remove_extra_whitespaces else text

    def _mapped(self, text: str, charsmap: Charsmap) -> str:
        parts, start = [], 0
        for span in self._exempt.spans(text):
            parts += [charsmap.apply(text[start : span.start]), text[span.start : span.end]]
            start = span.end
        return "".join(parts) + charsmap.apply(text[start:])

    def _escape(self, text: str) -> str:
        return text.replace(" ", SPACE) if self._model.escape_whitespaces else text

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds to the text; b"" for control tokens and ids that are none."""
        return self._bytes[token_id]

    def _bytes_of(self, token_id: int) -> bytes:
        piece = self._pieces.get(token_id, "")
        if token_id < len(self._model.pieces) and self._model.pieces[token_id].type is not PieceType.BYTE:
            return piece.replace(SPACE, " ").encode()
        return sentencepiece_bytes(piece)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`."""
        return run(self._stream(self.token_bytes if skip_special else self._bytes_of), ids)

    def stream(self, after: Sequence[int] = ()) -> ByteStream:
        """A decoder for what follows the tokens `after`."""
        stream = self._stream(self.token_bytes)
        for token_id in after:
            stream.feed(token_id)
        return stream

    def _stream(self, token_bytes: Callable[[int], bytes]) -> ByteStream:
        model = self._model
        # only the sign for a space is known to be one that was put before the text
        lead = int(model.escape_whitespaces and (model.add_dummy_prefix or model.remove_extra_whitespaces))
        return ByteStream(token_bytes, lead=lead, each=model.remove_extra_whitespaces)


def added_tokens(model: SentencePieceFile, settings: Settings) -> dict[int, AddedToken]:
    """The tokens that text is searched for: the model's control and user-defined pieces, and those of the settings."""
    special = {*settings.names.values(), *settings.extra}
    tokens = {
        index: AddedToken(piece.text, special=piece.type is not PieceType.USER_DEFINED or piece.text in special)
        for index, piece in enumerate(model.pieces)
        if piece.type in (PieceType.CONTROL, PieceType.UNKNOWN, PieceType.USER_DEFINED) or piece.text in special
    }
    for index, token in settings.added.items():
        if index >= len(model.pieces) or model.pieces[index].text == token.content:
            tokens[index] = token
    return tokens


def roles(model: SentencePieceFile) -> dict[str, str]:
    ids = {"bos_token": model.bos_id, "eos_token": model.eos_id, "unk_token": model.unk_id}
    return {name: model.pieces[index].text for name, index in ids.items() if 0 <= index < len(model.pieces)}


def _word_encoder(model: SentencePieceFile, markup: Container[int]) -> Callable[[str], list[int]]:
    """The segmentation of normalized text in which pieces to be taken whole have been found already."""
    if model.model_type == WORD:
        return _listed(model, re.compile(f"(?s){SPACE}?[^{SPACE}]+|{SPACE}"))
    if model.model_type == CHAR:
        return _listed(model, re.compile("(?s)."))
    if model.model_type == UNIGRAM:
        return unigram(model, markup, _unknown(model))
    whole = any(crosses_words(piece.text, SPACE) for piece in model.pieces if piece.type in MATCHABLE)
    return WordCache(_bpe(model), SPACE, whole).encode


def _unknown(model: SentencePieceFile) -> Callable[[str], list[int]]:
    """The ids of text that no piece spells: its bytes, or one unknown token."""
    if not model.byte_fallback:
        return lambda text: [model.unk_id]
    ids = {piece.text: index for index, piece in enumerate(model.pieces) if piece.type is PieceType.BYTE}
    by_byte = [ids[f"<0x{byte:02X}>"] for byte in range(256)]
    return lambda text: [by_byte[byte] for byte in text.encode()]


def _listed(model: SentencePieceFile, unit: re.Pattern[str]) -> Callable[[str], list[int]]:
    """Units of text that are pieces or unknown."""
    reserved = (PieceType.CONTROL, PieceType.UNKNOWN)
    ids = {piece.text: index for index, piece in enumerate(model.pieces) if piece.type not in reserved}
    unknown = _unknown(model)
    return lambda text: [
        index for part in unit.findall(text) for index in ([ids[part]] if part in ids else unknown(part))
    ]


def _bpe(model: SentencePieceFile) -> Callable[[str], list[int]]:
    # user-defined pieces are matched beforehand and never result from merging
    usable = {piece.text: index for index, piece in enumerate(model.pieces) if piece.type is PieceType.NORMAL}
    unused = {piece.text for piece in model.pieces if piece.type is PieceType.UNUSED}
    scores = {piece.text: piece.score for piece in model.pieces if piece.type in (PieceType.NORMAL, PieceType.UNUSED)}
    unknown = _unknown(model)

    @functools.cache
    def unmerged(text: str) -> list[str]:
        others = {piece: score for piece, score in scores.items() if piece != text}
        return [part for _, part in merge(text, others)]

    def spell(text: str) -> list[int]:
        if text in usable:
            return [usable[text]]
        if text in unused and len(text) > 1:
            # unused pieces help merging but are no output
            return [index for part in unmerged(text) for index in spell(part)]
        return unknown(text)

    def encode_word(word: str) -> list[int]:
        if word in usable and len(word) == 1:
            return [usable[word]]
        return [index for _, piece in merge(word, scores) for index in spell(piece)]

    return encode_word
