"""llama2.c's tokenizer.bin is encoded as run.c encodes it."""

import json
import random
import struct
import time
from pathlib import Path

import pytest

from soban.base.errors import UserError
from soban.text.tokenizers.llama2c import load_llama2c_tokenizer


def run_c(pieces: list[bytes], scores: list[float], text: str) -> list[int]:
    """run.c's encode(), step by step and quadratic, as the judge."""
    ids = {}
    for index, piece in enumerate(pieces):
        ids.setdefault(piece, index)
    tokens = [ids[b" "]] if text else []
    for character in text:
        data = character.encode()
        tokens += [ids[data]] if data in ids else [byte + 3 for byte in data]
    while True:
        best_score, best_index, best_id = -1e10, -1, -1
        for i in range(len(tokens) - 1):
            found = ids.get(pieces[tokens[i]] + pieces[tokens[i + 1]])
            if found is not None and scores[found] > best_score:
                best_score, best_index, best_id = scores[found], i, found
        if best_index < 0:
            return tokens
        tokens[best_index : best_index + 2] = [best_id]


def read(path: Path) -> tuple[list[bytes], list[float]]:
    data, position, pieces, scores = path.read_bytes(), 4, [], []
    while position < len(data):
        score, length = struct.unpack_from("<fi", data, position)
        pieces.append(data[position + 8 : position + 8 + length])
        scores.append(score)
        position += 8 + length
    return pieces, scores


def write(path: Path, pieces: list[bytes], scores: list[float]) -> Path:
    parts = [struct.pack("<fi", score, len(piece)) + piece for piece, score in zip(pieces, scores, strict=True)]
    path.write_bytes(struct.pack("<i", max(map(len, pieces))) + b"".join(parts))
    return path


BASE = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(f"<0x{byte:02X}>".encode() for byte in range(256))]


def test_the_prompt_ids_of_run_c(fixtures: Path) -> None:
    folder = fixtures / "models" / "stories260K"
    tokenizer = load_llama2c_tokenizer(folder / "tok512.bin", 512)
    for case in json.loads((folder / "greedy.json").read_text(encoding="utf-8"))["cases"]:
        ids = tokenizer.encode(case["prompt"])
        assert case["input_token_ids_fed"][: len(ids)] == ids


def test_random_texts_and_vocabularies_with_ties_give_the_ids_of_run_c(
    fixtures: Path, tmp_path: Path, strings: list[str]
) -> None:
    path = fixtures / "models" / "stories260K" / "tok512.bin"
    tokenizer = load_llama2c_tokenizer(path, 512)
    for text in strings:
        assert tokenizer.encode(text, bos=False) == run_c(*read(path), text), text
    chance = random.Random(3)
    for _ in range(20):
        words = {"".join(chance.choices("ab ", k=chance.randrange(2, 6))).encode() for _ in range(40)}
        pieces = [*BASE, b" ", b"a", b"b", *sorted(words)]
        scores = [0.0] * 262 + [float(chance.randrange(4)) for _ in words]
        made = load_llama2c_tokenizer(write(tmp_path / "t.bin", pieces, scores), len(pieces))
        for _ in range(30):
            text = "".join(chance.choices("abc ", k=chance.randrange(30)))
            assert made.encode(text, bos=False) == run_c(pieces, scores, text), (text, words)


def test_tokenizer_bin_gives_the_ids_of_the_tokenizer_model_that_it_was_made_of(
    fixtures: Path, strings: list[str]
) -> None:
    spm = pytest.importorskip("sentencepiece")
    judge = spm.SentencePieceProcessor()
    judge.Load(str(fixtures / "tokenizers" / "tokenizer.model"))
    tokenizer = load_llama2c_tokenizer(fixtures / "tokenizers" / "tokenizer.bin", 32000)
    for text in strings:
        if "▁" in text:  # which llama2.c does not take for a space
            continue
        ids = judge.encode(text)
        assert tokenizer.encode(text, bos=False) == ids, text
        assert tokenizer.decode([1, *ids]) == judge.decode(ids), text


def test_a_megabyte_is_encoded_in_seconds(fixtures: Path) -> None:
    tokenizer = load_llama2c_tokenizer(fixtures / "models" / "stories260K" / "tok512.bin", 512)
    story = (fixtures / "text" / "tinystories_sample.txt").read_text(encoding="utf-8")
    started = time.thread_time()
    assert tokenizer.decode(tokenizer.encode(story)) == story
    assert tokenizer.decode(tokenizer.encode("a" * 200_000)) == "a" * 200_000
    assert time.thread_time() - started < 10


def test_the_space_after_bos_is_dropped_and_no_other(fixtures: Path) -> None:
    tokenizer = load_llama2c_tokenizer(fixtures / "tokenizers" / "tokenizer.bin", 32000)
    ids = tokenizer.encode("Once upon")
    assert ids[0] == tokenizer.bos_id == 1 and tokenizer.eos_ids == (2,)
    assert tokenizer.decode(ids) == "Once upon"
    stream = tokenizer.stream(after=ids[:2])
    assert "".join(map(stream.feed, ids[2:])) + stream.finish() == " upon"
    assert tokenizer.token_bytes(1) == b"" and tokenizer.token_bytes(3) == b"\0" and tokenizer.token_bytes(-1) == b""
    assert tokenizer.encode("<s>")[1:] != [1]
    assert tokenizer.encode("") == [1]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "empty"),
        (b"\x05\0\0", "whole tokens"),
        (struct.pack("<ifi", 5, 0.0, 2**31 - 1), "promises"),
        (struct.pack("<ifi", 5, 0.0, -1), "promises"),
        (struct.pack("<ifi", 5, float("nan"), 1) + b"a", "not a number"),
        (struct.pack("<ifi", 5, 0.0, 1) + b"a", "holds 1 whole"),
    ],
)
def test_a_broken_tokenizer_bin_is_refused(tmp_path: Path, data: bytes, complaint: str) -> None:
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(data)
    with pytest.raises(UserError, match=complaint):
        load_llama2c_tokenizer(path, 300)


def test_a_tokenizer_of_another_model_is_refused(fixtures: Path, tmp_path: Path) -> None:
    path = fixtures / "models" / "stories260K" / "tok512.bin"
    for size in (400, 32000):
        with pytest.raises(UserError, match="vocabulary"):
            load_llama2c_tokenizer(path, size)
    with pytest.raises(UserError, match="no such"):
        load_llama2c_tokenizer(tmp_path / "missing.bin", 512)
    data = path.read_bytes()
    for end in range(0, len(data), 97):
        (tmp_path / "cut.bin").write_bytes(data[:end])
        with pytest.raises(UserError):
            load_llama2c_tokenizer(tmp_path / "cut.bin", 512)
