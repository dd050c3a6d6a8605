"""Small models with a chat template, without torch."""

import json
from pathlib import Path
from typing import Any

from tests.models.official import CONFIGS, configure, folder_of
from tests.tiny import TEMPLATE


def model(folder: Path, family: str, **changes: Any) -> Path:
    """A random model whose tokens are bytes, with a chat template."""
    longest = "n_positions" if family == "gpt2" else "max_position_embeddings"
    config = {**CONFIGS[family], "bos_token_id": 2, "eos_token_id": 1, longest: 256, **changes}
    folder_of(folder, config)
    configure(folder, config)
    settings = {"bos_token": "<bos>", "eos_token": "<eos>", "add_bos_token": True, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
