"""`soban train`: prepared data to a model in a Hugging Face folder, taken up again wherever it was stopped."""

import os
import platform
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from soban import __version__, system
from soban.errors import UserError
from soban.learn.data.shards import read_manifest
from soban.learn.training import checkpoint, folder, presets
from soban.learn.training.checkpoint import Progress
from soban.learn.training.settings import MAY_CHANGE, Dtype, Optimizer, Schedule, Settings, check
from soban.learn.training.telling import Teller

STEP_TOKENS = 8192  # that a step learns from, where nothing else is said
WARM_UP = 0.02  # share of the steps
PASSES = 4  # over the data at most, unless steps are given: from the fifth on little more is learnt
TOKENS_PER_WEIGHT = 20  # Hoffmann et al., "Training compute-optimal large language models", 2022
EVALUATIONS = 20  # in a training
RATES = {"muon": 4e-3, "adamw": 1e-3}
BFLOAT16_UNITS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # what torch.cpu says of this processor


@dataclass(frozen=True)
class TrainOptions:
    """Train a small model from nothing, on data that `soban data` has made.

    OUT becomes a Hugging Face folder that soban and transformers load; the best model so far is there while it is
    trained. Ctrl-C saves a checkpoint, and --resume goes on from it to the same weights, bit for bit.
    """

    data: str = field(metadata={"help": "folder made by soban data", "metavar": "FOLDER"})
    out: str = field(metadata={"help": "folder for the model", "metavar": "FOLDER"})
    preset: str = field(
        default=presets.USUAL,
        metadata={"help": "size of the network: 260k, 1m, 3m, 5m, 15m, 42m or 110m", "metavar": "NAME"},
    )
    family: Literal["llama", "gemma2"] = field(default="llama", metadata={"help": "kind of network"})
    resume: bool = field(default=False, metadata={"help": "go on from the checkpoint in --out"})
    steps: int | None = field(
        default=None,
        metadata={"help": "steps to train (default: 20 tokens for each weight, 4 passes over the data at most)"},
    )
    minutes: float | None = field(default=None, metadata={"help": "time to train, in place of steps", "example": "30"})
    batch_size: int | None = field(default=None, metadata={"help": "rows in a step (default: 8192 tokens)"})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "batches that a step is made of"})
    learning_rate: float | None = field(
        default=None, metadata={"help": "the highest (default: 4e-3 with muon, 1e-3 with adamw)", "example": "1e-3"}
    )
    optimizer: Optimizer = field(default="muon", metadata={"help": "what moves the weights"})
    schedule: Schedule = field(
        default="wsd", metadata={"help": "of the learning rate; wsd: up, level, and down to zero in the last half"}
    )
    warmup_steps: int | None = field(default=None, metadata={"help": "steps over which it rises (default: 2 %)"})
    decay: float = field(default=0.5, metadata={"help": "share of the steps over which wsd falls", "example": "0.3"})
    weight_decay: float = field(default=0.1, metadata={"help": "how strongly weights are drawn to zero"})
    beta1: float = field(default=0.9, metadata={"help": "AdamW's memory of gradients", "example": "0.9"})
    beta2: float = field(default=0.95, metadata={"help": "AdamW's memory of their squares", "example": "0.95"})
    grad_clip: float = field(default=1.0, metadata={"help": "longest gradient", "example": "1.0"})
    context: int | None = field(default=None, metadata={"help": "longest text in tokens"})
    window: int | None = field(default=None, metadata={"help": "tokens that every other layer of gemma2 looks back"})
    hidden_size: int | None = field(default=None, metadata={"help": "width of the network"})
    intermediate_size: int | None = field(default=None, metadata={"help": "width inside the feed-forward layers"})
    layers: int | None = field(default=None, metadata={"help": "depth of the network"})
    heads: int | None = field(default=None, metadata={"help": "attention heads"})
    key_value_heads: int | None = field(default=None, metadata={"help": "heads of keys and values"})
    dtype: Literal["auto", "float32", "bfloat16"] = field(
        default="auto", metadata={"help": "of the arithmetic; auto: bfloat16 where the processor has units for it"}
    )
    device: Literal["auto", "cpu", "cuda"] = field(default="auto", metadata={"help": "auto: a GPU where there is one"})
    seed: int = field(default=0, metadata={"help": "decides the first weights and the order of the data"})
    evaluate_every: int | None = field(
        default=None, metadata={"help": "steps between two measurements on text held out (default: 20 in all)"}
    )


# Flags whose settings have other names, and all that a continuation compares where they are given
RENAMED = {
    "gradient_accumulation_steps": "accumulation", "layers": "num_hidden_layers", "heads": "num_attention_heads",
    "key_value_heads": "num_key_value_heads",
}  # fmt: skip
DEFAULTS = {field.name: field.default for field in fields(TrainOptions)}
SETTLED = {field.name for kind in (Settings, presets.Shape) for field in fields(kind)}
FLAGS = {flag: RENAMED.get(flag, flag) for flag in DEFAULTS if RENAMED.get(flag, flag) in SETTLED}


