"""Checkpoints: all that a training needs to go on, in one file that is always whole."""

import errno
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import parse_object
from soban.messages import translate

if TYPE_CHECKING:
    from torch import Tensor

NAME = "checkpoint.safetensors"
CLOCK = "seconds.json"  # beside it: how long the training took so far, in which equal ones differ
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Progress:
    """How far a training has come."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float | None = None  # the lowest held-out loss, in bits a byte
    best_step: int = 0


def whole(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` make a file beside `path`, then puts it in place at once, so that nobody ever finds half of it.

    Raises UserError where it cannot be written; what was at `path` is then as it was.
    """
    from safetensors import SafetensorError

    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # a power cut must not leave a name without content
        part.chmod(0o644)  # safetensors makes files that nobody else may read
        put(part, path)
    except (OSError, SafetensorError) as error:
        raise not_written(path, error) from error
    finally:
        part.unlink(missing_ok=True)  # also where a second Ctrl-C breaks it off


def put(part: Path, path: Path) -> None:
    """Puts a file in place of another. On Windows that fails while a program reads the other one: it is tried again
    for a moment."""
    for seconds in (0.1, 0.3, 0.6, None):
        try:
            os.replace(part, path)
            return
        except PermissionError:
            if seconds is None:
                raise
            time.sleep(seconds)


def not_written(path: Path, error: Exception) -> UserError:
    """What to do where a file cannot be written: a full disk is told from the rest."""
    full = getattr(error, "errno", None) in FULL or "os error 28" in str(error)  # as safetensors words it
    return UserError(
        "{path}: cannot be written ({reason})", path=path, reason=reason(error),
        hint="free some space on that disk" if full else "close what has it open, or check who may write there",
    )  # fmt: skip


def save(
    path: Path, weights: Mapping[str, "Tensor"], state: Mapping[str, "Tensor"], progress: Progress, mark: str
) -> None:  # fmt: skip
    """Weights, the optimisers' memory and the progress, without pickle; `mark` tells this training from others.

    Equal trainings give equal bytes: the library writes several texts of a header in random order, so there is one, and
    the time lies beside the file.
    """
    from safetensors.torch import save_file

    tensors = {f"weight.{name}": tensor.contiguous() for name, tensor in weights.items()}
    tensors |= {f"state.{name}": tensor.contiguous() for name, tensor in state.items()}
    header = {**asdict(progress), "training": mark}
    del header["seconds"]
    whole(path.with_name(CLOCK), lambda part: part.write_text(json.dumps(progress.seconds), encoding="utf-8"))
    whole(path, lambda part: save_file(tensors, part, {"progress": json.dumps(header)}))


def load(path: Path, weights: Mapping[str, "Tensor"], state: Mapping[str, "Tensor"], mark: str) -> Progress:
    """Fills the weights and the optimisers' memory, in place; the progress at which they were saved.

    Raises UserError for a file that is damaged, of another shape or of another training, and then changes nothing.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    targets = {f"weight.{name}": tensor for name, tensor in weights.items()}
    targets |= {f"state.{name}": tensor for name, tensor in state.items()}
    try:
        with safe_open(path, "pt") as file, torch.no_grad():
            progress, trained = _progress(path, file.metadata())
            if trained not in (None, mark):
                raise ValueError(translate("of another one"))
            if set(file.keys()) != set(targets):
                raise ValueError(translate("other tensors"))
            tensors = {name: file.get_tensor(name) for name in targets}
            for name, tensor in targets.items():
                if tensors[name].shape != tensor.shape:
                    shapes = {"found": list(tensors[name].shape), "wanted": list(tensor.shape)}
                    raise ValueError(translate("{name}: {found}, not {wanted}", name=name, **shapes))
            for name, tensor in targets.items():
                tensor.copy_(tensors[name])
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _not_one(path, error) from error
    return progress


def progress_of(path: Path) -> Progress:
    """The progress of a checkpoint, from its header alone. Raises UserError for a damaged one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return _progress(path, file.metadata())[0]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _not_one(path, error) from error


def _progress(path: Path, header: Mapping[str, str] | None) -> tuple[Progress, str | None]:
    """The progress and the mark in a checkpoint's header, each value checked. Raises ValueError, KeyError."""
    values = parse_object((header or {})["progress"].encode())
    for name in ("step", "tokens", "best_step"):
        if type(values[name]) is not int or values[name] < 0:
            raise ValueError(f"{name}: {str(values[name])[:40]}")
    best = values["best"]
    if best is not None and not (type(best) in (int, float) and abs(best) < math.inf):
        raise ValueError(f"best: {str(best)[:40]}")
    progress = Progress(values["step"], values["tokens"], _seconds(path), best, values["best_step"])
    return progress, values.get("training", (header or {}).get("training"))  # where it stood before


def _seconds(path: Path) -> float:
    """How long the training took so far; 0 where that is not known, which changes nothing but the clock."""
    try:
        seconds = json.loads(path.with_name(CLOCK).read_text(encoding="utf-8"))
        return float(seconds) if 0 <= seconds < math.inf else 0.0
    except (OSError, ValueError, TypeError, OverflowError, RecursionError):
        return 0.0


def _not_one(path: Path, error: Exception) -> UserError:
    return UserError(
        "{path}: not a checkpoint of this training ({reason})", path=path, reason=reason(error),
        hint="start again with another --out",
    )  # fmt: skip
