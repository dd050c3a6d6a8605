"""A model's name that was mistyped is told by every command that takes one, and by none taken for a prompt."""

from pathlib import Path

import pytest

from tests.cli.conftest import Command

# What stands before and after the name.
TAKE_A_NAME = {
    "run": ("run",), "run with a prompt": ("run", ..., "hello"), "run -i": ("run", ..., "-i", "hello"),
    "run -m chat": ("run", ..., "-m", "chat"), "chat": ("chat",), "chat with a prompt": ("chat", ..., "hello"),
    "chat -i": ("chat", ..., "-i", "hello"), "show": ("show",), "plan": ("plan",), "plan train": ("plan", ..., "train"),
    "pull": ("pull",), "bench": ("bench",), "eval": ("eval", ..., "--perplexity", "text.txt"),
    "convert": ("convert", ..., "out"),
}  # fmt: skip
MISTYPED = {
    "gemm2": "gemma2",
    "rand-lama": "rand-llama",
    "llama3.2:2b": "llama3.2:3b",
    "lama": "llama3",
    "bigg.bin": "big.bin",
}


@pytest.fixture(autouse=True)
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rand-llama").mkdir()
    (tmp_path / "rand-llama" / "config.json").touch()
    (tmp_path / "big.bin").touch()
    (tmp_path / "text.txt").write_text("text", encoding="utf-8")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def test_a_name_that_is_nearly_known_is_no_place_for_the_bundled_model(soban: Command, tmp_path: Path) -> None:
    for word, near in (("gemm2", "gemma2"), ("lama", "llama3"), ("Qwem3", "qwen3")):
        done = soban("convert", word)
        told = done.stderr.decode()
        assert done.returncode == 2 and f"no model {word}" in told and near in told and f"./{word}" in told, told
        assert not (tmp_path / word).exists()
    for words in (("my-stories",), ("out2",), ("./gemm2",)):
        assert soban("convert", *words).returncode == 0 and (tmp_path / words[0] / "config.json").is_file()


@pytest.mark.parametrize("call", TAKE_A_NAME.values(), ids=TAKE_A_NAME)
def test_it_is_refused_with_what_is_near(soban: Command, call: tuple[str, ...]) -> None:
    for word, near in MISTYPED.items():
        words = [word if part is ... else part for part in (call if ... in call else (*call, ...))]
        done = soban(*words)
        told = done.stderr.decode()
        assert (done.returncode, done.stdout) == (2, b""), words
        assert told.startswith("soban: ") and told.count("\n") == 1 and word in told, words
        assert "did you mean" in told and near in told.partition("did you mean")[2], (words, told)
        alone = call in (("run",), ("chat",), ("run", ..., "-m", "chat")) and ":" not in word
        assert told.endswith("? (a prompt is given with -i)\n" if alone else "?\n")


@pytest.mark.parametrize("command", ["run", "chat"])
def test_a_name_that_is_near_nothing_is_refused_too_and_with_i_it_is_a_prompt(
    soban: Command, model: Path, command: str
) -> None:
    for word in ("any-words", "model9", "x:y"):
        told = soban(command, word).stderr.decode()
        assert told == (
            f"soban: no model {word}; soban list --catalogue shows those that have a short name "
            "(a prompt is given with -i)\n"
        )
    done = soban("run", model, "-i", "model9", "-q", "--max-new-tokens", "2", "--no-echo")
    assert done.returncode == 0


def test_a_plain_word_is_a_prompt(soban: Command) -> None:
    for words in (("run", "hello"), ("chat", "안녕")):
        done = soban(*words, "-q", "--max-new-tokens", "3", SOBAN_OPS="native")
        assert done.returncode == 0 and done.stdout and not done.stderr
