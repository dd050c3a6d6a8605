"""Trained models write the same text with prompt lookup as without, and say what it did."""

from pathlib import Path
from typing import Any

import pytest

import soban
from soban.talk.generation import Figures

STORY = (
    "Once upon a time, there was a little dog named Max. Max had a red ball. One day, Max lost the red ball. "
    "Max was sad. Then a"
)
SETTINGS: list[dict[str, Any]] = [
    {"do_sample": False},
    {"do_sample": False, "repetition_penalty": 1.2},
    {"do_sample": True, "temperature": 0.5, "top_k": 20, "seed": 1},
    {"do_sample": True, "temperature": 0.9, "top_k": 0, "top_p": 0.9, "seed": 2},
    {"do_sample": True, "temperature": 0.3, "seed": 3, "num_return_sequences": 2},
    {"do_sample": False, "no_repeat_ngram_size": 6, "bad_words_ids": [[300, 301], [310]], "min_new_tokens": 100},
    {"do_sample": True, "seed": 4, "suppress_tokens": [300], "begin_suppress_tokens": [310], "max_length": 150},
]


def written(model: soban.Model, number: int | None, **options: Any) -> tuple[list[str], Figures]:
    generation = model.start(STORY, prompt_lookup_num_tokens=number, max_new_tokens=120, **options)
    texts = [""] * len(generation.sequences)
    for index, piece in generation:
        texts[index] += piece
    return texts, generation.figures


def assert_same(model: soban.Model, options: dict[str, Any]) -> int:
    wanted, plain = written(model, 0, **options)
    assert plain.drafted_tokens == 0
    accepted = 0
    for number in (None, 2, 10):
        texts, figures = written(model, number, **options)
        assert texts == wanted
        assert (figures.new_tokens, figures.finished) == (plain.new_tokens, plain.finished)
        assert figures.accepted_tokens <= figures.drafted_tokens
        accepted += figures.accepted_tokens
    return accepted


@pytest.fixture(scope="module")
def bundled() -> soban.Model:
    return soban.load()


def test_the_bundled_model_writes_the_same(bundled: soban.Model) -> None:
    assert sum(assert_same(bundled, options) for options in SETTINGS) > 0


@pytest.mark.parametrize("dtype", ["f32", "q8", "q4"])
def test_tinystories_writes_the_same(fixtures: Path, dtype: str) -> None:
    model = soban.load(fixtures / "models" / "TinyStories-656K", dtype=dtype)
    assert sum(assert_same(model, options) for options in SETTINGS) > 0


def test_a_stop_string_inside_a_draft_ends_the_text_where_it_does_without(bundled: soban.Model) -> None:
    options = {"do_sample": False, "echo": False}
    (text,), _ = written(bundled, 0, **options)
    for start in range(0, len(text) - 6, 17):
        stop = text[start : start + 5]
        wanted, plain = written(bundled, 0, stop=stop, **options)
        got, figures = written(bundled, 10, stop=stop, **options)
        assert got == wanted and figures.finished == plain.finished == "stop"
        assert figures.new_tokens == plain.new_tokens
    assert not bundled.engine.busy and not any(bundled.engine.blocks.users)


def test_generations_read_in_turn_are_what_each_is_alone(bundled: soban.Model) -> None:
    options: list[dict[str, Any]] = [{"do_sample": False}, {"temperature": 0.4, "seed": 5}]
    alone = [written(bundled, 0, **o)[0][0] for o in options]
    texts = ["", ""]
    streams = [bundled.stream(STORY, prompt_lookup_num_tokens=5, max_new_tokens=120, **o) for o in options]
    while any(pieces := [next(s, "") for s in streams]):
        texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
    assert texts == alone
