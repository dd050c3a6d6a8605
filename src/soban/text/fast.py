"""Hugging Face's tokenizer.json, by the tokenizers library, with the settings beside it."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soban import messages
from soban.errors import UserError
from soban.text.decode import (
    ByteStream,
    DifferenceStream,
    PieceBytes,
    StreamDecoder,
    byte_level_bytes,
    run,
    sentencepiece_bytes,
)
from soban.text.markup import Matcher, Span, checked, framed, is_markup, policy, restored
from soban.text.settings import AddedToken, Settings, parse_json_object, read_bytes

if TYPE_CHECKING:
    import tokenizers


class FastTokenizer:
    """A `Tokenizer` over a tokenizer.json."""

    def __init__(self, library: "tokenizers.Tokenizer", settings: Settings) -> None:
        library.no_truncation()  # files often carry a maximum length: a prompt is never cut silently
        library.no_padding()
        _declare(library, settings)
        self.library = library
        self.added = added = _added_tokens(library, settings)
        self._special = {index for index, token in added.items() if token.special}
        markup = {index: token for index, token in added.items() if is_markup(token)}
        self._markup_ids = frozenset(markup)
        self._written = Matcher(markup)
        self._normalized_markup = any(token.normalized for token in markup.values())
        self._plain, self._plain_ids = _without(library, {i: t for i, t in added.items() if i not in markup})
        self._inner = _continuing(library, self._plain)
        unk = library.token_to_id(getattr(library.model, "unk_token", None) or "")
        # pieces of the model's own that spell markup: merging must not lead to them either
        self.spelled = {i for i, t in markup.items() if i != unk and library.model.token_to_id(t.content) == i}
        self.vocab_size = _vocab_size(library, added)
        self.special_tokens: Mapping[str, str] = settings.names
        self.bos_id = self._role("bos_token", settings.bos_ids)
        eos_id = self._role("eos_token", ())
        self.eos_ids = settings.eos_ids if eos_id is None else (eos_id,)
        self.frame = _frame(library)
        self._prefix, self._suffix = policy(settings, self.bos_id, eos_id, self.frame)
        self.piece_bytes, self.lead = _decoder(library)
        self._bytes = PieceBytes(self._shown, self._special)

    def _role(self, name: str, fallback: tuple[int, ...]) -> int | None:
        if name in self.special_tokens:
            return self.library.token_to_id(self.special_tokens[name])
        return fallback[0] if fallback else None

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

    def taken_apart(self, token_id: int) -> list[int]:
        """Two pieces, else the characters, that spell a token that plain text must not hold."""
        model = self.library.model
        piece = model.id_to_token(token_id) or ""
        for cut in range(len(piece) - 1, 0, -1):
            pair = [model.token_to_id(piece[:cut]), model.token_to_id(piece[cut:])]
            if None not in pair and self.spelled.isdisjoint(pair):
                return pair
        parts = [(model.token_to_id(character), character) for character in piece]
        byte_ids = [[model.token_to_id(f"<0x{byte:02X}>") for byte in character.encode()] for _, character in parts]
        return [
            index
            for (whole, _), spelled in zip(parts, byte_ids, strict=True)
            for index in ([whole] if whole is not None else spelled)
            if index is not None
        ]

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

    def _shown(self, token_id: int) -> bytes:
        if self.piece_bytes is None:
            return self._decoded([token_id], False).encode()
        piece = self.library.id_to_token(token_id) if token_id >= 0 else None
        return b"" if piece is None else self.piece_bytes(piece)

    def _decoded(self, ids: Sequence[int], skip_special: bool) -> str:
        kept = [index for index in ids if index >= 0 and not (skip_special and index in self._special)]
        return self.library.decode(kept, skip_special_tokens=False)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`."""
        if self.piece_bytes is None:
            return self._decoded(ids, skip_special)
        return run(ByteStream(self.token_bytes if skip_special else self._shown, lead=self.lead), ids)

    def stream(self, after: Sequence[int] = ()) -> StreamDecoder:
        """A decoder for what follows the tokens `after`."""
        stream: StreamDecoder
        if self.piece_bytes is None:
            stream = DifferenceStream(lambda ids: self._decoded(ids, True))
        else:
            stream = ByteStream(self.token_bytes, lead=self.lead)
        for token_id in after:
            stream.feed(token_id)
        return stream


def load_fast(path: Path, settings: Settings) -> FastTokenizer:
    """The tokenizer.json at `path`; UserError where the library cannot read it."""
    from tokenizers import Tokenizer

    data = read_bytes(path)
    try:
        library = Tokenizer.from_buffer(data)
    except BaseException as error:  # the library raises plain Exception, and a BaseException where it panics
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        parse_json_object(path, data)
        reason = " ".join(str(error).split())
        raise UserError("{path}: not a tokenizer ({reason})", path=path, reason=reason, hint="fetch it again") from None
    return FastTokenizer(library, settings)


