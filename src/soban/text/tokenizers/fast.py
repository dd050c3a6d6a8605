"""Hugging Face's tokenizer.json, by the tokenizers library, with the settings beside it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soban import messages
from soban.text.stream.decode import ByteStream, PieceBytes, StreamDecoder, byte_level_bytes, run, sentencepiece_bytes
from soban.text.tokenizers.decoders import PieceStream, stages
from soban.text.tokenizers.library import (
    FLAGS,
    continuing,
    decoder_of,
    frame_of,
    library_errors,
    open_library,
    state_of,
    translating_errors,
    without_added,
)
from soban.text.tokenizers.markup import Matcher, Span, checked, framed, is_markup, policy, restored
from soban.text.tokenizers.settings import AddedToken, Settings, read_bytes

if TYPE_CHECKING:
    import tokenizers


class FastTokenizer:
    """A `Tokenizer` over a tokenizer.json."""

    def __init__(
        self, library: "tokenizers.Tokenizer", model: Mapping[str, Any], settings: Settings, path: Path
    ) -> None:
        """`model`: what the file at `path` says of the library's model."""
        self.path = path
        library.no_truncation()  # files often carry a maximum length: a prompt is never cut silently
        library.no_padding()
        _settle(library.model)
        _declare(library, settings)
        self.library = library
        self.added = added = _added_tokens(library, settings)
        self._special = {index for index, token in added.items() if token.special}
        markup = {index: token for index, token in added.items() if is_markup(token)}
        self._markup_ids = frozenset(markup)
        self._written = Matcher(markup)
        self._normalized_markup = any(token.normalized for token in markup.values())
        self._plain, self._plain_ids = without_added(library, {i: t for i, t in added.items() if i not in markup})
        self._inner = continuing(library, self._plain)
        self._model = {name: model.get(name) for name in ("byte_fallback", "continuing_subword_prefix")}
        self.unk_id = _unknown(library, model)
        # pieces of the model's own that spell markup: merging must not lead to them either
        self.spelled = {i for i, t in markup.items() if i != self.unk_id and library.model.token_to_id(t.content) == i}
        self.vocab_size = _vocab_size(library, added)
        self.special_tokens: Mapping[str, str] = settings.names
        self.bos_id = self._role("bos_token", settings.bos_ids)
        eos_id = self._role("eos_token", ())
        self.eos_ids = settings.eos_ids if eos_id is None else (eos_id,)
        self.frame = frame_of(state_of(library.post_processor))
        self._prefix, self._suffix = policy(settings, self.bos_id, eos_id, self.frame)
        self._decoder = state_of(library.decoder)
        self.piece_bytes, self.lead = _bytes_of_pieces(self._decoder)
        self._bytes = PieceBytes(self._bytes_of, self._special)

    def _role(self, name: str, fallback: tuple[int, ...]) -> int | None:
        if name in self.special_tokens:
            return self.library.token_to_id(self.special_tokens[name])
        return fallback[0] if fallback else None

    @translating_errors
    def encode(self, text: str, *, bos: bool | None = None, special: bool = False) -> list[int]:
        """The ids of `text`; see `Tokenizer`."""
        checked(text)
        if special:
            ids = self.library.encode(text, add_special_tokens=False).ids
        else:
            ids = self._encode_plain(self._plain, text)
        return framed(ids, bos, self.bos_id, self._prefix, self._suffix)

    def _encode_plain(self, library: "tokenizers.Tokenizer", text: str) -> list[int]:
        ids = library.encode(text, add_special_tokens=False).ids
        if self._plain_ids:
            ids = [self._plain_ids.get(index, index) for index in ids]
        if not self.spelled.isdisjoint(ids):
            ids = [part for index in ids for part in (self.taken_apart(index) if index in self.spelled else [index])]
        return ids

    @translating_errors
    def taken_apart(self, token_id: int) -> list[int]:
        """Two pieces, else the characters, that spell a token that plain text must not hold."""
        model = self.library.model
        piece = model.id_to_token(token_id) or ""
        within = self._model["continuing_subword_prefix"] or ""  # with which a piece begins that begins no word
        for place in range(len(piece) - 1, 0, -1):
            pair = [model.token_to_id(piece[:place]), model.token_to_id(within + piece[place:])]
            if None not in pair and self.spelled.isdisjoint(pair):
                return pair
        ids: list[int] = []
        for n, character in enumerate(piece):
            whole = model.token_to_id((within if n else "") + character)
            for index in self._spelled_out(character) if whole is None else [whole]:
                if index != self.unk_id or ids[-1:] != [index]:
                    ids.append(index)
        return ids

    def _spelled_out(self, character: str) -> list[int]:
        """A character that is no piece: its bytes, else the unknown token, if there is one."""
        if self._model["byte_fallback"]:
            ids = [self.library.model.token_to_id(f"<0x{byte:02X}>") for byte in character.encode()]
            if None not in ids:
                return ids
        return [] if self.unk_id is None else [self.unk_id]

    @translating_errors
    def find_markup(self, text: str) -> list[Span]:
        """Where tokens that steer the model are written in the text."""
        if next(self._written.spans(text), None) is None and not self._normalized_markup:
            return []
        encoding = self.library.encode(text, add_special_tokens=False)
        return [
            Span(start, end, index)
            for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if index in self._markup_ids and end > start
        ]

    @translating_errors
    def encode_rendered(self, text: str, hidden: Mapping[str, str]) -> list[int]:
        """The ids of a rendered template: tokens are recognised except in what placeholders hide."""
        encoding = self.library.encode(text, add_special_tokens=False)
        if not hidden:
            return encoding.ids
        ids: list[int] = []
        stretch: list[int] = []  # ids since the last markup token
        start = 0
        tokens = zip([*encoding.ids, -1], [*encoding.offsets, (len(text), len(text))], strict=True)
        for index, (begin, end) in tokens:
            if index >= 0 and index not in self._markup_ids:
                stretch.append(index)
                continue
            between = text[start:begin]
            if not hidden.keys().isdisjoint(between):
                library = self._inner if start else self._plain
                stretch = self._encode_plain(library, restored(between, hidden))
            ids += stretch
            if index >= 0:
                ids.append(index)
            stretch, start = [], end
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds to the text; b"" for special tokens and ids that are none."""
        return self._bytes[token_id]

    def _bytes_of(self, token_id: int) -> bytes:
        piece = self._piece(token_id)
        if piece is None:
            return b""
        return run(self._stream(False), [token_id]).encode() if self.piece_bytes is None else self.piece_bytes(piece)

    @translating_errors
    def _piece(self, token_id: int) -> str | None:
        return self.library.id_to_token(token_id) if 0 <= token_id < self.vocab_size else None

    def _shown_piece(self, token_id: int) -> str | None:
        return None if token_id in self._special else self._piece(token_id)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`."""
        return run(self._stream(skip_special), ids)

    def stream(self, after: Sequence[int] = ()) -> StreamDecoder:
        """A decoder for what follows the tokens `after`."""
        stream = self._stream(True)
        for token_id in after:
            stream.feed(token_id)
        if isinstance(stream, PieceStream):
            stream.go_on()
        return stream

    def _stream(self, skip_special: bool) -> ByteStream | PieceStream:
        if self.lead is not None:
            return ByteStream(self.token_bytes if skip_special else self._bytes_of, lead=self.lead)
        return PieceStream(self._shown_piece if skip_special else self._piece, stages(self._decoder, self._own_decoder))

    def _own_decoder(self, state: Mapping[str, Any]) -> Callable[[list[str]], str]:
        decoder = decoder_of(state)

        def decode(pieces: list[str]) -> str:
            with library_errors(self.path):
                return decoder.decode(pieces)

        return decode


