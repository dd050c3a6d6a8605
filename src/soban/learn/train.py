"""`soban train`: prepared data to a model in a Hugging Face folder, taken up again wherever it was stopped."""

import math
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from soban.base import system
from soban.base.errors import UserError
from soban.base.version import VERSION
from soban.learn.data.packing import check_rows
from soban.learn.data.shards import read_manifest, split_of
from soban.learn.training import beginning, checkpoint, folder, forecast, pausing, presets
from soban.learn.training.checkpoint import Progress
from soban.learn.training.forecast import Forecast, Speed
from soban.learn.training.options import TrainOptions, check_vocabulary, flag_of, plain
from soban.learn.training.progress import LOSSES, Teller, read_losses
from soban.learn.training.samples import Sampler
from soban.learn.training.settings import MAY_CHANGE, Dtype, Settings, check
from soban.messages import translate

if TYPE_CHECKING:
    from soban.learn.training.running import Run

STEP_TOKENS = 8192  # that a step learns from, where nothing else is said
WARM_UP = 0.02  # share of the steps
PASSES = 4  # over the data at most, unless steps are given: from the fifth on little more is learnt
TOKENS_PER_WEIGHT = 20  # Hoffmann et al., "Training compute-optimal large language models", 2022
EVALUATIONS = 20  # in a training
SMALLER = 2  # presets that a forecast compares with
RATES = {"muon": 4e-3, "adamw": 1e-3}
# Ctrl-C, the system that shuts down, and a terminal that is closed
ENDING = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
BFLOAT16_UNITS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # what torch.cpu says of this processor


# Flags whose settings have other names, and all that a continuation compares where they are given
RENAMED = {
    "gradient_accumulation_steps": "accumulation", "layers": "num_hidden_layers", "heads": "num_attention_heads",
    "key_value_heads": "num_key_value_heads",
}  # fmt: skip
DEFAULTS = {field.name: field.default for field in fields(TrainOptions) if not field.metadata.get("spelled")}
SETTLED = {field.name for kind in (Settings, presets.Shape) for field in fields(kind)}
SHAPING = (
    "preset", "family", "context", "window", "hidden_size", "intermediate_size", "layers", "heads", "key_value_heads",
)  # fmt: skip
FLAGS = {flag: RENAMED.get(flag, flag) for flag in DEFAULTS if RENAMED.get(flag, flag) in SETTLED}


def train(options: TrainOptions) -> int:
    """Trains to the end or to Ctrl-C; the exit code. Raises UserError for what cannot be."""
    require_torch()
    options = plain(options)
    causes = pausing.causes(options.pause_on)
    out, data = Path(options.out), Path(options.data)
    if not options.out.strip():
        raise UserError("--out is empty", hint="name a folder")
    settings = resolved(options, data)
    if options.resume:
        settings = continued(options, settings, folder.kept_settings(out))
    elif not options.forecast:
        folder.check_free(out)
    check(settings)
    check_lengths(options)
    check_rows(split_of(data, read_manifest(data), "train")["tokens"], settings.shape.context)
    forecast.check_room(settings, out, options.preset.lower())
    from soban.learn.training import scratch

    run = scratch.start(
        settings, data, out, initial=None if options.resume else initial_folder(options), evaluate_every=1,
        measured=measured_tokens(options, settings),
    )  # fmt: skip
    with ExitStack() as held:
        if run.leads and not options.forecast:
            held.enter_context(folder.alone(out))
            if not options.resume:
                folder.check_free(out)  # nor has one ended meanwhile
        return begun(options, settings, run, causes)


def begun(options: TrainOptions, settings: Settings, run: "Run", causes: frozenset[str]) -> int:
    """Trains what is ready, or tells how it would go; the exit code."""
    out, data = run.folder, Path(options.data)
    from soban.learn.training import running

    speed = forecast.probe(run)
    progress = Progress()
    if options.resume:
        progress = checkpoint.load(run.checkpoint, run.computer.weights, run.state, settings.mark)
    if options.minutes is not None and not (options.resume and options.minutes == folder.kept_minutes(out)):
        settings = lasting(settings, options, progress.step + steps_in_time(options, settings, speed))
    if progress.step > settings.steps:
        raise UserError(
            "--steps {steps}: {taken} are taken already", steps=settings.steps, taken=progress.step,
            hint="they are counted from the beginning: give more than that",
        )  # fmt: skip
    if progress.step == settings.steps and was_measured(out, progress.step):
        raise UserError(
            "{path}: all {steps} steps are taken", path=out, steps=progress.step, hint="--steps with more goes on"
        )
    run.computer.refresh()
    run = replace(run, settings=settings, evaluate_every=measured_every(settings))
    if options.forecast:
        if run.leads:
            show_forecast(options, settings, speed, progress)
        return 0
    if run.leads:
        folder.begin(out, settings, about(data, options.minutes))
    sample = Sampler(run.computer, data, settings.shape.context, options.prompt) if options.samples else None
    teller = Teller(settings, out, progress, sample, options.llama2c.get("log_interval"))
    if run.leads:
        teller.begin()
        teller.line.tell(forecast.in_a_line(foreseen(options, settings, speed, progress)))
    pauses = pausing.Pauses(causes, pausing.PcSensors() if causes else pausing.Asleep(), teller.line.tell)
    run = replace(run, clock=pauses.working_clock)
    with interruptible(teller.stopping) as interruptions:

        def stop() -> bool:
            pauses.wait(lambda: bool(interruptions))
            return bool(interruptions)

        progress, finished = running.run(run, progress, teller, stop)
    if run.leads:
        teller.end(progress, finished)
    return 0 if finished else 128 + (interruptions or ENDING)[0]