def _declare(library: "tokenizers.Tokenizer", settings: Settings) -> None:
    """Make known what only the settings declare, as transformers does."""
    from tokenizers import AddedToken as Declared

    known = {token.content for token in library.get_added_tokens_decoder().values()}
    for index, token in sorted(settings.added.items()):
        if token.content in known:
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
        flags = {name: getattr(token, name) for name in ("lstrip", "rstrip", "single_word", "normalized")}
        (library.add_special_tokens if token.special else library.add_tokens)([Declared(token.content, **flags)])
        known.add(token.content)
    named = {*settings.names.values(), *settings.extra} - known
    library.add_special_tokens(
        [Declared(content, normalized=False) for content in sorted(named) if library.token_to_id(content) is not None]
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


def _without(
    library: "tokenizers.Tokenizer", kept: Mapping[int, AddedToken]
) -> tuple["tokenizers.Tokenizer", dict[int, int]]:
    """A tokenizer that shares the model but knows only the added tokens `kept`, and its ids where they differ."""
    from tokenizers import AddedToken as Declared
    from tokenizers import Tokenizer

    plain = Tokenizer(library.model)
    if library.normalizer is not None:
        plain.normalizer = library.normalizer
    if library.pre_tokenizer is not None:
        plain.pre_tokenizer = library.pre_tokenizer
    flags = ("lstrip", "rstrip", "single_word", "normalized")
    plain.add_tokens([Declared(t.content, **{name: getattr(t, name) for name in flags}) for t in kept.values()])
    ids = {plain.token_to_id(token.content): index for index, token in kept.items()}
    return plain, {own: index for own, index in ids.items() if own is not None and own != index}


def _continuing(library: "tokenizers.Tokenizer", plain: "tokenizers.Tokenizer") -> "tokenizers.Tokenizer":
    """`plain` for text that does not begin the whole: only Metaspace's "first" makes a difference."""
    from tokenizers import Tokenizer

    state = state_of(library.pre_tokenizer)
    parts = state.get("pretokenizers", [state])
    if not any(part.get("prepend_scheme") == "first" for part in parts):
        return plain
    for part in parts:
        if part.get("prepend_scheme") == "first":
            part["prepend_scheme"] = "never"
    model = {"type": "BPE", "vocab": {}, "merges": []}
    carrier = Tokenizer.from_str(
        json.dumps({"version": "1.0", "added_tokens": [], "pre_tokenizer": state, "model": model})
    )
    inner = Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    inner.model = plain.model
    if plain.normalizer is not None:
        inner.normalizer = plain.normalizer
    inner.pre_tokenizer = carrier.pre_tokenizer
    kept = plain.get_added_tokens_decoder()
    inner.add_tokens([kept[index] for index in sorted(kept)])
    return inner


def state_of(part: Any) -> dict[str, Any]:
    """A component of the library as the JSON that describes it."""
    state = {} if part is None else json.loads(part.__getstate__())
    return state if isinstance(state, dict) else {}


def _vocab_size(library: "tokenizers.Tokenizer", added: Mapping[int, AddedToken]) -> int:
    size = library.get_vocab_size(with_added_tokens=False)
    if size and library.id_to_token(size - 1) is None:  # the ids have gaps
        size = max(library.get_vocab(with_added_tokens=False).values()) + 1
    return max(size, *(index + 1 for index in added), 0)


def _frame(library: "tokenizers.Tokenizer") -> tuple[list[int], list[int]]:
    """What the post-processor puts before and after a text."""
    bare = library.encode("a", add_special_tokens=False).ids
    framed_ids = library.encode("a").ids
    for start in range(len(framed_ids) - len(bare) + 1):
        if framed_ids[start : start + len(bare)] == bare:
            return framed_ids[:start], framed_ids[start + len(bare) :]
    return [], []


def _decoder(library: "tokenizers.Tokenizer") -> tuple[Callable[[str], bytes] | None, int]:
    """How a piece becomes bytes and how many leading spaces a text loses; None for decoders that need their context."""
    state = state_of(library.decoder)
    parts = state.get("decoders", [state])
    kinds = [part.get("type") for part in parts]
    if kinds == ["ByteLevel"]:
        return byte_level_bytes, 0
    if kinds == ["Metaspace"] and parts[0].get("replacement") == "▁":
        return sentencepiece_bytes, int(parts[0].get("prepend_scheme") != "never")
    if kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and _is_space(parts[0]):
        if len(kinds) == 3:
            return sentencepiece_bytes, 0
        strip = parts[3]
        if kinds[3:] == ["Strip"] and strip.get("content") == " " and strip.get("stop") == 0:
            return sentencepiece_bytes, strip["start"]
    return None, 0


def _is_space(replace: Mapping[str, Any]) -> bool:
    return replace.get("pattern") == {"String": "▁"} and replace.get("content") == " "
