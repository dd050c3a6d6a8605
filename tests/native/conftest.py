"""Every test of the native library that takes an `isa` runs on each instruction set of this machine.

One that takes `isas` gets them all: where the reference, which is the same for each, takes most of the time.

SOBAN_RUNNER=COMMAND makes it the machine on which that command runs tests/native/runner.cpp: an emulator, say.
"""

import os
import shlex

import pytest

from soban.ops import native

if command := os.environ.get("SOBAN_RUNNER"):
    from tests.native.remote import Remote

    remote = Remote(shlex.split(command))
    native.library = lambda: remote  # type: ignore[assignment, return-value]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", native.isas() or ["none"])
    if "isas" in metafunc.fixturenames:
        metafunc.parametrize("isas", [native.isas()], ids=["-".join(native.isas())])


@pytest.fixture(autouse=True)
def _library() -> None:
    if native.library() is None:
        pytest.skip("the native library is not built: cmake --build build/native --target develop")
