"""A model folder's tokenizer as the keys of a GGUF file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from soban import messages
from soban.base.errors import UserError
from soban.text.tokenizers import merges as gpt2_files
from soban.text.tokenizers.entries import Entries, read_entries
from soban.text.tokenizers.gguf_splits import GPT2, SPLITS
from soban.text.tokenizers.gguf_vocabulary import CHARSMAP, MERGES, MODEL, PRE, ROLES, SCORES, TOKENS, TYPES
from soban.text.tokenizers.packing import PREPEND, REPLACE, SPLIT
from soban.text.tokenizers.rules import SPACE
from soban.text.tokenizers.settings import read_bytes
from soban.text.tokenizers.spm_file import BPE, UNIGRAM, PieceType, read_sentencepiece

LOWEST = -1e9  # of a piece to which nothing is merged
NFC = {"type": "NFC"}


def tokenizer_keys(folder: Path, config: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """tokenizer.ggml.* of the tokenizer in a folder, for a model with so many rows of an embedding.

    Raises UserError where there is none, or it works in a way that no key can tell.
    """
    entries = read_entries(folder, config)
    if entries is None:
        raise UserError(
            "{folder}: no tokenizer here (tokenizer.json or tokenizer.model)", folder=folder,
            hint="put the tokenizer files of the original model beside its weights, or leave it out: --weights-only",
        )  # fmt: skip
    if entries.kind.startswith("SentencePiece"):
        keys = _of_sentencepiece(folder / "tokenizer.model", entries, rows)
    else:
        keys = _of_json(folder, entries, rows)
    roles = {theirs: ours for ours, theirs in ROLES.items()}
    for name, content in entries.settings.names.items():
        if name in roles and content in entries.ids:
            keys[f"tokenizer.ggml.{roles[name]}_token_id"] = entries.ids[content]
    for role, index in (("bos", entries.bos_id), ("eos", entries.eos_id)):
        if index is not None:
            keys[f"tokenizer.ggml.{role}_token_id"] = index
    keys["tokenizer.ggml.add_bos_token"] = entries.bos_id is not None and entries.bos_id in entries.prefix
    keys["tokenizer.ggml.add_eos_token"] = entries.eos_id is not None and entries.eos_id in entries.suffix
    return keys


def llama2c_keys(pieces: Sequence[bytes], scores: Sequence[float], bos: int, eos: int) -> dict[str, Any]:
    """The same of a tokenizer.bin, whose pieces run.c merges by their scores."""
    tokens = [piece.decode(errors="replace").strip("\n").replace(" ", SPACE) for piece in pieces]
    kinds = {0: PieceType.UNKNOWN, bos: PieceType.CONTROL, eos: PieceType.CONTROL}
    types = [kinds.get(i, PieceType.BYTE if _is_byte(token) else PieceType.NORMAL) for i, token in enumerate(tokens)]
    ids = {"bos": bos, "eos": eos, "unknown": 0}
    return {
        **_listed("llama", tokens, types, len(tokens)), SCORES: np.array(scores, np.float32), PRE: "default",
        **{f"tokenizer.ggml.{name}_token_id": index for name, index in ids.items()},
        "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": False,
    }  # fmt: skip


def _listed(model: str, tokens: list[str], types: list[PieceType], rows: int) -> dict[str, Any]:
    """The tokens, as many as the embedding has rows."""
    left = range(len(tokens), rows)
    whole = [*types, *(PieceType.UNUSED for _ in left)]
    return {MODEL: model, TOKENS: [*tokens, *(f"[PAD{i}]" for i in left)], TYPES: np.array(whole, np.int32)}


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _tokens(entries: Entries, spaced: bool) -> tuple[list[str], list[PieceType]]:
    """Every id's text and type; an id without an entry is unused."""
    tokens, types = [f"[PAD{i}]" for i in range(entries.size)], [PieceType.UNUSED] * entries.size
    unknown = entries.settings.names.get("unk_token")
    for token, index in entries.ids.items():
        added = entries.added.get(index)
        kind = PieceType.BYTE if spaced and _is_byte(token) else PieceType.NORMAL
        if spaced and token == unknown:
            kind = PieceType.UNKNOWN
        elif added is not None:
            kind = PieceType.CONTROL if added.special else PieceType.USER_DEFINED
        blanks = spaced and kind is PieceType.USER_DEFINED
        tokens[index], types[index] = token.replace(SPACE, " ") if blanks else token, kind
    return tokens, types


