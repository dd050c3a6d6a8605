"""What the tests of teaching share: data, and torch in one thread, for two wait for each other on shared cores."""

from pathlib import Path

import pytest

from tests.learn.training import small


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Where torch is installed."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data of 300 tales."""
    return small.tales(tmp_path_factory.mktemp("training"))
