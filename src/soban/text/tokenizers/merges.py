"""GPT-2's own files, vocab.json and merges.txt, as the tokenizer.json that transformers makes of them."""

import json
from pathlib import Path

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.text.tokenizers.settings import read_bytes, read_json

FILES = ("vocab.json", "merges.txt")
END = "<|endoftext|>"  # the only token with a role that these files may name


def are_there(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def as_tokenizer_json(folder: Path) -> bytes:
    """The contents of a tokenizer.json: byte-level BPE with the two files' entries and merges.

    Raises UserError for what is none.
    """
    vocabulary, merges = read_json(folder / FILES[0]), _merges(folder / FILES[1])
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": vocabulary[END], "content": END, **flags, "special": True}] if END in vocabulary else []
    value = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": level, "post_processor": {**level, "trim_offsets": False}, "decoder": level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    }  # fmt: skip
    return json.dumps(value).encode()


def _merges(path: Path) -> list[str]:
    """The pairs of pieces that join, each line one, the first of them first."""
    try:
        lines = read_bytes(path).decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise UserError("{path}: not UTF-8 text", path=path, hint="fetch it again") from None
    pairs = [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]
    if wrong := next((pair for pair in pairs if len(pair.split(" ")) != 2), None):
        raise UserError(
            "{path}: {line} is no pair of pieces", path=path, line=quoted(wrong), hint="fetch it again"
        )  # fmt: skip
    return pairs
