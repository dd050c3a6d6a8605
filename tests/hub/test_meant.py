"""Which words look like a model's name, and which names are near one that no model has."""

from pathlib import Path

import pytest

from soban.base.errors import UserError
from soban.hub import meant, names

# The last is what is told to be near; "" where nothing is.
NAMES = {
    "gemm2": "gemma2", "gema": "gemma", "gemm": "gemma", "gemma4": "gemma2", "gemma-2": "gemma2", "gemma2-2b": "gemma2",
    "lama": "llama3", "llama": "llama3", "lalma": "llama3", "Llama": "llama3", "llamma": "llama3", "qwn": "qwen3",
    "qwen": "qwen3", "qwen3.5": "qwen3", "mistrl": "mistral", "smolm": "smollm2", "exone": "exaone3.5", "phi": "phi3",
    "gpt": "gpt2", "gpt4": "gpt2", "viucna": "vicuna", "storie": "stories", "stories15": "stories15m",
    "gemma:": "gemma:2b", "llama3.2:2b": "llama3.2:3b", "rand-lama": "rand-llama", "tini-model": "tiny-model",
    "tinymodel": "tiny-model", "tiny_model": "tiny-model", "bigg.bin": "big.bin", "deep/lower-one": "deep/lowest-one",
    "kanan-nano": "someone/kanana-nano", "someone/kanana-nao": "someone/kanana-nano",
    "x:y": "", "any-words": "", "any_words": "",
    "model2": "", "B2B": "", "and/or": "", "model.pt": "", "nothing.gguf": "",
    "C:\\models\\x": "", "./x": "", "~/x": "", "https://example.org": "", "owner/name": "", "x@y": "",
}  # fmt: skip
PROMPTS = [
    "hello", "Hello", "hi", "Hi!", "hey", "yes", "no", "thanks", "thx", "ok", "bye", "Why?", "what",
    "help", "story", "Story:", "stories!", "once", "Once...", "dragon", "cat", "dog", "Tell", "tell",
    "me.", "ping", "test", "Test.", "rain", "queen", "open", "when", "get", "got", "that", "table",
    "stable", "small", "store-bought?", "1", "12", "1984", "3.14", "10:30", "2+2", "2+2=?", "(a)",
    "don't", "I'm", "hi:)", "TL;DR:", "Summary:", "Summarise:", "Q:", "wow!!", "<3", "...", "?", "\"",
    "Emma", "Phil-harmonic?", "Owen", "mister", "series", "scores", "victories", "mysteries",
    "theories", "suitable", "koala", "polyglot", "gem", "boo", "sorry", "please", "continue", "Mum",
    "안녕", "안녕!", "젬마2", "이야기", "안녕하세요?", "1+1은?", "café", "こんにちは", "сказка2", "hello there",
    "gemm2 hello", "what is 3/4 of 8", "Once upon a time", "", " ", "gemma2 2b",
]  # fmt: skip


@pytest.fixture(autouse=True)
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models in the current folder and in the hub's cache."""
    for name in ("rand-llama", "tiny-model", "deep/lowest-one", "hello there"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").touch()
    (tmp_path / "big.bin").touch()
    (tmp_path / "hallo").mkdir()  # which is no model
    (tmp_path / "hub" / "models--someone--kanana-nano").mkdir(parents=True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def test_a_word_that_is_mistyped_looks_like_a_name_and_what_is_near_is_told() -> None:
    for word, near in NAMES.items():
        assert meant.looks_like_name(word), word
        found = meant.near(word)
        assert len(found) <= 3 and (near in found if near else not found), (word, found)


def test_words_of_a_language_are_prompts() -> None:
    words = [word for word in PROMPTS if meant.looks_like_name(word)]
    assert not words


def test_every_name_of_the_catalogue_with_one_slip_looks_like_a_name() -> None:
    """A letter left out, doubled, or changed with its neighbour, anywhere but at the beginning."""
    for name in names.spellings():
        for place in range(1, len(name) - 1):
            slips = {
                name[:place] + name[place + 1 :], name[:place] + name[place] + name[place:],
                name[:place] + name[place + 1] + name[place] + name[place + 2 :],
            }  # fmt: skip
            for word in slips - set(names.spellings()):
                short = len(name.rstrip("0123456789.-")) <= 3 and word.isalpha()
                assert short or meant.looks_like_name(word), word


def test_where_only_a_model_can_be_meant_every_other_word_is_an_error() -> None:
    told = {
        "gema2": r"no model gema2; did you mean gemma2\?", "hello": "no model hello; soban list --catalogue",
        "what is this": "no model what is this", "rand-lama": r"no model rand-lama; did you mean rand-llama\?",
        "bigg.bin": r"bigg.bin: no such file or folder; did you mean big.bin\?", " ": "the model's name is empty",
        "no.bin": "no.bin: no such file or folder; check the spelling",
    }  # fmt: skip
    for word, line in told.items():
        with pytest.raises(UserError, match=line):
            meant.require(word)
    assert meant.require("gemma2:2b").id == "google/gemma-2-2b-it"


def test_what_is_told_of_a_strangers_word_obeys_no_terminal() -> None:
    for word in ("a1\x1b[31m", "x" * 500 + "1", "\u202e:x"):
        assert str(meant.no_prompt(word)).isprintable() and len(str(meant.unknown(word))) < 200
