"""Tokenizers: what every one of them offers, and loading the one that belongs to a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from soban.base.errors import UserError
from soban.base.system import CacheUnavailableError
from soban.ops.run import use_native
from soban.packing.packed_file import cached_path, locked, origin
from soban.text.stream.decode import StreamDecoder
from soban.text.tokenizers.markup import Span
from soban.text.tokenizers.packed import open_packed
from soban.text.tokenizers.settings import Settings, files_beside, read_bytes, read_settings

if TYPE_CHECKING:
    from soban.text.tokenizers.fast import FastTokenizer


class Tokenizer(Protocol):
    """Text to token ids and back; ids are below `vocab_size`, `special_tokens` named as in tokenizer_config.json."""

    vocab_size: int
    bos_id: int | None
    eos_ids: tuple[int, ...]
    special_tokens: Mapping[str, str]

    def encode(self, text: str, *, bos: bool | None = None, special: bool = False) -> list[int]:
        """The ids of `text`. UserError where it holds half a surrogate pair.

        bos: whether a BOS stands first (never two); None leaves that, and an EOS, to the tokenizer's own policy.
        special: whether tokens that are written out, such as `<end_of_turn>`, are recognised or are plain text.
        """

    def encode_rendered(self, text: str, hidden: Mapping[str, str]) -> list[int]:
        """The ids of a rendered template, as with `special`, without a BOS of its own.

        hidden: placeholder characters in `text` and the texts that they stand for, which stay plain text.
        """

    def find_markup(self, text: str) -> list[Span]:
        """Where tokens that steer the model are written in the text."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds to the text; b"" for control tokens and ids that are none."""

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD."""

    def stream(self, after: Sequence[int] = ()) -> StreamDecoder:
        """A decoder for what follows the tokens `after`: empty, it begins a text, whose dummy space is dropped."""


def load_tokenizer(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer in a model's folder: tokenizer.json, else tokenizer.model, else vocab.json and merges.txt.

    config: the model's config.json, for BOS and EOS where the tokenizer's own files name none.
    """
    settings = read_settings(folder, config)
    if (path := folder / "tokenizer.json").is_file():
        return _from_json(path, settings)
    if (path := folder / "tokenizer.model").is_file():
        # each kind is imported where it is met: a start waits for all that is imported
        from soban.text.tokenizers.sentencepiece import SentencePieceTokenizer
        from soban.text.tokenizers.spm_file import read_sentencepiece

        return SentencePieceTokenizer(read_sentencepiece(path), settings)
    if (folder / "merges.txt").is_file() and (path := folder / "vocab.json").is_file():
        from soban.text.tokenizers import merges
        from soban.text.tokenizers.fast import load_fast

        return load_fast(path, settings, merges.as_tokenizer_json(folder))
    raise UserError(
        "{folder}: no tokenizer here (tokenizer.json or tokenizer.model)",
        folder=folder,
        hint="put the tokenizer files of the original model beside its weights",
    )


def _from_json(path: Path, settings: Settings) -> Tokenizer:
    """The packed form of a tokenizer.json, which is made on the first use; the library's where there can be none."""
    place = _place(path) if use_native() else None
    if place and (packed := open_packed(place, settings)):
        return packed
    from soban.text.tokenizers.fast import load_fast

    fast = load_fast(path, settings)
    return (place and _pack_now(path, settings, fast, place)) or fast


def _place(path: Path) -> Path | None:
    """Where the packed form belongs; None where there is no cache."""
    try:
        return cached_path(path.parent, [path, *files_beside(path.parent)], "tokenizer")
    except CacheUnavailableError:
        return None


def _pack_now(path: Path, settings: Settings, fast: "FastTokenizer", place: Path) -> Tokenizer | None:
    """The packed form, made now; None where the tokenizer is of another kind, or the cache cannot be written."""
    from soban.text.tokenizers import packing

    try:
        packing.pipeline(fast)
        with locked(place):
            packed = open_packed(place, settings)  # another process may have made it
            if packed is None:
                place.unlink(missing_ok=True)
                packing.pack(read_bytes(path), fast, place, origin(path.parent, [path, *files_beside(path.parent)]))
                packed = open_packed(place, settings)
    except (packing.NotCovered, UserError, OSError):
        return None
    return packed
