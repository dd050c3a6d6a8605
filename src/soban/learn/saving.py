"""What training leaves on disk: a checkpoint to resume from, and the finished Hugging Face folder."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soban.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from soban.learn.gemma2 import Config

CHECKPOINT = "checkpoint.safetensors"

# Which text a sampled story needs: warm enough to vary, cool enough to keep to its own names and things.
SAMPLING: dict[str, float] = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 50, "max_new_tokens": 256}


@dataclass(frozen=True)
class Progress:
    """How far a training has come."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0


def whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then put it in place at once, so that nobody finds half of it."""
    from safetensors import SafetensorError

    part = path.with_name(path.name + ".part")
    try:
        write(part)
        part.chmod(0o644)  # safetensors makes files that nobody else may read
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise UserError(
            "{path}: cannot be written ({reason})", path=path, reason=error, hint="free some space"
        ) from error


def save_json(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file that people can read."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def save_checkpoint(
    folder: Path, weights: Mapping[str, "Tensor"], state: Mapping[str, "Tensor"], progress: Progress
) -> None:
    """Weights, the optimisers' memory and the place in the data, in one file without pickle."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach() for name, tensor in (*weights.items(), *state.items())}
    metadata = {name: repr(value) for name, value in asdict(progress).items()}
    whole(folder / CHECKPOINT, lambda part: save_file(tensors, part, metadata))


def load_checkpoint(folder: Path, weights: Mapping[str, "Tensor"], state: Mapping[str, "Tensor"]) -> Progress:
    """Fill the weights and the optimisers' memory, in place; the progress at which they were saved."""
    import torch
    from safetensors import SafetensorError, safe_open

    path = folder / CHECKPOINT
    try:
        with safe_open(path, "pt") as file, torch.no_grad():
            metadata = file.metadata()
            for name, tensor in (*weights.items(), *state.items()):
                tensor.copy_(file.get_tensor(name))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(
            "{path}: not a checkpoint of this model ({reason})",
            path=path,
            reason=error,
            hint="start again without --resume",
        ) from error
    return Progress(int(metadata["step"]), float(metadata["seconds"]), int(metadata["tokens"]))


def save_model(folder: Path, config: "Config", weights: Mapping[str, "Tensor"], ids: dict[str, int]) -> None:
    """config.json, generation_config.json and model.safetensors; `ids` are those of pad, eos and bos."""
    from safetensors.torch import save_file

    tensors = {name: weight.detach() for name, weight in weights.items()}
    whole(folder / "model.safetensors", lambda part: save_file(tensors, part, {"format": "pt"}))
    save_json(folder / "config.json", config.as_json() | ids)
    save_json(folder / "generation_config.json", SAMPLING | ids)
