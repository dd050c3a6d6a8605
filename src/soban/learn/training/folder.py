"""The folder of a training: the model as transformers has it, and under training/ what it takes to go on."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import read_json
from soban.learn.training import checkpoint
from soban.learn.training.settings import MAY_CHANGE, Learning, Settings, from_json

if TYPE_CHECKING:
    from torch import Tensor

TRAINING = "training"  # the subfolder
SETTINGS = "settings.json"
LOCK = ".lock"
WORK = ".model-"  # how folders begin in which a model is put together
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
# What a sampled story needs: warm enough to vary, cool enough to keep to its own names and things
SAMPLING: dict[str, Any] = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 50, "max_new_tokens": 256}


def settings_of(folder: Path) -> Settings:
    """The settings of a training that has begun there. Raises UserError where none has."""
    path = folder / TRAINING / SETTINGS
    if not path.is_file() or not (folder / TRAINING / checkpoint.NAME).is_file():
        raise UserError(
            "{path}: no checkpoint to go on from", path=folder, hint="check --out, or leave --resume out to begin"
        )
    try:
        return from_json(read_json(path)["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "{path}: not the settings of a training ({reason})", path=path, reason=reason(error),
            hint="begin again with another --out",
        ) from None  # fmt: skip


def minutes_of(folder: Path) -> float | None:
    """The --minutes that the training there was given last."""
    minutes = read_json(folder / TRAINING / SETTINGS).get("minutes")
    return minutes if isinstance(minutes, int | float) else None


def check_same(began: Settings, arguments: Settings, names: frozenset[str]) -> None:
    """UserError where one of these settings would make another training of a continuation."""
    before, now = _flat(asdict(began)), _flat(asdict(arguments))
    for key, value in before.items():
        if key in names - MAY_CHANGE and now[key] != value:
            if key == "processes":
                raise UserError(
                    "the checkpoint was trained by {value} processes, not by {other}", value=value, other=now[key],
                    hint="accelerate launch --num_processes {value}",
                )  # fmt: skip
            if key == "initial_hash":
                raise UserError(
                    "the checkpoint began with other weights", hint="leave --init-from out, or choose another --out"
                )
            what = {"data_hash": "data", "tokenizer_hash": "tokenizer"}.get(key)
            if what:
                raise UserError(
                    "the checkpoint was trained with other {what}", what=what,
                    hint="give the folder of --data that it began with, or another --out",
                )  # fmt: skip
            raise UserError(
                "the checkpoint was trained with {name} {value}, not {other}", name=key, value=value, other=now[key],
                hint="leave the flag out, or choose another --out",
            )  # fmt: skip


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, **settings["shape"], "shape": None}


def check_free(folder: Path) -> None:
    """UserError where the folder holds a training or a model already, or cannot be a folder."""
    if (folder / TRAINING / checkpoint.NAME).exists():
        raise UserError(
            "{path}: holds a training already", path=folder, hint="--resume goes on with it; or choose another --out"
        )
    if (folder / "config.json").exists():
        raise UserError("{path}: holds a model already", path=folder, hint="choose another --out")
    if folder.exists() and not folder.is_dir():
        raise UserError("{path}: not a folder", path=folder, hint="choose another --out")


def check_apart(folder: Path, data: Path) -> None:
    """UserError where the model would lie among the data, whose files have the names of its own."""
    if data.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise UserError("{path}: lies in the folder of the data", path=folder, hint="choose another --out")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other training in the folder meanwhile; makes it, and removes what a kill has left half written.

    Raises UserError where one runs or it cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / TRAINING / LOCK)
    try:
        (folder / TRAINING).mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            "{path}: another training is running there", path=folder, hint="wait for it, or choose another --out"
        ) from None
    except OSError as error:
        raise UserError(
            "{path}: cannot be made ({reason})", path=folder, reason=reason(error),
            hint="choose another folder with --out",
        ) from error  # fmt: skip
    try:
        for path in (*folder.glob(f"{WORK}*"), *folder.glob("*.[0-9]*.part"), *(folder / TRAINING).glob("*.part")):
            with suppress(OSError):  # what is in use on Windows goes another time
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield
    finally:
        lock.release()


def begin(folder: Path, settings: Learning, about: Mapping[str, Any]) -> None:
    """Writes down in the folder what is trained there; `about`: the command, versions, what it learns from.

    What was told of the commands before stays there.
    """
    path = folder / TRAINING / SETTINGS
    before: list[Any] = []
    if (folder / TRAINING / checkpoint.NAME).exists():  # a continuation
        content = read_json(path)
        before = [*content.get("before", []), {name: content.get(name) for name in about}]
    write_json(path, {"settings": settings.as_json(), **about, "before": before})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file that people can read, whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    checkpoint.whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def export(folder: Path, model: Any, weights: Mapping[str, "Tensor"], tokenizer: Mapping[str, bytes]) -> None:
    """The model as a Hugging Face folder, in float32, with the files of its tokenizer.

    Each file is put in place whole. Raises UserError where they cannot be written.
    """
    from transformers import GenerationConfig

    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=WORK) as name:
            work = Path(name)
            config = type(model.config).from_dict(model.config.to_dict() | {"architectures": [type(model).__name__]})
            config.dtype = "float32"
            config.save_pretrained(work)
            ids = {key: getattr(config, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
            GenerationConfig(**SAMPLING, **ids).save_pretrained(work)
            for name, content in tokenizer.items():
                (work / name).write_bytes(content)
            _save_weights(work / "model.safetensors", weights)
            for path in sorted(work.iterdir(), key=lambda path: path.suffix == ".safetensors"):
                checkpoint.put(path, folder / path.name)
    except OSError as error:
        raise checkpoint.not_written(folder, error) from error


def _save_weights(path: Path, weights: Mapping[str, "Tensor"]) -> None:
    from safetensors.torch import save_file

    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    checkpoint.whole(path, lambda part: save_file(tensors, part, {"format": "pt"}))


def tokenizer_files(data: Path, context: int) -> dict[str, bytes]:
    """The tokenizer's files for a model, with the longest text that it learns from. Read once: what lies in the data's
    folder hours later may be another one."""
    config = read_json(data / TOKENIZER[1]) | {"model_max_length": context}
    content = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    return {TOKENIZER[0]: (data / TOKENIZER[0]).read_bytes(), TOKENIZER[1]: content.encode()}
