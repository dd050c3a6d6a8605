"""`soban train`: text to a Gemma 2 model in a Hugging Face folder, by plain torch on the CPU."""

import contextlib
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal

from soban import system
from soban.errors import UserError
from soban.learn import corpus, saving
from soban.learn.saving import Progress
from soban.learn.tokenizer import SMALLEST_VOCABULARY
from soban.messages import translate
from soban.weights.files import reason

if TYPE_CHECKING:
    from soban.learn.steps import Training

CHECKPOINT_SECONDS = 180
LINE_SECONDS = 15  # between progress lines that cannot be drawn over
AVERAGE = 0.98  # of the loss shown: about the last fifty steps


@dataclass(frozen=True)
class TrainOptions:
    """Teach a small story model from text: its tokenizer and its network end up in a Hugging Face folder.

    Without --data it learns from English and Korean stories that a program writes. Ctrl-C saves what there is, and
    --resume goes on from there.
    """

    out: str = field(metadata={"help": "folder for the finished model", "metavar": "FOLDER"})
    data: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "text files (a blank line or <|endoftext|> between documents) or .jsonl with `text`",
            "metavar": "FILE",
        },
    )
    stories: int = field(
        default=120_000, metadata={"help": "how many stories soban writes itself where there is no data"}
    )
    vocab_size: int = field(default=4096, metadata={"help": "entries of the tokenizer"})
    hidden_size: int = field(default=256, metadata={"help": "width of the network"})
    intermediate_size: int = field(default=768, metadata={"help": "width inside the feed-forward layers"})
    layers: int = field(default=4, metadata={"help": "depth of the network"})
    heads: int = field(default=4, metadata={"help": "attention heads"})
    key_value_heads: int = field(
        default=2, metadata={"help": "heads of keys and values, shared by the attention heads"}
    )
    head_dim: int = field(default=64, metadata={"help": "width of a head, an even number"})
    context: int = field(default=512, metadata={"help": "longest text in tokens"})
    window: int = field(default=256, metadata={"help": "how many tokens back every other layer looks"})
    batch_size: int = field(default=4096, metadata={"help": "tokens in a step"})
    learning_rate: float = field(default=4e-3, metadata={"help": "highest learning rate"})
    minutes: float = field(default=30.0, metadata={"help": "time to train"})
    steps: int | None = field(default=None, metadata={"help": "steps to train, in place of a time"})
    seed: int = field(default=0, metadata={"help": "decides the first weights, the stories and their order"})
    resume: bool = field(default=False, metadata={"help": "go on from the checkpoint in the folder"})
    products: Literal["fast", "exact"] = field(
        default="fast", metadata={"help": "fast: matrix products in bfloat16 where the CPU has units for it"}
    )


OPTIONS_FILE = "training.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
# What may differ between a training and its continuation
MAY_CHANGE = ("out", "resume", "minutes", "steps", "products")


def train(options: TrainOptions) -> None:
    """Learn a tokenizer and a network from text and leave them in `options.out`, ready for soban and transformers.

    Raises UserError for text that cannot be read, options that cannot be, a missing torch and a folder in use. After
    Ctrl-C it leaves a checkpoint and raises SystemExit.
    """
    check(options)
    require_torch()
    from soban.learn import steps

    folder = Path(options.out)
    see_free(folder, options)
    documents = read(options)
    claim(folder, options)
    try:
        training = steps.prepare(options, documents)
        progress = saving.load_checkpoint(folder, training.weights, training.state) if options.resume else Progress()
        forecast(training, progress)
    except BaseException:
        if not options.resume:
            release(folder)
        raise
    with interruptible() as interruptions:
        progress = run(training, progress, interruptions)
    if interruptions:
        saving.save_checkpoint(folder, training.weights, training.state, progress)
        say("stopped after step {step}; the same command with --resume goes on", step=progress.step)
        raise SystemExit(128 + signal.SIGINT)
    bits = steps.bits_per_byte(training)
    saving.save_model(folder, training.config, training.weights, training.ids)
    (folder / saving.CHECKPOINT).unlink(missing_ok=True)
    say(
        "{path}: {step} steps, {tokens} tokens, {bits:.4f} bits per byte of text held out",
        path=folder,
        step=progress.step,
        tokens=progress.tokens,
        bits=bits,
    )


