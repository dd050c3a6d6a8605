"""`soban verify`: whether two forms of a model are the same one, and where they first differ."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.messages import translate

if TYPE_CHECKING:
    from soban.measure.tensors import Difference
    from soban.measure.verify import Verification

SAME, DIFFERENT = 0, 1
EXAMPLES = """\
  soban verify path/to/model model-Q4_K_M.gguf
  soban verify path/to/model model.bin -z tokenizer.bin --text story.txt
  soban verify path/to/model model.gguf --json
"""


@dataclass(frozen=True)
class VerifyOptions:
    """Say whether two forms of a model are the same one.

    MODEL and OTHER are folders, GGUF files, .bin files, packed models or names, in any combination. Their tensors are
    compared one by one, then what each layer makes of a text, the numbers taken as they are stored. The first line
    is the verdict; what is more than rounding is told by its layer and its tensor. It ends with 0 where they are the
    same, perhaps rounded, and with 1 where they differ.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "MODEL OTHER"})
    text: str | None = field(
        default=None,
        metadata={"metavar": "FILE", "help": "a text to compare on (default: a short one, English and Korean)"},
    )
    tokens: int | None = field(default=None, metadata={"help": "tokens of the text that are read (default: 256)"})
    tokenizer: str | None = field(
        default=None, metadata={"short": "-z", "metavar": "FILE", "help": "tokenizer.bin of a .bin model"}
    )
    json: bool = field(default=False, metadata={"help": "write JSON"})


OPTIONS = VerifyOptions


def call(options: VerifyOptions) -> int:
    """Writes what was found to stdout; 0 if the models are the same, 1 if they differ."""
    from soban.cli.eval import read
    from soban.cli.shared import files_of
    from soban.loading import custom
    from soban.loading.loaded import BUNDLED
    from soban.measure.sample import TEXT
    from soban.measure.verify import verify

    check(options)
    text = TEXT if options.text is None else read(Path(options.text))
    bases = [custom.base_of(name) for name in options.words]
    paths = [BUNDLED if base is None else files_of(base) for base in bases]
    with console.Status(False) as status:

        def progress(step: str, share: float) -> None:
            if step == "tensors":
                status.show(translate("comparing the weights ... {percent:.0f} %", percent=100 * share))
            else:
                status.show(translate("comparing the layers ... {percent:.0f} %", percent=100 * share))

        verification = verify(
            paths[0], paths[1], text, tokens=options.tokens, progress=progress,
            tokenizer=None if options.tokenizer is None else Path(options.tokenizer),
        )  # fmt: skip
    console.write((as_json(verification, options) if options.json else as_text(verification)) + "\n")
    return SAME if verification.verdict in ("same", "rounded") else DIFFERENT


def check(options: VerifyOptions) -> None:
    """Raises UserError for what can be seen to be wrong before anything is opened."""
    if len(options.words) < 2:
        raise UserError("two models are compared, and {count} was named", count=len(options.words),
            hint="soban verify path/to/model model.gguf")  # fmt: skip
    if len(options.words) > 2:
        raise UserError(
            "{count} words, where two models are meant; this is too much: {word}", count=len(options.words),
            word=console.shortened(options.words[2]), hint="name the text with --text",
        )  # fmt: skip
    if options.tokens is not None and options.tokens < 2:
        raise UserError("--{flag} {value} is too small", flag="tokens", value=options.tokens, hint="give at least 2")


def as_json(verification: "Verification", options: VerifyOptions) -> str:
    """All of it; tensors that are the same are counted."""
    found: dict[str, Any] = dataclasses.asdict(verification)
    found["tensors"] = [_tensor(one) for one in verification.tensors if not one.same]
    found["same_tensors"] = sum(one.same for one in verification.tensors)
    for name in ("first", "worst"):
        one = getattr(verification, name)
        found[name] = None if one is None else _tensor(one)
    if verification.run is not None:
        layers = [dataclasses.asdict(one) | {"beyond": one.beyond} for one in verification.run.layers]
        found["run"]["layers"] = layers
    about = {"models": list(options.words), "text": options.text, "line": verdict_line(verification)}
    return json.dumps(about | found, ensure_ascii=False)


def _tensor(one: "Difference") -> dict[str, Any]:
    return dataclasses.asdict(one) | {"beyond": one.beyond}