def _of_json(folder: Path, entries: Entries, rows: int) -> dict[str, Any]:
    path = folder / entries.file
    if path.name == "tokenizer.json":
        model = json.loads(read_bytes(path).decode("utf-8-sig"))["model"]
    else:
        model = json.loads(gpt2_files.as_tokenizer_json(folder))["model"]
    parts, merges = entries.parts, [" ".join(p) if isinstance(p, list) else p for p in model.get("merges") or []]
    normalizer, decoder = parts.get("normalizer") or {}, parts.get("decoder") or {}
    steps = _steps(path, normalizer)
    if entries.kind == "BPE" and decoder.get("type") == "ByteLevel" and not steps:
        tokens, types = _tokens(entries, spaced=False)
        pre = _pre(path, parts, bool(model.get("ignore_merges")))
        return {**_listed("gpt2", tokens, types, rows), PRE: pre, MERGES: [m for m in merges if "#version" not in m]}
    if entries.kind == "BPE" and model.get("byte_fallback") and not model.get("ignore_merges"):
        prefix = _prefix(path, steps, parts.get("pre_tokenizer"))
        tokens, types = _tokens(entries, spaced=True)
        ranks: dict[str, float] = {}
        for rank, merge in enumerate(merges):
            ranks.setdefault(merge.replace(" ", "", 1), -float(rank + 1))
        scores = [ranks.get(t, LOWEST if len(t) > 1 and k is PieceType.NORMAL else 0.0)
                  for t, k in zip(tokens, types, strict=True)]  # fmt: skip
        left = [0.0] * (max(rows, len(tokens)) - len(tokens))
        return {
            **_listed("llama", tokens, types, rows), SCORES: np.array([*scores, *left], np.float32), PRE: "default",
            "tokenizer.ggml.add_space_prefix": prefix,
        }  # fmt: skip
    raise _untold(path)


def _steps(path: Path, normalizer: Mapping[str, Any]) -> list[Any]:
    """What becomes of a text before all else, but for the composing of letters, which a note tells of."""
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    if NFC in steps:
        messages.warn(
            "{path}: this tokenizer composes letters (NFC), and no key of a GGUF file tells so: decomposed text will "
            "have other tokens", path=path,
        )  # fmt: skip
    return [step for step in steps if step != NFC]


def _untold(path: Path) -> UserError:
    return UserError(
        "{path}: this tokenizer works in a way that no key of a GGUF file can tell", path=path,
        hint="leave it out: --weights-only",
    )  # fmt: skip


def _pre(path: Path, parts: Mapping[str, Any], whole_words: bool) -> str:
    """The name of the group that cuts texts as the pre-tokenizer does."""
    before = parts.get("pre_tokenizer") or {}
    expressions: list[str] = []
    for part in before.get("pretokenizers", [before]):
        match part:
            case {"type": "ByteLevel", "add_prefix_space": False, **rest}:
                expressions += [GPT2] if rest.get("use_regex", True) else []
            case {"type": "Digits", "individual_digits": True}:
                expressions.append(r"\p{N}")
            case {"type": "Split", "pattern": {"Regex": str(expression)}, "behavior": "Isolated", "invert": False}:
                expressions.append(expression)
            case _:
                raise _untold(path)
    for name, splits in SPLITS.items():
        if splits.expressions == tuple(expressions) and splits.whole_words == whole_words:
            return name
    raise _untold(path)


def _prefix(path: Path, steps: list[Any], pre_tokenizer: Any) -> bool:
    """Whether a blank is put before a text."""
    if pre_tokenizer and pre_tokenizer.get("type") == "Metaspace" and not steps:
        scheme = pre_tokenizer.get("prepend_scheme")
        if pre_tokenizer.get("replacement") == SPACE and scheme in ("always", "first", "never"):
            return bool(scheme != "never")
    elif pre_tokenizer in (None, SPLIT) and steps in ([REPLACE], [PREPEND, REPLACE], [REPLACE, PREPEND]):
        return len(steps) == 2
    raise _untold(path)


def _of_sentencepiece(path: Path, entries: Entries, rows: int) -> dict[str, Any]:
    model = read_sentencepiece(path)
    if model.model_type not in (BPE, UNIGRAM):
        raise _untold(path)
    tokens, types = _tokens(entries, spaced=True)
    for index, piece in enumerate(model.pieces):
        if piece.type is not PieceType.NORMAL:
            blanks = piece.type is PieceType.USER_DEFINED
            tokens[index], types[index] = piece.text.replace(SPACE, " ") if blanks else piece.text, piece.type
    scores = [piece.score for piece in model.pieces] + [0.0] * (max(rows, len(tokens)) - len(model.pieces))
    keys = {
        **_listed("llama" if model.model_type == BPE else "t5", tokens, types, rows),
        SCORES: np.array(scores, np.float32), PRE: "default",
        "tokenizer.ggml.add_space_prefix": model.add_dummy_prefix,
        "tokenizer.ggml.remove_extra_whitespaces": model.remove_extra_whitespaces,
    }  # fmt: skip
    if model.charsmap:
        keys[CHARSMAP] = np.frombuffer(model.charsmap, np.uint8)
    return keys
