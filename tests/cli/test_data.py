"""`soban data` as it is used: the report in two languages, what it refuses, and that Ctrl-C leaves nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from soban.cli import main
from soban.cli.terminal.data_report import columns
from soban.learn.data.shards import Shards
from tests.cli.conftest import environment


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "글"
    folder.mkdir()
    rows = [
        f"{number}번째 이야기예요. " + " ".join(f"{number * word % 97}번 돌을" for word in range(30))
        for number in range(60)
    ]
    (folder / "이야기.txt").write_bytes(
        "\n\n".join([*rows, rows[0], "전화 010-1234-5678로 주세요.", "네"]).encode("cp949")
    )
    (folder / "그림.png").write_bytes(b"\x89PNG")
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = main(["data", *map(str, words)])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_report_fits_eighty_columns_and_tells_what_was_done(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    monkeypatch.setenv("SOBAN_LANG", language)
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, texts, "--out", "data", "--similarity", "2", "--samples", "2")
    assert code == 0 and err == ""
    assert max(map(columns, out.splitlines())) <= 80
    for part in ("cp949", "63", "61", ".png 1", " data\n"):
        assert part in out, out
    assert "[phone]" not in out and "0번째 이야기예요" in out
    assert len(Shards(tmp_path / "data").documents) + len(Shards(tmp_path / "data", "validation").documents) == 61
    code, again, err = run(capsys, texts, "--out", "data", "--similarity", "2", "--samples", "2")
    assert again == out and "--force" in err


def test_without_out_it_only_looks(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = run(capsys, texts, "--json", "--examples", "--similarity", "2")
    report = json.loads(out)
    assert (code, report["kept"], report["personal"]["phone"]) == (0, 61, 1)
    assert report["left_out"]["duplicates"] == 1 and report["examples"]["short"] == ["네"]
    assert "010-1234" not in out.split('"examples"')[1]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no text is named"),
        (["nowhere"], "nowhere: no such file or folder"),
        (["empty"], "empty: no text in it"),
        (["binary.txt"], "binary.txt: not text"),
        (["ok.txt", "--vocab-size", "9"], "--vocab-size 9"),
        (["ok.txt", "--vocab-size", "20000", "--out", "d"], "supports only"),
        (["ok.txt", "--validation", "1.5", "--out", "d"], "cannot be held out"),
        (["ok.txt", "--language", "xx"], "--language xx"),
        (["ok.txt", "--parting", "page"], "--parting page"),
        (["ok.txt", "--seed", "-1"], "--seed -1"),
        (["ok.txt", "--samples", "-1"], "--samples -1"),
        (["ok.txt", "--field", "x", "--sample", "y"], "tinystories"),
        (["one.txt", "--out", "d"], "too few"),
        (["tinystories"], "--out"),
        (["tinystories", "fetch", "--out", "d"], "no step fetch"),
        (["tinystories", "pretokenize", "--out", "d"], "download"),
        (["ok.txt", "--tokenizer", "empty", "--out", "d"], "no tokenizer.json"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 5)
    (tmp_path / "one.txt").write_text("only one document here", encoding="utf-8")
    (tmp_path / "ok.txt").write_text("\n\n".join(f"document number {n} about {n * 7 % 11}" for n in range(30)), "utf-8")
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "") and err.startswith("soban: ") and err.count("\n") == 1
    assert said in err and "Error" not in err


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="the owner may read everything")
def test_a_file_that_may_not_be_read_is_named(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (texts / "이야기.txt").chmod(0)
    assert "cannot be read" in run(capsys, texts / "이야기.txt")[2]


def test_the_sample_of_stories_goes_through_llama2cs_steps(
    fixtures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = tmp_path / "some.txt"
    sample.write_bytes((fixtures / "text" / "tinystories_sample.txt").read_bytes()[:120_000])
    base = ["tinystories", "--sample", sample, "--out", tmp_path / "data"]
    assert run(capsys, base[0], "train_vocab", *base[1:], "--vocab-size", "512")[0] == 0
    assert (tmp_path / "data" / "vocabulary" / "tok512.model").is_file()
    assert run(capsys, base[0], "pretokenize", *base[1:])[0] == 0
    assert Shards(tmp_path / "data").entries == 512


@pytest.mark.skipif(sys.platform == "win32", reason="signals are other there")
def test_ctrl_c_leaves_no_half_written_data(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(
        "\n\n".join(f"document {n} of many {n * n}" for n in range(60_000)), encoding="utf-8"
    )
    running = subprocess.Popen(
        [sys.executable, "-m", "soban", "data", str(tmp_path / "a.txt"), "--out", str(tmp_path / "data")],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    until = time.monotonic() + 30
    while not (tmp_path / "data" / ".work" / "texts.bin").exists() and time.monotonic() < until:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, b"") and err.count(b"\n") == 1, err
    assert {path.name for path in (tmp_path / "data").iterdir()} <= {".lock"}


def test_ctrl_c_while_the_report_is_shown_does_not_say_that_nothing_was_made(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("soban.cli.terminal.console.write", press)
    assert run(capsys, texts, "--out", tmp_path / "data", "--similarity", "2") == (130, "", "")
    assert Shards(tmp_path / "data").documents


@pytest.mark.parametrize("language", ["en", "ko"])
def test_conversations_are_written_by_a_template_and_bad_ones_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    from tokenizers import Tokenizer

    monkeypatch.setenv("SOBAN_LANG", language)
    rows = [[("user", f"{n}번 토끼는 어디 갔어?"), ("assistant", f"{n}번 토끼는 숲에 갔어요.")] for n in range(40)]
    rows += [[("tool", "x")], [("assistant", "안녕")], [("user", "어디?")], [("user", "어디?"), ("assistant", " ")]]
    lines = [json.dumps({"messages": [{"role": role, "content": text} for role, text in row]}) for row in rows]
    (tmp_path / "말.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    words = ("말.jsonl", "--out", "data", "--similarity", "2")
    code, out, err = run(capsys, *words, "--template", "llama2")
    assert (code, err) == (0, "") and max(map(columns, out.splitlines())) <= 80
    told = {
        "en": ("unknown roles", "turns out of order", "no answer", "an empty turn"),
        "ko": ("알 수 없는 역할", "대화 순서가 어긋남", "답이 없음", "빈 메시지"),
    }
    assert all(f"  - {why}" in out for why in told[language]), out
    tokenizer = Tokenizer.from_file(str(tmp_path / "data" / "tokenizer.json"))
    first = Shards(tmp_path / "data").documents[0].tolist()
    assert tokenizer.decode(first, skip_special_tokens=False).startswith("<s> [INST] 0번 토끼는 어디 갔어? [/INST] 0번")
    code, _, err = run(capsys, *words, "--template", "lama2")
    assert code == 2 and "lama2" in err and "llama2" in err