def train(options: TrainOptions) -> int:
    """Trains to the end or to Ctrl-C; the exit code. Raises UserError for what cannot be."""
    require_torch()
    out, data = Path(options.out), Path(options.data)
    if not options.out.strip():
        raise UserError("--out is empty", hint="name a folder")
    settings = resolved(options, data)
    if options.resume:
        settings = continued(options, settings, folder.kept_settings(out))
    else:
        folder.check_free(out)
    check(settings)
    from soban.learn.training import running, scratch

    every = options.evaluate_every or max(1, settings.steps // EVALUATIONS)
    run = scratch.start(settings, data, out, evaluate_every=every)
    progress = checkpoint.load(run.checkpoint, run.computer.weights, run.state) if options.resume else Progress()
    if progress.step >= settings.steps:
        raise UserError(
            "{path}: all {steps} steps are taken", path=out, steps=progress.step, hint="--steps with more goes on"
        )
    run.computer.refresh()
    if run.leads:
        folder.begin(out, settings, about(data))
    teller = Teller(settings, out, progress)
    if run.leads:
        teller.begin()
    with interruptible() as interruptions:
        progress, finished = running.run(run, progress, teller, lambda: bool(interruptions))
    if run.leads:
        teller.end(progress, finished)
    return 0 if finished else 128 + signal.SIGINT


def require_torch() -> None:
    """UserError where torch or transformers is not installed."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise UserError(
            "teaching needs {name}, which is not installed", name=error.name, hint='pip install "soban[learn]"'
        ) from error


def resolved(options: TrainOptions, data: Path) -> Settings:
    """The settings that the options mean for this data on this PC."""
    manifest = read_manifest(data)
    shape = presets.altered(
        presets.preset(options.preset), context=options.context, window=options.window,
        hidden_size=options.hidden_size, intermediate_size=options.intermediate_size,
        num_hidden_layers=options.layers, num_attention_heads=options.heads,
        num_key_value_heads=options.key_value_heads,
    )  # fmt: skip
    device = chosen_device(options.device)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    rows = options.batch_size if options.batch_size is not None else max(1, STEP_TOKENS // max(1, shape.context))
    made = Settings(
        family=options.family, shape=shape, vocab_size=manifest["tokenizer"]["entries"], batch_size=rows,
        accumulation=options.gradient_accumulation_steps, processes=processes,
        parts=max(1, system.threads() // processes) if device == "cpu" else 1,
        steps=1 if options.steps is None else options.steps, optimizer=options.optimizer, schedule=options.schedule,
        learning_rate=RATES[options.optimizer] if options.learning_rate is None else options.learning_rate,
        decay=options.decay, weight_decay=options.weight_decay, beta1=options.beta1, beta2=options.beta2,
        grad_clip=options.grad_clip, dtype=chosen_dtype(options.dtype, device), device=device, seed=options.seed,
        data_hash=manifest["data_hash"], tokenizer_hash=manifest["tokenizer"]["sha256"],
    )  # fmt: skip
    if options.steps is None:
        made = replace(made, steps=usual_steps(made, manifest["splits"]["train"]["tokens"]))
    warm = options.warmup_steps if options.warmup_steps is not None else round(WARM_UP * made.steps)
    return replace(made, warmup_steps=warm)


def continued(options: TrainOptions, asked: Settings, kept: Settings) -> Settings:
    """What a resumed training goes on with: what it began with, but for how long it lasts and how it ends.

    Raises UserError for flags and data that would make another training of it.
    """
    given = {flag: name for flag, name in FLAGS.items() if getattr(options, flag) != DEFAULTS[flag]}
    names = frozenset(given.values()) | {"data_hash", "tokenizer_hash", "processes"}
    if options.preset != DEFAULTS["preset"]:
        names |= {field.name for field in fields(presets.Shape)}
    folder.check_same(kept, asked, names)
    changes = {name: getattr(asked, name) for flag, name in given.items() if name in MAY_CHANGE}
    return replace(kept, device=asked.device, **changes)


def usual_steps(settings: Settings, tokens: int) -> int:
    """Enough for the network's size, and not more passes over the data than it bears."""
    parameters = settings.shape.parameters(settings.vocab_size, settings.family)
    return max(1, min(TOKENS_PER_WEIGHT * parameters, PASSES * tokens) // max(1, settings.step_tokens))


def chosen_device(wanted: str) -> str:
    """cpu or cuda. Raises UserError where cuda is asked for and not there."""
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise UserError("--device cuda: torch finds no GPU", hint="leave it out to train on the processor")
    return "cuda" if there and wanted != "cpu" else "cpu"


def chosen_dtype(wanted: str, device: str) -> Dtype:
    """bfloat16 only where it is computed by units of its own: elsewhere it is three times slower."""
    if wanted != "auto":
        return "float32" if wanted == "float32" else "bfloat16"
    import torch

    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if any(getattr(torch.cpu, name, bool)() for name in BFLOAT16_UNITS) else "float32"


def about(data: Path) -> dict[str, Any]:
    """What else made the result: for whoever wants to repeat it."""
    import torch
    import transformers

    return {
        "command": ["soban", *sys.argv[1:]],
        "data": str(data),
        "soban": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """A list that Ctrl-C puts its signal into, so that a step is never cut in half; a second Ctrl-C stops at once."""
    interruptions: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if interruptions:
            raise KeyboardInterrupt
        interruptions.append(number)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may listen to signals
        yield interruptions
        return
    previous = signal.signal(signal.SIGINT, note)
    try:
        yield interruptions
    finally:
        signal.signal(signal.SIGINT, previous)
