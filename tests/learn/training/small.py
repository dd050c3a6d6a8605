"""Small trainings for tests: text, data made of it, and `soban train` as a call or as a process of its own."""

import contextlib
import csv
import os
import random
import time
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
WAIT = 300  # seconds for what takes one where nobody else computes
WORDS = {
    "who": "Mina Tom Lily Ben Sora Juno", "what": "ball kite shell stone apple drum",
    "where": "park river hill garden barn pond", "did": "found lost saw wanted hid broke", "how": "red blue small old",
}  # fmt: skip


def text(documents: int, seed: int = 0) -> str:
    """Short tales, a blank line between them."""
    dice = random.Random(seed)
    told = []
    for _ in range(documents):
        first, second = dice.sample(WORDS["who"].split(), 2)
        what, where, did, how = (dice.choice(WORDS[kind].split()) for kind in ("what", "where", "did", "how"))
        told.append(
            f"{first} went to the {where} with {second}. {first} {did} a {what} there. {second} said that the {what} "
            f"was {how}. Then {dice.choice((first, second))} ran home."
        )
    return "\n\n".join(told) + "\n"


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


def child(work: Callable[[], int]) -> int:
    """A process of its own that does this, with all that is imported already; its id."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        code = work()
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def ended(process: int, seconds: float = WAIT) -> int:
    """Its exit code once it has ended, -9 where it was killed; killed where it takes too long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(process, 9)
    os.waitpid(process, 0)
    raise AssertionError("the process did not end")


def reaches(out: Path, rows: int, process: int) -> None:
    """Waits until that many rows of losses are written."""
    until = time.monotonic() + WAIT
    path = out / "training" / "losses.csv"
    while time.monotonic() < until:
        if path.is_file() and len(path.read_text(encoding="utf-8").splitlines()) > rows:
            return
        assert os.waitpid(process, os.WNOHANG) == (0, 0), "it ended before"
        time.sleep(0.005)
    raise AssertionError("it does not get there")