def initial_folder(options: TrainOptions) -> Path | None:
    """The model whose weights are begun with."""
    return None if options.init_from == "scratch" else Path(options.init_from)


def check_lengths(options: TrainOptions) -> None:
    """UserError for times and counts that cannot be."""
    if options.minutes is not None and options.steps is not None:
        raise UserError("--minutes and --steps both say how long", hint="leave one of them out")
    if options.minutes is not None and not 0 < options.minutes < math.inf:
        raise UserError("--{name} {value} is not above 0", name="minutes", value=options.minutes,
                        hint="give the time to train in minutes, as in --minutes 30")  # fmt: skip
    counts = {"evaluate-every": options.evaluate_every} | {
        name.replace("_", "-"): options.llama2c.get(name) for name in ("eval_iters", "log_interval")
    }
    for name, value in counts.items():
        if value is not None and value < 1:
            raise UserError("--{name} {value} is too small", name=name, value=value, least=1, hint="at least {least}")


def measured_tokens(options: TrainOptions, settings: Settings) -> int:
    """How many tokens of the text held out a measurement takes at the most."""
    batches = options.llama2c.get("eval_iters")
    return forecast.MEASURED if batches is None else batches * settings.batch_size * settings.shape.context


def measured_every(settings: Settings) -> int:
    """Steps between two measurements."""
    return settings.evaluate_every or -(-settings.steps // EVALUATIONS)


def foreseen(options: TrainOptions, settings: Settings, speed: Speed, progress: Progress) -> Forecast:
    """What is still to come of this training."""
    data = Path(options.data)
    shape = presets.PRESETS.get(options.preset.lower())
    name = options.preset.lower() if settings.shape == shape else translate("as given")
    return forecast.forecast(
        name, settings, speed, data, forecast.trigram_bits(data), measured_every(settings), progress.step
    )


def show_forecast(options: TrainOptions, settings: Settings, speed: Speed, progress: Progress) -> None:
    """The forecast on stdout: a table of this training and of smaller ones, and what it is made of."""
    told = [foreseen(options, settings, speed, progress)]
    name: str | None = options.preset.lower()
    begun_with = options.resume or settings.initial_hash
    while not begun_with and len(told) < 1 + SMALLER and name and (name := presets.smaller(name)):
        other = replace(settings, shape=presets.PRESETS[name])
        other_speed = forecast.slower(speed, settings, other)
        if options.minutes is not None:
            other = lasting(other, options, steps_in_time(options, other, other_speed))
        elif options.steps is None:
            other = lasting(other, options, usual_steps(other, forecast.learnt_tokens(Path(options.data))))
        told.append(replace(foreseen(options, other, other_speed, progress), name=name))
    lines = [*forecast.in_a_table(told), "", *forecast.footnotes(told[0], speed)]
    sys.stdout.write("\n".join(lines) + "\n")


def steps_in_time(options: TrainOptions, settings: Settings, speed: Speed) -> int:
    """The steps that --minutes are enough for."""
    assert options.minutes is not None
    measuring = EVALUATIONS * forecast.measuring_seconds(speed, Path(options.data))
    return forecast.steps_within(settings, speed, options.minutes, measuring)


def lasting(settings: Settings, options: TrainOptions, steps: int) -> Settings:
    """The settings with so many steps; a new training rises over its share of them."""
    if options.resume:
        return replace(settings, steps=steps)
    warm = options.warmup_steps if options.warmup_steps is not None else round(WARM_UP * steps)
    return replace(settings, steps=steps, warmup_steps=warm)


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
    train = split_of(data, manifest, "train")
    family, shape = options.family, presets.preset(options.preset)
    initial = initial_folder(options)
    if initial is not None:
        given = sorted(flag_of(flag) for flag in SHAPING if was_given(options, flag))
        if given:
            raise UserError(
                "{flags}: the model of --init-from has a shape already", flags=", ".join(given),
                hint="leave one of them out",
            )  # fmt: skip
        family, shape = beginning.read_shape(initial)
        beginning.check_tokenizer(initial, data)
    shape = presets.altered(
        shape, context=options.context, window=options.window,
        hidden_size=options.hidden_size, intermediate_size=options.intermediate_size,
        num_hidden_layers=options.layers, num_attention_heads=options.heads,
        num_key_value_heads=options.key_value_heads,
    )  # fmt: skip
    device = chosen_device(options.device)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    rows = options.batch_size if options.batch_size is not None else max(1, STEP_TOKENS // max(1, shape.context))
    check_vocabulary(options, manifest["tokenizer"]["entries"])
    made = Settings(
        family=family, shape=shape, vocab_size=manifest["tokenizer"]["entries"], batch_size=rows,
        accumulation=options.gradient_accumulation_steps, processes=processes,
        threads=max(1, system.threads() // here),
        steps=1 if options.steps is None else options.steps, optimizer=options.optimizer, schedule=options.schedule,
        learning_rate=RATES[options.optimizer] if options.learning_rate is None else options.learning_rate,
        decay=options.decay, weight_decay=options.weight_decay, beta1=options.beta1, beta2=options.beta2,
        grad_clip=options.grad_clip, dtype=chosen_dtype(options.dtype, device), device=device, seed=options.seed,
        data_hash=manifest["data_hash"], tokenizer_hash=manifest["tokenizer"]["sha256"],
        evaluate_every=options.evaluate_every or 0, initial_hash=beginning.weights_hash(initial) if initial else "",
    )  # fmt: skip
    steps = options.steps if options.steps is not None else usual_steps(made, train["tokens"])
    warm = options.warmup_steps if options.warmup_steps is not None else round(WARM_UP * steps)
    return replace(made, steps=steps, warmup_steps=warm)


def continued(options: TrainOptions, asked: Settings, kept: Settings) -> Settings:
    """What a resumed training goes on with: what it began with, but for how long it lasts and how it ends.

    Raises UserError for flags and data that would make another training of it.
    """
    given = {flag: name for flag, name in FLAGS.items() if was_given(options, flag)}
    names = frozenset(given.values()) | {"data_hash", "tokenizer_hash", "processes"}
    if initial_folder(options) is not None:
        names |= {"initial_hash"}
    if was_given(options, "preset"):
        names |= {field.name for field in fields(presets.Shape)}
    folder.check_same(kept, asked, names)
    changes = {name: getattr(asked, name) for flag, name in given.items() if name in MAY_CHANGE}
    if asked.device != kept.device:  # else as many threads as it began with: their sums are the same
        changes |= {"device": asked.device, "threads": asked.threads}
    return replace(kept, **changes)


def was_given(options: TrainOptions, name: str) -> bool:
    """Whether somebody has asked for it, be it for what is usual."""
    return flag_of(name) in options.spelled or getattr(options, name) != DEFAULTS[name]


def was_measured(out: Path, step: int) -> bool:
    """Whether text held out was measured after this step: the end of a training whose end was not cut off."""
    rows = read_losses(out / folder.TRAINING / LOSSES)
    return any(row["step"] == str(step) and row["held_out_bits_per_byte"] for row in rows)


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


def about(data: Path, minutes: float | None) -> dict[str, Any]:
    """What else made the result: for whoever wants to repeat it."""
    import numpy
    import torch
    import transformers

    return {
        "command": ["soban", *sys.argv[1:]],
        "minutes": minutes,
        "data": str(data),
        "soban": VERSION,
        "numpy": numpy.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


@contextmanager
def interruptible(stopping: Callable[[], None]) -> Iterator[list[int]]:
    """A list that signals to end are put into, so that a step is never cut in half; a second one ends at once.

    `stopping` is called at the first: a step may take long.
    """
    interruptions: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if interruptions:
            os._exit(128 + number)  # threads that compute would be waited for otherwise
        interruptions.append(number)
        stopping()

    if threading.current_thread() is not threading.main_thread():  # only the main thread may listen to signals
        yield interruptions
        return
    hang_up = getattr(signal, "SIGHUP", None)
    ignored = {hang_up} if hang_up and signal.getsignal(hang_up) is signal.SIG_IGN else set()  # under nohup
    previous = {number: signal.signal(number, note) for number in ENDING if number not in ignored}
    try:
        yield interruptions
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
