"""A training from its arguments to its end: what is ready is begun, and whoever listens is told how it goes."""

import platform
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from soban.base.errors import UserError
from soban.base.version import VERSION
from soban.learn.data.packing import check_rows
from soban.learn.data.shards import read_manifest, split_of
from soban.learn.training import checkpoint, folder, forecast, pausing, presets, resolve, sizes
from soban.learn.training.arguments import Stop, TrainArguments, completed, unusual
from soban.learn.training.checkpoint import Progress
from soban.learn.training.events import Begin, Event, Note
from soban.learn.training.forecast import Forecast, Speed
from soban.learn.training.record import LOSSES, Record, read_losses
from soban.learn.training.settings import Settings, check

if TYPE_CHECKING:
    from soban.learn.training.running import Run

SMALLER = 2  # presets that a forecast compares with


@dataclass(frozen=True)
class Training:
    """What a training came to."""

    folder: Path  # of the model
    steps: int  # taken so far
    tokens: int  # learnt from so far
    seconds: float
    best: float | None  # the lowest loss on text held out, in bits a byte; None where nothing was measured yet
    best_step: int
    ended: Literal["finished", "stopped"]

    def __repr__(self) -> str:
        best = "" if self.best is None else f", best {self.best:.4f} bits per byte at step {self.best_step}"
        return f"<{type(self).__name__} {self.folder}: {self.ended} after {self.steps} steps{best}>"


@dataclass(frozen=True)
class Outlook:
    """What a training will probably come to, the first of `forecasts`, and smaller ones; and the speed of a probe."""

    forecasts: tuple[Forecast, ...]
    speed: Speed
    leads: bool  # whether this process speaks: the first of several

    def __repr__(self) -> str:
        one = self.forecasts[0]
        return f"<Outlook: {one.seconds:.0f} s, {one.memory / 1e6:.0f} MB of memory, {one.disk / 1e6:.0f} MB of disk>"


def train(arguments: TrainArguments, explicit: frozenset[str]) -> Training:
    """Trains to the end, or until it is told to stop. Raises UserError for what cannot be."""
    require_torch()
    causes = pausing.causes(arguments.pause_on)
    with ExitStack() as stack:
        arguments, settings, run = _ready(arguments, explicit, stack)
        if run.leads:
            stack.enter_context(folder.alone(run.folder))
            if not arguments.resume:
                folder.check_free(run.folder)  # nor has one ended meanwhile
        run, speed, progress = _planned(arguments, settings, run)
        return _trained(arguments, run, speed, progress, causes)


def outlook(arguments: TrainArguments, explicit: frozenset[str]) -> Outlook:
    """What `train` would come to with these arguments. Raises UserError for what cannot be; writes nothing."""
    require_torch()
    pausing.causes(arguments.pause_on)
    with ExitStack() as stack:
        arguments, settings, run = _ready(arguments, explicit, stack, writing=False)
        run, speed, progress = _planned(arguments, settings, run)
        return Outlook(_compared(arguments, run.settings, speed, progress), speed, run.leads)


