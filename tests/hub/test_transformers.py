"""One cache for soban and transformers: what either has fetched, the other finds without the network."""

import importlib.util
from pathlib import Path

import pytest

from soban.hub import download, store
from soban.hub.names import Repository
from tests.hub.stub import Hub, Model
from tests.hub.test_stub import client

MODEL = Repository("owner/model")
FILES: dict[str, bytes | Path] = {
    "config.json": b'{"model_type": "gpt2", "n_layer": 3}',
    "tokenizer.json": b"{}", "model.safetensors": b"x" * 50_000,
}  # fmt: skip
LOAD = "from transformers import AutoConfig; print(AutoConfig.from_pretrained('owner/model').num_hidden_layers)"
FILE = "from transformers.utils import cached_file; print(cached_file('owner/model', 'model.safetensors'))"


@pytest.mark.slow
def test_transformers_finds_what_soban_has_fetched_and_soban_what_transformers_has(hub: Hub, tmp_path: Path) -> None:
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("needs transformers")
    hub.models[MODEL.id] = Model(dict(FILES))
    folder = download.pull(MODEL, lambda _: None)
    said = client(hub, tmp_path / "home", f"{LOAD}\n{FILE}", HF_HUB_OFFLINE="1").split()
    assert said[0] == "3" and Path(said[1]) == folder / "model.safetensors"
    fetch = f"{LOAD}\n{FILE}\nprint(cached_file('owner/model', 'tokenizer.json'))"
    client(hub, tmp_path / "other", fetch)
    assert store.complete_folder(MODEL, tmp_path / "other" / "hub") == tmp_path / "other" / "hub" / folder.relative_to(
        tmp_path / "home" / "hub"
    )
