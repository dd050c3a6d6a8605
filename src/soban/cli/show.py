"""`soban show`: what a model's files say, what `run` would do with it, and what is amiss in them."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soban.base.errors import UserError
from soban.cli.terminal import console, findings, sections
from soban.cli.terminal.sections import one_line, size
from soban.cli.terminal.wrapping import FIRM
from soban.messages import escaped, translate
from soban.packing.packed_file import model_name

if TYPE_CHECKING:
    from soban.hub.catalogue import Entry
    from soban.hub.names import Repository

LINES = 12  # of what a chat template writes
EXAMPLES = """\
  soban show gemma2:2b                    fetched or not
  soban show path/to/gemma-2-2b-it
  soban show path/to/model --tensors
  soban show stories15M.bin --tensors
  soban show path/to/model --strict && soban run path/to/model
  soban show gemma2:2b --check            is any of its files damaged?
"""


@dataclass(frozen=True)
class ShowOptions:
    """Look at a model without loading it: size, tokenizer, chat template, what run would do, what is amiss.

    MODEL is a name (gemma2:2b, owner/name), a Hugging Face folder, a .safetensors or GGUF file, a llama2.c .bin, or
    nothing for the bundled model. Only headers and small files are read. Of a model that is not fetched the catalogue
    tells.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "[MODEL]"})
    tensors: bool = field(default=False, metadata={"help": "also every tensor: shape, format, place and size"})
    tokenizer: str | None = field(
        default=None, metadata={"short": "-z", "metavar": "FILE", "help": "tokenizer.bin of a .bin model"}
    )
    check: bool = field(
        default=False, metadata={"help": "read all of its files, and say whether they are what they were"}
    )
    strict: bool = field(default=False, metadata={"help": "exit code 1 where something is amiss"})
    json: bool = field(default=False, metadata={"help": "write JSON, with everything in it"})


OPTIONS = ShowOptions


def call(options: ShowOptions) -> int:
    """Writes it to stdout. 1 where there are warnings and --strict is given."""
    if len(options.words) > 1:
        raise UserError(
            "{count} words, where one model is meant; this is too much: {word}", count=len(options.words),
            word=console.shortened(options.words[1]), hint="put a path with blanks in quotation marks",
        )  # fmt: skip
    from soban.measure.inspect import inspect_model

    name, path, entry = look_up(options.words[0] if options.words else None)
    from soban.cli import catalogued

    if path is None:
        return catalogued.show(name, options.json)
    report = inspect_model(path, name, Path(options.tokenizer) if options.tokenizer else None)
    checked = _checked(path, report) if options.check else []
    report["catalogue"] = entry and catalogued.as_dict(entry, fetched=True)
    console.write(as_json(report) if options.json else "\n".join([*as_text(report, options.tensors), *checked]) + "\n")
    return findings.code(report["findings"], options.strict or options.check)


def _checked(path: Path, report: dict[str, Any]) -> list[str]:
    """What reading all of the files showed, as lines; damage goes to the findings, and all of it into the report."""
    from soban.measure import integrity

    checks = integrity.check(path)
    damage = [finding for one in checks for finding in one.damage]
    report["findings"] = [*damage, *report["findings"]]
    report["checked"] = [
        {"file": str(one.path), "bytes": one.bytes, "by": one.by, "damaged": bool(one.damage)} for one in checks
    ]
    by = {
        "hash": translate("what the hub has, by SHA-256"), "checksums": translate("as written, by its checksums"),
        "numbers": translate("all of it numbers; nothing says what it was"),
    }  # fmt: skip
    lines = [
        f"  {escaped(one.path.name)} ({size(one.bytes)}): {translate('damaged') if one.damage else by[one.by]}"
        for one in checks
    ]
    return ["", translate("files read whole:"), *lines]