def require_torch() -> None:
    """UserError where torch or transformers is not installed."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise UserError(
            "teaching needs {name}, which is not installed", name=error.name, hint='pip install "soban[learn]"'
        ) from error


def _ready(
    arguments: TrainArguments, explicit: frozenset[str], stack: ExitStack, writing: bool = True
) -> tuple[TrainArguments, Settings, "Run[Settings]"]:
    """The arguments and their settings, checked, and a run that has taken no step; `stack` lets go of it."""
    arguments = completed(arguments, explicit)
    explicit |= unusual(arguments)
    out, data = Path(arguments.out), Path(arguments.data)
    if not str(arguments.out).strip():
        raise UserError("--out is empty", hint="name a folder")
    settings = resolve.resolved(arguments, data, explicit)
    if arguments.resume:
        settings = resolve.continued(arguments, settings, folder.settings_of(out), explicit)
    elif writing:
        folder.check_free(out)
    check(settings)
    resolve.check_lengths(arguments)
    check_rows(split_of(data, read_manifest(data), "train")["tokens"], settings.shape.context)
    forecast.check_room(settings, out, arguments.preset.lower())
    from soban.learn.training import scratch

    initial = resolve.initial_folder(arguments)
    if arguments.resume and not settings.learns:
        initial = None  # all that it has learnt from is in the checkpoint
    elif settings.initial_hash and initial is None:
        raise UserError(
            "{path}: began with the weights of another model, of which some stay as they are", path=out,
            hint="name it again with --init-from",
        )  # fmt: skip
    run = scratch.start(
        settings, data, out, initial=initial, evaluate_every=1,
        measure_tokens=resolve.measured_tokens(arguments, settings),
    )  # fmt: skip
    stack.callback(run.computer.close)
    return arguments, settings, run


def _planned(
    arguments: TrainArguments, settings: Settings, run: "Run[Settings]"
) -> tuple["Run[Settings]", Speed, Progress]:
    """The run with all that is known once its speed is: how many steps there are; and where it begins."""
    from soban.learn.training.probe import probe

    speed = probe(run)
    progress = Progress()
    if arguments.resume:
        progress = checkpoint.load(run.checkpoint, run.computer.weights, run.state, settings.mark)
    unchanged = arguments.resume and arguments.minutes == folder.minutes_of(run.folder)
    if arguments.minutes is not None and not unchanged:
        steps = progress.step + resolve.steps_in_time(arguments, settings, speed)
        settings = resolve.lasting(settings, arguments, steps)
    if progress.step > settings.steps:
        raise UserError(
            "--steps {steps}: {taken} are taken already", steps=settings.steps, taken=progress.step,
            hint="they are counted from the beginning: give more than that",
        )  # fmt: skip
    if progress.step == settings.steps and _was_measured(run.folder, progress.step):
        raise UserError(
            "{path}: all {steps} steps are taken", path=run.folder, steps=progress.step,
            hint="--steps with more goes on",
        )  # fmt: skip
    run.computer.refresh()
    return replace(run, settings=settings, evaluate_every=resolve.measured_every(settings)), speed, progress


def _trained(
    arguments: TrainArguments, run: "Run[Settings]", speed: Speed, progress: Progress, causes: frozenset[str]
) -> Training:
    """Takes the steps, and writes down and tells how it goes."""
    from soban.learn.training import running
    from soban.learn.training.samples import Sampler

    settings, data = run.settings, Path(arguments.data)
    tell = arguments.progress or _nobody
    record = Record(run.folder, lambda text: tell(Note(text)))
    if arguments.samples:
        run = replace(run, sample=Sampler(run.computer, data, settings.shape.context, arguments.prompt))
    if run.leads:
        folder.begin(run.folder, settings, _about(arguments))
        record.begin(progress)
    foreseen = _foreseen(arguments, settings, speed, progress)
    tell(Begin(settings, progress, foreseen, run.leads, sizes.parameters(settings)))
    sensors = pausing.PcSensors() if causes else pausing.Asleep()
    pauses = pausing.Pauses(causes, sensors, lambda text: tell(Note(text)))
    asks = asking(arguments.stop)

    def notify(event: Event) -> None:
        record.keep(event)
        tell(event)

    def stop() -> bool:
        pauses.wait(asks)
        return asks()

    progress, finished = running.run(replace(run, clock=pauses.working_clock), progress, notify, stop)
    return Training(
        run.folder, progress.step, progress.tokens, progress.seconds, progress.best, progress.best_step,
        "finished" if finished else "stopped",
    )  # fmt: skip


def _nobody(event: Event) -> None:
    """Listens, where nobody does."""


def asking(stop: Stop | None) -> Callable[[], bool]:
    """What says whether to stop."""
    if stop is None:
        return lambda: False
    return stop if callable(stop) else stop.is_set


def _was_measured(out: Path, step: int) -> bool:
    """Whether text held out was measured after this step: the end of a training whose end was not cut off."""
    rows = read_losses(out / folder.TRAINING / LOSSES)
    return any(row["step"] == str(step) and row["held_out_bits_per_byte"] for row in rows)


def _foreseen(arguments: TrainArguments, settings: Settings, speed: Speed, progress: Progress) -> Forecast:
    """What is still to come of this training."""
    data = Path(arguments.data)
    name = arguments.preset.lower()
    return forecast.forecast(
        name if settings.shape == presets.PRESETS.get(name) else None, settings, speed, data,
        forecast.trigram_bits(data), resolve.measured_every(settings), progress.step,
    )  # fmt: skip


def _compared(
    arguments: TrainArguments, settings: Settings, speed: Speed, progress: Progress
) -> tuple[Forecast, ...]:  # fmt: skip
    """The forecast, and those of the presets below it that would begin anew."""
    forecasts = [_foreseen(arguments, settings, speed, progress)]
    name: str | None = arguments.preset.lower()
    begun_with = arguments.resume or settings.initial_hash
    while not begun_with and len(forecasts) < 1 + SMALLER and name and (name := presets.smaller(name)):
        other = replace(settings, shape=presets.PRESETS[name])
        other_speed = forecast.slower(speed, settings, other)
        if arguments.minutes is not None:
            other = resolve.lasting(other, arguments, resolve.steps_in_time(arguments, other, other_speed))
        elif arguments.steps is None:
            tokens = forecast.learnt_tokens(Path(arguments.data))
            other = resolve.lasting(other, arguments, resolve.usual_steps(other, tokens))
        forecasts.append(replace(_foreseen(arguments, other, other_speed, progress), name=name))
    return tuple(forecasts)


def _about(arguments: TrainArguments) -> dict[str, Any]:
    """What else made the result: for whoever wants to repeat it."""
    values = {one.name: getattr(arguments, one.name) for one in fields(arguments) if "help" in one.metadata}
    call = tuple(f"{name}={values[name]}" for name in sorted(unusual(arguments) & values.keys()))
    return {
        "command": [*(arguments.command or ("soban.learn.train", *call))],
        "minutes": arguments.minutes,
        "data": str(arguments.data),
        **versions(),
    }


def versions() -> dict[str, str]:
    """Of what computes: another one may come to other last digits."""
    import numpy
    import torch
    import transformers

    return {
        "soban": VERSION,
        "numpy": numpy.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
