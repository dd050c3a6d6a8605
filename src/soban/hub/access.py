"""Who may fetch what: the access token, and models whose makers ask for consent first."""

import configparser
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.leftovers import remove_leftovers, temporary
from soban.hub import place, session
from soban.hub.names import Repository
from soban.messages import translate

LONGEST_TOKEN = 500  # characters; the hub's own have 37
POLLS = (3.0, 5.0, 5.0, 10.0)  # seconds between looks at whether access was given, then always the last
SCOPE = "Read access to contents of all public gated repos you can access"  # the tick box, as the hub's page names it


class AccessError(UserError):
    """The hub wants something of the user before it gives a model. It can be waited for."""


@dataclass(frozen=True)
class Identity:
    """Whom a token belongs to, and what it may do."""

    account: str
    token: str  # the name that its owner gave it
    role: str  # "read", "write" or "fineGrained"
    reads_gated: bool


def token() -> str | None:
    """The token as the hub's tools find it (HF_TOKEN, then the file); None if there is none.

    Raises UserError for a text that cannot be one, and a file that cannot be read.
    """
    from huggingface_hub import get_token

    if (os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN") or "").upper() in place.TRUE:
        return None
    try:
        secret = get_token()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "{path}: the access token cannot be read: {reason}", path=place.token_file(), reason=reason(error),
            hint="mend or delete that file, or check HF_TOKEN_PATH and HF_HOME",
        ) from error  # fmt: skip
    return None if secret is None else checked(secret)


def checked(text: str) -> str:
    """A token as it was typed or pasted, without the blanks around it. Raises UserError for what is none."""
    secret = text.strip()
    if not secret or len(secret) > LONGEST_TOKEN or not all("!" <= character <= "~" for character in secret):
        raise UserError(
            "this is no access token: a token is one word of letters, digits and signs, like hf_...",
            page=tokens_page(), hint="copy it from {page}",
        )  # fmt: skip
    return secret


def tokens_page() -> str:
    """Where tokens are made."""
    return f"{place.endpoint()}/settings/tokens"


def consent_page(repository: Repository) -> str:
    """Where a model's terms are accepted."""
    return f"{place.endpoint()}/{repository.page}"


def identify(secret: str, typed: bool = False) -> Identity:
    """Whom this token belongs to. Raises UserError where the hub does not accept it; `typed`: by hand, just now."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with session.open_client() as client:
            reply = session.json_answer(client, f"{place.endpoint()}/api/whoami-v2", session.headers(secret))
    except HfHubHTTPError as error:
        if error.response.status_code == 401:
            raise (_wrong_given() if typed else _wrong_token()) from error
        raise refused(error, place.endpoint()) from error
    about = _mapping(_mapping(_mapping(reply).get("auth")).get("accessToken"))
    role = str(about.get("role", "read"))
    may = _mapping(about.get("fineGrained")).get("canReadGatedRepos")
    name, label = (str(value)[:80] for value in (_mapping(reply).get("name", "?"), about.get("displayName", "?")))
    return Identity(name, label, role, bool(may) if role == "fineGrained" else True)


def check(repository: Repository) -> None:
    """Raises AccessError where the hub would not give this model's files, UserError where it cannot be asked."""
    from huggingface_hub.errors import HfHubHTTPError

    secret = token()
    with session.open_client() as client:
        try:
            session.json_answer(
                client, f"{place.endpoint()}/api/models/{repository.id}/auth-check", session.headers(secret)
            )
        except HfHubHTTPError as error:
            if error.response.status_code == 404 and "x-error-code" not in error.response.headers:
                return  # a mirror that knows no such question: its files will tell
            raise refusal(error, repository, secret) from error


