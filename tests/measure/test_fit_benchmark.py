"""benchmarks/fit.py: what it measures, by a clock that goes by the tokens which are computed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
CLOCK = """
import sys, time
sys.path.insert(0, {folder!r})
import fit
from soban.engine.engine import Engine
now, make = 0.0, Engine._batch
def counting(*given):
    global now
    batch = make(*given)
    now += {second} * batch.token_count
    return batch
Engine._batch = counting
time.perf_counter = lambda: now
exec(fit.MEASURE)
"""


@pytest.mark.parametrize("context", [40, 120, 264])
@pytest.mark.parametrize("second", [1.0, 0.001])
def test_a_token_a_second_is_measured_as_that_by_any_context(context: int, second: float) -> None:
    code = CLOCK.format(folder=str(BENCHMARKS), second=second)
    done = subprocess.run(
        [sys.executable, "-c", code, "", "q8", str(context)], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["prefill"] == pytest.approx(1 / second)
    assert found["decode"] == pytest.approx(1 / second)