def verdict_line(v: "Verification") -> str:
    """The verdict in one line."""
    match v.verdict:
        case "same":
            line = translate("the same weights")
        case "rounded":
            assert v.run is not None
            line = translate(
                "the same model, rounded differently: KL {divergence:.2g}, {percent:.0f} % of first choices",
                divergence=v.run.divergence.mean, percent=100 * v.run.agreement.mean,
            )  # fmt: skip
        case "config":
            line = translate("different settings: {keys}", keys=", ".join(v.config))
        case "tokenizers":
            line = translate("different tokenizers")
        case "templates":
            line = translate("different chat templates")
        case "other family":
            line = translate("different models: {one} and {other}", one=v.families[0], other=v.families[1])
        case "other shape":
            line = translate("different models: their tensors have other shapes")
        case _:
            line = translate("different models from {place} on", place=place(v.layer, v))
    return line


def place(layer: int | None, v: "Verification") -> str:
    """A layer in words."""
    if layer == -1:
        return translate("the embedding")
    if v.run is not None and layer == len(v.run.layers) - 2:
        return translate("the output")
    return translate("layer {number}", number=layer)


def as_text(v: "Verification") -> str:
    """The verdict, and a line for each thing that was compared."""
    from soban.cli.eval import columns

    lines = [*_of_weights(v), *_of_layers(v), *_of_tokenizers(v), (translate("chat template"), _of_template(v))]
    lines += [(key, translate("{one} and {other}", one=a, other=b)) for key, (a, b) in v.config.items()]
    width = max(columns(label) for label, _ in lines) + 2
    return "\n".join([verdict_line(v), "", *(label + " " * (width - columns(label)) + value for label, value in lines)])


def _of_weights(v: "Verification") -> list[tuple[str, str]]:
    if v.shape is not None:
        name, mine, theirs = v.shape
        return [(translate("first tensor"), f"{name}: {_shape(mine)}, {_shape(theirs)}")]
    if not v.tensors:
        return []
    same, beyond = sum(one.same for one in v.tensors), sum(one.beyond for one in v.tensors)
    lines = [
        (
            translate("tensors"),
            translate(
                "{same} of {count} are the same, {rounded} rounded, {beyond} different",
                same=same, count=len(v.tensors), rounded=len(v.tensors) - same - beyond, beyond=beyond,
            ),
        )
    ]  # fmt: skip
    if v.first is not None and v.worst is not None:
        lines += [(translate("first tensor"), _of_tensor(v.first)), (translate("worst tensor"), _of_tensor(v.worst))]
    return lines


def _shape(shape: object) -> str:
    return translate("none") if shape is None else "x".join(map(str, shape))  # type: ignore[call-overload]


def _of_tensor(one: "Difference") -> str:
    return translate(
        "{name} ({formats}): off by {relative:.2g}, rounding explains {allowed:.2g}", name=one.name,
        formats=", ".join(one.formats), relative=one.relative, allowed=one.allowed,
    )  # fmt: skip


def _of_layers(v: "Verification") -> list[tuple[str, str]]:
    if v.run is None or v.worst_layer is None:
        return []
    first = next((one for one in v.run.layers if one.beyond), None)
    worst = v.worst_layer
    fact = translate("no layer differs by more than rounding explains")
    if first is not None:
        fact = translate(
            "the first that differs is {place}: off by {relative:.2g}, rounding explains {allowed:.2g}",
            place=place(first.layer, v), relative=first.relative, allowed=first.allowed,
        )  # fmt: skip
    most = translate("{place}, off by {relative:.2g}", place=place(worst.layer, v), relative=worst.relative)
    run = v.run
    return [
        (translate("layers"), fact), (translate("worst layer"), most), (translate("text"), translate(
            "{tokens} tokens", tokens=run.tokens)),
        (translate("KL divergence"), f"{run.divergence.mean:.6f} ± {run.divergence.error:.6f}"),
        (translate("same first choice"), f"{100 * run.agreement.mean:.2f} ± {100 * run.agreement.error:.2f} %"),
    ]  # fmt: skip


def _of_tokenizers(v: "Verification") -> list[tuple[str, str]]:
    words, label = v.tokenizers, translate("tokenizer")
    lines = [(label, translate("the same") if words.same else translate("different"))]
    if words.sizes[0] != words.sizes[1]:
        lines.append(
            (translate("vocabulary"), translate("{one} and {other}", one=words.sizes[0], other=words.sizes[1]))
        )
    if words.count:
        ids = ", ".join(map(str, words.ids)) + (" ..." if words.count > len(words.ids) else "")
        lines.append((translate("ids that differ"), translate("{count}: {ids}", count=words.count, ids=ids)))
    if words.text is not None:
        lines.append((translate("the text's ids"), translate("differ from token {number} on", number=words.text)))
    return lines


def _of_template(v: "Verification") -> str:
    return {
        "same": translate("the same"), "different": translate("different"), "none": translate("none"),
        "first only": translate("only the first has one"), "second only": translate("only the second has one"),
    }[v.templates]  # fmt: skip
