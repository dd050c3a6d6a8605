"""Several processes on loopback, as torchrun and accelerate launch start them, learn as one does with all rows."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from soban.learn.training import checkpoint  # noqa: E402
from tests.learn.training import small  # noqa: E402

FLAGS = ("--steps", 16, "--evaluate-every", 8, "--warmup-steps", 2)
if sys.platform != "linux":
    pytest.skip("processes that fork and talk by gloo", allow_module_level=True)


def one_of_two(rank: int, port: int, data: Path, out: Path, *flags: object) -> int:
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ["OMP_NUM_THREADS"] = "1"  # as torchrun has it
    return small.train(data, out, *FLAGS, "--batch-size", 3, *flags)


def started(data: Path, out: Path, *flags: object) -> list[small.Child]:
    """Two processes with three rows each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [small.Child(one_of_two, rank, port, data, out, *flags) for rank in range(2)]


def test_two_processes_learn_as_one_with_their_rows(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert small.train(data, tmp_path / "one", *FLAGS) == 0
    alone = capfd.readouterr().err
    children = started(data, tmp_path / "two")
    assert [child.ended() for child in children] == [0, 0]
    together = "".join(child.said() for child in children)
    for column in ("loss", "tokens", "gradient_norm", "held_out_bits_per_byte"):
        ours, theirs = (small.numbers(tmp_path / name, column) for name in ("two", "one"))
        assert ours == pytest.approx(theirs, abs=1e-5), column
    assert together.count("the best of them") == 1  # one speaks
    assert together.count("\n") == alone.count("\n")


def test_one_that_is_stopped_stops_all_and_they_go_on_together(data: Path, tmp_path: Path) -> None:
    undisturbed, out = tmp_path / "a", tmp_path / "b"
    assert [child.ended() for child in started(data, undisturbed)] == [0, 0]
    children = started(data, out)
    small.reaches(out, 5, children[0])
    children[1].send(signal.SIGINT)
    assert [child.ended() for child in children] == [130, 130]
    assert 4 <= checkpoint.progress_of(out / "training" / checkpoint.NAME).step < 16
    assert [child.ended() for child in started(data, out, "--resume")] == [0, 0]
    assert small.losses(out) == small.losses(undisturbed)
    assert (out / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()


def test_one_that_dies_lets_the_other_end(data: Path, tmp_path: Path) -> None:
    children = started(data, tmp_path / "m", "--steps", 5000)
    small.reaches(tmp_path / "m", 5, children[0])
    children[1].send(signal.SIGKILL)
    assert [child.ended(60) for child in reversed(children)] == [-9, 2]
    said = children[0].said()
    assert "another process of this training has ended" in said and "Traceback" not in said
    assert (tmp_path / "m" / "training" / checkpoint.NAME).is_file()


def test_another_number_of_processes_is_no_continuation(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert [child.ended() for child in started(data, tmp_path / "m")] == [0, 0]
    assert small.train(data, tmp_path / "m", "--resume", "--steps", 20, "--batch-size", 3) == 2
    assert "by 2 processes, not by 1" in capfd.readouterr().err
