"""soban merge as a user sees it: a folder that runs, an outlook, one line for what is wrong."""

from pathlib import Path

import numpy as np
import pytest

from ..convert.merging.parents import make_parents
from ..convert.merging.test_merging import weights
from .conftest import Command, text


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_parents(tmp_path_factory.mktemp("parents"), "llama")


def test_models_become_one(soban: Command, parents: list[Path], tmp_path: Path) -> None:
    start, one, two = parents
    done = soban("merge", one, two, "--base", start, "--method", "task", "--weight", "0.5", "--out", tmp_path / "소반")
    text(done)
    assert "merged 3 models into" in done.stderr.decode()
    merged, a, b, c = (weights(path) for path in (tmp_path / "소반", start, one, two))
    for name, value in merged.items():
        assert np.abs(value - (b[name] + c[name]) / 2).max() < 1e-6 and a[name].shape == value.shape


def test_an_outlook_writes_nothing(soban: Command, parents: list[Path], tmp_path: Path) -> None:
    told = text(soban("merge", *parents[1:], "--method", "slerp", "--check", "--out", tmp_path / "out"))
    assert [line.split()[0] for line in told.splitlines()] == ["models", "method", "layers", "weights", "disk"]
    assert not (tmp_path / "out").exists()


def test_a_recipe_says_it_all(soban: Command, parents: list[Path], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yml"
    lines = ["merge_method: nuslerp", "models:"]
    lines += [f"  - {{model: {path}, parameters: {{weight: 1}}}}" for path in parents[1:]]
    recipe.write_text("\n".join(lines), encoding="utf-8")
    text(soban("merge", recipe, "--out", tmp_path / "one"))
    text(soban("merge", *parents[1:], "--method", "nuslerp", "--out", tmp_path / "other"))
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "other")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "no models"), (["{one}", "{two}"], "no place"), (["{one}", "{two}", "--method", "karcher"], "karcher"),
        (["{one}", "{two}", "--t", "0.5", "--out", "{out}"], "--t has no meaning for linear"),
        (["{one}", "{two}", "--weight", "1", "--weight", "2", "--weight", "3", "--out", "{out}"], "3 weights for 2"),
        (["{one}", "{two}", "--method", "ties", "--out", "{out}"], "--base"),
        (["{recipe}", "--method", "ties", "--out", "{out}"], "no meaning beside a recipe"),
        (["{recipe}", "--out", "{out}"], "no YAML"), (["{one}", "nowhere/at-all", "--out", "{out}"], "nowhere"),
        (["{one}", "{two}", "--out", "{out}/deep/er"], "no such folder"),
        (["{one}", "{two}", "--dtype", "f64", "--out", "{out}"], "f64"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    soban: Command, parents: list[Path], tmp_path: Path, words: list[str], expected: str
) -> None:
    (tmp_path / "recipe.yml").write_text("merge_method: [", encoding="utf-8")
    places = {"one": parents[1], "two": parents[2], "out": tmp_path / "out", "recipe": tmp_path / "recipe.yml"}
    done = soban("merge", *(word.format(**places) for word in words), HF_HUB_OFFLINE="1")
    told = done.stderr.decode().strip().splitlines()
    assert done.returncode == 2 and len(told) == 1 and expected in told[0], told
    assert not (tmp_path / "out").exists()
