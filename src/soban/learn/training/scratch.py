"""Training from nothing: settings, shards and a folder to a run of the common loop."""

import math
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

import torch

from soban.base.errors import UserError
from soban.learn.data import packing
from soban.learn.data.packing import Batch
from soban.learn.data.shards import Shards, check_hashes, file_hash
from soban.learn.training import beginning, network, optimise
from soban.learn.training import folder as folders
from soban.learn.training.computing import Computer
from soban.learn.training.forecast import MEASURED
from soban.learn.training.running import Run
from soban.learn.training.settings import Settings


def start(
    settings: Settings, data: Path, folder: Path, *, initial: Path | None = None, evaluate_every: int,
    measure_tokens: int = MEASURED,
) -> Run[Settings]:  # fmt: skip
    """A run with fresh weights, or those of the model in `initial`. Raises UserError for data that is missing or too
    little, and for another model than the settings say."""
    folders.check_apart(folder, data)
    check_hashes(data)
    train, held_out = Shards(data), Shards(data, "validation")
    check_data(train, held_out, settings)
    tokenizer = folders.tokenizer_files(data, settings.shape.context)
    ids = {"bos_token_id": train.bos_id, "eos_token_id": train.eos_id}
    model = network.new_model(settings, ids)
    if initial is not None:
        beginning.take_weights(model, settings, initial)
    dtype = torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32
    check_names([name for name, _ in model.named_parameters()], settings)
    computer = Computer(model, dtype=dtype, device=settings.device, parts=settings.parts, learns=settings.learns_by)

    def measure() -> float:
        return bits_per_byte(computer, held_out, settings, measure_tokens)

    def export(target: Path) -> None:
        folders.export(target, model, computer.weights | computer.frozen, tokenizer)

    return Run(
        settings=settings,
        computer=computer,
        state=optimise.initial_state(computer.weights, settings),
        batches=lambda step: steps_of(train, settings, step, computer.group.rank),
        measure=measure,
        export=export,
        folder=folder,
        evaluate_every=evaluate_every,
    )


def check_names(names: Sequence[str], settings: Settings) -> None:
    """UserError for a pattern that is no weight's name."""
    for pattern in settings.learns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(
                "learns={pattern}: no weight has such a name", pattern=pattern, name=names[0],
                hint="they are called as {name}",
            )  # fmt: skip


def check_data(train: Shards, held_out: Shards, settings: Settings) -> None:
    """UserError for another tokenizer, or for data too little for one row to learn from or one token to measure."""
    folder = train.folder
    for name, expected in (("tokenizer.json", train.manifest["tokenizer"]["sha256"]), ("tokenizer_config.json", None)):
        if not (folder / name).is_file() or expected not in (None, file_hash(folder / name)):
            raise UserError(
                "{path}: not the file that the manifest tells of", path=folder / name,
                hint="prepare the data again: soban data ... --force",
            )  # fmt: skip
    if not len(held_out.documents):
        raise UserError(
            "{path}: no text is held out for measuring", path=folder,
            hint="prepare the data again with a larger --validation",
        )  # fmt: skip
    next(steps_of(train, settings, 0, 0))


def steps_of(shards: Shards, settings: Settings, step: int, rank: int) -> Iterator[Sequence[Batch]]:
    """The batches that each step accumulates, from a step on."""
    each = packing.batches(
        shards.documents, settings.batch_size, settings.shape.context, seed=settings.seed,
        step=step * settings.accumulation, rank=rank, ranks=settings.processes,
    )  # fmt: skip
    while some := list(islice(each, settings.accumulation)):
        yield some


def bits_per_byte(computer: Computer, shards: Shards, settings: Settings, most: int) -> float:
    """What text costs in bits a byte, over about `most` tokens from all over: comparable between tokenizers."""
    length = settings.shape.context
    rows = min(settings.batch_size, max(1, most // length))
    batches = packing.once(shards.documents, rows, length, shards.documents.sample(most))
    nats, count = computer.measure(islice(batches, max(1, most // (rows * length))))
    # every document's first token, BOS, is given and not predicted
    predicted = shards.tokens - len(shards.documents)
    return nats / math.log(2) / count * predicted / shards.bytes
