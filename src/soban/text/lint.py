"""What the files of a model's text side say against each other: terminators, BOS, chat template, generation settings.

Every finding is a mistake that was met in published models, or that people copy from tutorials. Nothing is mended here.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soban.base.errors import Finding, UserError
from soban.text.chat.form import LONGEST_STOP, Vocabulary, token_of
from soban.text.chat.probe import Shown
from soban.text.tokenizers.entries import Entries, read_entries
from soban.text.tokenizers.lint_tokenizer import lint_tokenizer

GENERATION, CONFIG, SETTINGS = "generation_config.json", "config.json", "tokenizer_config.json"
# What people write where a token is meant. Tags without bars may also be words that a model was taught to write.
UNMISTAKABLE = re.compile(r"<[|｜][^<>\s]{1,40}[|｜]>")
TOKEN_LIKE = re.compile(r"</?[|｜]?[A-Za-z_][\w.:▁-]{0,40}[|｜]?>|\[/?[A-Z][A-Z_]{1,20}\]")
LETTERS = re.compile(r"[\W_]+")
ALIKE = 0.8  # share of letters in common from which one name is taken for another
SPARE_ROWS = 1024  # rows of an embedding beyond the tokenizer's entries that padding may explain
# Neutral values: what they do is nothing, so it is no contradiction that nothing is sampled.
NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "top_k": 50, "min_p": 0.0}


@dataclass(frozen=True)
class Material:
    """What is looked at: the files' contents, the entries of the tokenizer, and the rows of the embedding."""

    config: Mapping[str, Any]
    generation: Mapping[str, Any] = field(default_factory=dict)
    entries: Entries | None = None
    template: Shown | None = None  # of the chat template, if there is one
    rows: int | None = None
    name: str = ""  # the model's, for what it promises
    writes: bool = True


def lint(material: Material) -> list[Finding]:
    """All that is amiss, the gravest kinds first."""
    findings: list[Finding] = []
    if material.entries is not None:
        findings += _names(material.entries)
        findings += lint_tokenizer(material.entries)
        findings += _ids(material, material.entries)
        findings += _sizes(material, material.entries)
        if material.template is not None:
            findings += _template(material, material.entries, material.template)
    if material.template is None and re.search(r"(?i)(^|[-_.])(it|chat|instruct)\b", material.name):
        findings.append(
            Finding(
                "template-missing",
                UserError(
                    "the name {name} promises a model for conversations, and it has no chat template",
                    name=material.name, hint="fetch its chat_template.jinja, or choose one with --template",
                ),
                SETTINGS,
            )
        )  # fmt: skip
    findings += _sampling(material.generation)
    return sorted(findings, key=lambda finding: finding.level == "note")


def lint_stop(stop: str, entries: Entries) -> Finding | None:
    """What is wrong with a text that shall end an answer: it looks like a token and is none."""
    match = TOKEN_LIKE.fullmatch(stop.strip())
    if match is None or match[0] in entries.ids:
        return None
    near = nearest(match[0], entries)
    if near is None and not UNMISTAKABLE.fullmatch(match[0]):
        return None
    return _no_token("stop-unknown", "stop", match[0], near, "--stop")


def check_stop(stop: str, tokenizer: Vocabulary, folder: Path, config: Mapping[str, Any]) -> Finding | None:
    """As `lint_stop`, with a tokenizer that is there; the entries in its folder are read only for what looks wrong."""
    word = stop.strip()
    if not TOKEN_LIKE.fullmatch(word) or token_of(word, tokenizer) is not None:
        return None
    try:
        entries = read_entries(folder, config)
    except UserError:
        return None
    return None if entries is None else lint_stop(word, entries)


