"""A tuning from its arguments to its end: what is ready is begun, and whoever listens is told how it goes."""

from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soban.base.errors import UserError
from soban.learn.training import checkpoint, pausing
from soban.learn.training import folder as folders
from soban.learn.training.checkpoint import Progress
from soban.learn.training.events import Begin, Event, Note
from soban.learn.training.record import LOSSES, Record, read_losses
from soban.learn.training.session import Training, asking, require_torch, versions
from soban.learn.tuning import folder, forecast, resolve
from soban.learn.tuning.arguments import TuneArguments
from soban.learn.tuning.forecast import Geometry, Pace, TuneForecast
from soban.learn.tuning.sets import Sets
from soban.learn.tuning.settings import TuneSettings, check

if TYPE_CHECKING:
    from soban.learn.training.running import Run
    from soban.learn.tuning.adapting import Adapted, Whole
    from soban.learn.tuning.resolve import Subject


class Tuning(Training):
    """What a tuning came to: `folder` is the adapter's, `best` the lowest loss on answers held out."""


@dataclass(frozen=True)
class TuneOutlook:
    """What a tuning will probably come to; `changes`: what was made smaller so that it fits into the memory."""

    forecast: TuneForecast
    sets: Sets
    pace: Pace
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Ready:
    """All that a tuning needs, before its first step."""

    arguments: TuneArguments
    subject: "Subject"
    sets: Sets
    settings: TuneSettings
    changes: tuple[str, ...]
    adapted: "Adapted | Whole"
    run: "Run[TuneSettings]"
    sizes: Geometry


def tune(arguments: TuneArguments, explicit: frozenset[str]) -> Tuning:
    """Tunes to the end, or until it is told to stop. Raises UserError for what cannot be."""
    require_libraries()
    causes = pausing.causes(arguments.pause_on)
    with ExitStack() as stack:
        ready = _ready(arguments, explicit, stack, writing=True)
        stack.enter_context(folders.alone(ready.run.folder))
        if not arguments.resume:
            folder.check_free(ready.run.folder)  # nor has one ended meanwhile
        return _tuned(ready, _progress(ready), causes)


def outlook(arguments: TuneArguments, explicit: frozenset[str]) -> TuneOutlook:
    """What `tune` would come to with these arguments. Raises UserError for what cannot be; writes nothing."""
    require_libraries()
    pausing.causes(arguments.pause_on)
    with ExitStack() as stack:
        ready = _ready(arguments, explicit, stack, writing=False)
        start = _progress(ready).step
        pace = _probed(ready)
        return TuneOutlook(_foreseen(ready, pace, start), ready.sets, pace, ready.changes)


def require_libraries() -> None:
    """UserError where torch, transformers or peft is not installed."""
    require_torch()
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise UserError(
            "teaching needs {name}, which is not installed", name=error.name, hint='pip install "soban[learn]"'
        ) from error


def _ready(arguments: TuneArguments, explicit: frozenset[str], stack: ExitStack, writing: bool) -> Ready:
    """The settings, checked, and a run that has taken no step; `stack` lets go of it."""
    out = Path(arguments.out)
    if not str(arguments.out).strip():
        raise UserError("--out is empty", hint="name a folder")
    began = folder.settings_of(out) if arguments.resume else None
    if began is None and writing:
        folder.check_free(out)
    subject = resolve.subject(arguments)
    sets = subject.examples(arguments)
    settings = resolve.resolved(arguments, subject, sets)
    if began is not None:
        settings = resolve.continued(arguments, settings, began, explicit)
    check(settings)
    sizes = subject.sizes(settings)
    settings, changes = forecast.fitting(settings, sizes)
    from soban.learn.tuning import work

    adapted, run = work.start(settings, subject, sets, out)
    stack.callback(run.computer.close)
    sizes = replace(sizes, learning=sum(weight.numel() for weight in run.computer.weights.values()))
    return Ready(arguments, subject, sets, settings, tuple(changes), adapted, run, sizes)


def _progress(ready: Ready) -> Progress:
    """Where it begins: at nothing, or at its checkpoint, whose weights are taken."""
    run, settings = ready.run, ready.settings
    progress = Progress()
    if ready.arguments.resume:
        progress = checkpoint.load(run.checkpoint, run.computer.weights, run.state, settings.mark)
    if progress.step > settings.steps:
        raise UserError(
            "--steps {steps}: {taken} are taken already", steps=settings.steps, taken=progress.step,
            hint="they are counted from the beginning: give more than that",
        )  # fmt: skip
    rows = read_losses(run.folder / folders.TRAINING / LOSSES)
    measured = any(row["step"] == str(progress.step) and row["held_out_bits_per_byte"] for row in rows)
    if progress.step == settings.steps and measured:
        raise UserError(
            "{path}: all {steps} steps are taken", path=run.folder, steps=progress.step,
            hint="--steps with more goes on",
        )  # fmt: skip
    run.computer.refresh()
    return progress


def _probed(ready: Ready) -> Pace:
    examples = ready.sets.train
    learnt = sum(one.learns for one in examples) / max(1, sum(len(one.ids) for one in examples))
    return forecast.probe(ready.run.computer, ready.settings, learnt)


def _foreseen(ready: Ready, pace: Pace, start: int) -> TuneForecast:
    held_out = sum(len(one.ids) for one in ready.sets.held_out)
    return forecast.forecast(ready.settings, ready.sizes, pace, held_out, ready.run.evaluate_every, start)


def _tuned(ready: Ready, progress: Progress, causes: frozenset[str]) -> Tuning:
    """Takes the steps, and writes down and tells how it goes."""
    from soban.learn.training import running
    from soban.learn.tuning import work

    arguments, run = ready.arguments, ready.run
    tell = arguments.progress or (lambda event: None)
    record = Record(run.folder, lambda text: tell(Note(text)))
    if arguments.samples > 0:
        run = replace(run, sample=work.sampler(ready.adapted, run, ready.subject, ready.sets, arguments.samples))
    folders.begin(run.folder, ready.settings, _about(arguments))
    record.begin(progress)
    for change in ready.changes:
        tell(Note(change))
    foreseen = _foreseen(ready, _probed(ready), progress.step)
    tell(Begin(ready.settings, progress, foreseen, True, ready.sizes.learning, ready.sizes.parameters))
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
    return Tuning(
        run.folder, progress.step, progress.tokens, progress.seconds, progress.best, progress.best_step,
        "finished" if finished else "stopped",
    )  # fmt: skip


def _about(arguments: TuneArguments) -> dict[str, Any]:
    """What else made the result: for whoever wants to repeat it."""
    import peft

    values = {one.name: getattr(arguments, one.name) for one in fields(arguments) if "help" in one.metadata}
    usual = {one.name: one.default for one in fields(arguments)}
    call = tuple(f"{name}={value}" for name, value in sorted(values.items()) if value != usual[name])
    return {
        "command": [*(arguments.command or ("soban.learn.tune", *call))],
        "model": str(arguments.model),
        "data": [str(path) for path in resolve.paths(arguments)],
        **versions(),
        "peft": peft.__version__,
    }
