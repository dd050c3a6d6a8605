"""The folder of a tuning: the adapter as peft has it, and under training/ what it takes to go on."""

from dataclasses import asdict
from pathlib import Path

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import read_json
from soban.learn.training import checkpoint
from soban.learn.training.folder import SETTINGS, TRAINING
from soban.learn.tuning.settings import MAY_CHANGE, TuneSettings, from_json

NOW = "now"  # under training/: the adapter as it is, for answers that are shown
WHAT = {"data_hash": "data", "model_hash": "model"}


def settings_of(folder: Path) -> TuneSettings:
    """The settings of a tuning that has begun there. Raises UserError where none has."""
    path = folder / TRAINING / SETTINGS
    if not path.is_file() or not (folder / TRAINING / checkpoint.NAME).is_file():
        raise UserError(
            "{path}: no checkpoint to go on from", path=folder, hint="check --out, or leave --resume out to begin"
        )
    try:
        return from_json(read_json(path)["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "{path}: not the settings of a tuning ({reason})", path=path, reason=reason(error),
            hint="begin again with another --out",
        ) from None  # fmt: skip


def check_same(began: TuneSettings, now: TuneSettings, names: frozenset[str]) -> None:
    """UserError where one of these settings would make another tuning of a continuation."""
    before, after = asdict(began), asdict(now)
    for key in sorted(names - MAY_CHANGE):
        if before[key] == after[key]:
            continue
        if key in WHAT:
            raise UserError(
                "the checkpoint was tuned with another {what}", what=WHAT[key],
                hint="give the one that it began with, or choose another --out",
            )  # fmt: skip
        raise UserError(
            "the checkpoint was tuned with {name} {value}, not {other}", name=key, value=before[key], other=after[key],
            hint="leave the flag out, or choose another --out",
        )  # fmt: skip


def check_free(folder: Path) -> None:
    """UserError where the folder holds a tuning, an adapter or a model already, or cannot be a folder."""
    if (folder / TRAINING / checkpoint.NAME).exists():
        raise UserError(
            "{path}: holds a training already", path=folder, hint="--resume goes on with it; or choose another --out"
        )
    for name in ("adapter_config.json", "config.json"):
        if (folder / name).exists():
            raise UserError("{path}: holds a model already", path=folder, hint="choose another --out")
    if folder.exists() and not folder.is_dir():
        raise UserError("{path}: not a folder", path=folder, hint="choose another --out")
