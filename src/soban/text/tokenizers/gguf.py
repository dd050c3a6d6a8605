"""The tokenizer that a GGUF file's keys describe: tokenizer.ggml.*, by its kinds."""

import json
from collections.abc import Callable, Mapping
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
from soban.text.tokenizers.spm_file import BPE, UNIGRAM, Piece, PieceType, SentencePieceFile
from soban.text.tokenizers.tokenizer import Tokenizer

TOKENS, TYPES, SCORES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores"
MODEL, PRE, MERGES = "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.merges"
CHARSMAP = "tokenizer.ggml.precompiled_charsmap"
ROLES = {
    "bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token", "seperator": "sep_token",
    "mask": "mask_token",
}  # fmt: skip
LLAMA_IDS = {"bos": 1, "eos": 2, "unknown": 0}  # of a SentencePiece vocabulary whose keys say nothing
NEWLINES = r"[^\n]+|[\n]+"  # Gemma 4: no entry holds a line break beside anything else


class GgufVocabulary:
    """The keys about the tokenizer of the file at `path`, checked; `ids`: of the tokens with a role."""

    def __init__(self, path: Path, keys: Mapping[str, Any], ids: Mapping[str, int]) -> None:
        self.path, self._keys = path, keys
        self.model = keys.get(MODEL)
        if self.model not in KINDS:
            raise UserError(
                "{path}: tokenizers of the kind {kind} are not read; this reads {known}", path=path,
                kind=quoted(self.model), known=", ".join(KINDS), hint="use a model with another tokenizer",
            )  # fmt: skip
        texts = keys.get(TOKENS)
        self.tokens: list[str] = list(texts) if texts is not None and not isinstance(texts, str | np.ndarray) else []
        if not self.tokens:
            raise self.damaged(TOKENS)
        self.types = self._types()
        known = {name: index for name, index in ids.items() if index < len(self.tokens)}
        if self.model == "llama":
            known = {n: i for n, i in LLAMA_IDS.items() if self.types[i : i + 1] in ([2], [3])} | known
        self.ids = known
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
        known = set(self.tokens)
        for merge in merges:
            left, blank, right = merge.partition(" ")
            if not blank or left not in known or right not in known or left + right not in known:
                raise self.damaged(f"{MERGES} ({quoted(merge)})")
        return merges

    def charsmap(self) -> bytes:
        value = self._keys.get(CHARSMAP)
        if value is None:
            return b""
        if not isinstance(value, np.ndarray) or value.dtype.itemsize != 1:
            raise self.damaged(CHARSMAP)
        return value.tobytes()

    def tokenizer(self) -> Tokenizer:
        return KINDS[str(self.model)](self)

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


def _sentencepiece(vocabulary: GgufVocabulary, model_type: int) -> Tokenizer:
    from soban.text.tokenizers.sentencepiece import SentencePieceTokenizer

    scores = vocabulary.numbers(SCORES)
    if scores is None:
        raise vocabulary.damaged(SCORES)
    pieces = [
        Piece(text, float(score), PieceType(kind) if text else PieceType.UNUSED)
        for text, score, kind in zip(vocabulary.tokens, scores, vocabulary.types, strict=True)
    ]
    unknown = next((i for i, piece in enumerate(pieces) if piece.type is PieceType.UNKNOWN), None)
    named = {piece.text for piece in pieces if piece.type is PieceType.BYTE}
    whole = named == {f"<0x{byte:02X}>" for byte in range(256)}
    if named and not whole:
        raise vocabulary.damaged(TYPES)
    try:
        return SentencePieceTokenizer(
            SentencePieceFile(
                pieces, model_type, byte_fallback=whole, charsmap=vocabulary.charsmap(),
                unk_id=vocabulary.ids.get("unknown", 0) if unknown is None else unknown,
                bos_id=vocabulary.ids.get("bos", -1), eos_id=vocabulary.ids.get("eos", -1),
                add_dummy_prefix=vocabulary.flag("add_space_prefix", True),
                remove_extra_whitespaces=vocabulary.flag("remove_extra_whitespaces", model_type == UNIGRAM),
            ),
            vocabulary.settings,
        )  # fmt: skip
    except ValueError:  # of the character map
        raise vocabulary.damaged(CHARSMAP) from None


def _library(vocabulary: GgufVocabulary, **parts: Any) -> Tokenizer:
    """A byte-pair tokenizer of the tokenizers library."""
    from soban.text.tokenizers.fast import load_fast

    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    ids: dict[str, int] = {}
    for index, token in enumerate(vocabulary.tokens):
        ids.setdefault(token, index)
    added = [
        {"id": index, "content": token.content, **flags, "special": token.special}
        for index, token in sorted(vocabulary.settings.added.items()) if ids[token.content] == index
    ]  # fmt: skip
    model = {"type": "BPE", "vocab": ids, "merges": vocabulary.merges(), **parts.pop("model", {})}
    value = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "post_processor": None, **parts, "model": model,
    }  # fmt: skip
    return load_fast(vocabulary.path, vocabulary.settings, json.dumps(value, ensure_ascii=False).encode())


def _byte_level(vocabulary: GgufVocabulary) -> Tokenizer:
    splits = vocabulary.splits
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return _library(
        vocabulary,
        pre_tokenizer={
            "type": "Sequence", "pretokenizers": [*map(_split, splits.expressions), level],
        },
        decoder=level,
        model={"ignore_merges": splits.whole_words},
    )  # fmt: skip


def _gemma4(vocabulary: GgufVocabulary) -> Tokenizer:
    space = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    unknown = vocabulary.ids.get("unknown")
    return _library(
        vocabulary,
        normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        pre_tokenizer=_split(NEWLINES),
        decoder={"type": "Sequence", "decoders": [space, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        model={
            "byte_fallback": True, "fuse_unk": True,
            "unk_token": None if unknown is None else vocabulary.tokens[unknown],
        },
    )  # fmt: skip


def _split(expression: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


KINDS: Mapping[str, Callable[[GgufVocabulary], Tokenizer]] = {
    "llama": lambda vocabulary: _sentencepiece(vocabulary, BPE),
    "t5": lambda vocabulary: _sentencepiece(vocabulary, UNIGRAM),
    "gpt2": _byte_level,
    "gemma4": _gemma4,
}
