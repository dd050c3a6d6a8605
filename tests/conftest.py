"""What all tests share: where the fixtures lie, and who computes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from soban.ops import native

FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures"
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The folder of real models and texts beside the checkout; the test is skipped where it is missing."""
    if not FIXTURES.is_dir():
        pytest.skip("needs ../shared/fixtures beside the checkout")
    return FIXTURES


@pytest.fixture(params=["reference", "scalar", "avx2", "fastest"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs on the NumPy reference and on three instruction sets; one that this machine lacks is skipped.

    tests/native runs every kernel on every set; here it is whole models and what they are called by.
    """
    name: str = request.param
    if name == "reference":
        monkeypatch.setenv("SOBAN_OPS", "reference")
        return name
    if native.library() is None:
        pytest.skip("the native library is not built")
    name = native.isas()[-1] if name == "fastest" else name
    if name not in native.isas():
        pytest.skip(f"this machine does not run {name}")
    monkeypatch.setenv("SOBAN_ISA", name)
    return name


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's cache, speaks another language, or leaves its settings to the next."""
    before = dict(os.environ)
    os.environ["SOBAN_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")
    os.environ["SOBAN_LANG"] = "en"
    for name in ("SOBAN_THREADS", "SOBAN_ISA", "SOBAN_OPS"):
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)
