"""A plan as a text of 80 columns, or fewer in a narrow terminal."""

from collections.abc import Sequence
from typing import Any

from soban.base.units import of_bytes, of_seconds
from soban.cli.terminal import table
from soban.cli.terminal.sections import grid, one_line
from soban.cli.terminal.wrapping import hanging, wrapped
from soban.messages import escaped, language, padded, translate, width

WIDEST = 79
UNITS = {"en": ((1e9, " B"), (1e6, " M"), (1e3, " k")), "ko": ((1e8, "억 "), (1e4, "만 "))}
Plan = dict[str, Any]


def text(plan: Plan) -> str:
    """The whole plan, with a line break at the end."""
    lines = [*head(plan), ""]
    if "training" in plan:
        lines += training(plan)
    elif plan["obstacle"]:
        lines += rough(plan)
    elif "unreachable" in plan:
        lines += by_catalogue(plan)
    else:
        lines += [*forms(plan), "", *conclusions(plan)]
    if "unreachable" in plan:
        warning = translate(
            "Only roughly, by the catalogue, for its files could not be asked: {reason}", reason=plan["unreachable"]
        )
        lines += wrapped(warning, columns())
    return "\n".join(map(escaped, lines)) + "\n"


def head(plan: Plan) -> list[str]:
    """What the model is, what the rule of thumb says of it, what it costs to have it, and what this PC has."""
    by_bytes = {4.0: "f32"}.get(plan.get("stored_bytes", 2.0), "bf16")
    dtype = max(plan["stored"], key=lambda name: plan["stored"][name]) if plan["stored"] else by_bytes
    name = plan["model"] if plan["repository"] in (None, plan["model"]) else f"{plan['model']} ({plan['repository']})"
    thumb = plan["rule_of_thumb"]
    pairs = [
        (
            translate("model"),
            translate(
                "{name}: {family}, {count} weights, stored as {format}", name=name,
                family=one_line(plan["family"] or "?"), count=number(plan["parameters"]), format=dtype,
            ),
        ),
        (
            translate("rule of thumb"),
            translate(
                "2 bytes a weight: {small}; 4 bytes: {large}", small=of_bytes(thumb["16 bits"]),
                large=of_bytes(thumb["32 bits"]),
            ),
        ),
        (translate("download"), download(plan["disk"])),
        (translate("this PC"), machine(plan)),
    ]  # fmt: skip
    left = max(width(name) for name, _ in pairs) + 2
    return [line for name, value in pairs for line in hanging(padded(name, left), value, columns())]


def download(disk: Plan) -> str:
    if not disk["download"]:
        text = translate("nothing: it is on this disk")
    else:
        source = {
            "stated": translate("as you say"), "measured": translate("as measured last"),
            "assumed": translate("assumed; --speed tells another"),
        }[disk["speed_is"]]  # fmt: skip
        text = translate(
            "{size}: about {time} at {speed:.0f} Mbit/s ({said})", size=of_bytes(disk["download"]),
            time=of_seconds(disk["download_seconds"]), speed=disk["bytes_per_second"] / 125_000, said=source,
        )  # fmt: skip
    if disk["free"] is not None:
        text += translate("; {free} of the disk are free", free=of_bytes(disk["free"]))
    return text


def machine(plan: Plan) -> str:
    whole = of_bytes(plan["pc"]["memory"]) if plan["pc"]["memory"] else "?"
    if plan["memory_free"] is None:
        return translate("{whole} of memory, {threads} threads", whole=whole, threads=plan["threads"])
    return translate(
        "{free} of {whole} memory are free, {threads} threads", free=of_bytes(plan["memory_free"]), whole=whole,
        threads=plan["threads"],
    )  # fmt: skip


def forms(plan: Plan) -> list[str]:
    """Memory and speed of each dtype of weights."""
    if plan["users"] == 1:
        title = translate("{context} tokens of context", context=f"{plan['context']:,}")
    else:
        title = translate(
            "{users} users with {context} tokens of context each; tokens/s of all together", users=plan["users"],
            context=f"{plan['context']:,}",
        )  # fmt: skip
    heads = [
        translate("form"), translate("weights"), translate("cache"), translate("other"), translate("together"),
        translate("packed"), translate("read/s"), translate("write/s"), "",
    ]  # fmt: skip
    rows = [heads]
    for form in plan["forms"]:
        packed = plan["disk"]["packed"].get(form["dtype"], 0)
        rows.append(
            [
                form["dtype"], of_bytes(form["weights"]), of_bytes(form["cache"]),
                of_bytes(form["buffers"] + form["program"]), of_bytes(form["total"]),
                of_bytes(packed) if packed else "-", rate(form["prefill_per_second"]),
                rate(form["decode_per_second"]), verdict(form["verdict"]),
            ]
        )  # fmt: skip
    return [*wrapped(title, columns()), *aligned(rows)]


def verdict(name: str) -> str:
    return {
        "fits": translate("fits"), "slow": translate("slow"), "no": translate("too large"), "unknown": "?",
    }[name]  # fmt: skip