def nearest(name: str, entries: Entries) -> str | None:
    """The token that steers the model and is spelled most like a name: `<end_of_turn>` for `<|end_of_turn|>`."""
    letters = LETTERS.sub("", name).lower()
    if not letters:
        return None
    close = {token: LETTERS.sub("", token).lower() for token in entries.markup if "unused" not in token}
    share = {
        token: difflib.SequenceMatcher(None, letters, other, autojunk=False).ratio() for token, other in close.items()
    }
    best = max(share, key=lambda token: share[token], default=None)
    return best if best is not None and share[best] >= ALIKE else None


def _no_token(code: str, where: str, name: str, near: str | None, file: str) -> Finding:
    if near:
        error = UserError(
            "{where}: {name} is no token of this model, so it never ends an answer", where=where, name=name, near=near,
            hint="{near} is one",
        )  # fmt: skip
    else:
        error = UserError(
            "{where}: {name} is no token of this model, so it never ends an answer", where=where, name=name,
            hint="take the text that the model really ends with",
        )  # fmt: skip
    return Finding(code, error, file, name)


def _names(entries: Entries) -> Iterator[Finding]:
    """Tokens that the settings name and the tokenizer lacks, or has elsewhere."""
    for role, name in entries.settings.names.items():
        if name in entries.ids:
            continue
        if role == "eos_token":
            yield _no_token("terminator-unknown", role, name, nearest(name, entries), SETTINGS)
        else:
            yield Finding(
                "token-unknown",
                UserError(
                    "{role} {name} is no entry of {file}", role=role, name=name, file=entries.file,
                    hint="take the tokenizer files of the original model, all of one version",
                ),
                SETTINGS, name,
            )  # fmt: skip
    unknown = [name for name in entries.settings.extra if name not in entries.ids]
    if unknown:
        yield Finding(
            "token-unknown",
            UserError(
                "{count} further special tokens are no entries of {file}, first {name}", count=len(unknown),
                name=unknown[0], file=entries.file,
                hint="take the tokenizer files of the original model, all of one version",
            ),
            SETTINGS, unknown[0],
        )  # fmt: skip
    for index, token in entries.settings.added.items():
        if (other := entries.ids.get(token.content)) != index:
            yield Finding(
                "token-moved",
                UserError(
                    "added token {name} is said to have id {index}, and {file} has it at {held}", name=token.content,
                    index=index, held="-" if other is None else other, file=entries.file,
                    hint="take the tokenizer files of the original model, all of one version",
                ),
                SETTINGS, index,
            )  # fmt: skip
            return
    if entries.settings.add_bos and entries.bos_id is None:
        yield Finding(
            "bos-unknown",
            UserError("add_bos_token is true, and there is no BOS token", hint="name it as bos_token"), SETTINGS, True,
        )  # fmt: skip


def ids_of(value: object) -> list[int]:
    """A token id, several, or none, as config files write them; what is no number is left out."""
    values = value if isinstance(value, list) else [value]
    return [item for item in values if type(item) is int]


