"""The tokenizers library, where texts to learn from are given to it: whatever it raises is told in one line."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.learn.data import encoding, vocabulary
from soban.learn.data.chats import writer_in
from soban.learn.tokenizer import save_tokenizer, train_tokenizer
from soban.learn.training import samples

TEXTS = [f"Fox {number} found a shell by the river." for number in range(40)]


class Panic(BaseException):
    """As the library's own is, no Exception."""


class Broken:
    """A tokenizer each of whose methods panics."""

    def __getattr__(self, name: str) -> Any:
        def call(*_: object, **__: object) -> None:
            raise Panic("index out of\nbounds")

        return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tokenizer(train_tokenizer(TEXTS, 300, "llama"), tmp_path)
    return tmp_path


def refused(call: Callable[[], object]) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json: .* \(index out of bounds\)"):
        call()


def test_a_panic_of_the_library_is_told_wherever_data_are_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoding.from_folder(folder)
    assert encoder.path == folder / "tokenizer.json" and len(list(encoder.encode(TEXTS))) == len(TEXTS)
    writer = writer_in(folder, "llama2")
    writer._tokenizer.library = Broken()  # type: ignore[union-attr,assignment]
    refused(lambda: writer.encode(["\x02Hello\x03Hello"]))
    refused(lambda: vocabulary.trial(Broken(), TEXTS, TEXTS))  # type: ignore[arg-type]
    refused(lambda: list(encoding.Encoder(Broken(), 300, 1, 2).encode(TEXTS)))  # type: ignore[arg-type]
    monkeypatch.setattr(encoding, "_without_specials", lambda _: Broken())
    refused(lambda: list(encoder.encode(TEXTS)))


def test_a_panic_while_a_tokenizer_is_learnt_is_told_and_a_text_that_cannot_be_read_stays_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def texts(error: BaseException) -> Iterator[str]:
        yield TEXTS[0]
        raise error  # while the library reads the rest: it goes the way of its own errors

    monkeypatch.setattr("soban.learn.tokenizer.COUNTED", 1)
    refused(lambda: train_tokenizer(texts(Panic("index out of\nbounds")), 300))
    with pytest.raises(OSError, match="the disk is gone"):
        train_tokenizer(texts(OSError("the disk is gone")), 300)


def test_a_panic_over_a_sample_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    manifest = {"tokenizer": {"bos_token_id": 1, "eos_token_id": 2}}
    monkeypatch.setattr("soban.learn.data.shards.read_manifest", lambda _: manifest)
    computer: Any = SimpleNamespace(workers=SimpleNamespace(map=map))
    sampler = samples.Sampler(computer, folder, 0)
    assert sampler.prompts == samples.OPENINGS[:1]
    whole, sampler.tokenizer = sampler.tokenizer, Broken()  # type: ignore[assignment]
    refused(sampler)

    class Half(Broken):
        encode = whole.encode

    sampler.tokenizer = Half()  # type: ignore[assignment]
    refused(sampler)
    monkeypatch.setattr(samples, "open_library", lambda *_: (Broken(), {}))
    refused(lambda: samples.Sampler(computer, folder, 8))
    monkeypatch.undo()
    monkeypatch.setattr("soban.learn.data.shards.read_manifest", lambda _: manifest)
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE"}}', encoding="utf-8")
    for open_it in (lambda: samples.Sampler(computer, folder, 8), lambda: encoding.from_folder(folder)):
        with pytest.raises(UserError, match=r"tokenizer\.json"):
            open_it()
