"""Documents to token ids, by a tokenizer that takes everything in them for text."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from soban.base.errors import UserError
from soban.base.files import read_json
from soban.learn.data.chats import Writer, is_conversation
from soban.learn.tokenizer import FILE, special_ids
from soban.text.tokenizers.library import library_errors, open_library
from soban.text.tokenizers.settings import read_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

AT_ONCE = 1024  # documents; the library's own objects take a hundred times the memory of the ids
CHARACTERS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Encoder:
    """A tokenizer for documents."""

    tokenizer: "Tokenizer"  # as it is saved
    entries: int
    bos_id: int | None
    eos_id: int
    writer: Writer | None = None  # of conversations
    path: Path = FILE

    def encode(self, texts: Iterable[str]) -> Iterator[NDArray[np.int64]]:
        """Each text's ids between BOS and EOS, of which a conversation's template may write some itself.

        What is spelled like a special token, as <s> in HTML, is text.
        """
        with library_errors(self.path):
            plain = _without_specials(self.tokenizer)
        for some in _batches(texts):
            talk = [self.writer is not None and is_conversation(text) for text in some]
            conversations = [text for text, one in zip(some, talk, strict=True) if one]
            talks = iter(self.writer.encode(conversations) if self.writer else ())
            stories = [text for text, one in zip(some, talk, strict=True) if not one]
            with library_errors(self.path):
                encoded = iter(
                    [encoding.ids for encoding in plain.encode_batch_fast(stories, add_special_tokens=False)]
                )
            for one in talk:
                yield np.array(self._framed(next(talks if one else encoded)), np.int64)

    def _framed(self, ids: list[int]) -> list[int]:
        """The ids with one BOS before them and one EOS after them."""
        before = [] if self.bos_id is None or ids[:1] == [self.bos_id] else [self.bos_id]
        return [*before, *ids, *([] if ids[-1:] == [self.eos_id] else [self.eos_id])]


def own(tokenizer: "Tokenizer") -> Encoder:
    """The encoder of a tokenizer that was learnt here."""
    ids = special_ids(tokenizer)
    return Encoder(tokenizer, tokenizer.get_vocab_size(), ids["bos_token_id"], ids["eos_token_id"])


def from_folder(path: Path) -> Encoder:
    """The encoder of a model's tokenizer.json. Raises UserError for a missing or broken one, or one without an EOS."""
    from soban.text.tokenizers.tokenizer import load_tokenizer

    folder = path if path.is_dir() else path.parent
    if not (folder / "tokenizer.json").is_file():
        raise UserError(
            "{path}: no tokenizer.json in it", path=path, hint="name a model's folder, or one made by soban data"
        )
    config = folder / "config.json"
    loaded = load_tokenizer(folder, read_json(config) if config.is_file() else {})
    if not loaded.eos_ids:
        raise UserError(
            "{path}: its tokenizer has no token that ends a text", path=path, hint="choose another tokenizer"
        )
    file = folder / "tokenizer.json"
    tokenizer, _ = open_library(file, read_bytes(file))
    return Encoder(tokenizer, loaded.vocab_size, loaded.bos_id, loaded.eos_ids[0], path=file)


def _without_specials(tokenizer: "Tokenizer") -> "Tokenizer":
    from tokenizers import Tokenizer

    settings: dict[str, Any] = json.loads(tokenizer.to_str())
    settings["added_tokens"] = [token for token in settings["added_tokens"] if not token["special"]]
    settings["post_processor"] = None
    return Tokenizer.from_str(json.dumps(settings))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Some texts at a time, not too many characters of them."""
    rest = iter(texts)
    while some := list(islice(rest, 1)):
        size = len(some[0])
        while len(some) < AT_ONCE and size < CHARACTERS_AT_ONCE and (more := next(rest, None)) is not None:
            some.append(more)
            size += len(more)
        yield some
