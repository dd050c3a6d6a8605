"""Arguments to settings: the model and the data are looked at, and what is usual is filled in."""

import hashlib
import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from soban.base import system
from soban.base.errors import UserError
from soban.learn.training.families import TUNED
from soban.learn.training.resolve import chosen_device, chosen_dtype
from soban.learn.tuning import folder, sets
from soban.learn.tuning.arguments import TuneArguments
from soban.learn.tuning.examples import Example, Form, form_of
from soban.learn.tuning.forecast import Geometry
from soban.learn.tuning.methods import METHODS
from soban.learn.tuning.rows import Rows, counts
from soban.learn.tuning.sets import Sets
from soban.learn.tuning.settings import MAY_CHANGE, Base, TuneSettings
from soban.loading.loaded import BUNDLED, SMALL
from soban.loading.locate import locate
from soban.loading.model_files import ModelFiles, open_model
from soban.models import Architecture, architecture
from soban.ops import formats
from soban.packing.assemble import weight_bytes
from soban.packing.fitting import fitted
from soban.packing.layout import packed_layout
from soban.resources.memory import stored_weights
from soban.text.tokenizers.tokenizer import Tokenizer
from soban.weights.checkpoint import Checkpoint

STEP_TOKENS = 4096  # that pass through the model in a step, where nothing else is said
STEPS_AN_EPOCH = 8  # at the least, where there are few examples
CONTEXT = 2048  # tokens of the longest example, where nothing else is said
MULTIPLE = 16  # of which a row's length is one
EVALUATIONS = 10  # in a tuning
WARM_UP = 0.03  # share of the steps
RENAMED = {
    "module": "modules", "rank_of": "ranks", "alpha_of": "alphas", "context": "length",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Subject:
    """The model that is tuned, opened and not yet loaded."""

    name: str  # as it was called
    location: Path | None  # None: the model that comes along
    files: ModelFiles
    architecture: Architecture
    checkpoint: Checkpoint
    tokenizer: Tokenizer
    form: Form

    @property
    def template_text(self) -> str | None:
        """The chat template that the adapter keeps."""
        return None if self.form.template is None else self.form.template.source

    def examples(self, arguments: TuneArguments) -> Sets:
        """What it learns from and is measured with."""
        if not 0 < arguments.held_out < 1:
            raise UserError("--held-out {value} is no share", value=arguments.held_out, hint="give a number as 0.05")
        longest = self.architecture.config.longest
        context = min(CONTEXT, longest - 1) if arguments.context is None else arguments.context
        if not 2 <= context < longest:
            raise UserError(
                "context={wanted}: this model reads 2 to {limit} tokens", wanted=context, limit=longest - 1,
                hint="give a number in that range",
            )  # fmt: skip
        return sets.read(
            paths(arguments), self.form, context, fields=arguments.field, share=arguments.held_out, seed=arguments.seed
        )

    def sizes(self, settings: TuneSettings) -> Geometry:
        """What decides how much memory it takes."""
        config = self.architecture.config
        shapes = self.architecture.plan.shapes()
        matrices = [part for layer in self.architecture.plan.layers for part in layer.matrices()]
        chosen = [p for p in matrices if any(p.name.endswith(f"{name}.weight") for name in settings.modules)]
        parameters = sum(math.prod(shape) for shape in shapes.values())
        learning = sum(settings.rank * sum(part.shape) for part in chosen)
        if METHODS[settings.method].config is None:
            learning = parameters
        packed = settings.base in formats.QUANTISED
        size = stored_weights(self.architecture, self.checkpoint, settings.base) if packed else 0
        plain = 0 if packed else weight_bytes(self.architecture, self.checkpoint, settings.base)
        inner = max((part.shape[0] for part in matrices), default=0)
        return Geometry(
            config.hidden_size, inner, config.num_attention_heads, len(self.architecture.plan.layers),
            config.vocab_size, size, parameters, learning, plain,
        )  # fmt: skip


def paths(arguments: TuneArguments) -> list[str | Path]:
    """The files of examples."""
    data = arguments.data
    return [data] if isinstance(data, str | Path) else list(data)


def subject(arguments: TuneArguments) -> Subject:
    """The model of the arguments, found and opened. Raises UserError for one that cannot be tuned."""
    path = None if arguments.model is None else locate(arguments.model)
    files = open_model(path or BUNDLED)
    checkpoint = files.checkpoint
    if (family := checkpoint.config.get("model_type")) not in TUNED:
        raise UserError(
            "models of the family {family} cannot be tuned here", family=str(family)[:40], known=", ".join(TUNED),
            hint="take one of {known}",
        )  # fmt: skip
    if checkpoint.interleaved:
        raise UserError(
            "{path}: in files of this form a head's numbers lie in another order than transformers has them",
            path=checkpoint.path, hint="write a folder of it with soban convert, and tune that",
        )  # fmt: skip
    fit = fitted(architecture(checkpoint.config), checkpoint)
    tokenizer = files.tokenizer()
    eos = checkpoint.generation_config.get("eos_token_id", checkpoint.config.get("eos_token_id"))
    named = eos if isinstance(eos, list) else [eos]
    ends = [*tokenizer.eos_ids, *(token for token in named if type(token) is int)]
    form = form_of(tokenizer, files.template(), arguments.template, list(dict.fromkeys(ends)), tokenizer.bos_id)
    name = BUNDLED.name if arguments.model is None else str(arguments.model)
    return Subject(name, path, files, fit.architecture, fit.checkpoint, tokenizer, form)


def resolved(arguments: TuneArguments, subject: Subject, examples: Sets) -> TuneSettings:
    """The settings that the arguments mean for this model and these examples on this PC."""
    parameters = sum(math.prod(shape) for shape in subject.architecture.plan.shapes().values())
    device = chosen_device(arguments.device)
    whole = METHODS[arguments.method].config is None
    base = _base("f32" if whole and arguments.base == "auto" else arguments.base, subject, parameters, device)
    if whole and (base in formats.QUANTISED or not subject.checkpoint.path.is_dir()):
        raise UserError(
            "--method {method}: the model's own weights learn, and packed ones cannot", method=arguments.method,
            hint="take a folder as Hugging Face has it, and --base f32",
        )  # fmt: skip
    length = -(-(examples.longest - 1) // MULTIPLE) * MULTIPLE
    length = min(max(length, min(STEP_TOKENS // 16, subject.architecture.config.longest - 1)), 1 << 20)
    rows = Rows(examples.train, length, arguments.seed)
    an_epoch = len(rows.epoch(0))
    size = arguments.batch_size or max(1, min(STEP_TOKENS // length, an_epoch // STEPS_AN_EPOCH))
    steps = arguments.steps if arguments.steps is not None else _steps(arguments.epochs, rows, size)
    way = METHODS[arguments.method]
    usual_rate = way.rate if parameters > SMALL else way.small_rate
    return TuneSettings(
        family=str(subject.checkpoint.config["model_type"]), vocab_size=subject.architecture.config.vocab_size,
        model_hash=_model_hash(subject.checkpoint), data_hash=_data_hash(examples), base=base, length=length,
        batch_size=size, steps=steps,
        learning_rate=usual_rate if arguments.learning_rate is None else arguments.learning_rate,
        method=arguments.method, rank=arguments.rank,
        alpha=float(2 * arguments.rank if arguments.alpha is None else arguments.alpha), rslora=arguments.rslora,
        dora=arguments.dora, modules=_modules(arguments, subject), layers=_layers(arguments.layers, subject),
        ranks=tuple(arguments.rank_of), alphas=tuple(arguments.alpha_of),
        threads=system.threads() if device == "cpu" else 1, checkpointing=parameters > SMALL,
        schedule=arguments.schedule,
        warmup_steps=round(WARM_UP * steps) if arguments.warmup_steps is None else arguments.warmup_steps,
        weight_decay=arguments.weight_decay, grad_clip=arguments.grad_clip,
        dtype="bfloat16" if base == "bf16" else chosen_dtype(arguments.dtype, device), device=device,
        seed=arguments.seed,
        evaluate_every=-(-steps // EVALUATIONS) if arguments.evaluate_every is None else arguments.evaluate_every,
        patience=arguments.patience,
    )  # fmt: skip


def continued(
    arguments: TuneArguments, now: TuneSettings, began: TuneSettings, explicit: frozenset[str]
) -> TuneSettings:
    """What a resumed tuning goes on with: what it began with, but for how long it lasts and how it ends.

    Raises UserError for arguments, a model and data that would make another tuning of it.
    """
    known = {field.name for field in fields(TuneSettings)}
    deciding = {RENAMED.get(name, name) for name in explicit} & known
    deciding -= {"base"} if arguments.base == "auto" else set()
    folder.check_same(began, now, frozenset(deciding | {"model_hash", "data_hash"}))
    changes: dict[str, Any] = {name: getattr(now, name) for name in deciding & MAY_CHANGE}
    return replace(began, **changes)


def _steps(epochs: float, rows: Rows, size: int) -> int:
    """How many steps so many passes over the examples are."""
    if not 0 < epochs < 10_000:
        raise UserError("--{name} {value} is not above 0", name="epochs", value=epochs, hint="leave it out for three")
    whole = int(epochs)
    last = round((epochs - whole) * len(rows.epoch(whole)))
    return max(1, (counts(rows, whole) + last) // size)


def _base(wanted: str, subject: Subject, parameters: int, device: str) -> Base:
    """How the frozen weights are kept: packed where the model is large, or its file is packed."""
    layout = packed_layout(subject.checkpoint)
    if layout:
        kinds = {format for format, _, _ in layout.values()}
        if wanted not in ("auto", *kinds):
            raise UserError(
                "{path} holds packed weights, so --base {base} does not fit it", path=subject.checkpoint.path,
                base=wanted, hint="leave it out",
            )  # fmt: skip
        return "q4" if "q4" in kinds else "q8"
    if device != "cpu":
        if wanted in formats.QUANTISED:
            raise UserError("--base {base}: packed weights are for processors", base=wanted, hint="take --base bf16")
        return "bf16" if wanted == "auto" else wanted  # type: ignore[return-value]
    if wanted != "auto":
        return wanted  # type: ignore[return-value]
    return "f32" if parameters <= SMALL else "q4"


def _modules(arguments: TuneArguments, subject: Subject) -> tuple[str, ...]:
    """The ends of the names of the layers that are changed; (): those that are usual for the method. Raises UserError
    for a name that is none of them."""
    names = arguments.module
    plan = subject.architecture.plan
    wholes = [name for name, parts in plan.tensors("hf").items() for part in parts if part.name in _inner(subject)]
    there = sorted({name.removesuffix(".weight").rpartition(".")[2] for name in wholes})
    for name in names:
        if name not in there:
            raise UserError(
                "--module {name}: no layer is called so", name=name, known=", ".join(there), hint="choose among {known}"
            )
    return tuple(sorted(set(names))) if names else tuple(there) if arguments.method == "lora" else ()


def _inner(subject: Subject) -> set[str]:
    return {part.name for layer in subject.architecture.plan.layers for part in layer.matrices()}


def _layers(text: str | None, subject: Subject) -> tuple[int, ...]:
    """Numbers of layers, from 3,5,8-11. Raises UserError for what is none."""
    if text is None:
        return ()
    count = len(subject.architecture.plan.layers)
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            some = range(int(first), int(last or first) + 1)
        except ValueError:
            some = range(0)
        if not some or not 0 <= some[0] <= some[-1] < count:
            raise UserError(
                "--layers {value}: this model has layers 0 to {last}", value=text, last=count - 1,
                hint="write numbers as 3,5 or 8-11",
            )  # fmt: skip
        numbers |= set(some)
    return tuple(sorted(numbers))


def _model_hash(checkpoint: Checkpoint) -> str:
    """What tells a model from others, wherever it lies: its configuration, and every tensor that is small."""
    digest = hashlib.sha256(json.dumps(checkpoint.config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(checkpoint.tensors.items()):
        if len(tensor.shape) == 1 and tensor.format != "u8":
            digest.update(name.encode() + tensor.float32().tobytes())
    return digest.hexdigest()


def _data_hash(examples: Sets) -> str:
    digest = hashlib.sha256()
    for some in (examples.train, examples.held_out):
        for one in some:
            digest.update(_bytes(one))
        digest.update(b"/")
    return digest.hexdigest()


def _bytes(example: Example) -> bytes:
    return len(example.ids).to_bytes(8, "little") + example.ids.tobytes() + example.learnt.tobytes()
