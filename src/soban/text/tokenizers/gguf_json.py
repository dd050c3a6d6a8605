"""A GGUF file's vocabulary as the files that Hugging Face's tools read: tokenizer.json, tokenizer_config.json."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from soban.text.tokenizers.gguf_vocabulary import SCORES, GgufVocabulary
from soban.text.tokenizers.llama2c_json import merges
from soban.text.tokenizers.packing import PREPEND, REPLACE
from soban.text.tokenizers.rules import SPACE
from soban.text.tokenizers.spm_file import PieceType

NEWLINES = r"[^\n]+|[\n]+"  # Gemma 4: no entry holds a line break beside anything else
FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
UNSPACED = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}


def tokenizer_files(vocabulary: GgufVocabulary, context: int) -> dict[str, Any]:
    """tokenizer.json and tokenizer_config.json, by their names."""
    settings = vocabulary.settings
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "add_bos_token": settings.add_bos,
        "add_eos_token": settings.add_eos,
        "clean_up_tokenization_spaces": False,
        **settings.names,
    }
    return {"tokenizer.json": library_form(vocabulary), "tokenizer_config.json": config}


def library_form(vocabulary: GgufVocabulary) -> dict[str, Any]:
    """The object in a tokenizer.json."""
    tokens = [_spelled(vocabulary, index) for index in range(len(vocabulary.tokens))]
    ids: dict[str, int] = {}
    for index, token in enumerate(tokens):
        ids.setdefault(token, index)
    added = [
        {"id": index, "content": tokens[index], **FLAGS, "special": token.special}
        for index, token in sorted(vocabulary.settings.added.items()) if ids[tokens[index]] == index
    ]  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": None, "post_processor": _frame(vocabulary), **FORMS[str(vocabulary.model)](vocabulary, ids),
    }  # fmt: skip


def _spelled(vocabulary: GgufVocabulary, index: int) -> str:
    """A token as a tokenizer.json spells it: in SentencePiece's vocabularies with the sign for a blank."""
    token = vocabulary.tokens[index]
    blanks = vocabulary.model == "llama" and vocabulary.types[index] == PieceType.USER_DEFINED
    return token.replace(" ", SPACE) if blanks else token


def _frame(vocabulary: GgufVocabulary) -> dict[str, Any] | None:
    """What stands before and after a text."""
    settings, ids, tokens = vocabulary.settings, vocabulary.ids, vocabulary.tokens
    parts: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    special = {}
    for role, adds, place in (("bos", settings.add_bos, 0), ("eos", settings.add_eos, len(parts) + 1)):
        if adds and role in ids:
            token = tokens[ids[role]]
            parts.insert(place, {"SpecialToken": {"id": token, "type_id": 0}})
            special[token] = {"id": token, "ids": [ids[role]], "tokens": [token]}
    if not special:
        return None
    return {"type": "TemplateProcessing", "single": parts, "pair": parts, "special_tokens": special}


def _byte_level(vocabulary: GgufVocabulary, ids: Mapping[str, int]) -> dict[str, Any]:
    splits = vocabulary.splits
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*map(_split, splits.expressions), level]},
        "decoder": level,
        "model": {"type": "BPE", "ignore_merges": splits.whole_words, "vocab": ids, "merges": vocabulary.merges()},
    }


def _gemma4(vocabulary: GgufVocabulary, ids: Mapping[str, int]) -> dict[str, Any]:
    return {
        "normalizer": REPLACE,
        "pre_tokenizer": _split(NEWLINES),
        "decoder": {"type": "Sequence", "decoders": [UNSPACED, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {**_fallback(vocabulary), "vocab": ids, "merges": vocabulary.merges()},
    }


def _llama(vocabulary: GgufVocabulary, ids: Mapping[str, int]) -> dict[str, Any]:
    """SentencePiece's merging by scores as a list of merges, the best first."""
    prefix = vocabulary.flag("add_space_prefix", True)
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    usual = (PieceType.NORMAL, PieceType.UNUSED, PieceType.USER_DEFINED)
    usable = {token: i for token, i in ids.items() if vocabulary.types[i] in usual}
    scores = vocabulary.numbers(SCORES) or [0.0] * len(vocabulary.tokens)
    return {
        "normalizer": {"type": "Sequence", "normalizers": [PREPEND, REPLACE]} if prefix else REPLACE,
        "decoder": {"type": "Sequence", "decoders": [UNSPACED, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]},
        "model": {**_fallback(vocabulary), "vocab": ids, "merges": [list(pair) for pair in merges(usable, scores)]},
    }


def _t5(vocabulary: GgufVocabulary, ids: Mapping[str, int]) -> dict[str, Any]:
    charsmap = vocabulary.charsmap()
    steps: list[dict[str, Any]] = []
    if charsmap:
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()})
    if vocabulary.flag("remove_extra_whitespaces", True):
        steps += [
            {"type": "Strip", "strip_left": True, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ]
    scheme = "always" if vocabulary.flag("add_space_prefix", True) else "never"
    space = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": True}
    scores = vocabulary.numbers(SCORES) or [0.0] * len(ids)
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
        "pre_tokenizer": space,
        "decoder": space,
        "model": {
            "type": "Unigram", "unk_id": vocabulary.ids.get("unknown", 0), "byte_fallback": False,
            "vocab": [[token, score] for token, score in zip(vocabulary.tokens, scores, strict=True)],
        },
    }  # fmt: skip


def _fallback(vocabulary: GgufVocabulary) -> dict[str, Any]:
    unknown = vocabulary.ids.get("unknown")
    token = None if unknown is None else vocabulary.tokens[unknown]
    return {"type": "BPE", "unk_token": token, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False}


def _split(expression: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


FORMS: Mapping[str, Callable[[GgufVocabulary, Mapping[str, int]], dict[str, Any]]] = {
    "gpt2": _byte_level, "gemma4": _gemma4, "llama": _llama, "t5": _t5,
}  # fmt: skip
