"""Workers: processes that take many cases each, so that a crash, a hang or too much memory ends one of them."""

import contextlib
import faulthandler
import gc
import json
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from soban.base.errors import UserError
from tests.fuzz.formats import Files, Format

SECONDS = 5.0  # of processor time that a case may take
STILL = 120.0  # seconds in which a worker that takes none has to get on: the machine may be busy with other things
MOST_MEMORY = 1 << 30  # bytes that a case may ask for
CHUNK = 4000  # cases of a worker
COUNTS = struct.Struct("<6q")  # the case at hand, those done, beyond the header, loads, refusals, failures
LONGEST = 4000  # characters of a refusal


@dataclass
class Failure:
    """A case after which something else came than a UserError or a right load."""

    format: str
    seed: int
    case: int
    kind: str  # the exception's type and place, or what became of the worker
    told: str = ""


@dataclass
class Tally:
    """What became of the cases of a format."""

    cases: int = 0
    beyond: int = 0
    loads: int = 0
    refusals: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0  # of processor time

    def add(self, counts: bytes, failures: list[Failure]) -> None:
        _, cases, beyond, loads, refusals, _ = COUNTS.unpack(counts)
        self.cases, self.beyond = self.cases + cases, self.beyond + beyond
        self.loads, self.refusals = self.loads + loads, self.refusals + refusals
        self.failures += failures


def dice_of(name: str, seed: int, case: int) -> random.Random:
    """The dice of a case."""
    return random.Random(f"{name} {seed} {case}")


def run(format: Format, seed: int, first: int, count: int, out: Path) -> Tally:
    """Cases first..first + count in workers, one after the other; inputs of failures are kept under `out`."""
    tally, start, end = Tally(), _used(), first + count
    while first < end:
        size = min(CHUNK, end - first)
        state = mmap.mmap(-1, COUNTS.size)
        with tempfile.TemporaryFile() as told, folder_of(format) as folder:
            child = os.fork()
            if child == 0:
                _work(format, seed, first, size, state, told.fileno(), folder)
            status, still = _wait(child, state)
            told.seek(0)
            failures = [Failure(**json.loads(line)) for line in told.read().decode().splitlines()]
        current = COUNTS.unpack(state[:])[0]
        tally.add(state[:], failures)
        if status == 0:
            first += size
            continue
        kind = (
            "hang"
            if still or status == signal.SIGPROF
            else f"signal {status}"
            if status < 128
            else f"exit {status >> 8}"
        )
        tally.failures.append(Failure(format.name, seed, current, kind))
        tally.cases += 1
        first = current + 1
    for failure in tally.failures:
        keep(format, failure, out)
    tally.seconds = _used() - start
    return tally


def _used() -> float:
    """Seconds of processor time that workers have taken so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait(child: int, state: mmap.mmap) -> tuple[int, bool]:
    """The worker's end: its status, and whether it was ended because nothing came of it."""
    before, since, pause = b"", time.monotonic(), 0.002
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status, False
        time.sleep(pause)
        pause = min(0.1, 2 * pause)
        if (now := state[:]) != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > STILL:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 9, True


def _work(format: Format, seed: int, first: int, count: int, state: mmap.mmap, told: int, folder: Path) -> None:
    """The worker's life."""
    code = 70
    faulthandler.disable()
    try:
        with quiet():
            limit_memory()
            counts = [first, 0, 0, 0, 0, 0]
            before: Files = {}
            for case in range(first, first + count):
                counts[0] = case
                COUNTS.pack_into(state, 0, *counts)
                dice = dice_of(format.name, seed, case)
                files = format.make(dice)
                again = {name: format.base[name] for name in before if name in format.base and name not in files}
                put(folder, files, again, before)
                before = files
                counts[2] += format.beyond(files)
                failure = attempt(format, folder, dice, counts)
                counts[1] += 1
                if failure:
                    counts[5] += 1
                    line = {"format": format.name, "seed": seed, "case": case, "kind": failure[0], "told": failure[1]}
                    os.write(told, json.dumps(line).encode() + b"\n")
                    if failure[0].startswith("MemoryError"):
                        gc.collect()
            COUNTS.pack_into(state, 0, *counts)
            code = 0
    except BaseException:
        with contextlib.suppress(BaseException):
            os.write(sys.__stderr__.fileno(), traceback.format_exc().encode())
    finally:
        os._exit(code)


def attempt(format: Format, folder: Path, dice: random.Random, counts: list[int]) -> tuple[str, str] | None:
    """Reads one case, and counts; the kind of a failure and where it came from, or None."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        format.read(folder, dice)
        counts[3] += 1
        return None
    except UserError as error:
        counts[4] += 1
        return amiss(error)
    except BaseException as error:
        return _place(error), "".join(traceback.format_exception(error))[-3000:]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def amiss(error: UserError) -> tuple[str, str] | None:
    """What is wrong with a refusal itself: not one line, or that memory ran out."""
    cause: BaseException | None = error
    seen: set[int] = set()  # an error may be its own cause's cause
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, MemoryError):
            return "memory: " + _place(cause), "".join(traceback.format_exception(error))[-3000:]
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    if "\n" in text or len(text) > LONGEST:
        return f"not one short line: {error.template[:60]}", text[:3000]
    return None


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/soban/" in frame.filename] or list(frames)
    last = own[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno} {last.name}"


@contextlib.contextmanager
def folder_of(format: Format) -> Iterator[Path]:
    """A folder in memory with the format's files."""
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = Path(tempfile.mkdtemp(prefix="soban-fuzz-", dir=base))
    try:
        put(folder, format.base)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put(folder: Path, files: Files, again: Files | None = None, before: Files | None = None) -> None:
    """Writes the files of a case; those of the case before go, and what they had replaced comes back.

    Every one is new: whoever has mapped the old one keeps it.
    """
    place = str(folder)
    for name in before or ():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{place}/{name}")
    for name, data in (*files.items(), *(again or {}).items()):
        path = f"{place}/{name}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(handle, data)
        os.close(handle)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is said meanwhile: libraries tell of their panics on stderr, soban of what it left out."""
    import logging

    logging.getLogger("soban").disabled = True
    nowhere = os.open(os.devnull, os.O_WRONLY)
    kept = os.dup(2)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def limit_memory() -> None:
    """What this process may have is what it has and MOST_MEMORY: more than that is refused by the system."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def keep(format: Format, failure: Failure, out: Path) -> None:
    """Keeps the input of a failure and what was told of it; of each kind the first three."""
    kind = "".join(c if c.isalnum() else "-" for c in failure.kind)[:80].strip("-")
    place = out / format.name / kind
    if place.is_dir() and len(list(place.iterdir())) >= 3:
        return
    mine = place / f"{failure.seed}-{failure.case}"
    for name, data in format.make(dice_of(format.name, failure.seed, failure.case)).items():
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_bytes(data)
    (mine / "told.txt").write_text(f"{failure.kind}\n\n{failure.told}\n", encoding="utf-8", errors="backslashreplace")