def look_up(word: str | None) -> "tuple[str, Path | None, Entry | None]":
    """A model's name, where its files are (None: they are not fetched), and what the catalogue says of it.

    Raises UserError where it is neither a file or folder nor the name of a model.
    """
    from soban.hub import names, neighbours
    from soban.loading import custom
    from soban.loading.loaded import BUNDLED
    from soban.loading.locate import locate

    word = None if word is None else custom.base_of(word)
    if word is None:
        return translate("the bundled model"), BUNDLED, None
    try:
        path = locate(word, _not_fetched)
    except NotFetched as missing:
        return word, None, missing.repository.entry
    if neighbours.is_name(word):
        return word, path, None
    repository = None if os.path.lexists(word) else names.find(word)
    if repository is not None:
        return str(repository), path, repository.entry
    entries = names.entries_of(name := model_name(path.resolve()))
    return name, path, entries[0] if len(entries) == 1 else None


class NotFetched(Exception):
    """A model that is not on this PC."""

    def __init__(self, repository: "Repository") -> None:
        super().__init__(str(repository))
        self.repository = repository


def _not_fetched(repository: "Repository") -> Path:
    raise NotFetched(repository)


def as_json(report: dict[str, Any]) -> str:
    plain: dict[str, Any] = {
        "catalogue": None,
        **report,
        "findings": [finding.as_json() for finding in report["findings"]],
    }
    return json.dumps(plain, ensure_ascii=False, indent=1) + "\n"


def as_text(report: dict[str, Any], tensors: bool) -> list[str]:
    """The sections one below the other, their values in one column."""
    total = sections.columns()
    parts = [(report["name"], head(report))]
    encodes = report["run"] is not None and report["run"]["pooling"] is not None
    if report["model"]["configured"]:
        parts += [
            (translate("tokenizer"), tokenizer(report["tokenizer"])),
            *([] if encodes else [(translate("chat template"), template(report["template"]))]),
            (translate("what embed would do") if encodes else translate("what run would do"), run(report["run"])),
        ]
    lines = [*sections.page(parts, total), *findings.lines(report["findings"], total)]
    lines += ["", *tensor_table(report["tensors"])] if tensors else []
    return list(map(escaped, lines))


def head(report: dict[str, Any]) -> list[tuple[str, str]]:
    model, licence, files = report["model"], report["licence"], report["files"]
    family = [str(model["model_type"] or "?"), *(f"({one_line(name, 40)})" for name in model["architectures"][:1])]
    formats = ", ".join(f"{format} {size(bytes)}" for format, bytes in model["formats"].items())
    window = translate(", {window} in the windowed layers", window=model["window"]) if model["window"] else ""
    return [
        (translate("family"), "" if model["model_type"] is None else one_line(" ".join(family), 70)),
        (translate("parameters"), f"{model['parameters']:,}"),
        (translate("layers"), _layers(model)),
        (translate("attention"), _attention(model)),
        (translate("context"), f"{model['context']:,}" + window if model["context"] else ""),
        (
            translate("vocabulary"),
            f"{model['vocabulary']:,}"
            if model["vocabulary"] and model["encoder"]
            else translate("{rows:,}, the output shares the embedding", rows=model["vocabulary"])
            if model["vocabulary"] and model["tied"]
            else translate("{rows:,}, the output has weights of its own", rows=model["vocabulary"])
            if model["vocabulary"]
            else "",
        ),
        (translate("packed from"), one_line(model["origin"] or "", 200).replace(" ", FIRM)),
        (translate("stored as"), translate("{formats} in {count} tensors", formats=formats, count=model["tensors"])),
        (translate("on disk"), _on_disk(files["bytes"], len(files["files"]))),
        ("config.json", "" if model["configured"] else translate("none beside the file: it is no model by itself")),
        (
            translate("licence"),
            translate("{name}, by {file}", name=one_line(licence["name"]), file=one_line(licence["file"]))
            if licence
            else translate("the files do not say")
            if model["configured"]
            else "",
        ),
        (translate("commercial use"), _commercial(report.get("catalogue"))),
        (translate("made from"), one_line(licence["base_model"]) if licence and licence.get("base_model") else ""),
    ]  # fmt: skip


def _commercial(entry: dict[str, Any] | None) -> str:
    """What the catalogue says of it, and where that was read."""
    from soban.cli import catalogued

    if not entry or entry["commercial"] is None:
        return ""
    return f"{catalogued.commercial(entry['commercial'])}\n{entry['sources']['commercial']['url']}"


def _on_disk(bytes: int, count: int) -> str:
    return size(bytes) if count == 1 else translate("{size} in {count} files", size=size(bytes), count=count)


