"""What the tests of teaching share: torch in one thread, for two wait for each other wherever cores are shared."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Where torch is installed."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)