def run(training: "Training", progress: Progress, interruptions: list[int]) -> Progress:
    """Train to the end of the budget or to an interruption, talking and saving on the way."""
    from soban.learn import steps

    folder = Path(training.options.out)
    before, saved = progress, time.monotonic()
    told = saved
    average = math.nan
    for step in steps.steps(training, progress):
        progress = step.progress
        average = step.loss if math.isnan(average) else AVERAGE * average + (1 - AVERAGE) * step.loss
        if interruptions:
            break
        now = time.monotonic()
        if now - told >= (1 if sys.stderr.isatty() else LINE_SECONDS):
            told = now
            tell(training.options, before, progress, average)
        if now - saved >= CHECKPOINT_SECONDS:
            saved = now
            saving.save_checkpoint(folder, training.weights, training.state, progress)
            bits = steps.bits_per_byte(training)
            say("step {step}: saved; {bits:.4f} bits per byte of text held out", step=progress.step, bits=bits)
    return progress


def check(options: TrainOptions) -> None:
    """UserError for sizes that make no network, and for no folder."""
    if not options.out.strip():
        raise UserError("--out is empty", hint="name a folder")
    for name, least in SMALLEST.items():
        value = getattr(options, name)
        if value is not None and not value >= least:
            raise UserError(
                "--{name} {value} is too small",
                name=name.replace("_", "-"),
                value=value,
                least=least,
                hint="at least {least}",
            )
    if options.heads % options.key_value_heads:
        raise UserError(
            "{heads} heads cannot share {key_value_heads} key-value heads evenly",
            heads=options.heads,
            key_value_heads=options.key_value_heads,
            hint="choose --key-value-heads that divides --heads",
        )
    if options.head_dim % 2:
        raise UserError("--head-dim {head_dim} is odd", head_dim=options.head_dim, hint="rotary positions turn pairs")
    if not 0 < options.learning_rate < math.inf:
        raise UserError("--learning-rate {rate} is not above 0", rate=options.learning_rate, hint="4e-3 is usual here")
    if not options.minutes > 0:
        raise UserError("--minutes {minutes} is not above 0", minutes=options.minutes, hint="give a time, or --steps")


SMALLEST = {
    "stories": 2,
    "vocab_size": SMALLEST_VOCABULARY,
    "hidden_size": 1,
    "intermediate_size": 1,
    "layers": 1,
    "heads": 1,
    "key_value_heads": 1,
    "head_dim": 2,
    "context": 2,
    "window": 1,
    "batch_size": 1,
    "steps": 1,
    "seed": 0,
}


def require_torch() -> None:
    """UserError where torch is not installed."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise UserError("teaching needs torch, which is not installed", hint='pip install "soban[learn]"') from error


def read(options: TrainOptions) -> list[str]:
    """The text to learn from: files, or stories that are written now."""
    if not options.data:
        say("writing {count} stories", count=options.stories)
        return corpus.built_in(options.seed, options.stories)
    documents = corpus.read_documents(options.data)
    if len(documents) < 2:
        raise UserError(
            "{count} document is too few: one is held out for measuring",
            count=len(documents),
            hint="part the text by blank lines",
        )
    return documents


def see_free(folder: Path, options: TrainOptions) -> None:
    """UserError where the folder holds something else than the training that is asked for."""
    path, checkpoint = folder / OPTIONS_FILE, folder / saving.CHECKPOINT
    if options.resume:
        if not checkpoint.is_file() or not path.is_file():
            raise UserError("{path}: no checkpoint to go on from", path=folder, hint="start again without --resume")
        asked = lasting(options)
        for key, value in json.loads(path.read_text(encoding="utf-8")).items():
            if asked.get(key) != value:
                raise UserError(
                    "the checkpoint was trained with --{name} {value}",
                    name=key.replace("_", "-"),
                    value=value,
                    hint="give the same again, or another --out",
                )
    elif checkpoint.exists():
        raise UserError("{path}: holds an unfinished training", path=folder, hint="--resume, or another --out")
    elif (folder / "config.json").exists():
        raise UserError("{path}: holds a model already", path=folder, hint="choose another --out")


def claim(folder: Path, options: TrainOptions) -> None:
    """Make the folder and write down what is trained there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            "{path}: cannot be made ({reason})",
            path=folder,
            reason=reason(error),
            hint="choose another folder with --out",
        ) from error
    saving.save_json(folder / OPTIONS_FILE, lasting(options))


