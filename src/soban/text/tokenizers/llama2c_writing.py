"""A model's own tokenizer as llama2.c's tokenizer.bin: pieces and scores with which run.c merges to the same ids."""

import random
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from soban import messages
from soban.base.errors import UserError
from soban.text.tokenizers.llama2c import BOS, EOS, FIRST_BYTE, Llama2cTokenizer
from soban.text.tokenizers.packing import PREPEND, REPLACE, SPLIT
from soban.text.tokenizers.rules import SPACE
from soban.text.tokenizers.settings import parse_json_object, read_bytes, read_settings
from soban.text.tokenizers.spm_file import BPE, PieceType, read_sentencepiece
from soban.text.tokenizers.tokenizer import Tokenizer, load_tokenizer

NEVER = -1e30  # a score with which run.c merges nothing into a piece
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
UNICODE_FORMS = ("NFC", "NFD", "NFKC", "NFKD")
LINES, PIECES_IN_LINE = 300, 10  # made up, to compare two tokenizers


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer's pieces, spaces written as ▁, and the scores of those that merging or the file itself gives one."""

    path: Path
    texts: dict[int, str]
    scores: dict[int, float]
    added: dict[int, str]  # tokens that are found in a text before any merging


def llama2c_pieces(folder: Path, config: Mapping[str, Any]) -> tuple[list[bytes], list[float]]:
    """Pieces and scores of a tokenizer.bin for the tokenizer in a model's folder, one for each row of the embedding.

    Raises UserError for what run.c does otherwise whatever the scores are: another BOS, no dummy space, another kind of
    tokenizer. What may differ seldom is tried, and told in a note.
    """
    tokenizer = load_tokenizer(folder, config)
    path = folder / "tokenizer.json"
    vocabulary = _from_json(path) if path.is_file() else _from_sentencepiece(folder / "tokenizer.model")
    declared = {index: token.content for index, token in read_settings(folder, config).added.items()}
    added = declared | vocabulary.added
    vocabulary = replace(vocabulary, texts=added | vocabulary.texts)
    _check_ids(vocabulary, tokenizer, config["vocab_size"])
    pieces, scores = _listed(vocabulary, config["vocab_size"])
    if lost := [token for index, token in sorted(added.items()) if index > EOS]:
        messages.warn(
            "{path}: {count} added tokens, such as {token}, are plain text for llama2.c",
            path=vocabulary.path, count=len(lost), token=lost[0],
        )  # fmt: skip
    compare(vocabulary.path, tokenizer, Llama2cTokenizer(pieces, scores))
    return pieces, scores


def tokenizer_bin(pieces: Sequence[bytes], scores: Sequence[float]) -> bytes:
    """The bytes of a tokenizer.bin."""
    entries = [struct.pack("<fi", score, len(piece)) + piece for piece, score in zip(pieces, scores, strict=True)]
    return struct.pack("<i", max(map(len, pieces))) + b"".join(entries)


def _from_json(path: Path) -> Vocabulary:
    """The pieces of a tokenizer.json; the earlier a merge, the higher the score of what it makes."""
    data = parse_json_object(path, read_bytes(path))
    model = data["model"]
    _check_pipeline(path, data)
    ids: dict[str, int] = model["vocab"]
    ranks: dict[int, int] = {}
    for rank, pair in enumerate(model["merges"]):
        joined = "".join(pair) if isinstance(pair, list) else pair.replace(" ", "", 1)
        ranks.setdefault(ids[joined], rank)
    order = list(ranks)
    if order and order == sorted(order):
        # numbered in this order: scores that fall with the id are those that SentencePiece would give
        single = [index for piece, index in ids.items() if len(piece) == 1 and index > order[0]]
        scores = {index: -float(index - order[0]) for index in (*order, *single)}
    else:
        scores = {index: -float(rank) for index, rank in ranks.items()}
    added = {token["id"]: token["content"] for token in data.get("added_tokens") or []}
    return Vocabulary(path, {index: piece for piece, index in ids.items()}, scores, added)


def _check_pipeline(path: Path, data: Mapping[str, Any]) -> None:
    """Raise UserError for a step that run.c does not do; it puts a space before the text and merges, no more."""
    model = data["model"]
    if model.get("type") != "BPE":
        raise _no_place(path, "model", model.get("type"))
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise _no_place(path, key, model[key])
    normalizer, splitter = data.get("normalizer") or {}, data.get("pre_tokenizer") or {}
    steps = normalizer["normalizers"] if normalizer.get("type") == "Sequence" else [normalizer]
    for step in steps:
        if step.get("type") in UNICODE_FORMS:
            messages.warn("{path}: llama2.c does not put text into the form {form} first", path=path, form=step["type"])
        elif step not in ({}, PREPEND, REPLACE):
            raise _no_place(path, "normalizer", step.get("type"))
    metaspace = splitter.get("type") == "Metaspace"
    if splitter not in ({}, SPLIT) and not metaspace:
        raise _no_place(path, "pre_tokenizer", splitter.get("type"))
    if PREPEND not in steps and not (metaspace and splitter.get("prepend_scheme", "always") != "never"):
        raise UserError(
            "{path}: no space is put before a text, and llama2.c always puts one", path=path,
            hint="--weights-only writes the .bin alone; soban runs the model as it is",
        )  # fmt: skip


