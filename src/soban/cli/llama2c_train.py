"""The flags of llama2.c's train.py: those that `soban train` takes mean its own, the others are refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from soban.base.errors import UserError
from soban.learn.training.arguments import TrainArguments, feed_forward

Truth = Literal["True", "False"]  # as llama2.c's flags have it


@dataclass(frozen=True)
class Llama2cFlags:
    """Flags of llama2.c's train.py that are no others of ours; those that are have its names in `also`."""

    multiple_of: int
    decay_lr: Truth
    eval_iters: int
    log_interval: int
    vocab_source: Literal["llama2", "custom"]
    vocab_size: int
    always_save_checkpoint: Truth
    eval_only: Truth
    compile: Truth
    dropout: float
    wandb_log: Truth
    wandb_project: str
    wandb_run_name: str


LLAMA2C: dict[str, dict[str, Any]] = {
    "multiple_of": {"help": "the width inside the feed-forward layers is rounded up to one"},
    "decay_lr": {"help": "True: as --schedule cosine; False: as --schedule constant"},
    "eval_iters": {"help": "batches that a measurement takes"},
    "log_interval": {"help": "steps between two lines where the output is no terminal"},
    "vocab_source": {"help": "must be as the data is"},
    "vocab_size": {"help": "must be as the data has it"},
    "always_save_checkpoint": {"help": "a checkpoint is always kept, and OUT has the best model"},
    "eval_only": {"help": "False; soban eval measures"},
    "compile": {"help": "False: nothing is compiled"},
    "dropout": {"help": "0: nothing is dropped", "example": "0"},
    "wandb_log": {"help": "False: nothing is sent anywhere"},
    "wandb_project": {"help": "not taken"},
    "wandb_run_name": {"help": "not taken"},
}


def translated(arguments: TrainArguments, flags: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ours that these flags of llama2.c mean beside the others.

    Raises UserError for those that mean what is not done here.
    """
    _refuse(flags)
    for name in ("eval_iters", "log_interval"):
        if (value := flags.get(name, 1)) < 1:
            raise _too_small(name.replace("_", "-"), value)
    own: dict[str, Any] = {}
    if arguments.init_from == "resume":
        own |= {"resume": True, "init_from": "scratch"}
    if "decay_lr" in flags:
        own["schedule"] = "cosine" if flags["decay_lr"] == "True" else "constant"
    if "eval_iters" in flags:
        own["measure_batches"] = flags["eval_iters"]
    if "multiple_of" in flags:
        own["intermediate_size"] = _inner(arguments, flags["multiple_of"])
    return own


def _inner(arguments: TrainArguments, multiple: int) -> int:
    if arguments.hidden_size is None or arguments.intermediate_size is not None:
        raise UserError(
            "--multiple-of {value} says nothing here", value=multiple,
            hint="it goes with --hidden-size (llama2.c's --dim), and without --intermediate-size",
        )  # fmt: skip
    if multiple < 1:
        raise _too_small("multiple-of", multiple)
    return feed_forward(arguments.hidden_size, multiple)


def _too_small(name: str, value: int) -> UserError:
    return UserError("--{name} {value} is too small", name=name, value=value, least=1, hint="at least {least}")


def _refuse(flags: dict[str, Any]) -> None:
    """UserError for what would change nothing here, or something else than it says."""
    if flags.get("dropout", 0) != 0:
        raise UserError(
            "--dropout {value}: this drops nothing, for few passes over the data need none", value=flags["dropout"],
            hint="leave it out; against learning by heart take more text, or --weight-decay",
        )  # fmt: skip
    if flags.get("compile") == "True":
        raise UserError(
            "--compile True: nothing is compiled here", hint="leave it out"
        )  # fmt: skip
    if flags.get("eval_only") == "True":
        raise UserError("--eval-only True: this only trains", hint="soban eval measures a model")
    if flags.get("wandb_log") == "True" or "wandb_project" in flags or "wandb_run_name" in flags:
        raise UserError(
            "wandb: nothing is sent anywhere", hint="the curves are in training/losses.csv and losses.png of --out"
        )


def check_vocabulary(flags: dict[str, Any], data: str | Path, entries: int) -> None:
    """UserError where llama2.c's flags name another vocabulary than the data's."""
    size = flags.get("vocab_size", 0)
    if flags.get("vocab_source") == "llama2":
        size = size or 32000
    if size and size != entries:
        raise UserError(
            "{path}: its vocabulary has {entries} entries, not {wanted}", path=data, entries=entries,
            wanted=size, hint="leave the flag out, or make the data with --vocab-size {wanted}",
        )  # fmt: skip
