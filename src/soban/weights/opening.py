"""Which reader a model's path belongs to."""

from pathlib import Path

from soban.base.errors import UserError
from soban.base.files import map_file, unreadable
from soban.weights import folder
from soban.weights.checkpoint import GGUF, HF, LLAMA2C, PICKLE_MAGIC, PICKLE_SUFFIXES, Checkpoint, pickle_refused
from soban.weights.naming import is_manifest

ENDINGS = {".bin": LLAMA2C, ".gguf": GGUF}


def named_form(path: Path) -> str:
    """The form of a model's files that a name promises: by its ending "llama2c" or "gguf", else "hf", a folder."""
    return ENDINGS.get(path.suffix.lower(), HF)


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at a path: a Hugging Face folder, a .safetensors file beside its config.json, a GGUF file, or a
    llama2.c .bin.

    Raises UserError for whatever is missing, damaged, lying or not read on principle (pickle).
    """
    try:
        return _open(path)
    except OSError as error:
        raise unreadable(path, error) from error


def _open(path: Path) -> Checkpoint:
    if not path.exists():
        raise UserError("{path}: no such file or folder", path=path, hint="check the spelling")
    if path.is_dir():
        return folder.open_folder(path)
    if path.suffix.lower() == ".safetensors":
        return folder.open_file(path)
    if is_manifest(path):
        from soban.weights.ollama import open_ollama

        return open_ollama(path)
    head = map_file(path)[:4]
    if head == b"GGUF":
        from soban.weights.gguf.opening import open_gguf  # imported where it is met: a start waits for all that is

        return open_gguf(path)
    if path.suffix.lower() in PICKLE_SUFFIXES or path.name == "pytorch_model.bin" or head.startswith(PICKLE_MAGIC):
        raise pickle_refused(path)
    if named_form(path) == LLAMA2C:
        from soban.weights import llama2c

        return llama2c.open_bin(path)
    raise UserError(
        "{path}: not a model file that this reads",
        path=path,
        hint="give a Hugging Face folder, a .safetensors file, a GGUF file or a llama2.c .bin",
    )
