"""Small trainings for tests: text, data made of it, and `soban train` as a call or as a process of its own."""

import contextlib
import csv
import faulthandler
import multiprocessing
import os
import random
import sys
import tempfile
import time
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from soban.cli import main
from soban.learn.data.cleaning import Cleaning
from soban.learn.data.prepare import Preparation, prepare
from soban.learn.data.quality import Quality
from soban.learn.data.reading import Reading
from soban.learn.training import curve

SHAPE = (
    "--preset", "260k", "--hidden-size", "32", "--intermediate-size", "48", "--layers", "2", "--heads", "4",
    "--key-value-heads", "2", "--context", "32", "--batch-size", "6",
)  # fmt: skip
PLAIN = ("--dtype", "float32", "--device", "cpu", "--no-samples")  # wherever the tests run
# What a training imports, for the server that its processes come of
HEAVY = ("transformers.models.llama.modeling_llama", "soban.learn.training.scratch", "accelerate")
WAIT = 300  # seconds for what takes one where nobody else computes
WORDS = {
    "who": "Mina Tom Lily Ben Sora Juno", "what": "ball kite shell stone apple drum",
    "where": "park river hill garden barn pond", "did": "found lost saw wanted hid broke", "how": "red blue small old",
}  # fmt: skip


def text(documents: int, seed: int = 0) -> str:
    """Short tales, a blank line between them."""
    dice = random.Random(seed)
    tales = []
    for _ in range(documents):
        first, second = dice.sample(WORDS["who"].split(), 2)
        what, where, did, how = (dice.choice(WORDS[kind].split()) for kind in ("what", "where", "did", "how"))
        tales.append(
            f"{first} went to the {where} with {second}. {first} {did} a {what} there. {second} said that the {what} "
            f"was {how}. Then {dice.choice((first, second))} ran home."
        )
    return "\n\n".join(tales) + "\n"


def tales(folder: Path) -> Path:
    """Training data of 300 of them, in a subfolder."""
    (folder / "tales.txt").write_text(text(300), encoding="utf-8")
    return prepared(folder / "tales.txt", folder / "data")


def prepared(source: Path, out: Path, entries: int = 300) -> Path:
    """Training data of a text file."""
    cleaning = Cleaning(Quality(), "keep", 2.0)  # 2: near-duplicates stay, which these tales are
    prepare(Preparation((str(source),), out, Reading(), cleaning, validation=0.05, vocab_size=entries))
    return out


def train(data: Path, out: Path, *flags: object, shape: tuple[str, ...] = SHAPE, drawn: bool = False) -> int:
    """`soban train`; its exit code. A curve takes a second, so only those who look at it have it `drawn`."""
    words = ["train", "--data", data, "--out", out, *shape, *PLAIN, *flags]
    with contextlib.nullcontext() if drawn else mock.patch.object(curve, "draw"):
        return main([str(word) for word in words])


def losses(out: Path) -> list[dict[str, str]]:
    """The table of losses without what no two runs share: the seconds."""
    with (out / "training" / "losses.csv").open(encoding="utf-8", newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def numbers(out: Path, column: str) -> list[float]:
    """A column of it where it is filled."""
    return [float(row[column]) for row in losses(out) if row[column]]


class Child:
    """A process of its own that does `work`, which a module has by name; what it says is gathered in a file.

    It comes of a server that has imported everything and started nothing: a child of the test's own process would
    inherit the locks of threads that it does not have.
    """

    def __init__(self, work: Callable[..., int], *arguments: object) -> None:
        if "forkserver" not in multiprocessing.get_all_start_methods():
            pytest.skip("needs fork")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, *HEAVY])
        descriptor, self._said = tempfile.mkstemp()
        os.close(descriptor)
        weakref.finalize(self, os.unlink, self._said)
        self.process = context.Process(target=_work, args=(self._said, work, arguments))
        self.process.start()

    def send(self, number: int) -> None:
        assert self.process.pid
        os.kill(self.process.pid, number)

    def said(self) -> str:
        """Its standard error until now."""
        return Path(self._said).read_text(encoding="utf-8")

    def ended(self, seconds: float = WAIT) -> int:
        """Its exit code once it has ended, -9 where it was killed; killed where it takes too long."""
        self.process.join(seconds)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
        assert code is not None, f"the process did not end: {self.said()}"
        return code


def _work(said: str, work: Callable[..., int], arguments: tuple[object, ...]) -> None:
    """In the child: standard error goes to the file, and no handler of the interpreter's end changes the code."""
    file = os.open(said, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 2)
    faulthandler.enable()
    code = 70
    try:
        code = work(*arguments)
    except KeyboardInterrupt:
        code = 130
    finally:
        if code == 70:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)


def reaches(out: Path, rows: int, child: Child) -> None:
    """Waits until that many rows of losses are written."""
    until = time.monotonic() + WAIT
    path = out / "training" / "losses.csv"
    while time.monotonic() < until:
        if path.is_file() and len(path.read_text(encoding="utf-8").splitlines()) > rows:
            return
        assert child.process.is_alive(), f"it ended before: {child.said()}"
        time.sleep(0.005)
    raise AssertionError("it does not get there")
