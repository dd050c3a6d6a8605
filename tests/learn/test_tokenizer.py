"""The tokenizer learnt from stories."""

import json
import unicodedata
from itertools import islice
from pathlib import Path

import pytest

from soban.learn.data.encoding import own
from soban.learn.sentencepiece_model import save_sentencepiece
from soban.learn.synthetic import stories
from soban.learn.tokenizer import PIECES, SPECIALS, Layout, save_tokenizer, train_tokenizer
from soban.text.tokenizers.llama2c import Llama2cTokenizer
from soban.text.tokenizers.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    texts = [story for language in ("en", "ko") for story in islice(stories(0, language), 400)]
    return train_tokenizer(texts, 1200)


@pytest.mark.parametrize(
    "text",
    [
        "Once upon a time, there was a fox.",
        "옛날 옛적에 토끼가 살았어요.",
        "뷁 꿻 각낡닭",
        "👩‍👩‍👧 🇰🇷 ☃️",
        "one\ntwo\n\nthree\ttabs  two   three spaces ",
        " starts with a space",
        "▁ and \u00a0 and \0",
        "",
    ],
)
def test_text_comes_back(tokenizer, text: str) -> None:  # type: ignore[no-untyped-def]
    ids = tokenizer.encode(text).ids
    assert ids[0] == 2
    expected = text.replace("▁", " ")  # ▁ is how a space is written inside
    assert tokenizer.decode(ids) == expected


def test_decomposed_hangul_is_read_as_the_same_syllables(tokenizer) -> None:  # type: ignore[no-untyped-def]
    text = "옛날 옛적에"
    assert tokenizer.encode(unicodedata.normalize("NFD", text)).ids == tokenizer.encode(text).ids


def test_no_token_crosses_from_one_word_to_the_next(tokenizer) -> None:  # type: ignore[no-untyped-def]
    assert not [token for token in tokenizer.get_vocab() if "▁" in token[1:] and set(token) != {"▁"}]


def test_cutting_text_into_words_first_changes_nothing(tokenizer) -> None:  # type: ignore[no-untyped-def]
    from tokenizers import Regex, Tokenizer, pre_tokenizers

    cutting = Tokenizer.from_str(tokenizer.to_str())
    cutting.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    for story in islice(stories(9, "en"), 100):
        assert tokenizer.encode(story).ids == cutting.encode(story).ids


def test_specials_stand_where_gemma_has_them(tokenizer) -> None:  # type: ignore[no-untyped-def]
    assert [tokenizer.token_to_id(token) for token in SPECIALS] == [0, 1, 2, 3]
    assert tokenizer.get_vocab_size() == 1200


def test_transformers_reads_the_saved_tokenizer_alike(tokenizer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    transformers = pytest.importorskip("transformers")
    save_tokenizer(tokenizer, tmp_path, 512)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("Once upon a time", "옛날 옛적에 곰이 살았습니다. 👋", "a\nb  c"):
        assert loaded(text)["input_ids"] == tokenizer.encode(text).ids
    assert loaded.eos_token_id == 1
    assert json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]["byte_fallback"]


CASES = [
    "Once upon a time, there was a fox.", "옛날 옛적에 토끼가 살았어요.", "뷁 꿻 각낡닭",
    "👩‍👩‍👧 🇰🇷 ☃️", "a\nb\tc  d ", " in front",
    "\x01\x02\x7f", "<s>old</s> <unk> <0x41>", "日本語 Привет ¿qué?", "aaaa" * 20, "",
]  # fmt: skip


@pytest.mark.parametrize("layout", ["llama", "gemma"])
def test_sentencepiece_finds_the_same_tokens_and_text(tmp_path: Path, layout: Layout) -> None:
    spm = pytest.importorskip("sentencepiece")
    texts = [story for language in ("en", "ko") for story in islice(stories(1, language), 200)]
    tokenizer = train_tokenizer(texts, 900, layout)
    save_sentencepiece(tokenizer, tmp_path / "tokenizer.model")
    judge = spm.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    plain = next(own(tokenizer).encode(["x"]))
    assert (judge.bos_id(), judge.eos_id(), judge.vocab_size()) == (plain[0], plain[-1], 900)
    unseen = [story for language in ("en", "ko") for story in islice(stories(2, language), 100)]
    for text, ids in zip(CASES + unseen, own(tokenizer).encode(CASES + unseen), strict=True):
        assert ids[1:-1].tolist() == judge.encode(text), text
        assert judge.decode(ids.tolist()) == text == tokenizer.decode(ids.tolist())


def test_llamas_layout_is_read_alike_by_soban_and_by_run_c(tmp_path: Path) -> None:
    texts = [story for language in ("en", "ko") for story in islice(stories(1, language), 200)]
    tokenizer = train_tokenizer(texts, 900, "llama")
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path, {})
    ordered = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    assert ordered[:4] == ["<unk>", "<s>", "</s>", "<0x00>"]
    pieces = [b"" if index < 3 else piece.replace("▁", " ").encode() for index, piece in enumerate(ordered)]
    run_c = Llama2cTokenizer(pieces, [-float(index) for index in range(len(pieces))])
    for text in (*CASES[:-1], *islice(stories(3, "ko"), 50)):
        ids = next(own(tokenizer).encode([text]))[:-1].tolist()
        assert loaded.decode(ids) == text
        assert loaded.encode(text) == ids == run_c.encode(text), text


def test_rare_characters_leave_room_for_words() -> None:
    texts = ["the fox and the river " * 20 + "".join(map(chr, range(0xAC00, 0xAC00 + 2000)))] * 2
    tokenizer = train_tokenizer(texts, 400)
    assert tokenizer.get_vocab_size() == 400
    assert "▁river" in tokenizer.get_vocab() and tokenizer.decode(tokenizer.encode("힣뷁").ids) == "힣뷁"