def _ids(material: Material, entries: Entries) -> Iterator[Finding]:
    """Ids in config.json and generation_config.json: inside of the vocabulary, and the same in both."""
    limit = material.rows or entries.size
    for file, values in ((GENERATION, material.generation), (CONFIG, material.config)):
        for key in ("eos_token_id", "bos_token_id", "pad_token_id"):
            # -1 stands for none in several published files
            outside = [i for i in ids_of(values.get(key)) if i >= limit or i < (0 if key == "eos_token_id" else -1)]
            if outside:
                yield Finding(
                    "id-outside",
                    UserError(
                        "{key} {id} is outside of the vocabulary, which has {size} entries", key=key, id=outside[0],
                        size=limit, hint="correct it in the model's folder",
                    ),
                    file, outside[0],
                )  # fmt: skip
    ends, others = ids_of(material.generation.get("eos_token_id")), ids_of(material.config.get("eos_token_id"))
    if ends and (missing := [i for i in others if i not in ends]):
        yield _differs("eos_token_id", missing[0], ends, CONFIG, GENERATION, entries)
    stops = ends or others
    if stops and entries.eos_id is not None and entries.eos_id not in stops:
        yield _differs("eos_token", entries.eos_id, stops, SETTINGS, GENERATION if ends else CONFIG, entries)
    if not stops and entries.eos_id is None and material.writes:
        yield Finding(
            "eos-missing",
            UserError(
                "no file names a token that ends a text, so it goes on until the context is full",
                hint="set eos_token_id in generation_config.json, or --max-new-tokens",
            ),
            GENERATION,
        )  # fmt: skip
    begins = ids_of(material.generation.get("bos_token_id")) or ids_of(material.config.get("bos_token_id"))
    if begins and entries.bos_id is not None and "bos_token" in entries.settings.names and entries.bos_id != begins[0]:
        yield _differs("bos_token", entries.bos_id, begins, SETTINGS, CONFIG, entries)
    yield from _terminators(material.generation, entries)
    pads = ids_of(material.generation.get("pad_token_id")) or ids_of(material.config.get("pad_token_id"))
    pads = pads or ids_of(entries.ids.get(entries.settings.names.get("pad_token", "")))
    if pads and entries.eos_id is not None and pads[0] == entries.eos_id:
        yield Finding(
            "pad-is-eos",
            UserError(
                "the padding token is the end token {token}: who teaches the model and leaves out padding leaves out "
                "the end as well, and then it never stops", token=entries.text(entries.eos_id) or entries.eos_id,
                hint="set another pad_token before teaching; running is not touched by it",
            ),
            SETTINGS, pads[0], "note",
        )  # fmt: skip


def _terminators(generation: Mapping[str, Any], entries: Entries) -> Iterator[Finding]:
    """Texts that generation_config.json says to stop at."""
    value = generation.get("stop_strings")
    for stop in value if isinstance(value, list) else [value]:
        if isinstance(stop, str) and lint_stop(stop, entries):
            yield _no_token("terminator-unknown", "stop_strings", stop, nearest(stop, entries), GENERATION)


def _differs(key: str, index: int, others: list[int], file: str, other: str, entries: Entries) -> Finding:
    return Finding(
        "bos-differs" if key.startswith("bos") else "eos-differs",
        UserError(
            "{key} is {held} ({token}), and {other} says {others}", key=key, held=index,
            token=entries.text(index) or "?", other=other, others=", ".join(map(str, others)),
            hint="soban ends at each of them; other programs take one file's word"
            if key.startswith("eos")
            else "soban takes the tokenizer's; other programs may take the other",
        ),
        file, index,
    )  # fmt: skip


def _sizes(material: Material, entries: Entries) -> Iterator[Finding]:
    """The vocabulary of the tokenizer beside that of the weights."""
    if material.rows is not None and entries.size > material.rows:
        yield Finding(
            "vocabulary-larger",
            UserError(
                "the tokenizer has {tokens} entries, the model's embedding only {rows}", tokens=entries.size,
                rows=material.rows, hint="take the tokenizer that belongs to the model",
            ),
            entries.file, entries.size,
        )  # fmt: skip
    elif material.rows is not None and material.rows - entries.size >= SPARE_ROWS:
        yield Finding(
            "vocabulary-smaller",
            UserError(
                "the tokenizer has {tokens} entries, and the model's embedding {rows}: more than padding explains",
                tokens=entries.size, rows=material.rows, hint="check that the tokenizer belongs to the model",
            ),
            entries.file, entries.size, "note",
        )  # fmt: skip


