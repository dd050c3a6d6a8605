"""What `soban train` shows: lines that fit, averages, and a curve that no trouble stops."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from soban.cli.terminal import training
from soban.learn.training import curve
from soban.learn.training.checkpoint import Progress
from soban.messages import width
from tests.learn.training import small

ENGLISH = ["step 12/400", "1 h 02 min left", "loss 2.345", "3901 tokens/s"]
KOREAN = ["12/400스텝", "1시간 02분 남음", "손실 2.345", "3901토큰/초"]


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_LANG", "en")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.tales(tmp_path_factory.mktemp("training"))


@pytest.mark.parametrize("parts", [ENGLISH, KOREAN])
def test_a_progress_line_fits_any_width(parts: list[str]) -> None:
    for most in range(8, 130):
        assert width(training.fitted(parts, 0.5, most)) <= most
    assert training.fitted(parts, 0.5, 110).startswith("[############............]")
    assert "#" not in training.fitted(parts, 0.5, 50)


def test_a_sample_is_cut_to_one_line_and_tells_a_terminal_nothing() -> None:
    assert training.clipped("a\nb\x1b[2Jc", 80) == "a b [2Jc"
    assert training.clipped("가나다라마", 10) == "가나다라마"
    assert training.clipped("가나다라마", 9) == "가나다라…"


def test_the_loss_shown_is_an_average_from_the_first_step_on() -> None:
    average = training.Average()
    for loss in (4.0, 2.0):
        average.note(loss)
    assert average.value == pytest.approx((4 * 0.98 + 2) / 1.98)


def test_the_speed_shown_is_that_of_the_steps() -> None:
    speed = training.Speed(Progress())
    speed.note(Progress(step=1, tokens=100, seconds=1))
    speed.interrupt()  # a measurement of 50 seconds
    speed.note(Progress(step=2, tokens=200, seconds=52))
    speed.note(Progress(step=3, tokens=300, seconds=53))
    assert speed.value == 100


def test_the_curve_is_a_picture_that_says_how_far_it_came(data: Path, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib.image")
    assert small.train(data, tmp_path / "m", "--steps", "3", drawn=True) == 0
    picture = matplotlib.imread(tmp_path / "m" / "training" / curve.NAME)
    assert picture.shape[:2] == pytest.approx((curve.SIZE[1] * curve.DOTS, curve.SIZE[0] * curve.DOTS), abs=1)
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 20
    assert not list((tmp_path / "m" / "training").glob("*.part"))


def test_a_curve_takes_any_name_and_no_trouble_of_a_picture_ends_a_training(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "모델 $a_{$b"
    assert small.train(data, out, "--steps", "3", drawn=True) == 0
    assert (out / "training" / curve.NAME).read_bytes().startswith(b"\x89PNG")
    assert "cannot be written" not in capsys.readouterr().err

    def failing(*arguments: object) -> None:
        raise ValueError("no such colour")

    monkeypatch.setattr(curve, "draw", failing)
    assert small.train(data, out, "--steps", "5", "--resume", drawn=True) == 0
    assert "no such colour" in capsys.readouterr().err


def test_without_matplotlib_there_is_a_note_and_no_picture(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert small.train(data, tmp_path / "m", "--steps", "2", drawn=True) == 0
    said = capsys.readouterr().err
    assert said.count("matplotlib is not installed") == 1
    assert not (tmp_path / "m" / "training" / curve.NAME).exists()