def wait_until_granted(
    repository: Repository, tell: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Returns as soon as the hub gives the model, told what is missing whenever that changes.

    Ctrl-C ends it by KeyboardInterrupt. Raises UserError for what waiting does not mend.
    """
    obstacle = ""
    for number in range(1 << 30):
        try:
            check(repository)
            return
        except AccessError as missing:
            if str(missing) != obstacle:
                obstacle = str(missing)
                tell(translate(missing.template, **missing.fields))
                tell(f"  {translate(missing.hint or '', **missing.fields)}")
                tell(translate("Waiting until that is done; this goes on by itself. Ctrl-C leaves."))
        except session.NoConnectionError:
            pass  # a network that is away for a moment
        sleep(POLLS[min(number, len(POLLS) - 1)])


def refusal(error: Any, repository: Repository, secret: str | None) -> UserError:
    """What the hub's refusal (an HfHubHTTPError) means, with the page to open and the next step."""
    from huggingface_hub import errors

    status, words = error.response.status_code, (error.server_message or "").lower()
    about: dict[str, Any] = {
        "repository": repository, "page": consent_page(repository), "tokens": tokens_page(), "scope": SCOPE
    }  # fmt: skip
    if status == 401 and secret is not None:
        return _wrong_token()
    if "fine-grained token" in words or (status == 403 and secret is not None and _lacks_scope(secret)):
        return AccessError(
            "{repository}: the token is a fine-grained one that may not read gated models", **about,
            hint='open {tokens}, edit the token, tick "{scope}" and save',
        )  # fmt: skip
    if isinstance(error, errors.GatedRepoError):
        if status == 401:
            return AccessError(
                "{repository}: its makers want their terms accepted first, and no access token is set", **about,
                hint="open {page}, log in and accept the terms; then make a token at {tokens} and run soban login",
            )  # fmt: skip
        if "awaiting" in words:
            return AccessError(
                "{repository}: access was asked for, and its makers have not answered yet", **about,
                hint="{page} tells how it stands; some answer in minutes, some in days",
            )  # fmt: skip
        if "rejected" in words:
            return UserError(
                "{repository}: its makers have refused access to this account", **about,
                hint="choose another model: soban recommend",
            )  # fmt: skip
        return AccessError(
            "{repository}: its terms have not been accepted by the token's account", **about,
            hint="open {page}, log in with that account and accept the terms",
        )  # fmt: skip
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(
            "{repository}: no branch, tag or commit {revision}", revision=repository.revision, **about,
            hint="{page} lists them",
        )  # fmt: skip
    if isinstance(error, errors.RepositoryNotFoundError):
        return UserError(
            "{id}: the hub has no such model, or does not show it to everybody", id=repository.id,
            hint="check the spelling; for a private model run soban login",
        )  # fmt: skip
    if isinstance(error, errors.EntryNotFoundError):
        return UserError("{repository}: a file that was listed is not there", **about, hint="try again")
    return refused(error, place.endpoint())


def refused(error: Any, host: str) -> UserError:
    """A refusal that has no name of its own."""
    words = " ".join((error.server_message or "").split())
    return UserError(
        "{host} refuses (status {status}): {reason}", host=host, status=error.response.status_code,
        reason=ascii(words[:200])[1:-1] or "-", hint="check the name and HF_ENDPOINT, or try again later",
    )  # fmt: skip


def save(secret: str) -> None:
    """Keeps the token where the hub's tools look for it, readable by its owner only."""
    path = place.token_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_leftovers(path)
        new = temporary(path)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(secret)
        os.replace(new, path)
    except OSError as error:
        raise UserError(
            "{path}: cannot be written: {reason}", path=path, reason=reason(error),
            hint="set HF_TOKEN_PATH to a file that you may write",
        ) from error  # fmt: skip


def forget() -> bool:
    """Deletes the token, also from the hub tools' list of tokens; whether there was one."""
    path = place.token_file()
    try:
        secret = path.read_text(encoding="utf-8").strip()
        path.unlink()
        _forget_listed(secret)
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "{path}: cannot be deleted: {reason}", path=path, reason=reason(error), hint="delete it yourself"
        ) from error
    return True


def _forget_listed(secret: str) -> None:
    """`hf auth login` keeps every token once more, under a name."""
    path = place.token_file().with_name("stored_tokens")
    listed = configparser.ConfigParser(interpolation=None)
    try:
        if not listed.read(path, encoding="utf-8"):
            return
    except configparser.Error:
        return
    for name in listed.sections():
        if listed.get(name, "hf_token", fallback=None) == secret:
            listed.remove_section(name)
    with open(os.open(path, os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        listed.write(file)


def _wrong_given() -> UserError:
    return UserError(
        "the hub does not accept the token that was given: it is wrong, expired or deleted", tokens=tokens_page(),
        hint="make a new one at {tokens}, and give that",
    )  # fmt: skip


def _wrong_token() -> UserError:
    """Only a token in the file can be waited for: the environment of this process stays as it is."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if os.environ.get(name, "").strip():
            return UserError(
                "the hub does not accept the access token in {source}: it is wrong, expired or deleted", source=name,
                tokens=tokens_page(),
                hint="it goes before the one that soban login keeps: unset {source}, or set it to one from {tokens}",
            )  # fmt: skip
    return AccessError(
        "the hub does not accept the access token in {source}: it is wrong, expired or deleted",
        source=place.token_file(),
        tokens=tokens_page(), hint="make a new one at {tokens} and run soban login",
    )  # fmt: skip


def _lacks_scope(secret: str) -> bool:
    """Whether the token is a fine-grained one without the right to read gated models; False where that is unknown."""
    try:
        return not identify(secret).reads_gated
    except (UserError, session.Unavailable):
        return False


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
