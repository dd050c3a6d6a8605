"""A model's files, whatever form they come in: the five answers from which everything else is made."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from soban.base.errors import UserError
from soban.text.chat.template import ChatTemplate, default_template, load_template
from soban.text.tokenizers.tokenizer import Tokenizer, load_tokenizer
from soban.weights.checkpoint import GGUF, LLAMA2C, Checkpoint
from soban.weights.opening import open_checkpoint

if TYPE_CHECKING:  # who runs a model needs no entries, and a start waits for all that is imported
    from soban.text.tokenizers.entries import Entries
    from soban.text.tokenizers.gguf_vocabulary import GgufVocabulary


class ModelFiles(Protocol):
    """An opened model. Another form of files is another class with these answers, and a line in `open_model`."""

    checkpoint: Checkpoint  # config, tensors and generation config; mapped, nothing of them converted

    def tokenizer(self, other: Path | None = None) -> Tokenizer:
        """The model's tokenizer, or the one in another file. Raises UserError where there is none."""

    def entries(self, other: Path | None = None) -> "Entries":
        """What the tokenizer's files say of it, without making it. Raises UserError as `tokenizer` does."""

    def template(self) -> ChatTemplate | None:
        """How the model was taught to hold a conversation; None where it was not."""


class HuggingFaceFiles:
    """A folder as transformers writes it, or one of its .safetensors files."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        path = checkpoint.path
        self.folder = path if path.is_dir() else path.parent

    def tokenizer(self, other: Path | None = None) -> Tokenizer:
        if other is not None:
            return _llama2c_tokenizer(other, self.checkpoint.config)
        return load_tokenizer(self.folder, self.checkpoint.config)

    def entries(self, other: Path | None = None) -> "Entries":
        from soban.text.tokenizers.entries import read_entries

        if (entries := read_entries(self.folder, self.checkpoint.config)) is not None:
            return entries
        raise UserError(
            "{folder}: no tokenizer here (tokenizer.json or tokenizer.model)", folder=self.folder,
            hint="put the tokenizer files of the original model beside its weights",
        )  # fmt: skip

    def template(self) -> ChatTemplate | None:
        return load_template(self.folder) if self.checkpoint.path.is_dir() else None  # a file stands for itself


class Llama2cFiles:
    """A llama2.c .bin, with its tokenizer.bin beside it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def tokenizer(self, other: Path | None = None) -> Tokenizer:
        return _llama2c_tokenizer(other or tokenizer_beside(self.checkpoint.path), self.checkpoint.config)

    def entries(self, other: Path | None = None) -> "Entries":
        from soban.text.tokenizers.entries import read_llama2c_entries

        file = other or tokenizer_beside(self.checkpoint.path)
        return read_llama2c_entries(file, self.checkpoint.config["vocab_size"])

    def template(self) -> None:
        return None


class GgufFiles:
    """A GGUF file, which holds everything."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @functools.cached_property
    def vocabulary(self) -> "GgufVocabulary":
        from soban.text.tokenizers.gguf_vocabulary import GgufVocabulary
        from soban.weights.gguf.opening import special_ids

        path, keys = self.checkpoint.path, self.checkpoint.keys
        return GgufVocabulary(path, keys, special_ids(path, keys, self.checkpoint.config["vocab_size"]))

    def tokenizer(self, other: Path | None = None) -> Tokenizer:
        if other is not None:
            raise UserError(
                "{path}: a GGUF file has its own tokenizer", path=self.checkpoint.path, hint="leave out -z {other}",
                other=other,
            )  # fmt: skip
        from soban.text.tokenizers.gguf import gguf_tokenizer

        return gguf_tokenizer(self.vocabulary)

    def entries(self, other: Path | None = None) -> "Entries":
        return self.vocabulary.entries()

    def template(self) -> ChatTemplate | None:
        key, path = "tokenizer.chat_template", self.checkpoint.path
        templates = {
            name.removeprefix(key).removeprefix(".") or "default": source
            for name, source in self.checkpoint.keys.items() if name == key or name.startswith(f"{key}.")
        }  # fmt: skip
        if not templates:
            return None
        return ChatTemplate(default_template(path, templates), self.vocabulary.settings.names, origin=path)


FORMS: Mapping[str, Callable[[Checkpoint], ModelFiles]] = {LLAMA2C: Llama2cFiles, GGUF: GgufFiles}


def open_model(path: Path) -> ModelFiles:
    """The model at a path. Raises UserError for whatever is missing, damaged, or not read on principle."""
    return files_of(open_checkpoint(path))


def files_of(checkpoint: Checkpoint) -> ModelFiles:
    """The files that a checkpoint was opened from."""
    return FORMS.get(checkpoint.form, HuggingFaceFiles)(checkpoint)


def tokenizer_beside(path: Path) -> Path:
    """The tokenizer.bin or tok512.bin beside a .bin. Raises UserError where there is none."""
    beside = path.with_name("tokenizer.bin")
    if not beside.is_file() and len(own := list(path.parent.glob("tok[0-9]*.bin"))) == 1:
        beside = own[0]  # tok512.bin, as llama2.c calls one that was made for its model
    if not beside.is_file():
        raise UserError(
            "{path}: no tokenizer.bin beside it", path=path, hint="name the model's tokenizer file with -z"
        )  # fmt: skip
    return beside


def _llama2c_tokenizer(path: Path, config: Mapping[str, Any]) -> Tokenizer:
    from soban.text.tokenizers.llama2c import load_llama2c_tokenizer  # imported where it is met: a start waits for it

    return load_llama2c_tokenizer(path, config["vocab_size"])
