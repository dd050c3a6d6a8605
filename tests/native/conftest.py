"""Every test of the native library that takes an `isa` runs on each instruction set of this machine."""

import pytest

from soban.ops import native


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", native.isas() or ["none"])


@pytest.fixture(autouse=True)
def _library() -> None:
    if native.library() is None:
        pytest.skip("the native library is not built: cmake --build build/native --target develop")