def conclusions(plan: Plan) -> list[str]:
    """What the figures mean, and what to take."""
    advice, forms_by_dtype = plan["advice"], {form["dtype"]: form for form in plan["forms"]}
    sentences = []
    if plan["encoder"]:
        sentences.append(translate("It is an encoder: it makes vectors and scores of texts, and writes none."))
    if advice["take"]:
        best = forms_by_dtype[advice["take"]]
        name = plan["model"]
        sentences.append(
            translate("Quickest of what fits: soban embed {name} --dtype {dtype}", name=name, dtype=best["dtype"])
            if plan["encoder"] and len(forms_by_dtype) > 1
            else translate("Quickest of what fits: soban run {name} --dtype {dtype}", name=name, dtype=best["dtype"])
            if len(forms_by_dtype) > 1
            else translate("It fits.")
        )  # fmt: skip
        if best["users_that_fit"] is not None and not plan["encoder"]:
            sentences.append(
                translate(
                    "With {dtype}, memory holds {users} conversations of {context} tokens at once.",
                    dtype=best["dtype"], users=f"{best['users_that_fit']:,}", context=f"{plan['context']:,}",
                )
            )  # fmt: skip
    else:
        sentences.append(translate("With this context no form fits into the memory that is free."))
        for option in advice["instead"]:
            sentences.append(translate("This would fit: {flags}", flags=option["flags"]))
        for other in advice["smaller_models"]:
            sentences.append(
                translate(
                    "A smaller one: {name}, {count} weights", name=other["name"], count=number(other["parameters"])
                )
            )  # fmt: skip
        if slow := [form for form in plan["forms"] if form["verdict"] == "slow"]:
            sentences.append(
                translate(
                    "soban run {name} --dtype {dtype} would still answer, slowly.", name=plan["model"],
                    dtype=max(slow, key=lambda form: form["decode_per_second"] or 0.0)["dtype"],
                )
            )  # fmt: skip
    if any(form["verdict"] == "slow" for form in plan["forms"]):
        sentences.append(translate("slow: weights that do not fit are read from the disk again for every token."))
    if "f32" in forms_by_dtype and (dtype := max(plan["stored"], key=lambda name: plan["stored"][name])) != "f32":
        sentences.append(
            translate("f32 keeps the weights as they are stored, here {format}, and computes in float32.", format=dtype)
        )
    if plan["busy"]:
        sentences.append(translate("Other programs were busy while speed was measured, so it may be too low."))
    if plan["purpose"] == "serve":
        sentences.append(
            translate("soban serve is not there yet; these are the figures of the engine that it will use.")
        )
    return [line for sentence in sentences for line in wrapped(sentence, columns())]


def rough(plan: Plan) -> list[str]:
    """What can be said of a model that soban cannot run."""
    rows = [[translate("form"), translate("weights"), ""]]
    room = {"fits": translate("would fit"), "no": translate("too large"), "unknown": "?"}
    rows += [[form["dtype"], of_bytes(form["weights"]), room[form["verdict"]]] for form in plan["forms"]]
    sentences = [
        translate("soban cannot run this model: {reason}", reason=plan["obstacle"]),
        translate("The weights alone would take this much memory:"),
    ]
    return [*(line for sentence in sentences for line in wrapped(sentence, columns())), *aligned(rows)]


def by_catalogue(plan: Plan) -> list[str]:
    """What can be said of a model whose headers could not be read."""
    rows = [[translate("form"), translate("weights"), translate("cache"), translate("together"), ""]]
    for form in plan["forms"]:
        sizes = [of_bytes(form[name]) if form[name] else "?" for name in ("weights", "cache", "total")]
        rows.append([form["dtype"], *sizes, verdict(form["verdict"])])
    remark = translate(
        "f32 keeps the weights as they are stored, here taken to be {bytes:g} bytes each, and computes in float32.",
        bytes=plan["stored_bytes"],
    )
    return [
        *wrapped(translate("{context} tokens of context", context=f"{plan['context']:,}"), columns()),
        *aligned(rows),
        "",
        *wrapped(remark, columns()),
    ]


def training(plan: Plan) -> list[str]:
    """What learning would take, and what of it soban can do."""
    needs = plan["training"]
    rows = [
        [
            translate("way"), translate("weights"), translate("gradients"), translate("optimiser"),
            translate("activations"), translate("together"), "",
        ]
    ]  # fmt: skip
    for way in needs["ways"]:
        names = ("weights", "gradients", "optimiser", "activations", "total")
        parts = ["?" if way[name] is None else of_bytes(way[name]) for name in names]
        if way["total"] is None:
            parts[-1] = f"> {of_bytes(way['least'])}"
        fits = "?" if way["fits"] is None else translate("fits") if way["fits"] else translate("too large")
        rows.append([f"LoRA, {way['dtype']}" if plan["purpose"] == "tune" else "float32", *parts, fits])
    title = translate("{tokens} tokens in a step, AdamW in float32", tokens=f"{needs['tokens_in_a_step']:,}")
    if plan["purpose"] == "tune":
        title += translate(
            "; LoRA of rank {rank}: {count} weights learn",
            rank=needs["rank"],
            count="?" if needs["adapter_parameters"] is None else number(needs["adapter_parameters"]),
        )
        remark = translate(
            "this is what computing in float32 would take, by formulae (docs/memory.md); soban tune --forecast tells "
            "what its own way takes, on this PC."
        )
    else:
        remark = translate(
            "soban train makes small models of its own shape and cannot go on with this one yet: this is what its way "
            "to compute would take, by formulae (docs/memory.md)."
        )
    return [*wrapped(title, columns()), *aligned(rows), "", *wrapped(remark, columns())]


def rate(value: float | None) -> str:
    """Tokens per second in two or three digits."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def number(count: int) -> str:
    """A count of weights: 2.61 B, 4.2 M; in Korean by ten thousands."""
    units = UNITS.get(language(), UNITS["en"])
    for size, unit in units:
        if count >= size:
            return f"{count / size:.2f}{unit}" if count < 10 * size else f"{count / size:.1f}{unit}"
    return str(count)


def columns() -> int:
    return min(WIDEST, table.columns())


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as columns: the first and the last to the left, figures to the right; as lists in a narrow terminal."""
    last = len(rows[0]) - 1
    lines = grid(rows, [i not in (0, last) for i in range(last + 1)], indent="")
    if max(map(width, lines)) <= table.columns():
        return lines
    return table.stacked(rows, columns()).rstrip("\n").split("\n")
