"""`soban bench` as a user has it: the figures hang together; their size is the machine's affair."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from soban.ops import native
from tests.cli import tiny
from tests.cli.conftest import Command, environment
from tests.processes import ended

FEW = ("--prompt-tokens", "40", "--new-tokens", "5", "--context", "50")


@pytest.mark.skipif(native.library() is None, reason="needs the native library")
def test_the_bundled_model_is_measured_and_the_figures_hang_together(
    process: Command, soban: Command, tmp_path: Path
) -> None:
    kept = tmp_path / "내 PC.json"
    done = process("bench", "--dtype", "q8", "--threads", "2", *FEW, "--out", kept, SOBAN_OPS="native")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    found = json.loads(kept.read_text(encoding="utf-8"))
    assert found["threads"] == 2 and found["isa"] in native.ISAS and found["dtype"] == "q8"
    assert found["prefill"]["tokens"] == 40 and [one["context"] for one in found["decode"]] == [32, 50]
    answer = 64 / found["prefill"]["median"] + 128 / found["decode"][0]["median"]
    assert found["answer_seconds"] == pytest.approx(answer)
    assert found["first_token_seconds"] > found["load_seconds"] > 0
    assert found["decode"][0]["share"] is None  # it fits into a cache
    for rate in (found["prefill"], *found["decode"]):
        assert set(rate["parts"]) == {"products", "attention", "rest"} and min(rate["parts"].values()) > 0
        assert sum(rate["parts"].values()) == pytest.approx(1)
    peak = found["limits"]["multiply_adds"].get(found["isa"])
    if peak:
        body_weights = found["prefill"]["share"] * peak / found["prefill"]["median"]
        assert body_weights == pytest.approx(found["weights"], rel=0.5)  # but for the head, once a prompt
    done = soban("bench", "--compare", kept, kept, "--format", "markdown")
    assert done.returncode == 0 and done.stdout.decode().startswith("| PC | ")
    assert done.stdout.decode().splitlines()[1] == "|---|---|---|"


def test_without_the_native_library_there_are_no_shares(soban: Command, model: Path) -> None:
    done = soban("bench", model, *FEW)
    text = done.stdout.decode()
    assert done.returncode == 0 and "numpy" in text and "40 tokens" in text
    assert "of the bandwidth" not in text and "measured" not in text


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nothing-here"], "nothing-here"),
        (["one", "two"], "2 models"),
        (["--prompt-tokens", "0"], "--prompt-tokens 0"),
        (["--context", "-3"], "--context -3"),
        (["--format", "xml"], "--format xml"),
        (["--threads", "0"], "0"),
        (["--compare", "missing.json"], "missing.json"),
        (["--out", "no/such/folder/x.json"], "no such folder"),
    ],
)
def test_bad_input_is_one_clear_line(soban: Command, words: list[str], problem: str) -> None:
    done = soban("bench", *words)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.count(b"\n") == 1 and problem in done.stderr.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
def test_ctrl_c_ends_it_without_a_table(tmp_path: Path) -> None:
    endless = tiny.folder(tmp_path / "endless", context=8192)
    words = ["bench", endless, "--prompt-tokens", "8000", "--format", "json"]
    with ended(
        subprocess.Popen(
            [sys.executable, "-m", "soban", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )
    ) as running:
        time.sleep(3)
        running.send_signal(signal.SIGINT)
        out, talk = running.communicate(timeout=30)
    assert running.returncode == 130 and out == b"" and b"Traceback" not in talk
