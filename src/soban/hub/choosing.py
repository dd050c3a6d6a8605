"""Which files of a repository a model needs, and how large they may be."""

import fnmatch
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from soban.base import system
from soban.base.errors import UserError
from soban.base.units import of_bytes
from soban.hub.names import Repository
from soban.messages import translate
from soban.weights.naming import BELONGING, INDEX, SINGLE, SPLIT, unlisted

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
# What lies beside the weights, with the most bytes that are believed: the largest known, and room above that.
MEGABYTE = 1_000_000
BESIDE = {
    "config.json": 4 * MEGABYTE,
    "generation_config.json": MEGABYTE,
    "tokenizer_config.json": 16 * MEGABYTE,
    "special_tokens_map.json": 4 * MEGABYTE,
    "added_tokens.json": 4 * MEGABYTE,
    "chat_template.json": MEGABYTE,
    "chat_template.jinja": MEGABYTE,
    "adapter_config.json": MEGABYTE,
    "tokenizer.json": 100 * MEGABYTE,
    "tokenizer.model": 100 * MEGABYTE,
    "spiece.model": 100 * MEGABYTE,
    "vocab.json": 100 * MEGABYTE,
    "vocab.txt": 100 * MEGABYTE,
    "merges.txt": 100 * MEGABYTE,
    INDEX: 32 * MEGABYTE,
    # as sentence-transformers has them
    "modules.json": MEGABYTE,
    "sentence_bert_config.json": MEGABYTE,
    "config_sentence_transformers.json": MEGABYTE,
}
MODULE = re.compile(r"\d+_(Pooling|Dense|Normalize)/(config\.json|model\.safetensors)")  # what they lead to
MOST_OF_MODULE = 250 * MEGABYTE
# For people: left out, if too large.
TO_READ = ("README*", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "*TERMS*", "*terms_of_use*")
MOST_TO_READ = MEGABYTE
OTHER_WEIGHTS = {
    "PyTorch (pickle)": ("*.bin", "*.pt", "*.pth", "*.ckpt"),
    "ONNX": ("*.onnx",),
    "TensorFlow/Flax": ("*.h5", "*.msgpack"),
}


