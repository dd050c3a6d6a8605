"""Keys: kept as digests, so that a file that is read by somebody else lets nobody in."""

import hashlib
import json
import os
import re
import secrets
from pathlib import Path

from soban.base import system
from soban.base.errors import UserError
from soban.base.leftovers import temporary

NAME = re.compile(r"[\w.@-]{1,64}")


def digest(key: str) -> str:
    """What is kept of a key: its SHA-256, in hex. Keys are long and random, so no salt and no slow hash is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key() -> str:
    """A key that nobody can guess: 256 random bits."""
    return f"soban-{secrets.token_urlsafe(32)}"


def keys_file() -> Path:
    """Where the digests are, each with the name of whom the key was made for."""
    return system.state_folder() / "keys.json"


def read_keys() -> dict[str, str]:
    """The digest of each name. UserError for a file that is damaged: nobody is let in by mistake."""
    path = keys_file()
    try:
        digests = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(digests, dict) or not all(isinstance(v, str) and len(v) == 64 for v in digests.values()):
        raise _damaged(path)
    return digests


def add(name: str) -> str:
    """Makes a key for a name and keeps its digest; the key itself is nowhere but in what is returned."""
    if not NAME.fullmatch(name):
        raise UserError("{name}: no name for a key", name=name, hint="letters, digits and . _ - @ make one")
    digests = read_keys()
    if name in digests:
        raise UserError("{name} has a key already", name=name, hint="soban serve --forget-key {name} takes it away")
    key = new_key()
    _write(digests | {name: digest(key)})
    return key


def forget(name: str) -> None:
    """From now on, a server that starts does not let in the key of that name."""
    digests = read_keys()
    if name not in digests:
        raise UserError(
            "{name} has no key", name=name, names=", ".join(digests) or "-", hint="there are keys of: {names}"
        )
    _write({each: value for each, value in digests.items() if each != name})


def _write(digests: dict[str, str]) -> None:
    path = keys_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    new = temporary(path)
    new.touch(mode=0o600)
    new.write_text(json.dumps(digests, ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(new, path)


def _damaged(path: Path) -> UserError:
    return UserError("{path}: no list of keys", path=path, hint="delete it, and make the keys anew")
