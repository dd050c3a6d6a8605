"""Arguments to settings: what is usual is filled in, by the data, this PC, and what a training began with."""

import math
import os
from dataclasses import fields, replace
from pathlib import Path

from soban.base import system
from soban.base.errors import UserError
from soban.learn.data.shards import read_manifest, split_of
from soban.learn.training import beginning, folder, forecast, presets, sizes
from soban.learn.training.arguments import DEFAULTS, TrainArguments, flag_of
from soban.learn.training.families import FAMILIES
from soban.learn.training.forecast import Speed
from soban.learn.training.settings import MAY_CHANGE, Dtype, Settings, check

STEP_TOKENS = 8192  # that a step learns from, where nothing else is said
WARM_UP = 0.02  # share of the steps
PASSES = 4  # over the data at most, unless steps are given: from the fifth on little more is learnt
TOKENS_PER_WEIGHT = 20  # Hoffmann et al., "Training compute-optimal large language models", 2022
EVALUATIONS = 20  # in a training
RATES = {"muon": 4e-3, "adamw": 1e-3}
BFLOAT16_UNITS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # what torch.cpu says of this processor


# Arguments whose settings have other names, and all that a continuation compares where they are given
RENAMED = {
    "gradient_accumulation_steps": "accumulation", "layers": "num_hidden_layers", "heads": "num_attention_heads",
    "key_value_heads": "num_key_value_heads",
}  # fmt: skip
SETTLED = {field.name for kind in (Settings, presets.Shape) for field in fields(kind)}
SHAPING = (
    "preset", "family", "context", "window", "hidden_size", "intermediate_size", "layers", "heads", "key_value_heads",
)  # fmt: skip
DECIDING = {name: RENAMED.get(name, name) for name in DEFAULTS if RENAMED.get(name, name) in SETTLED}