def _template(material: Material, entries: Entries, probe: Shown) -> Iterator[Finding]:
    """What the template writes, against what the tokenizer and the ids know."""
    if probe.refusal is not None:
        yield Finding("template-fails", probe.refusal, probe.file)
        return
    yield from _bos(entries, probe)
    for mark in sorted(set(TOKEN_LIKE.findall(probe.conversation))):
        near = nearest(mark, entries)
        if mark not in entries.ids and (near or UNMISTAKABLE.fullmatch(mark)):
            yield Finding(
                "template-mark-unknown",
                UserError(
                    "the chat template writes {mark}, which is no token of this model", mark=mark, near=near,
                    hint="{near} is one" if near else "take the template that belongs to the model, with --template",
                ),
                probe.file, mark, "warning" if near else "note",  # some were taught with marks that are plain text
            )  # fmt: skip
    own_ends = ids_of(material.generation.get("eos_token_id")) or ids_of(material.config.get("eos_token_id"))
    ends = set(own_ends) or set(ids_of(entries.eos_id))
    for end in sorted(probe.form.ends - ends):
        yield Finding(
            "end-of-turn-missing",
            UserError(
                "the chat template ends a turn with {token} ({id}), which is not among the ids that end a text "
                "({known})", token=entries.text(end), id=end, known=", ".join(map(str, sorted(ends))) or "-",
                hint="add it to eos_token_id in generation_config.json; soban stops there anyway",
            ),
            GENERATION, end,
        )  # fmt: skip
    if not probe.form.takes_system:
        yield _system(probe)


def _system(probe: Shown) -> Finding:
    if probe.system_refusal is None:
        error = UserError(
            "the chat template leaves out a system message without a word",
            hint="soban puts its text into the first user turn; other programs lose it",
        )
        return Finding("system-dropped", error, probe.file, level="note")
    return Finding(
        "system-refused",
        UserError(
            "the chat template refuses the system role",
            hint="soban puts a system message into the first user turn; for other programs, do that yourself",
        ),
        probe.file, level="note",
    )  # fmt: skip


def _bos(entries: Entries, probe: Shown) -> Iterator[Finding]:
    """BOS once: written by the template or put before by the tokenizer, not both and not neither."""
    if entries.bos_id is None or (bos := entries.text(entries.bos_id)) is None:
        return
    count = 0
    while probe.conversation.startswith(bos, count * len(bos)):
        count += 1
    adds = entries.bos_id in entries.prefix
    if count > 1:
        error = UserError(
            "the chat template writes {bos} {count} times at the beginning", bos=bos, count=count,
            hint="soban passes one on; correct the template for other programs",
        )  # fmt: skip
        yield Finding("bos-twice", error, probe.file, bos)
    elif count and adds:
        error = UserError(
            "the chat template writes {bos}, and the tokenizer puts one before every text", bos=bos,
            hint="soban passes one on; elsewhere encode the template's text with add_special_tokens=False",
        )  # fmt: skip
        yield Finding("bos-twice", error, probe.file, bos, "note")
    elif not count and adds and bos not in probe.conversation[:LONGEST_STOP]:
        error = UserError(
            "the chat template writes no {bos}, which the tokenizer puts before every other text", bos=bos,
            hint="put {{{{ bos_token }}}} at the template's beginning, unless the model was taught without it",
        )  # fmt: skip
        yield Finding("bos-never", error, probe.file, bos)


def _sampling(generation: Mapping[str, Any]) -> Iterator[Finding]:
    """Settings of generation that contradict each other."""
    shaping = [
        f"{name}={generation[name]}"
        for name, neutral in NEUTRAL.items()
        if type(generation.get(name)) in (int, float) and generation[name] != neutral
    ]
    sampled = generation.get("do_sample")
    if shaping and not sampled and generation.get("temperature") != 0:
        yield Finding(
            "sampling-ignored",
            UserError(
                "do_sample is false, so {names} has no effect", names=", ".join(shaping),
                hint="run with --do-sample, or with --temperature, to use it",
            ),
            GENERATION, bool(sampled),
        )  # fmt: skip
    if sampled and generation.get("temperature") == 0:
        yield Finding(
            "temperature-zero",
            UserError(
                "do_sample is true at temperature 0, which are opposites",
                hint="soban takes the likeliest token always; write do_sample: false",
            ),
            GENERATION, 0,
        )  # fmt: skip
