"""Which files of a repository a model needs, and how large they may be."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from soban.base.errors import UserError
from soban.hub.names import Repository
from soban.weights.naming import INDEX, SINGLE, unlisted

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
}
# For people: left out, if too large.
TO_READ = ("README*", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "*TERMS*", "*terms_of_use*")
MOST_TO_READ = MEGABYTE
OTHER_WEIGHTS = {
    "PyTorch (pickle)": ("*.bin", "*.pt", "*.pth", "*.ckpt"),
    "GGUF": ("*.gguf",),
    "ONNX": ("*.onnx",),
    "TensorFlow/Flax": ("*.h5", "*.msgpack"),
}


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


def beside(files: Sequence[RemoteFile], repository: Repository) -> list[RemoteFile]:
    """What a model needs besides its weights, and what people should read; all files where the catalogue names them.

    Raises UserError for a file that is larger than any such file can be.
    """
    if repository.entry and repository.entry.files:
        return _matching(files, repository)
    found = []
    for file in files:
        most = BESIDE.get(file.name)
        if most is not None and file.size > most:
            raise UserError(
                "{repository}: its {name} is said to have {size:,} bytes, where {most:,} are believable",
                repository=repository, name=file.name, size=file.size, most=most,
                hint="choose another repository of this model",
            )  # fmt: skip
        readable = any(fnmatch.fnmatch(file.name, pattern) for pattern in TO_READ) and "/" not in file.name
        if most is not None or (readable and file.size <= MOST_TO_READ):
            found.append(file)
    return found


def weights(files: Sequence[RemoteFile], repository: Repository, shards: set[str] | None) -> list[RemoteFile]:
    """The files with the weights; `shards` are those that the index names, None where there is no index.

    Raises UserError where there are none that are read.
    """
    if repository.entry and repository.entry.files:
        return []
    by_name = {file.name: file for file in files}
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
    if found := unlisted(by_name):
        return [by_name[name] for name in found]
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
