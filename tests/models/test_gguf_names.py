"""The names of tensors in GGUF files, against the table of gguf-py, which llama.cpp's converter writes them by."""

from typing import Any

import pytest

from soban.models import architecture

from .official import CONFIGS

gguf = pytest.importorskip("gguf")
SUFFIXES = (".weight", ".bias")


@pytest.mark.parametrize("family", CONFIGS)
def test_every_tensor_has_the_name_that_the_converter_gives_it(family: str) -> None:
    arch = architecture(CONFIGS[family])
    named = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == arch.family.name)
    table = gguf.get_tensor_name_map(named, arch.config.num_hidden_layers)
    for part in arch.plan.parts():
        assert part.source("gguf") == table.get_name(part.source(), try_suffixes=SUFFIXES)
    assert dict[str, Any](arch.plan.names("gguf"))
