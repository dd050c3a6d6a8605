"""From files to batches."""

import json
from pathlib import Path

import numpy as np
import pytest

from soban.errors import UserError
from soban.learn import corpus
from soban.learn.tokenizer import train_tokenizer

TEXT = "옛날 옛적에\n토끼가 살았다.\n\nThe end.\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_a_text_file_is_read_in_the_encodings_that_koreans_meet(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "이야기.txt"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode(encoding))
    assert corpus.read_documents([str(path)]) == ["옛날 옛적에\n토끼가 살았다.", "The end."]


def test_end_of_text_marks_part_documents_too(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one<|endoftext|>\ntwo\n<|endoftext|>\n", encoding="utf-8")
    assert corpus.read_documents([str(path)]) == ["one", "two"]


def test_json_lines_give_their_text_fields_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("a\n\nb", "\u2028c")), encoding="utf-8")
    assert corpus.read_documents([str(path)]) == ["a\n\nb", "c"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.txt", b"", "there is no text"),
        ("blank.txt", b" \n\n \n", "there is no text"),
        ("binary.txt", b"\x00\x01\x02\xff\xfe", "not text in UTF-8, UTF-16 or cp949"),
        ("broken.txt", b"\xff\xfea", "not text in UTF-8, UTF-16 or cp949"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 3}\n', "line 2"),
        ("b.jsonl", b'{"txt": "x"}\n', "line 1"),
        ("c.jsonl", b"not json\n", "line 1"),
    ],
)
def test_bad_data_gives_one_line_that_names_the_file(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        corpus.read_documents([str(tmp_path / name)])
    text = str(caught.value)
    assert name in text and said in text and "\n" not in text


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=r"nowhere\.txt: cannot be read"):
        corpus.read_documents(["nowhere.txt"])


@pytest.fixture(scope="module")
def encoded():  # type: ignore[no-untyped-def]
    documents = corpus.built_in(0, 300)
    tokenizer = train_tokenizer(documents, 600)
    return corpus.encode(tokenizer, documents, 100, 1)


def test_long_documents_are_cut_to_the_context_and_lose_nothing(encoded: corpus.Corpus) -> None:
    lengths = np.diff(encoded.starts)
    assert lengths.max() == 101  # <bos>, and 100 tokens to predict
    pieces = [encoded.document(index) for index in range(len(encoded))]
    assert all(piece[0] == 2 for piece in pieces)
    assert sum(piece[-1] == 1 for piece in pieces) == 300


def test_batches_are_repeatable_and_hold_every_document_once_an_epoch(encoded: corpus.Corpus) -> None:
    size = 1000
    seen: list[bytes] = []
    for batch, again in zip(corpus.batches(encoded, 7, size, 0), corpus.batches(encoded, 7, size, 0), strict=False):
        assert (batch == again).all()
        assert batch.size <= size
        seen += [np.trim_zeros(row, "b").tobytes() for row in batch]
        if len(seen) >= len(encoded):
            break
    assert sorted(seen) == sorted(encoded.document(index).tobytes() for index in range(len(encoded)))


def test_little_of_a_batch_is_padding_and_its_length_is_one_of_few(encoded: corpus.Corpus) -> None:
    batches = [batch for batch, _ in zip(corpus.batches(encoded, 0, 4000, 0), range(20), strict=False)]
    padding = sum((batch == 0).sum() for batch in batches) / sum(batch.size for batch in batches)
    mean = np.diff(encoded.starts).mean()
    # Half a step of lengths for rounding up, and as much again for neighbours that differ
    assert padding < corpus.LENGTHS / mean
    assert {batch.shape[1] % corpus.LENGTHS for batch in batches} == {1}
