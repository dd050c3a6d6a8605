"""Which files of a folder or a repository hold a model's weights, by their names alone."""

import re
from collections.abc import Iterable
from pathlib import Path

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"  # what most models call these tensors
NAMED = "transformers_weights"  # a key of config.json that names the file, or the index, of the weights
# A file of weights lies in the folder itself: no separators and no drive, so that no index can point elsewhere.
SHARD = re.compile(r"[^/\\:\0\ud800-\udfff]+\.safetensors")
PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
SPLIT = re.compile(r"-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")  # how the name of one of several GGUF files ends
BELONGING = (
    "mmproj",
    "imatrix",
    "ggml-vocab",
)  # what is no model: pictures', a matrix of importance, words
OTHERS = ("consolidated", "adapter_model", ".")  # the makers' own layout, what is no whole model, what is hidden


def unlisted(names: Iterable[str]) -> list[str]:
    """The files that hold a model where there is neither model.safetensors nor an index: the only one, or all parts.

    Empty where there are none, or it is open which of them belong together.
    """
    files = sorted(name for name in names if SHARD.fullmatch(name) and not name.startswith(OTHERS))
    parts = [part for name in files if (part := PART.fullmatch(name))]
    if not parts:
        return files if len(files) == 1 else []
    stem, count = parts[0]["stem"], parts[0]["count"]
    whole = [f"{stem}-{number:05}-of-{count}.safetensors" for number in range(1, int(count) + 1)]
    return files if files == whole else []


def gguf_models(names: Iterable[str]) -> list[str]:
    """The GGUF files that hold a model each, of one in several files the first; what belongs to a model is left out."""
    files = sorted(name for name in names if name.lower().endswith(".gguf") and not name.startswith("."))
    return [
        name for name in files
        if not name.lower().startswith(BELONGING)
        and ((split := SPLIT.search(name)) is None or int(split["number"]) == 1)
    ]  # fmt: skip


def is_manifest(path: Path) -> bool:
    """Whether a path is where Ollama keeps what it knows of a model: manifests/HOST/NAMESPACE/MODEL/TAG."""
    return len(path.parents) > 4 and path.parents[3].name == "manifests"