def _no_place(path: Path, part: str, value: object) -> UserError:
    return UserError(
        "{path}: the {part} {value} has no place in a tokenizer.bin", path=path, part=part, value=value,
        hint="--weights-only writes the .bin alone; soban runs the model as it is",
    )  # fmt: skip


def _from_sentencepiece(path: Path) -> Vocabulary:
    """The pieces of a tokenizer.model, with its own scores."""
    model = read_sentencepiece(path)
    if model.model_type != BPE:
        raise _no_place(path, "model", "Unigram / Word / Char")
    if not model.add_dummy_prefix:
        raise UserError(
            "{path}: no space is put before a text, and llama2.c always puts one", path=path,
            hint="--weights-only writes the .bin alone; soban runs the model as it is",
        )  # fmt: skip
    scores = {i: piece.score for i, piece in enumerate(model.pieces) if piece.type is not PieceType.UNUSED}
    marks = (PieceType.CONTROL, PieceType.USER_DEFINED)
    added = {i: piece.text for i, piece in enumerate(model.pieces) if piece.type in marks}
    return Vocabulary(path, {i: piece.text for i, piece in enumerate(model.pieces)}, scores, added)


def _check_ids(vocabulary: Vocabulary, tokenizer: Tokenizer, rows: int) -> None:
    """Raise UserError where the tokens that run.c knows by their ids have others."""
    if tokenizer.bos_id != BOS or tokenizer.encode("a")[0] != BOS:
        raise UserError(
            "{path}: texts begin with token {found}, and llama2.c begins them with token {wanted}",
            path=vocabulary.path, found=tokenizer.encode("a")[0], wanted=BOS,
            hint="--weights-only writes the .bin alone; soban runs the model as it is",
        )  # fmt: skip
    if other := sorted(set(tokenizer.eos_ids) - {BOS, EOS}):
        raise UserError(
            "{path}: token {found} ends a text, and in llama2.c tokens {bos} and {eos} do",
            path=vocabulary.path, found=other[0], bos=BOS, eos=EOS,
            hint="--weights-only writes the .bin alone; soban runs the model as it is",
        )  # fmt: skip
    if rows < FIRST_BYTE + 256 or SPACE not in vocabulary.texts.values():
        raise UserError(
            "{path}: llama2.c needs at least {least} tokens, one of them a space; this has {size}",
            path=vocabulary.path, least=FIRST_BYTE + 256, size=rows,
            hint="--weights-only writes the .bin alone; soban runs the model as it is",
        )  # fmt: skip
    if max(vocabulary.texts) >= rows:
        raise UserError(
            "{path}: the tokenizer has {tokens} entries, the model's embedding only {rows}",
            path=vocabulary.path, tokens=max(vocabulary.texts) + 1, rows=rows,
            hint="take the tokenizer that belongs to the model",
        )  # fmt: skip
    if [vocabulary.texts.get(FIRST_BYTE + byte) for byte in range(256)] != list(BYTES):
        messages.warn(
            "{path}: the bytes are not tokens {first} to {last}, where llama2.c looks for them: it reads characters"
            " that are not in the vocabulary as other tokens",
            path=vocabulary.path, first=FIRST_BYTE, last=FIRST_BYTE + 255,
        )  # fmt: skip


def _listed(vocabulary: Vocabulary, rows: int) -> tuple[list[bytes], list[float]]:
    """A piece and its score for each row; rows without a token get a text that nothing leads to."""
    texts = [vocabulary.texts.get(i, f"<unused{i}>").replace(SPACE, " ") for i in range(rows)]
    for index in (BOS, EOS):
        texts[index] = f"\n{texts[index]}\n"  # as llama2.c writes them, so that no merge leads there
    ids = {text: index for index, text in enumerate(texts)}
    if len(ids) < rows:
        twice = next(index for index, text in enumerate(texts) if ids[text] != index)
        raise UserError(
            "{path}: tokens {first} and {second} are both spelled {text}, which llama2.c cannot tell apart",
            path=vocabulary.path, first=twice, second=ids[texts[twice]], text=repr(texts[twice]),
            hint="--weights-only writes the .bin alone; soban runs the model as it is",
        )  # fmt: skip

    def score(index: int) -> float:
        text = texts[index]
        if index in vocabulary.scores:
            return vocabulary.scores[index]
        reachable = any(text[:place] in ids and text[place:] in ids for place in range(1, len(text)))
        return NEVER if reachable else 0.0

    return [text.encode() for text in texts], [score(index) for index in range(rows)]


def compare(path: Path, tokenizer: Tokenizer, llama2c: Llama2cTokenizer) -> None:
    """A note where two tokenizers read some of the lines differently that are made of the vocabulary."""
    lines = made_up(llama2c)
    differing = [line for line in lines if tokenizer.encode(line) != llama2c.encode(line)]
    if differing:
        messages.warn(
            "{path}: of {count} made-up lines, {differing} become other tokens in llama2.c, such as {line}",
            path=path, count=len(lines), differing=len(differing), line=repr(differing[0]),
        )  # fmt: skip


def made_up(llama2c: Llama2cTokenizer) -> list[str]:
    """Lines in which pieces that merging may lead to follow each other at random."""
    chance = random.Random(1)
    usable = [text for text in llama2c.mergeable() if "<" not in text]
    return ["".join(chance.choices(usable, k=PIECES_IN_LINE)) for _ in range(LINES)] if usable else []
