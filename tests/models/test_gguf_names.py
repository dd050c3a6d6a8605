"""The names of tensors in GGUF files, against the table of gguf-py, which llama.cpp's converter writes them by."""

from typing import Any

import pytest

from soban.models import architecture

from .official import CONFIGS

gguf = pytest.importorskip("gguf")
SUFFIXES = (".weight", ".bias")
ARCHITECTURES = {
    "mistral": "llama",
    "ministral3": "mistral3",
    "gemma3_text": "gemma3",
    "gemma4_text": "gemma4",
    "qwen3_5_text": "qwen35",
    "gpt_neox": "gptneox",
    "phi": "phi2",
}  # where it has not the name of the model_type
CASES = {**CONFIGS, "exaone": {**CONFIGS["llama"], "model_type": "exaone", "num_layers": 2}}


def bare(name: str) -> str:
    """Without the prefix that BLOOM's files do not have, and as the converter calls a bias of Qwen 3.5's."""
    return name.removeprefix("transformer.").replace(".dt_bias", ".dt_proj.bias")


@pytest.mark.parametrize("family", sorted(CASES.keys() - {"hyperclovax"}))
def test_every_tensor_has_the_name_that_the_converter_gives_it(family: str) -> None:
    arch = architecture(CASES[family])
    wanted = ARCHITECTURES.get(family, family)
    named = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == wanted)
    table = gguf.get_tensor_name_map(named, arch.config.num_hidden_layers)
    for part in arch.plan.parts():
        known = [table.get_name(name, try_suffixes=SUFFIXES) for name in (part.source(), bare(part.source()))]
        assert part.source("gguf") in known or part.source("gguf") == f"{known[0]}.weight"  # a number has no suffix
    assert dict[str, Any](arch.plan.names("gguf"))
