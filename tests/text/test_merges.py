"""A tokenizer of GPT-2's two files against the one that transformers makes of them."""

import json
import random
from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers")

from soban.base.errors import UserError  # noqa: E402
from soban.text.tokenizers.entries import read_entries  # noqa: E402
from soban.text.tokenizers.tokenizer import load_tokenizer  # noqa: E402

TEXTS = ["", " ", "low lower lowest", "  two  blanks\n\nlines\t", "don't I'll we've 1234 3.14", "옛날 옛적에 호랑이가",
         "<|endoftext|>", "a<|endoftext|>b", "naïve — “quotes”", "\u200b😀"]  # fmt: skip


def files(folder: Path) -> Path:
    """A byte-level vocabulary with merges learnt from a few words."""
    from tokenizers import ByteLevelBPETokenizer

    learnt = ByteLevelBPETokenizer()
    words = ("low", "lower", "lowest", "newer", "wide", "wider", "don't", "I'll", "옛날", "호랑이", "1234", "quotes")
    dice = random.Random(0)
    corpus = [" ".join(dice.choices(words, k=12)) for _ in range(200)]
    learnt.train_from_iterator(corpus, vocab_size=360, special_tokens=["<|endoftext|>"], show_progress=False)
    learnt.save_model(str(folder))
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    return folder


def test_the_ids_and_texts_are_those_of_transformers(tmp_path: Path) -> None:
    judge = transformers.AutoTokenizer.from_pretrained(files(tmp_path))
    ours = load_tokenizer(tmp_path, {})
    assert ours.vocab_size == len(judge)
    for text in TEXTS:
        ids = judge.encode(text, add_special_tokens=False)
        assert ours.encode(text, bos=False, special=True) == ids, text
        assert ours.decode(ids) == judge.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert ours.encode("a<|endoftext|>b", bos=False) != ours.encode("a<|endoftext|>b", bos=False, special=True)
    entries = read_entries(tmp_path, {})
    assert entries is not None and entries.size == len(judge) and entries.ids["<|endoftext|>"] == 0


def test_a_line_that_is_no_pair_is_named(tmp_path: Path) -> None:
    files(tmp_path)
    with (tmp_path / "merges.txt").open("a", encoding="utf-8") as file:
        file.write("three of them\n")
    with pytest.raises(UserError, match=r"three of them.* is no pair of pieces"):
        load_tokenizer(tmp_path, {})
