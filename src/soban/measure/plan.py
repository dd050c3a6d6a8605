"""`soban plan`: what a model takes on this PC, from the headers of its files, before it is fetched or loaded."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from soban.base import system
from soban.base.errors import UserError
from soban.base.files import free_bytes
from soban.base.machine import memory_bytes, this_machine
from soban.base.version import VERSION
from soban.hub import catalogue, names, neighbours
from soban.hub.catalogue import Entry
from soban.hub.choosing import READ
from soban.hub.fetching import NETWORK
from soban.hub.recommend import FORMS
from soban.loading.loaded import CACHE_DTYPES, USUAL_CONTEXT
from soban.measure import forecast
from soban.measure.headers import Outline, outline
from soban.messages import translate
from soban.models import FAMILIES, Architecture, architecture
from soban.models.plan import Part
from soban.ops import formats
from soban.ops.cache import LayerGeometry, position_bytes
from soban.packing.assemble import dtypes_of, needs_packing, target_format, weight_bytes
from soban.packing.fitting import fitted, quantised_by
from soban.packing.layout import packed_layout
from soban.resources import disk, memory
from soban.resources.memory import Form, cache_format
from soban.weights.checkpoint import Checkpoint
from soban.weights.naming import EMBEDDING, HEAD

PURPOSES = ("run", "serve", "train", "tune")
SERVED = 4  # users of `serve`, where nobody says
LEARNT = 512  # tokens of a text that is learnt, where nobody says
USUAL_SPEED = 100.0  # Mbit/s, where neither the user nor an earlier download tells
MOST_USERS = 64
# Bytes a weight, roughly: f32 keeps what is stored, mostly 16 bits.
ROUGH_BYTES = {"f32": 2.0, "bf16": 2.0, **FORMS}
RANK = 16  # of LoRA's matrices


@dataclass(frozen=True)
class PlanOptions:
    """What a model takes on this PC: disk, memory, time. Only the headers of its files are fetched.

    MODEL is a name (gemma2:2b), owner/name on the hub, a folder or a file; without one, the bundled story model.
    """

    words: tuple[str, ...] = field(
        default=(), metadata={"positional": True, "metavar": "[MODEL] [run|serve|train|tune]"}
    )
    context: int | None = field(default=None, metadata={"help": "tokens that prompt and text may have together"})
    users: int | None = field(default=None, metadata={"help": "conversations at the same time [1; serve: 4]"})
    cache_dtype: str = field(
        default="auto", metadata={"metavar": "|".join(CACHE_DTYPES), "help": "how past tokens are kept"}
    )
    speed: float | None = field(
        default=None, metadata={"example": "100", "help": "of the network in Mbit/s, for the time of a download"}
    )
    json: bool = field(default=False, metadata={"help": "all figures as JSON, in bytes and seconds"})


@dataclass(frozen=True)
class Wish:
    """What the options come to for a model."""

    purpose: str
    context: int
    users: int
    cache: str


def plan(options: PlanOptions, tell: Callable[[str], None]) -> dict[str, Any]:
    """The figures, as plain data. Raises UserError; `tell` hears what is being done."""
    name, purpose = model_and_purpose(options)
    tell(translate("reading the headers ..."))
    try:
        headers = outline(name)
    except UserError as error:
        entry = known_entry(name)
        if entry is None:
            raise
        return from_catalogue(entry, options, purpose, str(error))
    checkpoint, arch, obstacle = headers.checkpoint, None, None
    try:
        arch = architecture(checkpoint.config, rope_interleaved=checkpoint.interleaved)
        fit = fitted(arch, checkpoint)
        arch, checkpoint = fit.architecture, fit.checkpoint
    except UserError as error:
        arch, obstacle = None, str(error)
    most = arch.config.longest if arch else checkpoint.config.get("max_position_embeddings")
    wish = checked(options, purpose, most)
    free = system.available_memory()
    room = free if free is not None else memory_bytes() or None
    result = {
        "soban": VERSION, "pc": asdict(this_machine()), "threads": system.threads(),
        "memory_free": free, "model": headers.name, "repository": headers.repository.id if headers.repository else None,
        "purpose": purpose, "family": checkpoint.config.get("model_type"), "obstacle": obstacle,
        **weights(checkpoint if quantised_by(checkpoint) else headers.checkpoint),
        "encoder": arch is not None and arch.encoder,
        "context": wish.context, "users": wish.users,
    }  # fmt: skip
    result["disk"] = disk_space(headers.download, packed_bytes(arch, checkpoint), options.speed)
    if arch is None:
        return {**result, "forms": [rough_form(checkpoint, dtype, room) for dtype in ROUGH_BYTES]}
    dtypes = ("q8",) if packed_layout(checkpoint) else dtypes_of(arch, checkpoint)
    if purpose in ("train", "tune"):
        return {**result, "forms": [], "training": training(arch, checkpoint, wish, room)}
    result["context_most"] = arch.config.longest
    result["cache_token_bytes"] = {name: memory.token_bytes(arch, name) for name in CACHE_DTYPES[1:]}
    result["forms"] = [form(arch, checkpoint, dtype, wish, room, tell) for dtype in dtypes]
    result["busy"] = any(one["busy"] for one in result["forms"])
    result["advice"] = advice(arch, headers, result["forms"], wish, room)
    return result


def known_entry(name: str | None) -> Entry | None:
    """What the catalogue says of a model whose files cannot be asked, if it knows how many weights it has."""
    repository = names.find(name) if name and not neighbours.is_name(name) else None
    entry = repository.entry if repository else None
    return entry if entry and entry.parameters else None


def from_catalogue(entry: Entry, options: PlanOptions, purpose: str, unreachable: str) -> dict[str, Any]:
    """Rough figures by the catalogue alone: offline, say, or before the hub has given access."""
    count = entry.parameters or 0
    free = system.available_memory()
    wish = checked(options, purpose, entry.context)
    layers, heads, size = entry.cache or (0, 0, 0)
    geometries = [LayerGeometry(heads, size)] * layers
    forms = []
    f32_bytes = 4.0 if entry.form == "llama2.c" else ROUGH_BYTES["f32"]
    for dtype, each in (ROUGH_BYTES | {"f32": f32_bytes}).items():
        weights_size = round(each * count)
        cache = position_bytes(geometries, cache_format(dtype, wish.cache)) * wish.context * wish.users
        total = weights_size + cache + memory.PROGRAM
        forms.append(
            {
                "dtype": dtype, "weights": weights_size, "cache": cache, "total": total,
                "verdict": "unknown" if free is None else "fits" if total <= free else "no",
            }
        )  # fmt: skip
    report = {
        "soban": VERSION, "pc": asdict(this_machine()), "threads": system.threads(), "memory_free": free,
        "model": entry.name, "repository": entry.repository, "purpose": purpose, "family": entry.model_type,
        "unreachable": unreachable, "obstacle": obstacle(entry), "parameters": count, "stored": {},
        "rule_of_thumb": {"16 bits": 2 * count, "32 bits": 4 * count}, "context": wish.context, "users": wish.users,
        "disk": disk_space(round(f32_bytes * count), {}, options.speed), "forms": forms, "stored_bytes": f32_bytes,
    }  # fmt: skip
    if purpose in ("train", "tune") and report["obstacle"] is None:
        return {**report, "forms": [], "training": rough_training(count, wish, free)}
    return report


def obstacle(entry: Entry) -> str | None:
    """Why soban cannot run a model, by the catalogue; None where nothing is known to be in the way."""
    if entry.model_type is not None and entry.model_type not in FAMILIES:
        return translate("it has no engine for {family} models yet", family=entry.model_type)
    if entry.form not in READ:
        return translate("it does not read what its repository holds ({form})", form=entry.form)
    return None


def rough_training(count: int, wish: Wish, free: int | None) -> dict[str, Any]:
    """What learning takes as far as the count of the weights tells: the rest follows from shapes (None)."""
    if wish.purpose == "train":
        parts: dict[str, tuple[int, int | None, int | None]] = {"f32": (4 * count, 4 * count, 8 * count)}
    else:
        parts = {dtype: (round(each * count), None, None) for dtype, each in ROUGH_BYTES.items()}
    ways = []
    for dtype, (size, gradients, optimiser) in parts.items():
        least = size + (gradients or 0) + (optimiser or 0) + memory.TORCH
        ways.append(
            {
                "dtype": dtype, "weights": size, "gradients": gradients, "optimiser": optimiser, "activations": None,
                "program": memory.TORCH, "total": None, "least": least,
                "fits": False if free is not None and least > free else None,
            }
        )  # fmt: skip
    return {
        "tokens_in_a_step": wish.context * wish.users, "rank": RANK, "adapter_parameters": None, "ways": ways,
        "possible": False,
    }  # fmt: skip


def model_and_purpose(options: PlanOptions) -> tuple[str | None, str]:
    """The model (None: the bundled one) and what it is for. Raises UserError for more words than that."""
    words = list(options.words)
    purpose = words.pop() if words and words[-1] in PURPOSES else "run"
    if len(words) > 1:
        raise UserError(
            "{word} is no purpose", word=words[1], purposes=", ".join(PURPOSES),
            hint="give a model and one of {purposes}",
        )  # fmt: skip
    return (words[0] if words else None), purpose


def checked(options: PlanOptions, purpose: str, most: object) -> Wish:
    """The options with what is usual filled in, for a model that reads `most` tokens, if that is known.

    Raises UserError for what is out of range.
    """
    most = most if type(most) is int and most > 0 else USUAL_CONTEXT
    if options.context is not None and not 2 <= options.context <= most:
        raise UserError(
            "context={wanted}: this model reads 2 to {limit} tokens", wanted=options.context, limit=most,
            hint="give a number in that range",
        )  # fmt: skip
    if options.users is not None and not 1 <= options.users <= MOST_USERS:
        raise UserError(
            "--users {value}: out of range", value=options.users, most=MOST_USERS,
            hint="give a number from 1 to {most}",
        )  # fmt: skip
    if options.cache_dtype not in CACHE_DTYPES:
        raise UserError(
            "cache_dtype={dtype} is not known", dtype=options.cache_dtype, known=", ".join(CACHE_DTYPES),
            hint="choose {known}",
        )  # fmt: skip
    if options.speed is not None and not 0 < options.speed < 1e6:
        raise UserError("--speed {value}: no speed in Mbit/s", value=options.speed, hint="give a number above 0")
    usual = LEARNT if purpose in ("train", "tune") else USUAL_CONTEXT
    users = options.users or (SERVED if purpose == "serve" else 1)
    return Wish(purpose, options.context or min(most, usual), users, options.cache_dtype)


def weights(checkpoint: Checkpoint) -> dict[str, Any]:
    """How many there are, as what they are stored, and what the rule of thumb would say."""
    counts: dict[str, int] = {}
    count = 0
    for tensor in distinct_tensors(checkpoint):
        counts[tensor.format] = counts.get(tensor.format, 0) + math.prod(tensor.shape)
        count += math.prod(tensor.shape)
    if layout := packed_layout(checkpoint):
        matrices = {name for name in layout if not name.endswith(".residual")}
        rest = [tensor for tensor in distinct_tensors(checkpoint) if tensor.name not in layout]
        count = sum(layout[name][1] * layout[name][2] for name in matrices) + sum(math.prod(t.shape) for t in rest)
        counts = {"q8": count}
    # "8 GB in float32, 4 in float16 for 2B": bytes of a number times the numbers, without what else there is
    return {"parameters": count, "stored": counts, "rule_of_thumb": {"16 bits": 2 * count, "32 bits": 4 * count}}


def distinct_tensors(checkpoint: Checkpoint) -> list[Any]:
    """Every tensor once, though several names may stand for it."""
    return [tensor for name, tensor in checkpoint.tensors.items() if name not in checkpoint.metadata]


def disk_space(download: int, packed: dict[str, int], speed: float | None) -> dict[str, Any]:
    """What is to be fetched and how long that takes, what packing adds, and what is free."""
    record = system.recalled(NETWORK).get("bytes_per_second")
    plausible = isinstance(record, float | int) and 0 < record < 1e12
    rate = speed * 125_000 if speed else float(record) if plausible and record else USUAL_SPEED * 125_000
    free = None
    with contextlib.suppress(OSError, UserError):
        free = free_bytes(system.cache_folder())
    return {
        "download": download, "bytes_per_second": rate,
        "speed_is": "stated" if speed else "measured" if plausible else "assumed", "download_seconds": download / rate,
        "free": free, "packed": packed,
    }  # fmt: skip


def packed_bytes(arch: Architecture | None, checkpoint: Checkpoint) -> dict[str, int]:
    """What the packed file of each dtype takes of the disk; 0 where none is made."""
    if arch is None or packed_layout(checkpoint):
        return {}
    return {
        dtype: weight_bytes(arch, checkpoint, dtype) if needs_packing(arch, checkpoint, dtype) else 0
        for dtype in dtypes_of(arch, checkpoint)
    }


def form(
    arch: Architecture, checkpoint: Checkpoint, dtype: str, wish: Wish, free: int | None, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Memory and speed with weights of a dtype, and whether that fits."""
    cache = cache_format(dtype, wish.cache)
    takes = memory.needs(arch, checkpoint, dtype, wish.context, wish.users, cache)
    tell(translate("measuring {dtype} ...", dtype=dtype))
    rates = forecast.rates(arch, checkpoint, dtype, min(wish.users, memory.OUTPUTS), cache)
    one = memory.cache_bytes(arch, wish.context, 1, cache)
    figures: dict[str, Any] = {
        "dtype": dtype, "cache_dtype": cache, "weights": takes.weights, "cache": takes.cache, "buffers": takes.buffers,
        "program": takes.program, "total": takes.total, "prefill_per_second": rates.prefill if rates else None,
        "decode_per_second": rates.decode if rates and not arch.encoder else None,
        "busy": rates.busy if rates else False,
    }  # fmt: skip
    if free is None:
        return {**figures, "verdict": "unknown", "users_that_fit": None, "context_that_fits": None}
    spare = free - takes.total + takes.cache
    figures["users_that_fit"] = max(0, spare // one)
    figures["context_that_fits"] = memory.fitting_context(arch, cache, spare, arch.config.longest, wish.users)
    figures["verdict"] = "fits" if takes.total <= free else "slow" if takes.own <= free else "no"
    if figures["verdict"] == "slow":
        rate = disk.decode_rate(takes.weights, free - takes.own, known_disk(), rates.decode if rates else None)
        figures["decode_per_second"], figures["prefill_per_second"] = rate, None
    return figures


def known_disk() -> float | None:
    """How fast the cache folder's disk reads, by one of the files that it holds, or soban's own."""
    folder = system.cache_folder() / "packed"
    large = [path for path in folder.glob("*.safetensors") if path.stat().st_size >= disk.PIECE]
    return disk.disk_rate(large[0]) if large else None


def rough_form(checkpoint: Checkpoint, dtype: str, free: int | None) -> dict[str, Any]:
    """What the weights of a model that soban cannot run would take: every matrix in the format of the dtype."""
    size = 0
    for tensor in distinct_tensors(checkpoint):
        if len(tensor.shape) == 2:
            part = Part(tensor.name, tensor.shape, precise=tensor.name in (EMBEDDING, HEAD))
            size += formats.stored_bytes(target_format(part, tensor, dtype), *tensor.shape)
        else:
            size += 4 * math.prod(tensor.shape)
    fits = None if free is None else size + memory.PROGRAM <= free
    return {"dtype": dtype, "weights": size, "verdict": "unknown" if fits is None else "fits" if fits else "no"}


def advice(
    arch: Architecture, headers: Outline, forms: list[dict[str, Any]], wish: Wish, free: int | None
) -> dict[str, Any]:
    """What to take: the fastest form that fits; where one does not, what would; where none does, a smaller model."""
    rate = "prefill_per_second" if arch.encoder else "decode_per_second"
    fitting = [one for one in forms if one["verdict"] in ("fits", "unknown")]
    best = max(fitting, key=lambda one: one[rate] or 0.0) if fitting else None
    first = Form(forms[0]["dtype"], forms[0]["cache_dtype"], wish.context)
    others = []
    if best is None and free is not None and not packed_layout(headers.checkpoint):
        others = memory.fitting_forms(arch, headers.checkpoint, first, free, wish.users)
    return {
        "take": best["dtype"] if best else None,
        "instead": [{**asdict(one), "flags": one.flags(first)} for one in others],
        "smaller_models": smaller(headers, free) if best is None and free is not None else [],
    }  # fmt: skip


def smaller(headers: Outline, free: int) -> list[dict[str, Any]]:
    """Models of the same family in the catalogue whose weights would fit in 4 bits, the largest first."""
    entry = headers.repository.entry if headers.repository else None
    if entry is None:
        return []
    family = entry.name.partition(":")[0]
    fitting = [
        (other.parameters, other.name)
        for other in catalogue.entries()
        if other.name.partition(":")[0] == family and other.kind == entry.kind and other.parameters
        and other.parameters < (entry.parameters or math.inf)
        and ROUGH_BYTES["q4"] * other.parameters + memory.PROGRAM < free
    ]  # fmt: skip
    return [{"name": name, "parameters": count} for count, name in sorted(fitting, reverse=True)[:3]]


def training(arch: Architecture, checkpoint: Checkpoint, wish: Wish, free: int | None) -> dict[str, Any]:
    """What learning would take: the whole model in float32, or LoRA's matrices beside frozen weights of each dtype.

    What soban itself cannot do yet is marked: it trains small models of its own alone.
    """
    c = arch.config
    shapes = memory.layer_matrices(arch)
    whole = memory.parameters(arch)
    tokens = wish.context * wish.users
    activations = 4 * tokens * memory.activation_floats(c, wish.context)
    # LoRA (Hu et al. 2021, arXiv 2106.09685): A (rank, in) and B (out, rank) beside every matrix of the layers.
    adapter = sum(RANK * (rows + columns) for rows, columns in shapes)
    # AdamW in float32 keeps weight, gradient and two averages: 4 * 4 bytes (Kingma & Ba 2015, arXiv 1412.6980).
    if wish.purpose == "train":
        parts = {"f32": (4 * whole, 4 * whole, 8 * whole)}
    else:  # QLoRA (Dettmers et al. 2023, arXiv 2305.14314) is LoRA beside frozen weights in 4 bits
        dtypes = ("q8",) if packed_layout(checkpoint) else dtypes_of(arch, checkpoint)
        frozen = {dtype: memory.stored_weights(arch, checkpoint, dtype) for dtype in dtypes}
        parts = {dtype: (size + 4 * adapter, 4 * adapter, 8 * adapter) for dtype, size in frozen.items()}
    ways = []
    for dtype, (size, gradients, optimiser) in parts.items():
        total = size + gradients + optimiser + activations + memory.TORCH
        ways.append(
            {
                "dtype": dtype, "weights": size, "gradients": gradients, "optimiser": optimiser,
                "activations": activations, "program": memory.TORCH, "total": total,
                "fits": None if free is None else total <= free,
            }
        )  # fmt: skip
    return {
        "tokens_in_a_step": tokens, "rank": RANK, "adapter_parameters": adapter, "ways": ways,
        "possible": False,  # `soban train` makes models of its own shape, and goes on with these alone
    }  # fmt: skip
