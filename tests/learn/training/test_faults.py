"""A training whose files cannot be written, read or renamed: one line, and it goes on to the same model."""

import os
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.faults import each_fault, leftovers  # noqa: E402
from tests.learn.training import small  # noqa: E402
from tests.learn.training.test_going_on import weights  # noqa: E402

FLAGS = ("--steps", "3", "--evaluate-every", "2", "--warmup-steps", "1")


@pytest.mark.slow
def test_any_fault_of_the_system_is_told_and_the_same_command_then_succeeds(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = iter(range(10**6))

    def fresh() -> Path:
        (folder := tmp_path / str(next(numbers))).mkdir()
        return folder

    def flow(folder: Path) -> int:
        resumed = ["--resume"] if os.path.lexists(folder / "m" / "training" / "checkpoint.safetensors") else []
        return small.train(data, folder / "m", *FLAGS, *resumed)

    right = fresh()
    assert flow(right) == 0
    for what, folder, run in each_fault(fresh, flow, every=7):
        capsys.readouterr()
        code = run()
        message = capsys.readouterr().err
        assert code in (0, 2) and "unexpected" not in message, (what, message)
        if code == 2:
            again = flow(folder)
            # what is finished already is refused to be trained further, and is whole
            assert (
                again == 0 or "nothing left" in capsys.readouterr().err or (folder / "m" / "config.json").is_file()
            ), what
        ours, theirs = (weights(place / "m" / "model.safetensors") for place in (folder, right))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), what
        assert not leftovers(folder), (what, leftovers(folder))
        shutil.rmtree(folder)