def resolved(arguments: TrainArguments, data: Path, explicit: frozenset[str] = frozenset()) -> Settings:
    """The settings that the arguments mean for this data on this PC; `explicit`: the names of those chosen."""
    manifest = read_manifest(data)
    train = split_of(data, manifest, "train")
    family, shape = arguments.family, presets.preset(arguments.preset)
    initial = initial_folder(arguments)
    if initial is not None:
        shaping = sorted(flag_of(name) for name in SHAPING if name in explicit)
        if shaping:
            raise UserError(
                "{flags}: the model of --init-from has a shape already", flags=", ".join(shaping),
                hint="leave one of them out",
            )  # fmt: skip
        family, shape = beginning.read_shape(initial)
        beginning.check_tokenizer(initial, data)
    shape = presets.altered(
        shape, context=arguments.context, window=arguments.window,
        hidden_size=arguments.hidden_size, intermediate_size=arguments.intermediate_size,
        num_hidden_layers=arguments.layers, num_attention_heads=arguments.heads,
        num_key_value_heads=arguments.key_value_heads,
    )  # fmt: skip
    if not FAMILIES[family].groups and arguments.key_value_heads is None:
        shape = replace(shape, num_key_value_heads=shape.num_attention_heads)
    device = chosen_device(arguments.device)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    rows = arguments.batch_size if arguments.batch_size is not None else max(1, STEP_TOKENS // max(1, shape.context))
    settings = Settings(
        family=family, shape=shape, vocab_size=manifest["tokenizer"]["entries"], batch_size=rows,
        accumulation=arguments.gradient_accumulation_steps, processes=processes,
        threads=max(1, system.threads() // here),
        steps=1 if arguments.steps is None else arguments.steps,
        optimizer=arguments.optimizer, schedule=arguments.schedule,
        learning_rate=RATES[arguments.optimizer] if arguments.learning_rate is None else arguments.learning_rate,
        decay=arguments.decay, weight_decay=arguments.weight_decay, beta1=arguments.beta1, beta2=arguments.beta2,
        grad_clip=arguments.grad_clip, dtype=chosen_dtype(arguments.dtype, device), device=device, seed=arguments.seed,
        data_hash=manifest["data_hash"], tokenizer_hash=manifest["tokenizer"]["sha256"],
        evaluate_every=arguments.evaluate_every or 0, initial_hash=beginning.weights_hash(initial) if initial else "",
        learns=tuple(arguments.learns),
    )  # fmt: skip
    if arguments.resume:  # what it began with decides how long it lasts, unless that is given
        return replace(settings, warmup_steps=arguments.warmup_steps or 0)
    check(settings)
    steps = arguments.steps if arguments.steps is not None else usual_steps(settings, train["tokens"])
    warm = arguments.warmup_steps if arguments.warmup_steps is not None else round(WARM_UP * steps)
    return replace(settings, steps=steps, warmup_steps=warm)


def continued(
    arguments: TrainArguments, now: Settings, before: Settings, explicit: frozenset[str] = frozenset()
) -> Settings:
    """What a resumed training goes on with: what it began with, but for how long it lasts and how it ends.

    Raises UserError for arguments and data that would make another training of it.
    """
    deciding = {name for argument, name in DECIDING.items() if argument in explicit}
    names = deciding | {"data_hash", "tokenizer_hash", "processes"}
    if initial_folder(arguments) is not None:
        names |= {"initial_hash"}
    if "preset" in explicit:
        names |= {field.name for field in fields(presets.Shape)}
    folder.check_same(before, now, frozenset(names))
    changes = {name: getattr(now, name) for name in deciding & MAY_CHANGE}
    if now.device != before.device:  # else as many threads as it began with: their sums are the same
        changes |= {"device": now.device, "threads": now.threads}
    return replace(before, **changes)


def initial_folder(arguments: TrainArguments) -> Path | None:
    """The model whose weights are begun with."""
    return None if arguments.init_from == "scratch" else Path(arguments.init_from)


def check_lengths(arguments: TrainArguments) -> None:
    """UserError for times and counts that cannot be."""
    if arguments.minutes is not None and arguments.steps is not None:
        raise UserError("--minutes and --steps both say how long", hint="leave one of them out")
    if arguments.minutes is not None and not 0 < arguments.minutes < math.inf:
        raise UserError("--{name} {value} is not above 0", name="minutes", value=arguments.minutes,
                        hint="give the time to train in minutes, as in --minutes 30")  # fmt: skip
    for name, value in (("evaluate-every", arguments.evaluate_every), ("eval-iters", arguments.measure_batches)):
        if value is not None and value < 1:
            raise UserError("--{name} {value} is too small", name=name, value=value, least=1, hint="at least {least}")


def measured_tokens(arguments: TrainArguments, settings: Settings) -> int:
    """How many tokens of the text held out a measurement takes at the most."""
    batches = arguments.measure_batches
    return forecast.MEASURED if batches is None else batches * settings.batch_size * settings.shape.context


def measured_every(settings: Settings) -> int:
    """Steps between two measurements."""
    return settings.evaluate_every or -(-settings.steps // EVALUATIONS)


def steps_in_time(arguments: TrainArguments, settings: Settings, speed: Speed) -> int:
    """The steps that --minutes are enough for."""
    assert arguments.minutes is not None
    measuring = EVALUATIONS * forecast.measuring_seconds(speed, Path(arguments.data))
    return forecast.steps_within(settings, speed, arguments.minutes, measuring)


def lasting(settings: Settings, arguments: TrainArguments, steps: int) -> Settings:
    """The settings with so many steps; a new training rises over its share of them."""
    if arguments.resume:
        return replace(settings, steps=steps)
    warm = arguments.warmup_steps if arguments.warmup_steps is not None else round(WARM_UP * steps)
    return replace(settings, steps=steps, warmup_steps=warm)


def usual_steps(settings: Settings, tokens: int) -> int:
    """Enough for the network's size, and not more passes over the data than it bears."""
    return max(1, min(TOKENS_PER_WEIGHT * sizes.parameters(settings), PASSES * tokens) // max(1, settings.step_tokens))


def chosen_device(name: str) -> str:
    """cpu or cuda. Raises UserError where cuda is asked for and not there."""
    import torch

    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UserError("--device cuda: torch finds no GPU", hint="leave it out to train on the processor")
    return "cuda" if there and name != "cpu" else "cpu"


def chosen_dtype(name: str, device: str) -> Dtype:
    """bfloat16 only where it is computed by units of its own: elsewhere it is three times slower."""
    if name != "auto":
        return "float32" if name == "float32" else "bfloat16"
    import torch

    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if any(getattr(torch.cpu, name, bool)() for name in BFLOAT16_UNITS) else "float32"
