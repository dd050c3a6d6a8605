"""Whatever call of the system fails: a right result or one line that says so, nothing half-written, nothing left.

Ordinary tests try every so many-th fault of each flow, the slow ones all of them.
"""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soban
from soban.base.errors import UserError
from soban.cli import main
from soban.talk.transcript import Transcript, read_transcript, write_transcript
from tests.cli import tiny
from tests.faults import FAULTS, each_fault, leftovers
from tests.hub.stub import Hub, Model
from tests.tiny import make_model

every = pytest.mark.parametrize(
    "every", [pytest.param(11, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
Fresh = Callable[[Path | None], Callable[[], Path]]


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fresh:
    """Folders for one run each: a copy of what is given, and a cache of its own in it."""
    numbers = itertools.count()

    def of(base: Path | None = None) -> Callable[[], Path]:
        def make() -> Path:
            folder = tmp_path / f"run {next(numbers)}"
            if base is None:
                folder.mkdir()
            else:
                shutil.copytree(base, folder)
            monkeypatch.setenv("SOBAN_CACHE", str(folder / "cache"))
            monkeypatch.setenv("HF_HOME", str(folder / "home"))
            return folder

        return make

    return of


def check(
    fresh: Callable[[], Path],
    flow: Callable[[Path], object],
    every: int,
    same: Callable[[Any, Any], bool] = lambda one, other: one == other,
    result: Callable[[Path], object] | None = None,
) -> int:
    """Runs the flow with each fault, and then without; how many faults were told.

    `result`: what has come of it, where that is to be looked up and not what the flow returns.
    """
    told = 0

    def outcome(folder: Path, run: Callable[[], object]) -> object:
        returned = run()
        return returned if result is None else result(folder)

    first = fresh()
    expected = outcome(first, lambda: flow(first))
    for what, folder, run in each_fault(fresh, flow, every=every):
        try:
            assert same(outcome(folder, run), expected), what
        except UserError as error:
            told += 1
            assert str(error) and "\n" not in str(error) and "Errno" not in str(error), (what, str(error))
        except BaseException as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        assert same(outcome(folder, lambda at=folder: flow(at)), expected), what  # type: ignore[misc]
        assert not leftovers(folder), (what, leftovers(folder))
        shutil.rmtree(folder)
    return told


def loads(**options: Any) -> Callable[[Path], object]:
    return lambda folder: soban.load(folder / "model", **options).logits([3, 4, 5])


def command(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """What a command writes; UserError with what it tells where it is one of the user's errors."""
    code = main([*map(str, words)])
    out, err = capsys.readouterr()
    if code == 2:
        raise UserError("{line}", line=err.strip().splitlines()[-1])
    assert code == 0, err
    return out


def equal(one: object, other: object) -> bool:
    return bool(np.array_equal(one, other))  # type: ignore[arg-type]


@every
@pytest.mark.parametrize("dtype", ["f32", "q8"])
def test_loading_a_folder(tmp_path: Path, fresh: Fresh, dtype: str, every: int) -> None:
    make_model(tmp_path / "base" / "model", chat=True)
    assert check(fresh(tmp_path / "base"), loads(dtype=dtype), every, equal) > 30 // every


@every
def test_loading_what_is_packed_already(tmp_path: Path, fresh: Fresh, every: int) -> None:
    make_model(tmp_path / "base" / "model")

    def packed() -> Path:
        folder = fresh(tmp_path / "base")()
        soban.load(folder / "model", dtype="q8")
        return folder

    assert check(packed, loads(dtype="q8"), every, equal) > 20 // every


@every
def test_loading_a_bin(tmp_path: Path, fresh: Fresh, every: int) -> None:
    path = tiny.llama2c(tmp_path / "base" / "model")

    def flow(folder: Path) -> object:
        return soban.load(folder / "model" / path.name).logits([3, 4, 5])

    assert check(fresh(tmp_path / "base"), flow, every, equal) > 5 // every


@every
def test_saving_and_reading_a_conversation(fresh: Fresh, every: int) -> None:
    def flow(folder: Path) -> object:
        write_transcript(folder / "talk.json", Transcript([{"role": "user", "content": "안녕"}]))
        return read_transcript(folder / "talk.json")

    assert check(fresh(None), flow, every) > 5 // every


@every
@pytest.mark.parametrize("form", ["bf16", "v0"])
def test_converting(tmp_path: Path, fresh: Fresh, capsys: pytest.CaptureFixture[str], every: int, form: str) -> None:
    tiny.folder(tmp_path / "base" / "model")

    def flow(folder: Path) -> None:
        out = folder / ("out" if form == "bf16" else "out.bin")
        words = ("--dtype", "bf16") if form == "bf16" else ("--format", "v0", "--weights-only")
        try:
            command(capsys, "convert", folder / "model", out, *words)
        except UserError as error:  # of a fault while its size was told, say: then it is there, and whole
            if "exists already" not in str(error):
                raise

    def result(folder: Path) -> object:
        return (folder / "out" / "model.safetensors" if form == "bf16" else folder / "out.bin").read_bytes()

    assert check(fresh(tmp_path / "base"), flow, every, result=result) > 15 // every


@every
def test_making_training_data(tmp_path: Path, fresh: Fresh, capsys: pytest.CaptureFixture[str], every: int) -> None:
    (tmp_path / "base").mkdir()
    texts = "\n\n".join(
        f"{n}번째 이야기예요. " + " ".join(f"{n * w % 97}번 돌을" for w in range(30)) for n in range(12)
    )
    (tmp_path / "base" / "글.txt").write_text(texts, encoding="utf-8")

    def flow(folder: Path) -> None:
        command(capsys, "data", folder / "글.txt", "--out", folder / "data", "--json", "--force")

    def result(folder: Path) -> object:
        names = sorted(path.relative_to(folder / "data").as_posix() for path in (folder / "data").rglob("*"))
        return [name for name in names if not name.startswith(".")]  # old data that could not be deleted wait there

    assert check(fresh(tmp_path / "base"), flow, 6 * every, result=result) > 20 // every


@every
def test_fetching_a_model(
    tmp_path: Path, fresh: Fresh, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    from soban.hub import fetching, session

    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetching, "WAITS", (0.01,) * 4)
    monkeypatch.setattr(session, "WAITS", (0.01,) * 3)
    monkeypatch.setattr(fetching, "TICK", 0.02)
    files: dict[str, bytes | Path] = {
        "config.json": b"{}",
        "tokenizer.json": b"[1]",
        "model.safetensors": bytes(30_000),
    }
    with Hub() as hub:
        hub.models["owner/model"] = Model(files)

        def flow(folder: Path) -> None:
            for name, value in hub.environment(folder / "home").items():
                monkeypatch.setenv(name, value)
            command(capsys, "pull", "owner/model")

        def result(folder: Path) -> object:
            (place,) = (folder / "home" / "hub" / "models--owner--model" / "snapshots").iterdir()
            return {path.name: path.read_bytes() for path in place.iterdir()}

        assert check(fresh(None), flow, every, result=result) > 20 // every


def test_a_cache_of_another_user_stops_only_what_needs_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache = make_model(tmp_path / "model", chat=True), tmp_path / "cache"
    monkeypatch.setenv("SOBAN_CACHE", str(cache))
    right = soban.load(folder, dtype="f32").logits([3, 4, 5])
    soban.load(folder, dtype="q8")
    with FAULTS.watching(cache, (None, PermissionError(13, "Permission denied"))):
        np.testing.assert_array_equal(soban.load(folder, dtype="f32").logits([3, 4, 5]), right)
        np.testing.assert_array_equal(soban.load(folder).logits([3, 4, 5]), right)  # "auto": tiny ones are f32
        assert len(FAULTS.calls) > 2
        with pytest.raises(UserError, match="cache folder cannot be used: permission denied; set SOBAN_CACHE"):
            soban.load(folder, dtype="q8")
