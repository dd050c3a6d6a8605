"""The flags of `soban train`, those of llama2.c's train.py among them."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from soban.base.errors import UserError
from soban.learn.training import presets
from soban.learn.training.settings import Optimizer, Schedule

Truth = Literal["True", "False"]  # as llama2.c's flags have it
MULTIPLE = 32  # of which llama2.c makes the inner width


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


@dataclass(frozen=True)
class TrainOptions:
    """Train a small model from nothing, on data that `soban data` has made.

    OUT becomes a Hugging Face folder that soban and transformers load; the best model so far is there while it is
    trained. Ctrl-C saves a checkpoint, and --resume goes on from it to the same weights, bit for bit.
    """

    data: str = field(metadata={"help": "folder made by soban data", "metavar": "FOLDER"})
    out: str = field(metadata={"help": "folder for the model", "metavar": "FOLDER", "also": ("--out-dir",)})
    preset: str = field(
        default=presets.USUAL,
        metadata={"help": "size of the network: 260k, 1m, 3m, 5m, 15m, 42m or 110m", "metavar": "NAME"},
    )
    forecast: bool = field(
        default=False, metadata={"help": "only tell what it would take, and come to: time, memory, loss"}
    )
    resume: bool = field(default=False, metadata={"help": "go on from the checkpoint in --out"})
    init_from: str = field(
        default="scratch",
        metadata={
            "help": "begin with the weights of a model that this has trained (resume: as --resume)",
            "metavar": "FOLDER",
        },
    )
    steps: int | None = field(
        default=None,
        metadata={
            "help": "steps to train (default: 20 tokens for each weight, 4 passes over the data at most)",
            "also": ("--max-iters",),
        },
    )
    minutes: float | None = field(default=None, metadata={"help": "time to train, in place of steps", "example": "30"})
    pause_on: str | None = field(
        default=None,
        metadata={
            "help": "pause while the PC runs on battery, or while other programs want the processor",
            "metavar": "battery,load",
        },
    )
    priority: Literal["low", "normal"] = field(
        default="low", metadata={"help": "low: other programs get the processor first"}
    )
    prompt: tuple[str, ...] = field(
        default=(), metadata={"help": "opening of a sample that is shown at every measurement", "metavar": "TEXT"}
    )
    samples: bool = field(
        default=True,
        metadata={"help": "show samples (default)", "off": "--no-samples", "off_help": "show no samples"},
    )
    evaluate_every: int | None = field(
        default=None,
        metadata={
            "help": "steps between two measurements on text held out (default: 20 in all)",
            "also": ("--eval-interval",),
        },
    )
    batch_size: int | None = field(default=None, metadata={"help": "rows in a step (default: 8192 tokens)"})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "batches that a step is made of"})
    learning_rate: float | None = field(
        default=None, metadata={"help": "the highest (default: 4e-3 with muon, 1e-3 with adamw)", "example": "1e-3"}
    )
    optimizer: Optimizer = field(default="muon", metadata={"help": "what moves the weights"})
    schedule: Schedule = field(
        default="wsd", metadata={"help": "of the learning rate; wsd: up, level, and down to zero in the last half"}
    )
    warmup_steps: int | None = field(
        default=None, metadata={"help": "steps over which it rises (default: 2 %)", "also": ("--warmup-iters",)}
    )
    decay: float = field(default=0.5, metadata={"help": "share of the steps over which wsd falls", "example": "0.3"})
    weight_decay: float = field(default=0.1, metadata={"help": "how strongly weights are drawn to zero"})
    beta1: float = field(default=0.9, metadata={"help": "AdamW's memory of gradients", "example": "0.9"})
    beta2: float = field(default=0.95, metadata={"help": "AdamW's memory of their squares", "example": "0.95"})
    grad_clip: float = field(default=1.0, metadata={"help": "longest gradient", "example": "1.0"})
    dtype: Literal["auto", "float32", "bfloat16"] = field(
        default="auto", metadata={"help": "of the arithmetic; auto: bfloat16 where the processor has units for it"}
    )
    device: Literal["auto", "cpu", "cuda"] = field(default="auto", metadata={"help": "auto: a GPU where there is one"})
    seed: int = field(default=0, metadata={"help": "decides the first weights and the order of the data"})
    family: Literal["llama", "gemma2"] = field(default="llama", metadata={"help": "kind of network"})
    context: int | None = field(default=None, metadata={"help": "longest text in tokens", "also": ("--max-seq-len",)})
    window: int | None = field(default=None, metadata={"help": "tokens that every other layer of gemma2 looks back"})
    hidden_size: int | None = field(default=None, metadata={"help": "width of the network", "also": ("--dim",)})
    intermediate_size: int | None = field(
        default=None, metadata={"help": "width inside the feed-forward layers (default: 8/3 of --hidden-size)"}
    )
    layers: int | None = field(default=None, metadata={"help": "depth of the network", "also": ("--n-layers",)})
    heads: int | None = field(default=None, metadata={"help": "attention heads", "also": ("--n-heads",)})
    key_value_heads: int | None = field(
        default=None,
        metadata={"help": "heads of keys and values (default: as many as --heads)", "also": ("--n-kv-heads",)},
    )
    spelled: frozenset[str] = field(default=frozenset(), metadata={"spelled": True})  # the flags that were given
    llama2c: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "flags of llama2.c's train.py, for its users", "flags_of": (Llama2cFlags, LLAMA2C)},
    )


def plain(options: TrainOptions) -> TrainOptions:
    """The options with llama2.c's flags turned into ours, as far as that can be told without the data.

    Raises UserError for those that mean what is not done here.
    """
    given = options.llama2c
    _refuse(given)
    _refuse_idle(options)
    if options.init_from == "resume":
        options = replace(options, resume=True, init_from="scratch")
    if "decay_lr" in given:
        options = replace(options, schedule="cosine" if given["decay_lr"] == "True" else "constant")
    if options.hidden_size is not None and options.intermediate_size is None:
        width = feed_forward(options.hidden_size, given.get("multiple_of", MULTIPLE))
        options = replace(options, intermediate_size=width)
    elif "multiple_of" in given:
        raise UserError(
            "--multiple-of {value} says nothing here", value=given["multiple_of"],
            hint="it goes with --hidden-size (llama2.c's --dim), and without --intermediate-size",
        )  # fmt: skip
    if options.heads is not None and options.key_value_heads is None:
        options = replace(options, key_value_heads=options.heads)
    return options


def feed_forward(width: int, multiple: int) -> int:
    """llama2.c's inner width: two thirds of four times the outer one, rounded up."""
    if multiple < 1:
        raise UserError("--{name} {value} is too small", name="multiple-of", value=multiple, least=1,
                        hint="at least {least}")  # fmt: skip
    return -(-(2 * 4 * width // 3) // multiple) * multiple


def _refuse(given: dict[str, Any]) -> None:
    """UserError for what would change nothing here, or something else than it says."""
    if given.get("dropout", 0) != 0:
        raise UserError(
            "--dropout {value}: this drops nothing, for few passes over the data need none", value=given["dropout"],
            hint="leave it out; against learning by heart take more text, or --weight-decay",
        )  # fmt: skip
    if given.get("compile") == "True":
        raise UserError(
            "--compile True: nothing is compiled here", hint="leave it out"
        )  # fmt: skip
    if given.get("eval_only") == "True":
        raise UserError("--eval-only True: this only trains", hint="soban eval measures a model")
    if given.get("wandb_log") == "True" or "wandb_project" in given or "wandb_run_name" in given:
        raise UserError(
            "wandb: nothing is sent anywhere", hint="the curves are in training/losses.csv and losses.png of --out"
        )


def flag_of(name: str) -> str:
    """As a field's flag is written."""
    return "--" + name.replace("_", "-")


def _refuse_idle(options: TrainOptions) -> None:
    """UserError for a flag that would say nothing beside the others."""
    idle = {
        "window": (options.window is not None and options.family != "gemma2" and not options.resume, "--family gemma2"),
        "decay": (flag_of("decay") in options.spelled and options.schedule != "wsd", "--schedule wsd"),
        "prompt": (bool(options.prompt) and not options.samples, "--samples"),
    }
    for name, (says_nothing, other) in idle.items():
        if says_nothing:
            raise UserError(
                "{flag} says nothing without {other}", flag=flag_of(name), other=other, hint="leave one of them out"
            )


def check_vocabulary(options: TrainOptions, entries: int) -> None:
    """UserError where llama2.c's flags name another vocabulary than the data's."""
    wanted = options.llama2c.get("vocab_size", 0)
    if options.llama2c.get("vocab_source") == "llama2":
        wanted = wanted or 32000
    if wanted and wanted != entries:
        raise UserError(
            "{path}: its vocabulary has {entries} entries, not {wanted}", path=options.data, entries=entries,
            wanted=wanted, hint="leave the flag out, or make the data with --vocab-size {wanted}",
        )  # fmt: skip
