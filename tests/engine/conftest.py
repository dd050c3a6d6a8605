"""The model of the engine's tests: a small random Gemma 2."""

import pytest

from soban.models import architecture
from soban.packing.assemble import assemble
from soban.weights.opening import open_checkpoint

from ..conftest import GOLDEN


@pytest.fixture
def weights(backend: str) -> object:
    checkpoint = open_checkpoint(GOLDEN / "gemma2")
    made = architecture(checkpoint.config)
    return made, assemble(made, checkpoint)