def _layers(model: dict[str, Any]) -> str:
    if not model["layers"]:
        return ""
    inner = translate(", {inner:,} inside", inner=model["inner"]) if model["inner"] else ""
    return translate("{layers} of width {hidden:,}", layers=model["layers"], hidden=model["hidden"] or 0) + inner


def _attention(model: dict[str, Any]) -> str:
    if not (model["heads"] and model["head_size"]):
        return ""
    return translate(
        "{heads} heads of {size}, {kv} for keys and values", heads=model["heads"], size=model["head_size"],
        kv=model["kv_heads"],
    )  # fmt: skip


def tokenizer(facts: dict[str, Any] | None) -> list[tuple[str, str]]:
    if facts is None:
        return [(translate("kind"), translate("none that can be read"))]
    policy = translate(
        "{before} before a text, {after} after it", before=_names(facts["before"]) or translate("nothing"),
        after=_names(facts["after"]) or translate("nothing"),
    )  # fmt: skip
    special = [token for token in facts["added"] if token["special"] and "unused" not in token["content"]]
    several = " ".join(one_line(token["content"], 30) for token in special[:12])
    rest = translate(" and {count} more", count=len(facts["added"]) - 12) if len(facts["added"]) > 12 else ""
    return [
        (translate("kind"), f"{facts['kind']} ({facts['file']})"),
        (translate("entries"), f"{facts['size']:,}"),
        ("BOS", _names(facts["bos"]) or translate("none")),
        ("EOS", _names(facts["eos"]) or translate("none")),
        (translate("adds"), policy),
        (translate("added tokens"), f"{len(facts['added'])}: {several}{rest}" if several else str(len(facts["added"]))),
    ]


def _names(tokens: list[dict[str, Any]]) -> str:
    """Tokens as they are written, with their ids; an id that no tokenizer knows alone."""
    return " ".join(
        str(token["id"]) if token["text"] is None else f"{one_line(token['text'], 30)} ({token['id']})"
        for token in tokens
    )


def template(facts: dict[str, Any] | None) -> list[tuple[str, str]]:
    if facts is None:
        return [(translate("kind"), translate("none: the model goes on with a text"))]
    system = {
        "taken": translate("taken"),
        "refused": translate("refused; soban puts it into the first user turn"),
        "dropped": translate("left out; soban puts it into the first user turn"),
    }[facts["system"]]
    return [
        (translate("kind"), f"{facts['kind'] or translate('one of its own')} ({facts['file']})"),
        (translate("roles"), ", ".join(facts["roles"]) + (translate("; knows tools") if facts["tools"] else "")),
        (translate("system text"), system),
        (translate("writes"), "\n".join(one_line(line, 70) for line in facts["example"].strip().split("\n")[:LINES])),
    ]


def run(facts: dict[str, Any] | None) -> list[tuple[str, str]]:
    if facts is None:
        return [(translate("nothing"), translate("see below"))]
    memory = facts["memory"]
    free = translate(", {size} are free", size=size(memory["free"])) if memory["free"] is not None else ""
    return [
        (translate("weights"), f"{facts['dtype']}: {WHY[facts['why']]()}"),
        (translate("packing"), _packing(facts["packed"], memory["weights"])),
        (
            translate("memory needed"),
            translate(
                "{needed}: weights {weights}, {context:,} tokens {cache}, the rest {rest}{free}",
                needed=size(memory["needed"]),
                weights=size(memory["weights"]),
                context=facts["context"],
                cache=size(memory["cache"]),
                rest=size(memory["rest"]),
                free=free,
            ),
        ),
        *(_encoding(facts["pooling"]) if facts["pooling"] else _writing(facts)),
    ]


def _encoding(pooling: dict[str, Any]) -> list[tuple[str, str]]:
    """What becomes of a text in an encoder."""
    modes, prompts = ", ".join(pooling["modes"]), pooling["prompts"].items()
    scores = translate("{count} of a text, or of a pair of texts", count=pooling["scores"])
    return [
        (
            translate("a text becomes"),
            translate("a vector of {width:,} numbers: {pooling}", width=pooling["width"], pooling=modes),
        ),
        (translate("prompts"), ", ".join(f"{name} ({one_line(repr(text), 40)})" for name, text in prompts if text)),
        (translate("scores"), scores if pooling["scores"] else ""),
    ]


