"""What a training leaves beside its model: losses, samples and the curve of them."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from soban.learn.tokenizer import train_tokenizer  # noqa: E402
from soban.learn.training import curve, record, samples  # noqa: E402
from soban.learn.training.checkpoint import Progress  # noqa: E402
from tests.learn.training import small  # noqa: E402


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_LANG", "en")


def test_a_smooth_line_has_the_means_and_keeps_its_beginning() -> None:
    values = np.array([5.0, 1.0, 3.0, 2.0, 4.0])
    assert curve.smoothed(values, 2) == pytest.approx([5, 3, 2, 3, 3])
    assert curve.smoothed(values, 1) == pytest.approx(values)


def test_samples_are_the_same_again_and_change_nothing(data: Path, tmp_path: Path) -> None:
    plain, sampled = tmp_path / "plain", tmp_path / "told"
    flags = ("--steps", "6", "--evaluate-every", "2")
    assert small.train(data, plain, *flags) == 0
    assert small.train(data, sampled, *flags, "--samples", "--prompt", "Mina went to", "--prompt", "Tom") == 0
    assert small.losses(plain) == small.losses(sampled)
    same = [(folder / "model.safetensors").read_bytes() for folder in (plain, sampled)]
    assert same[0] == same[1]
    assert not (plain / "training" / record.SAMPLES).exists()
    text = (sampled / "training" / record.SAMPLES).read_text(encoding="utf-8")
    assert text.count("Mina went to") == 3 and text.count("\n\nTom") == 3
    assert next(line for line in text.splitlines() if line.startswith("step")).startswith("step 2, ")


def test_a_table_of_losses_that_cannot_be_written_is_told_once_and_stops_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = record.Record.begin

    def begin_and_break(self: record.Record, progress: Progress) -> None:
        begin(self, progress)
        self.path = tmp_path / "gone" / "losses.csv"

    monkeypatch.setattr(record.Record, "begin", begin_and_break)
    assert small.train(data, tmp_path / "m", "--steps", "3") == 0
    assert capsys.readouterr().err.count("losses.csv: cannot be written") == 1


def test_a_language_is_sampled_where_the_tokenizer_knows_it() -> None:
    english = ["Once upon a time, there was a fox."] * 9
    korean = ["옛날 옛적에 토끼가 살았어요."] * 9
    tokenizers = [train_tokenizer(texts, 400, "llama") for texts in (english, korean, [*english, *korean])]
    assert [samples.usual(tokenizer) for tokenizer in tokenizers] == [
        samples.OPENINGS[:1], samples.OPENINGS[1:], samples.OPENINGS
    ]  # fmt: skip
