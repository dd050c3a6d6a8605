"""What a GGUF file's keys say of its tokenizer, tokenizer.ggml.*, checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from soban import messages
from soban.base.errors import UserError
from soban.base.files import quoted
from soban.text.tokenizers.entries import Entries
from soban.text.tokenizers.gguf_splits import SPLITS
from soban.text.tokenizers.markup import is_markup
from soban.text.tokenizers.settings import AddedToken, Settings
from soban.text.tokenizers.spm_file import PieceType

TOKENS, TYPES, SCORES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores"
MODEL, PRE, MERGES = "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.merges"
CHARSMAP = "tokenizer.ggml.precompiled_charsmap"
ROLES = {
    "bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token", "seperator": "sep_token",
    "mask": "mask_token",
}  # fmt: skip
MODELS = ("llama", "t5", "gpt2", "gemma4")
LLAMA_IDS = {"bos": 1, "eos": 2, "unknown": 0}  # of a SentencePiece vocabulary whose keys say nothing


class GgufVocabulary:
    """The keys about the tokenizer of the file at `path`, checked; `ids`: of the tokens with a role."""

    def __init__(self, path: Path, keys: Mapping[str, Any], ids: Mapping[str, int]) -> None:
        self.path, self._keys = path, keys
        self.model = keys.get(MODEL)
        if self.model not in MODELS:
            raise UserError(
                "{path}: tokenizers of the kind {kind} are not read; this reads {known}", path=path,
                kind=quoted(self.model), known=", ".join(MODELS), hint="use a model with another tokenizer",
            )  # fmt: skip
        texts = keys.get(TOKENS)
        self.tokens: list[str] = list(texts) if texts is not None and not isinstance(texts, str | np.ndarray) else []
        if not self.tokens:
            raise self.damaged(TOKENS)
        self.types = self._types()
        own_ids = {name: index for name, index in ids.items() if index < len(self.tokens)}
        if self.model == "llama":
            own_ids = {n: i for n, i in LLAMA_IDS.items() if self.types[i : i + 1] in ([2], [3])} | own_ids
        self.ids = own_ids
        self.settings = self._settings()

    def damaged(self, key: str) -> UserError:
        return UserError(
            "{path}: the tokenizer is damaged: {key}", path=self.path, key=key, hint="fetch the model again"
        )

    def numbers(self, key: str) -> list[Any] | None:
        """A list of numbers, one for each token."""
        value = self._keys.get(key)
        if value is None:
            return None
        if not isinstance(value, np.ndarray) or len(value) < len(self.tokens) or not np.isfinite(value).all():
            raise self.damaged(key)
        return list(value[: len(self.tokens)].tolist())

    def flag(self, name: str, default: bool) -> bool:
        value = self._keys.get(f"tokenizer.ggml.{name}", default)
        if not isinstance(value, bool):
            raise self.damaged(f"tokenizer.ggml.{name}")
        return value

    def _types(self) -> list[int]:
        types = self.numbers(TYPES)
        if types is None:
            return [int(PieceType.NORMAL)] * len(self.tokens)
        if any(kind not in iter(PieceType) for kind in set(types)):
            raise self.damaged(TYPES)
        return types

    def _settings(self) -> Settings:
        """What would stand in tokenizer_config.json."""
        added = {
            index: AddedToken(self.tokens[index], special=kind == PieceType.CONTROL)
            for index, kind in enumerate(self.types)
            if kind in (PieceType.CONTROL, PieceType.USER_DEFINED) and self.tokens[index]
        }
        bos = {"llama": True, "gemma4": True}.get(str(self.model), self.splits.bos if self.model == "gpt2" else False)
        return Settings(
            names={ROLES[name]: self.tokens[index] for name, index in self.ids.items() if name in ROLES},
            added=added,
            add_bos=self.flag("add_bos_token", bos),
            add_eos=self.flag("add_eos_token", self.model == "t5"),
        )

    @property
    def splits(self) -> Any:
        """The group of `pre`. UserError for one that is not known: every text would get other tokens."""
        pre = self._keys.get(PRE, "default")
        if pre not in SPLITS:
            raise UserError(
                "{path}: {key}={value} is not known: how it cuts texts into words", path=self.path, key=PRE,
                value=quoted(pre), hint="bring soban up to date, or use the model's Hugging Face folder",
            )  # fmt: skip
        if PRE not in self._keys:
            messages.warn(
                "{path}: the file does not say how texts are cut into words; llama.cpp's usual way is taken",
                path=self.path,
            )  # fmt: skip
        return SPLITS[pre]

    def merges(self) -> list[str]:
        """Pairs of pieces with a blank between them, the first to be merged first."""
        texts = self._keys.get(MERGES)
        merges = list(texts) if texts is not None and not isinstance(texts, str | np.ndarray) else []
        pieces = set(self.tokens)
        for merge in merges:
            left, blank, right = merge.partition(" ")
            if not blank or left not in pieces or right not in pieces or left + right not in pieces:
                raise self.damaged(f"{MERGES} ({quoted(merge)})")
        return merges

    def charsmap(self) -> bytes:
        value = self._keys.get(CHARSMAP)
        if value is None:
            return b""
        if not isinstance(value, np.ndarray) or value.dtype.itemsize != 1:
            raise self.damaged(CHARSMAP)
        return value.tobytes()

    def entries(self) -> Entries:
        """What there is, without making the tokenizer."""
        settings = self.settings
        bos, eos = self.ids.get("bos"), self.ids.get("eos")
        return Entries(
            {"llama": "SentencePiece BPE", "t5": "SentencePiece Unigram"}.get(str(self.model), "BPE"), self.path.name,
            {token: index for index, token in reversed(list(enumerate(self.tokens)))}, len(self.tokens),
            settings.added, settings, bos, eos,
            (bos,) if settings.add_bos and bos is not None else (),
            (eos,) if settings.add_eos and eos is not None else (),
            markup={token.content: index for index, token in settings.added.items() if is_markup(token)},
        )  # fmt: skip