def _writing(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What a model that writes makes of a prompt."""
    return [
        (translate("a prompt"), PROMPT[facts["prompt"]]()),
        (translate("chooses"), _chooses(facts["sampling"])),
        (translate("ends at"), _names(facts["ends"]) or translate("nothing")),
    ]  # fmt: skip


def _chooses(sampling: dict[str, Any]) -> str:
    """How tokens are drawn; what has no effect is left out."""
    neutral = {"temperature": 0, "top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}
    words = {name: f"{name} {sampling[name]:g}" for name, value in neutral.items() if sampling[name] != value}
    rules = list(words.values())
    if not sampling["do_sample"]:
        penalty = [words["repetition_penalty"]] if "repetition_penalty" in words else []
        rules = [translate("always the likeliest token"), *penalty]
    return ", ".join([*rules, *(f"{name} {_value(sampling[name])}" for name in BOUNDS if sampling[name])])


FEW = 6  # items of a list that are shown
BOUNDS = (
    "max_new_tokens", "max_length", "min_new_tokens", "min_length", "no_repeat_ngram_size", "bad_words_ids",
    "suppress_tokens", "begin_suppress_tokens", "stop",
)  # fmt: skip


def _value(value: Any) -> str:
    """A number, or how many a list has where that is long."""
    texts = [repr(item) for item in value] if isinstance(value, tuple | list) else [str(value)]
    return " ".join(texts) if len(texts) <= FEW else f"({len(texts)})"


WHY = {
    "packed": lambda: translate("the files hold packed weights"),
    "tiny": lambda: translate("as stored; so small a model is fast anyway"),
    "blocks": lambda: translate("the blocks of the GGUF file as they are; rounding them again would only lose"),
    "exact": lambda: translate("as stored; rounding would gain no speed on this PC"),
    "faster": lambda: translate("nearly as good as stored, and faster on this PC"),
    "overflow": lambda: translate("larger than the free memory, so much of it comes from the disk: slow"),
    "memory": lambda: translate("the most exact form that fits into the free memory"),
}


PROMPT = {
    "answered": lambda: translate("is answered"),
    "continued": lambda: translate("is the beginning of a text, which the model goes on with"),
}


def _packing(packed: dict[str, Any] | None, bytes: int) -> str:
    if packed is None:
        return translate("not needed: the files are used as they are")
    if packed["there"]:
        return translate("done already, {size} in soban's cache", size=size(bytes))
    return translate("once, at the first run: {size} in soban's cache", size=size(bytes))


def tensor_table(tensors: list[dict[str, Any]]) -> list[str]:
    """Every tensor, file by file; the layer's name stands above its tensors."""
    titles = (translate("tensor"), translate("shape"), translate("form"), translate("offset"), translate("bytes"))
    rows: list[tuple[str, ...]] = []
    groups: list[str] = []
    for one in tensors:
        group, name = _split(one["name"])
        numbers = (" x ".join(map(str, one["shape"])), one["format"], str(one["offset"]), str(one["bytes"]))
        rows.append((("  " if group else "") + one_line(name), *numbers))
        groups.append(group)
    grid = sections.grid([titles, *rows], (False, False, False, True, True), indent="")
    lines, file, group = [grid[0]], "", ""
    for one, line, its in zip(tensors, grid[1:], groups, strict=True):
        if one["file"] != file and len({other["file"] for other in tensors}) > 1:
            lines += ["", one_line(one["file"])]
        if its and (its, one["file"]) != (group, file):
            lines.append(one_line(its))
        file, group = one["file"], its
        lines.append(line)
        if one["shared"]:
            lines.append(f"    = {one_line(one['shared'])}")
    return lines


def _split(name: str) -> tuple[str, str]:
    """A layer's name and the tensor's inside of it: model.layers.0 and mlp.up_proj.weight."""
    parts = name.split(".")
    numbers = [n for n, part in enumerate(parts[:-1]) if part.isdecimal()]
    return (".".join(parts[: numbers[0] + 1]), ".".join(parts[numbers[0] + 1 :])) if numbers else ("", name)
