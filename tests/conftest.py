"""What all tests share: where the fixtures lie."""

from pathlib import Path

import pytest

FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures"


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The folder of real models and texts beside the checkout; the test is skipped where it is missing."""
    if not FIXTURES.is_dir():
        pytest.skip("needs ../shared/fixtures beside the checkout")
    return FIXTURES
