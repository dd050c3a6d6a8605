"""Where the hub is and where its things lie on this PC: the environment, read as huggingface_hub reads it."""

import os
import re
from pathlib import Path

from soban.base import system
from soban.base.errors import UserError

COMMIT = re.compile(r"[0-9a-f]{40}")
REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._/+-]*")
ADDRESS = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[^\s?#]*)?")
TRUE = ("1", "ON", "YES", "TRUE")


def cache_folder(folder: Path | None = None) -> Path:
    """The folder of the models: the one that is given, or HF_HUB_CACHE, or the folder hub of HF_HOME."""
    if folder is not None:
        return system.extended(folder.expanduser().absolute())
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return system.extended(_expanded(own) if own else _home() / "hub")


def check_cache(cache: Path) -> Path:
    """The same folder. Raises UserError for a cache that was moved to a disk which is not there now."""
    if os.path.lexists(cache) and not os.path.exists(cache):
        raise UserError(
            "{path}: a link to {target}, which is not there", path=cache, target=os.path.realpath(cache),
            hint="plug in the disk that the models were moved to, or delete the link",
        )  # fmt: skip
    return cache


def token_file() -> Path:
    """Where the hub's tools keep the access token."""
    own = os.environ.get("HF_TOKEN_PATH")
    return _expanded(own) if own else _home() / "token"


def endpoint() -> str:
    """The hub's address, without a slash at its end. Raises UserError for what is no address."""
    address = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if not ADDRESS.fullmatch(address):
        raise UserError(
            "HF_ENDPOINT={value}: not an address",
            value=ascii(address)[1:-1],
            hint="give one like https://huggingface.co",
        )
    return address


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in TRUE


PREFIX = "models--"  # of a model's folder in the cache


def identity(folder: str) -> str | None:
    """The owner/name that a folder of the cache is called by; None for any other folder."""
    return folder.removeprefix(PREFIX).replace("--", "/", 1) if folder.startswith(PREFIX) else None


def model_folder(cache: Path, identity: str) -> Path:
    """What the cache keeps of a repository; the lock files of its downloads lie in `.locks` under the same name."""
    return cache / (PREFIX + identity.replace("/", "--"))


def _home() -> Path:
    if own := os.environ.get("HF_HOME"):
        return _expanded(own)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return _expanded(base) / "huggingface"
    try:
        return Path.home() / ".cache" / "huggingface"
    except RuntimeError as error:
        raise UserError("no home folder to keep models in", hint="set HF_HOME to a folder") from error


def _expanded(path: str) -> Path:
    return Path(os.path.expandvars(os.path.expanduser(path))).absolute()