def load_fast(path: Path, settings: Settings, data: bytes | None = None) -> FastTokenizer:
    """The tokenizer.json at `path`, or what would stand in it; UserError where the library cannot read it."""
    library, model = open_library(path, read_bytes(path) if data is None else data)
    with library_errors(path):
        return FastTokenizer(library, model, settings, path)


def _declare(library: "tokenizers.Tokenizer", settings: Settings) -> None:
    """Make known what only the settings declare, as transformers does."""
    from tokenizers import AddedToken as Declared

    contents = {token.content for token in library.get_added_tokens_decoder().values()}
    for index, token in sorted(settings.added.items()):
        if token.content in contents:
            continue
        if library.token_to_id(token.content) not in (index, None) or (
            library.token_to_id(token.content) is None and index != library.get_vocab_size()
        ):
            messages.warn(
                "tokenizer_config.json puts {token} at id {index}, where tokenizer.json has another; it is left out",
                token=token.content,
                index=index,
            )
            continue
        flags = {name: getattr(token, name) for name in FLAGS}
        (library.add_special_tokens if token.special else library.add_tokens)([Declared(token.content, **flags)])
        contents.add(token.content)
    missing = {*settings.names.values(), *settings.extra} - contents
    library.add_special_tokens(
        [Declared(content, normalized=False) for content in sorted(missing) if library.token_to_id(content) is not None]
    )


