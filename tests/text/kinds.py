"""Tiny tokenizer.json files of every kind that the tokenizers library knows, and texts with what they lack."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = ["the", "cat", "sat", "안녕", "여우", "ab", "abc", "aa", "hello"]
LETTERS = "abcehlost한국안녕여우."
LACKED = "zq쀍日本\u0301😀👩‍👩‍👧\x00¿é"  # none of them a piece


def added(index: int, content: str, **flags: bool) -> dict[str, Any]:
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"id": index, "content": content} | {name: flags.get(name, False) for name in names}


def state(model: dict[str, Any], *special: str, **parts: Any) -> dict[str, Any]:
    """A tokenizer.json; `special`: the pieces that are added tokens, too."""
    vocab = model["vocab"]
    pieces = list(vocab) if isinstance(vocab, dict) else [piece for piece, _ in vocab]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(pieces.index(content), content, special=True) for content in special],
        "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": model,
    } | parts  # fmt: skip


def numbered(pieces: list[str]) -> dict[str, int]:
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
WHITESPACE = {"type": "Whitespace"}
MODELS = ("BPE", "Unigram", "WordPiece", "WordLevel")


def bpe(dice: random.Random, **options: Any) -> dict[str, Any]:
    """A BPE model: `unk`, `bytes` ("all", "some", None), and the library's own options."""
    unk, given = options.pop("unk", "<unk>"), options.pop("bytes", None)
    prefix, suffix = options.get("continuing_subword_prefix") or "", options.get("end_of_word_suffix") or ""
    letters = [a + letter + b for letter in LETTERS + "▁" for a in {"", prefix} for b in {"", suffix}]
    pieces = [*(["<unk>"] if unk else []), "<s>", "</s>"]
    pieces += {"all": BYTES, "some": BYTES[:200], None: []}[given] + letters
    merges = []
    for _ in range(60):
        left, right = dice.choice(pieces[3:]), dice.choice(pieces[3:])
        joined = left + right[len(prefix) :] if right.startswith(prefix) else None
        if joined is None or left in BYTES or right in BYTES or (suffix and left.endswith(suffix)) or len(joined) > 8:
            continue
        pieces.append(joined)
        merges.append([left, right])
    return {
        "type": "BPE", "dropout": None, "unk_token": unk, "continuing_subword_prefix": prefix or None,
        "end_of_word_suffix": suffix or None, "fuse_unk": bool(options.get("fuse_unk")),
        "byte_fallback": bool(options.get("byte_fallback")), "ignore_merges": bool(options.get("ignore_merges")),
        "vocab": numbered(pieces), "merges": merges,
    }  # fmt: skip


def unigram(
    dice: random.Random, unk: int | None = 0, given: str | None = None, fallback: bool = False
) -> dict[str, Any]:
    pieces = ["<unk>", "<s>", "</s>", *{"all": BYTES, "some": BYTES[:200], None: []}[given], *"▁" + LETTERS]
    pieces += [*WORDS, *("▁" + word for word in WORDS)]
    vocab = [[piece, 0.0 if n < 3 else -float(dice.randrange(1, 30))] for n, piece in enumerate(dict.fromkeys(pieces))]
    return {"type": "Unigram", "unk_id": unk, "vocab": vocab, "byte_fallback": fallback}


def wordpiece(unk: str = "[UNK]") -> dict[str, Any]:
    pieces = ["[UNK]", "<s>", "</s>", *LETTERS, *("##" + letter for letter in LETTERS[:10]), *WORDS, "##at", "##llo"]
    return {
        "type": "WordPiece", "unk_token": unk, "continuing_subword_prefix": "##", "max_input_chars_per_word": 12,
        "vocab": numbered(pieces),
    }  # fmt: skip


def wordlevel(unk: str = "<unk>") -> dict[str, Any]:
    return {"type": "WordLevel", "unk_token": unk, "vocab": numbered(["<s>", "</s>", "<unk>", *WORDS, *LETTERS])}


def kinds(dice: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """A name and a tokenizer.json for every combination of what decides about unknown characters."""
    flags = (False, True)
    for unk, given, fallback, fuse, ignore in itertools.product(("<unk>", None), ("all", "some", None), *[flags] * 3):
        model = bpe(dice, unk=unk, bytes=given, byte_fallback=fallback, fuse_unk=fuse, ignore_merges=ignore)
        special = ("<unk>", "<s>", "</s>") if unk else ("<s>", "</s>")
        for name, pre in (("", None), (" metaspace", METASPACE), (" whitespace", WHITESPACE)):
            yield f"BPE {unk} {given} {fallback} {fuse} {ignore}{name}", state(model, *special, pre_tokenizer=pre)
    for prefix, suffix, fuse in itertools.product((None, "##"), (None, "</w>"), flags):
        model = bpe(dice, continuing_subword_prefix=prefix, end_of_word_suffix=suffix, fuse_unk=fuse)
        yield f"BPE {prefix} {suffix} {fuse}", state(model, "<unk>", "<s>", "</s>", pre_tokenizer=WHITESPACE)
    for given, fallback in itertools.product(("all", "some", None), flags):
        for named in ((), ("<unk>", "<s>", "</s>")):
            model = unigram(dice, given=given, fallback=fallback)
            for name, pre in (("", None), (" metaspace", METASPACE)):
                yield f"Unigram {given} {fallback} {named}{name}", state(model, *named, pre_tokenizer=pre)
    yield "Unigram without", state(unigram(dice, unk=None), "<s>", "</s>", pre_tokenizer=METASPACE)
    yield "Unigram elsewhere", state(unigram(dice, unk=7), "<s>", "</s>", pre_tokenizer=METASPACE)
    for unk in ("[UNK]", "[GONE]"):
        yield f"WordPiece {unk}", state(wordpiece(unk), "[UNK]", "<s>", "</s>", pre_tokenizer=WHITESPACE)
    for unk in ("<unk>", "[GONE]"):
        yield (
            f"WordLevel {unk}",
            state(wordlevel(unk), "<unk>", "<s>", "</s>", pre_tokenizer={"type": "WhitespaceSplit"}),
        )


def write(folder: Path, told: dict[str, Any], **settings: Any) -> Path:
    """A folder with this tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    config = {"bos_token": "<s>", "eos_token": "</s>", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def text(dice: random.Random) -> str:
    """Words of the vocabulary, its letters and what it lacks."""
    parts = [*WORDS, *LETTERS, " ", " ", "  ", "\n", "▁"]
    lacked = list(LACKED)
    return "".join(dice.choice(lacked if dice.random() < 0.3 else parts) for _ in range(dice.randrange(1, 12)))
