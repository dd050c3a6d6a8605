"""llama2.c's short flags: what run.c does with values out of range, soban does."""

from pathlib import Path

import pytest

import soban
from soban.cli import chat, llama2c, run
from soban.cli.run import RunOptions, check
from soban.convert.llama2c import to_llama2c
from soban.convert.source import open_source

from ..convert import small
from ..tiny import make_model


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"temperature": -1.0}, {"temperature": 0}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"top_p": -0.1}, {"top_p": 0.9}),
        ({"top_p": 1.5}, {"top_p": 0.9}),
        ({"top_p": 0.0}, {"top_p": 1.0}),  # run.c's sample() then leaves nothing out
        ({"top_p": 1.0}, {"top_p": 1.0}),
        ({"seed": 0}, {"seed": None}),
        ({"seed": -1}, {"seed": 2**64 - 1}),  # unsigned long long
        ({}, {"temperature": 1.0, "top_p": 0.9, "top_k": 0}),
    ],
    ids=str,
)
def test_values_out_of_range_become_what_run_c_makes_of_them(
    given: dict[str, float], taken: dict[str, float | None]
) -> None:
    assert llama2c.run_c_options(given).items() >= taken.items()
    check(RunOptions(sampling=given, spelled=frozenset(["-t"])))


def test_steps_below_one_or_beyond_the_context_are_the_whole_context(tmp_path: Path) -> None:
    model = soban.load(make_model(tmp_path / "model"))

    def tokens(steps: int) -> int:
        shape = {"system": None, "raw": False, "echo": None, "sampling": {"temperature": -3.0}}
        generation = llama2c.start(model, "a", steps=steps, **shape)  # type: ignore[arg-type]
        generation.read()
        return generation.figures.new_tokens

    assert tokens(-5) == tokens(0) == tokens(10**6) > tokens(20) == 19


@pytest.mark.parametrize("as_bin", [True, False])
def test_chat_mode_talks_to_a_model_of_llama2c_in_llama_2s_turns(
    as_bin: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_model(tmp_path / "model")
    if as_bin:
        source, path = open_source(small.folder(tmp_path / "small")), tmp_path / "model.BIN"
        to_llama2c(source, path, "v0", tokenizer=None, tokenizer_out=path.with_name("tokenizer.bin"))
    templates = []
    monkeypatch.setattr(
        chat, "talk", lambda model, name, prompt, options, keys: templates.append(options.template) or 0
    )
    assert run.call(RunOptions(words=(str(path),), mode="chat", prompt="hi", spelled=frozenset(["-m"]))) == 0
    assert templates == ["llama2" if as_bin else None]