# The name of a GGUF file's types, as makers write it at the end: gemma-2-2b-it-Q4_K_M.gguf, model.IQ4_XS, UD-Q4_K_XL.
FORM = re.compile(r"(?i)(?:^|[-._])(?P<form>(?:UD-)?(?:I?Q\d|TQ\d|MXFP4|BF16|F16|F32)(?:_[A-Z0-9]+)*)$")
BESIDE_WEIGHTS = 250 * MEGABYTE  # of memory, for all but the weights
READ = (None, "safetensors", "llama2.c")  # forms of the catalogue that soban reads; of None it is not known


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository, as the hub lists it."""

    name: str  # with slashes
    size: int
    hash: str  # sha256 of the content where it has 64 digits; with 40 the id that git gives it


def check_form(repository: Repository) -> None:
    """Raises UserError where the catalogue knows that the weights are in no form that soban reads."""
    if repository.entry is None or (form := repository.entry.form) in READ:
        return
    if form == "delta":
        raise UserError(
            "{repository}: it holds only the difference to another model, which soban does not join",
            repository=repository, hint="choose another model: soban list --catalogue shows some",
        )  # fmt: skip
    raise UserError(
        "{repository}: its weights are a pickle, which soban never reads: it can run any code", repository=repository,
        hint="look for a repository of this model with safetensors",
    )  # fmt: skip


def gguf_forms(names: Iterable[str]) -> dict[str, list[str]]:
    """The forms of a model in GGUF files, by what their names say (Q4_K_M), and the files of each in their order."""
    forms: dict[str, list[str]] = {}
    for name in sorted(names):
        base = name.rpartition("/")[2]
        if not base.lower().endswith(".gguf") or base.lower().startswith(BELONGING):
            continue
        stem = SPLIT.sub("", base) if SPLIT.search(base) else base[: -len(".gguf")]
        form = FORM.search(stem)
        forms.setdefault(form["form"] if form else stem, []).append(name)
    return forms


def is_gguf(names: Collection[str], repository: Repository) -> bool:
    """Whether GGUF files are meant: by the name, or since there are no other weights that are read."""
    if repository.form is not None:
        return True
    if repository.entry is not None and repository.entry.files:
        return False
    return bool(gguf_forms(names)) and not any(fnmatch.fnmatchcase(name, "*.safetensors") for name in names)


def _gguf(files: Sequence[RemoteFile], repository: Repository) -> list[RemoteFile]:
    """The files of the form that is named, or of the only one. UserError with what there is, and what of it fits."""
    by_name = {file.name: file for file in files}
    forms = gguf_forms(by_name)
    form_name = repository.form
    for form, names in forms.items():
        if (len(forms) == 1 and form_name is None) or (form_name is not None and form.lower() == form_name.lower()):
            return [by_name[name] for name in names]
    if not forms:
        raise UserError(
            "{repository}: no GGUF files in it", repository=repository, hint="leave out {form}", form=f":{form_name}"
        )
    sizes = {form: sum(by_name[name].size for name in names) for form, names in forms.items()}
    free = system.available_memory()
    fits = [form for form, size in sizes.items() if free is None or size + BESIDE_WEIGHTS <= free]
    best = max(fits, key=lambda form: sizes[form], default=min(sizes, key=lambda form: sizes[form]))
    there = ", ".join(
        f"{form} {of_bytes(size)}" + ("" if form in fits else " " + translate("(more than the free memory)"))
        for form, size in sorted(sizes.items(), key=lambda item: item[1])
    )
    raise UserError(
        "{repository}: it has the model in these forms: {forms}", repository=repository, forms=there,
        name=f"{repository.id}:{best}", hint="name one, as in soban pull {name}",
    )  # fmt: skip


def beside(files: Sequence[RemoteFile], repository: Repository) -> list[RemoteFile]:
    """What a model needs besides its weights, and what people should read; all files where the catalogue names them.

    Raises UserError for a file that is larger than any such file can be.
    """
    if repository.entry and repository.entry.files:
        return _matching(files, repository)
    extras, alone = [], is_gguf([file.name for file in files], repository)  # a GGUF file holds all but what people read
    for file in files:
        most = None if alone else MOST_OF_MODULE if MODULE.fullmatch(file.name) else BESIDE.get(file.name)
        if most is not None and file.size > most:
            raise UserError(
                "{repository}: its {name} is said to have {size:,} bytes, where {most:,} are believable",
                repository=repository, name=file.name, size=file.size, most=most,
                hint="choose another repository of this model",
            )  # fmt: skip
        readable = any(fnmatch.fnmatch(file.name, pattern) for pattern in TO_READ) and "/" not in file.name
        if most is not None or (readable and file.size <= MOST_TO_READ):
            extras.append(file)
    return extras


def weights(files: Sequence[RemoteFile], repository: Repository, shards: set[str] | None) -> list[RemoteFile]:
    """The files with the weights; `shards` are those that the index names, None where there is no index.

    Raises UserError where there are none that are read.
    """
    if repository.entry and repository.entry.files:
        return []
    by_name = {file.name: file for file in files}
    if is_gguf(by_name, repository):
        return _gguf(files, repository)
    if SINGLE in by_name:
        return [by_name[SINGLE]]
    if shards is not None:
        if missing := sorted(shards - by_name.keys()):
            raise UserError(
                "{repository}: its index names {name}, which is not there", repository=repository,
                name=ascii(missing[0])[1:-1][:80], hint="choose another repository of this model",
            )  # fmt: skip
        return [by_name[name] for name in sorted(shards)]
    if "adapter_model.safetensors" in by_name:
        return [by_name["adapter_model.safetensors"]]
    if names := unlisted(by_name):
        return [by_name[name] for name in names]
    others = [name for name in by_name if fnmatch.fnmatchcase(name, "*.safetensors") and "/" not in name]
    if len(others) > 1:
        raise UserError(
            "{repository}: {count} files of weights, and no index says which belong together; the first is {name}",
            repository=repository, count=len(others), name=ascii(min(others))[1:-1][:80],
            hint="choose another repository of this model",
        )  # fmt: skip
    raise _no_weights(files, repository)


def _matching(files: Sequence[RemoteFile], repository: Repository) -> list[RemoteFile]:
    patterns = repository.entry.files if repository.entry else ()
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(file.name, pattern) for file in files):
            raise UserError(
                "{repository}: no file {pattern} in {id}", repository=repository, pattern=pattern, id=repository.id,
                hint="choose another repository of this model",
            )  # fmt: skip
    return [file for file in files if any(fnmatch.fnmatchcase(file.name, pattern) for pattern in patterns)]


def _no_weights(files: Sequence[RemoteFile], repository: Repository) -> UserError:
    """What the repository holds instead."""
    kinds = [
        kind
        for kind, patterns in OTHER_WEIGHTS.items()
        if any(fnmatch.fnmatchcase(file.name, pattern) for file in files for pattern in patterns)
    ]
    if kinds:
        return UserError(
            "{repository}: no safetensors in it, only {kinds}", repository=repository, kinds=", ".join(kinds),
            hint="look for a repository of this model with safetensors",
        )  # fmt: skip
    return UserError("{repository}: no weights in it", repository=repository, hint="check the name")
