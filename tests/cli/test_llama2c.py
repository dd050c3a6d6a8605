"""llama2.c's short flags: what run.c does with values out of range, soban does."""

from pathlib import Path

import pytest

import soban
from soban.cli import llama2c
from soban.cli.run import RunOptions, check

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
    assert llama2c.chosen(given).items() >= taken.items()
    check(RunOptions(sampling=given, spelled=frozenset(["-t"])))


def test_steps_below_one_or_beyond_the_context_are_the_whole_context(tmp_path: Path) -> None:
    model = soban.load(make_model(tmp_path / "model"))

    def tokens(steps: int) -> int:
        shape = {"system": None, "raw": False, "echo": None, "sampling": {"temperature": -3.0}}
        generation = llama2c.start(model, "a", steps=steps, **shape)  # type: ignore[arg-type]
        generation.read()
        return generation.figures.new_tokens

    assert tokens(-5) == tokens(0) == tokens(10**6) > tokens(20) == 19
