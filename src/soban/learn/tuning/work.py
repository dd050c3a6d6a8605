"""Settings, a model and examples to a run of the common loop: what learns, what it is measured with, what is kept."""

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soban.learn.training import network, optimise
from soban.learn.training.computing import Computer
from soban.learn.training.folder import TRAINING
from soban.learn.training.losses import next_token_loss
from soban.learn.training.running import Run
from soban.learn.tuning.adapting import Adapted, Whole
from soban.learn.tuning.answers import Answers
from soban.learn.tuning.base import frozen
from soban.learn.tuning.folder import NOW
from soban.learn.tuning.head import packed_loss
from soban.learn.tuning.methods import METHODS
from soban.learn.tuning.packed import PackedLinear
from soban.learn.tuning.resolve import Subject
from soban.learn.tuning.rows import Rows
from soban.learn.tuning.sets import Sets
from soban.learn.tuning.settings import TuneSettings


def start(settings: TuneSettings, subject: Subject, sets: Sets, out: Path) -> tuple[Adapted | Whole, Run[TuneSettings]]:
    """The model with what learns in it, and a run that has taken no step."""
    base = frozen(subject.files.checkpoint, settings.base)
    if settings.checkpointing:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a name that it is to have one day
            base.model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    adapted: Adapted | Whole
    if METHODS[settings.method].config is None:
        adapted = Whole(base.model, subject.files.checkpoint.path)
    else:
        adapted = Adapted(base.model, settings, subject.name)
    computer = Computer(
        base.model, dtype=torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32, device=settings.device,
        parts=settings.parts, learns=adapted.learns, loss=loss, at_once=settings.at_once,
    )  # fmt: skip
    train, held_out = (Rows(some, settings.length, settings.seed) for some in (sets.train, sets.held_out))
    size = sum(one.bytes for one in sets.held_out)
    template = subject.template_text if sets.answers else None

    def measure() -> float:
        """Bits a byte of the answers held out."""
        nats, _ = computer.measure(held_out.once(settings.batch_size))
        return nats / math.log(2) / size

    def export(target: Path) -> None:
        adapted.save(target, computer.weights, template)

    run = Run(
        settings=settings, computer=computer, state=optimise.initial_state(computer.weights, settings),
        batches=lambda step: train.steps(settings.batch_size, step), measure=measure, export=export, folder=out,
        evaluate_every=settings.evaluate_every, patience=settings.patience,
    )  # fmt: skip
    return adapted, run


def loss(model: Any, inputs: Tensor, documents: Tensor, targets: Tensor) -> Tensor:
    """Nats, summed over the tokens that have a target; the vocabulary may be packed."""
    states = network.states(model, inputs, documents)
    head, cap = model.get_output_embeddings(), network.logit_cap(model)
    if isinstance(head, PackedLinear):
        return packed_loss(states, head.matrix, targets, cap)
    return next_token_loss(states, head.weight, targets, cap)


def sampler(
    adapted: Adapted | Whole, run: Run[TuneSettings], subject: Subject, sets: Sets, count: int
) -> Callable[[], Sequence[str]]:
    """What the model answers now to the first questions held out."""
    if not METHODS[run.settings.method].runs or run.settings.dora:
        return tuple
    answers = Answers(subject.location, run.settings.base, sets.held_out[:count])
    folder = run.folder / TRAINING / NOW

    def sample() -> Sequence[str]:
        adapted.save(folder, run.computer.weights, None)
        return answers(folder)

    return sample