def _added_tokens(library: "tokenizers.Tokenizer", settings: Settings) -> dict[int, AddedToken]:
    special = {*settings.names.values(), *settings.extra}
    special |= {token.content for token in settings.added.values() if token.special}
    return {
        index: AddedToken(
            token.content,
            special=token.special or token.content in special,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            single_word=token.single_word,
            normalized=token.normalized,
        )
        for index, token in library.get_added_tokens_decoder().items()
    }


def _settle(model: Any) -> None:
    """Turn off what makes encoding a matter of chance, which is for training: the same text has the same tokens."""
    for name in ("dropout", "alpha", "nbest_size"):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)


def _unknown(library: "tokenizers.Tokenizer", model: Mapping[str, Any]) -> int | None:
    """The id of the token that stands for what the vocabulary lacks: Unigram has its number, the others its text."""
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    name = getattr(library.model, "unk_token", None)
    return library.token_to_id(name) if name else None


def _vocab_size(library: "tokenizers.Tokenizer", added: Mapping[int, AddedToken]) -> int:
    size = library.get_vocab_size(with_added_tokens=False)
    if size and library.id_to_token(size - 1) is None:  # the ids have gaps
        size = max(library.get_vocab(with_added_tokens=False).values()) + 1
    return max(size, *(index + 1 for index in added), 0)


def _bytes_of_pieces(decoder: Mapping[str, Any]) -> tuple[Callable[[str], bytes] | None, int | None]:
    """How a piece becomes bytes, whatever stands beside it, and how many leading spaces a text loses.

    None for decoders that need more of the text than that.
    """
    parts = decoder.get("decoders", [decoder])
    kinds = [part.get("type") for part in parts]
    if kinds == ["ByteLevel"]:
        return byte_level_bytes, 0
    if kinds == ["Metaspace"]:
        sign = parts[0]["replacement"]
        return lambda piece: piece.replace(sign, " ").encode(), None  # the first piece loses all its spaces
    if kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and _is_space(parts[0]):
        if len(kinds) == 3:
            return sentencepiece_bytes, 0
        strip = parts[3]
        if kinds[3:] == ["Strip"] and strip.get("content") == " " and strip.get("stop") == 0 and strip["start"] < 2:
            return sentencepiece_bytes, strip["start"]
    return None, None


def _is_space(replace: Mapping[str, Any]) -> bool:
    return replace.get("pattern") == {"String": "▁"} and replace.get("content") == " "
