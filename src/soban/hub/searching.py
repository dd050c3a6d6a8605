"""Looking for models on the hub by words of their names, and by their languages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from soban.base.errors import UserError
from soban.hub import access, languages, place, session
from soban.hub.names import PART

TOLD = ("downloads", "gated", "config")  # what the listing is asked for, besides the names


@dataclass(frozen=True)
class Found:
    """A model of the hub, as its listing tells."""

    id: str
    downloads: int | None  # of the last thirty days
    gated: bool
    model_type: str | None


def search(words: Sequence[str], limit: int) -> list[Found]:
    """The models of the hub whose names have the words, the most fetched first. Raises UserError as remote.files.

    Where a word is the name of a language, those are meant whose owners name that language.
    """
    from huggingface_hub.errors import HfHubHTTPError

    codes = [code for word in words if (code := languages.code(word))]
    rest = " ".join(word for word in words if not languages.code(word))
    query = [
        *([("search", rest)] if rest else []), *(("filter", code) for code in codes), ("sort", "downloads"),
        ("limit", limit), *(("expand", name) for name in TOLD),
    ]  # fmt: skip
    url = f"{place.endpoint()}/api/models?{urlencode(query)}"
    try:
        with session.open_client() as client:
            listing = session.json_answer(client, url, session.headers(access.token()))
    except HfHubHTTPError as error:
        raise UserError(
            "the hub does not answer the search (status {status})", status=error.response.status_code,
            hint="try again later, or look in the catalogue: soban search WORD --catalogue",
        ) from error  # fmt: skip
    models = listing if isinstance(listing, list) else []
    return [entry for model in models[:limit] if (entry := _entry(model)) is not None]


def _entry(model: Any) -> Found | None:
    """What the listing says, checked, for it comes from elsewhere; None for what no model can be called."""
    facts = model if isinstance(model, dict) else {}
    identity, config = facts.get("id"), facts.get("config")
    if not isinstance(identity, str) or not all(PART.fullmatch(part) for part in identity.split("/")):
        return None
    family = config.get("model_type") if isinstance(config, dict) else None
    model_type = family if isinstance(family, str) and PART.fullmatch(family) else None
    downloads = facts.get("downloads")
    return Found(identity, downloads if type(downloads) is int else None, bool(facts.get("gated")), model_type)
