"""A model as Ollama keeps it: a manifest that names blobs, of which one is a GGUF file and others say how to use it.

Layout: manifests/HOST/NAMESPACE/MODEL/TAG is JSON with `layers` of a mediaType, a digest and a size; a blob's file is
blobs/sha256-DIGEST. Nothing is ever written there.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from soban import messages
from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import open_regular, parse_object, quoted
from soban.messages import translate
from soban.weights.checkpoint import SYSTEM, Checkpoint
from soban.weights.gguf.opening import open_gguf

KIND = "application/vnd.ollama.image."  # how the mediaType of every layer begins
DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
MOST = 1 << 20  # bytes of a manifest, of parameters, of a system text
# Ollama's parameters -> generation_config's keys; what else there is chooses no tokens, or is told.
PARAMETERS = {
    "temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p",
    "repeat_penalty": "repetition_penalty", "num_predict": "max_new_tokens", "stop": "stop_strings",
}  # fmt: skip
SILENT = ("num_ctx", "num_keep", "seed", "num_gpu", "num_thread", "num_batch", "use_mmap", "repeat_last_n", "main_gpu")
APART = ("tensor", "json")  # layers of models that are no GGUF file


def layers(path: Path) -> dict[str, tuple[Path, int]]:
    """The file and the size of each kind of layer that a manifest names. Raises UserError where it is none."""
    value = _object(path).get("layers")
    files = {}
    for layer in value if isinstance(value, list) else []:
        entry = layer if isinstance(layer, dict) else {}
        kind, digest, size = (entry.get(key) for key in ("mediaType", "digest", "size"))
        match = DIGEST.fullmatch(digest) if isinstance(digest, str) else None
        if not isinstance(kind, str) or match is None or type(size) is not int:
            raise _damaged(path, quoted(layer))
        files[kind.removeprefix(KIND)] = (path.parents[4] / "blobs" / f"sha256-{match[1]}", size)
    return files


def open_ollama(path: Path) -> Checkpoint:
    """The checkpoint that a manifest names, with Ollama's parameters and system text in its generation config.

    Raises UserError for what is missing, damaged, or no GGUF model.
    """
    files = layers(path)
    if "adapter" in files or not files.keys().isdisjoint(APART):
        why = translate("it has an adapter") if "adapter" in files else translate("its tensors lie apart")
        raise UserError(
            "{path}: this model of Ollama's is not read: {why}", path=path, why=why,
            hint="take a model that is one GGUF file",
        )  # fmt: skip
    if "model" not in files:
        raise _damaged(path, "model")
    blob, size = files["model"]
    if not blob.is_file() or blob.stat().st_size != size:
        raise UserError(
            "{path}: Ollama has not fetched all of this model", path=path, name="/".join(path.parts[-2:]),
            hint="fetch it again with ollama pull",
        )  # fmt: skip
    checkpoint = open_gguf(blob)
    if "projector" in files:
        messages.warn("{path}: the text part of this model is run; pictures are not read", path=path)
    generation = {**checkpoint.generation_config, **_parameters(path, files)}
    if (system := _text(files, "system")) is not None and system.strip():
        generation[SYSTEM] = system.strip()
    extra = tuple(files[kind][0] for kind in ("params", "system") if kind in files)
    return replace(
        checkpoint, path=path, generation_config=generation, files=(path, *checkpoint.files, *extra)
    )  # fmt: skip


def _parameters(path: Path, files: Mapping[str, tuple[Path, int]]) -> dict[str, Any]:
    if "params" not in files:
        return {}
    parameters = _object(files["params"][0])
    for key, value in parameters.items():
        if key not in PARAMETERS and key not in SILENT:
            messages.warn("{path}: Ollama's {key}={value} is not followed", path=path, key=key, value=quoted(value))
    return as_generation(parameters)


def as_generation(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Ollama's parameters as generation_config has them; others are left out."""
    generation: dict[str, Any] = {}
    for key, value in parameters.items():
        if key in PARAMETERS and not (key == "num_predict" and value in (-1, -2)):  # as many as there is room for
            generation[PARAMETERS[key]] = value
    if any(key in generation for key in ("temperature", "top_k", "top_p", "min_p")):
        generation["do_sample"] = True
    if generation.get("temperature") == 0:
        others = {key: value for key, value in generation.items() if key in ("max_new_tokens", "stop_strings")}
        generation = {**others, "do_sample": False}
    return generation


def _text(files: Mapping[str, tuple[Path, int]], kind: str) -> str | None:
    return None if kind not in files else _read(files[kind][0]).decode("utf-8", "replace")


def _object(path: Path) -> dict[str, Any]:
    try:
        return parse_object(_read(path))
    except ValueError as error:
        raise _damaged(path, reason(error)) from None


def _read(path: Path) -> bytes:
    with open_regular(path) as file:
        data = file.read(MOST + 1)
    if len(data) > MOST:
        raise _damaged(path, str(len(data)))
    return data


def _damaged(path: Path, what: str) -> UserError:
    return UserError(
        "{path}: not a model of Ollama's: {what}", path=path, what=what, hint="fetch it again with ollama pull"
    )
