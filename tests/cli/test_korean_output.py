"""A Korean table is Korean: labels, units and answers, in columns that count a syllable as two."""

import re
from pathlib import Path

import pytest

from soban import cli
from soban.measure import report
from soban.messages import width
from tests.cli.conftest import Command
from tests.measure.test_report import example

# Units behind a number, and words of labels and cells that have no other meaning in what these commands show.
ENGLISH = re.compile(
    r"\d ?(?:tokens?|seconds?|bytes?|s|min|h|x)(?![\w/.])|tokens/s|characters/s|"
    r"(?<![-\w|/.])(?:yes|no|none|free|memory|weights|licence|unknown|missing|not known|default|of the)(?![-\w|/.])"
)


def english(text: str) -> list[str]:
    return [line for line in text.splitlines() if ENGLISH.search(re.sub(r"`[^`]*`|\S*/(?!s\b)\S*", "", line))]


def test_what_commands_show_in_korean_has_no_english_labels_and_units(
    soban: Command, model: Path, chat_model: Path, tmp_path: Path
) -> None:
    own = {"SOBAN_LANG": "ko", "COLUMNS": "80", "HF_HUB_OFFLINE": "1"}
    folders = {"HF_HOME": str(tmp_path), "SOBAN_CACHE": str(tmp_path / "cache")}
    text = tmp_path / "글.txt"
    text.write_text("\n\n".join(f"{n}번째 토끼가 숲에 갔습니다." for n in range(60)), encoding="utf-8")
    calls = [
        ["--help"], *([name, "--help"] for name in cli.COMMANDS), ["list"], ["list", "--catalogue"], ["du"], ["doctor"],
        ["recommend", "--ram", "8"], ["recommend", "--ram", "8", "--lang", "ko", "--commercial"],
        ["recommend", "--ram", "1", "--lang", "ko"], ["search", "llama", "--catalogue"], ["show"], ["show", str(model)],
        ["show", str(chat_model)], ["show", "gemma2:2b"], ["plan", str(model)], ["plan", "gemma2:2b"],
        ["plan", str(model), "serve"], ["plan", str(model), "train"], ["data", str(text)],
        ["data", str(text), "--out", str(tmp_path / "data"), "--similarity", "2"],
        ["eval", str(model), "--perplexity", str(text)], ["run", "옛날", "--max-new-tokens", "2", "--context", "16"],
    ]  # fmt: skip
    for words in calls:
        done = soban(*words, **own, **folders)
        shown = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == 0 and re.search("[가-힣]", shown), (words, shown)
        assert not english(shown), (words, english(shown))
        lines = done.stdout.decode().splitlines()
        # A path, or what is to be typed, is in one piece.
        assert "--help" in words or all(width(line) <= 80 for line in lines if "/" not in line), words


def test_a_bench_in_korean_has_korean_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_LANG", "ko")
    for format in ("text", "markdown"):
        shown = report.write([example()], format)
        assert not english(shown)
        assert "12.0토큰/초(11.0~13.0, 5회), 대역폭의 50%" in shown and "1.50초" in shown and "30자/초" in shown


@pytest.mark.parametrize("line", ["읽기  12.0 tokens/s", "불러오기  1.50 s", "(5x)", "동의  none", "라이선스  unknown"])
def test_an_english_unit_or_label_is_seen(line: str) -> None:
    assert english(line)
