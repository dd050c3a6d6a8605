"""A little of the fuzzing: a hundred cases of every format, always the same; and that the fuzzer sees faults."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")


def test_changed_files_of_every_format_are_refused_or_loaded_rightly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--cases", "60", "--seed", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_crashes_hangs_memory_and_silent_errors_are_told_with_their_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from soban.base.errors import UserError
    from tests.fuzz import working
    from tests.fuzz.formats import Files, Format, Wrong

    monkeypatch.setattr(working, "SECONDS", 1.0)

    def make(dice: random.Random) -> Files:
        return {"kind": dice.choice([b"ok", b"no", b"crash", b"hang", b"memory", b"wrong", b"raise", b"long"])}

    def read(folder: Path, dice: random.Random) -> None:
        kind = (folder / "kind").read_bytes()
        if kind == b"crash":
            os.abort()
        if kind == b"hang":
            begun = time.process_time()
            while time.process_time() < begun + 30:
                pass
        if kind == b"memory":
            bytearray(3 << 30)
        if kind == b"wrong":
            raise Wrong("a sum")
        if kind == b"raise":
            raise KeyError("x")
        if kind in (b"no", b"long"):
            raise UserError("refused" if kind == b"no" else "long " * 1000)

    def beyond(files: Files) -> bool:
        return files["kind"] == b"ok"

    tally = working.run(Format("made up", make, read, beyond, {}), 5, 0, 24, tmp_path)
    drawn = [make(working.dice_of("made up", 5, case))["kind"] for case in range(24)]
    found = {failure.case: failure.kind.split(" ")[0] for failure in tally.failures}
    told = {
        b"crash": "signal",
        b"hang": "hang",
        b"memory": "MemoryError",
        b"wrong": "Wrong",
        b"raise": "KeyError",
        b"long": "not",
    }
    assert found == {case: told[kind] for case, kind in enumerate(drawn) if kind in told} and set(told) <= set(drawn)
    assert (tally.cases, tally.loads) == (24, drawn.count(b"ok"))
    assert tally.beyond == drawn.count(b"ok")
    crash = drawn.index(b"crash")
    assert (tmp_path / "made up" / "signal-6" / f"5-{crash}" / "kind").read_bytes() == b"crash"


def test_a_case_leaves_the_shapes_that_later_cases_draw_from() -> None:
    from tests.fuzz import changing, working

    before = json.dumps(changing.SHAPES)
    for case in range(3000):
        tree = [changing.strange(working.dice_of("shapes", 1, case)) for _ in range(3)]
        for _ in range(3):
            tree = changing.changed(working.dice_of("shapes", 2, case), tree)
            json.dumps(tree)  # no tree holds itself
    assert json.dumps(changing.SHAPES) == before