def release(folder: Path) -> None:
    """Take back what was written before the first step: there is nothing to go on from."""
    for name in (OPTIONS_FILE, *TOKENIZER_FILES):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()  # if it holds nothing else


def lasting(options: TrainOptions) -> dict[str, object]:
    """The options that a continuation must share, as JSON has them."""
    kept = {name: value for name, value in asdict(options).items() if name not in MAY_CHANGE}
    return dict(json.loads(json.dumps(kept)))


def forecast(training: "Training", progress: Progress) -> None:
    """Say how much will be learnt from how much, and what it takes in memory and time."""
    from soban.learn import gemma2, steps

    options = training.options
    needed, available = steps.memory(training), system.available_memory()
    say(
        "{parameters:.2f} M parameters; {documents} documents, {tokens:.1f} M tokens; memory about {memory:.1f} GB",
        parameters=gemma2.parameter_count(training.config) / 1e6,
        documents=len(training.data),
        tokens=len(training.data.tokens) / 1e6,
        memory=needed / 1e9,
    )
    if available is not None and needed > available:
        raise UserError(
            "training takes about {needed:.1f} GB of memory and {available:.1f} GB are free",
            needed=needed / 1e9,
            available=available / 1e9,
            hint="lower --batch-size",
        )
    seconds = steps.step_seconds(training)
    if options.steps is None:
        left = max(0.0, 60 * options.minutes - progress.seconds)
        say(
            "{minutes:.1f} minutes to go, about {steps} steps of {size} tokens",
            minutes=left / 60,
            steps=round(left / seconds),
            size=options.batch_size,
        )
    else:
        left = max(0, options.steps - progress.step)
        say(
            "{steps} steps of {size} tokens to go, about {minutes:.1f} minutes",
            steps=left,
            size=options.batch_size,
            minutes=left * seconds / 60,
        )


def tell(options: TrainOptions, before: Progress, progress: Progress, loss: float) -> None:
    """The progress line: drawn over the last one on a terminal, elsewhere a line of its own."""
    seconds = progress.seconds - before.seconds
    if options.steps is None:
        left = 60 * options.minutes - progress.seconds
    else:
        left = (options.steps - progress.step) * seconds / (progress.step - before.step)
    line = translate(
        "step {step}  loss {loss:.3f}  {rate:.0f} tokens/s  {minutes:.0f}:{seconds:02.0f} left",
        step=progress.step,
        loss=loss,
        rate=(progress.tokens - before.tokens) / seconds,
        minutes=max(0.0, left) // 60,
        seconds=max(0.0, left) % 60 // 1,
    )
    terminal = sys.stderr.isatty()
    sys.stderr.write(f"\r\x1b[K{line}" if terminal else f"{line}\n")
    sys.stderr.flush()


def say(template: str, **fields: object) -> None:
    """A line of talk, on stderr, on a line of its own even after a progress line."""
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    sys.stderr.write(start + translate(template, **fields) + "\n")
    sys.stderr.flush()


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
