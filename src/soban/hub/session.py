"""Requests to the hub: its token only to its own address, the system's certificates, and what went wrong in words."""

import contextlib
import errno
import importlib
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from soban.base.errors import UserError
from soban.base.version import VERSION
from soban.hub import certificates, place, store
from soban.messages import translate

CONNECT, READ = 10.0, 30.0  # seconds without a connection, or without a byte, that end an attempt
MOST_REDIRECTS = 8
SHORT = 64 << 10  # bytes of content beside a redirect that are worth reading
MOST_JSON = 64 << 20  # bytes of a listing
WAITS = (1.0, 2.0, 4.0)  # seconds before a short request is made again
LONGEST_WAIT = 300.0  # seconds; a hub that asks for more is told to the user
BUSY = (408, 425, 429, 500, 502, 503, 504)
MOVED = (301, 302, 303, 307, 308)

Client = Any  # of httpx, or of httpx2 since huggingface_hub 2.0
Response = Any


class Unavailable(Exception):
    """An attempt that failed and may succeed later: why, and how long the server wants us to wait."""

    def __init__(self, why: UserError, wait: float | None = None) -> None:
        super().__init__(str(why))
        self.why, self.wait = why, wait

    def reason(self) -> str:
        """Why, without advice."""
        return translate(self.why.template, **self.why.fields)


def library() -> Any:
    """The HTTP library that huggingface_hub stands on."""
    from huggingface_hub.errors import HfHubHTTPError

    base = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    return importlib.import_module(base.__module__.partition(".")[0])


@contextlib.contextmanager
def open_client() -> Iterator[Client]:
    """A client for a few requests. Raises UserError where the environment forbids or confuses it."""
    if place.is_offline():
        raise UserError("HF_HUB_OFFLINE=1 forbids the network", hint="unset it to fetch models")
    http = library()
    timeout = http.Timeout(READ, connect=CONNECT)
    try:
        client = http.Client(verify=certificates.context(), timeout=timeout, follow_redirects=False)
    except (ValueError, OSError, ImportError) as error:  # a proxy's address, or SOCKS without its library
        raise UserError(
            "the settings for the network are wrong: {reason}", reason=error,
            hint="check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY",
        ) from error  # fmt: skip
    try:
        yield client
    finally:
        with contextlib.suppress(RuntimeError):  # a thread may still be waiting for a server
            client.close()


def headers(token: str | None) -> dict[str, str]:
    """What goes with every request: who asks, and the token if there is one."""
    fields = {"user-agent": f"soban/{VERSION} Python/{sys.version_info[0]}.{sys.version_info[1]}"}
    fields["accept-encoding"] = "identity"  # sizes are those of the files
    return fields if token is None else {**fields, "authorization": f"Bearer {token}"}


@contextlib.contextmanager
def answer(client: Client, url: str, fields: Mapping[str, str]) -> Iterator[Response]:
    """The answer to a GET, redirects followed, its content still to be read. Its status may be an error's.

    Raises Unavailable where the network fails, UserError where trying again would not help.
    """
    own = _origin(place.endpoint())
    with _as_user_errors(url, client):
        for _ in range(MOST_REDIRECTS):
            visible = {name: value for name, value in fields.items() if name != "authorization" or _origin(url) == own}
            with client.stream("GET", url, headers=visible) as response:
                if response.status_code not in MOVED or "location" not in response.headers:
                    yield response
                    return
                length = response.headers.get("content-length", "")
                if length.isdecimal() and int(length) < SHORT:
                    response.read()  # to its end, or the connection could not be used again
                url = _redirected(url, response.headers["location"])
    raise UserError("{host} redirects without end", host=_host(url), hint="check HF_ENDPOINT, or try again later")


def _redirected(url: str, location: str) -> str:
    """Where a redirect leads; never from an encrypted address to an open one."""
    try:
        target = urljoin(url, location)
        scheme = urlsplit(target).scheme
    except ValueError:
        target, scheme = location, ""
    if scheme not in ("http", "https") or (scheme == "http" and url.startswith("https:")):
        raise UserError(
            "{host} redirects to {target}, which is not safe", host=_host(url), target=ascii(target)[1:-1][:60],
            hint="check HF_ENDPOINT, and whether a page of your network wants a login first",
        )  # fmt: skip
    return target


def json_answer(client: Client, url: str, fields: Mapping[str, str]) -> Any:
    """The JSON value at an address, or HfHubHTTPError; a hub that is busy is asked a few times.

    Raises UserError for an answer that is none, and where the network fails.
    """
    import json

    def ask() -> Any:
        with answer(client, url, fields) as response:
            check(response)
            content = _read(response, url, MOST_JSON)
            try:
                return json.loads(content)
            except (ValueError, RecursionError):
                raise UserError(
                    "{host} answers with something that is no JSON", host=_host(url),
                    hint="check HF_ENDPOINT, and whether a page of your network wants a login first",
                ) from None  # fmt: skip

    return patiently(ask)


def content(client: Client, url: str, most: int) -> bytes:
    """What lies at an address outside of the hub. Raises UserError where that cannot be had, or is more than `most`."""

    def ask() -> bytes:
        with answer(client, url, headers(None)) as response:
            if response.status_code in BUSY:
                raise _busy(response)
            if response.status_code != 200:
                raise UserError(
                    "{host} does not give it (status {status})", host=_host(url), status=response.status_code,
                    hint="try again later",
                )  # fmt: skip
            return _read(response, url, most)

    return bytes(patiently(ask))


def _read(response: Response, url: str, most: int) -> bytes:
    """An answer's content. Raises UserError where that is too much."""
    content = b""
    for piece in response.iter_bytes():
        content += piece
        if len(content) > most:
            raise UserError(
                "{host} sends more than {most:,} bytes where less is expected", host=_host(url), most=most,
                hint="check HF_ENDPOINT, or try again later",
            )  # fmt: skip
    return content


def patiently(ask: Callable[[], Any]) -> Any:
    """What `ask` returns, at the first attempt that does not end in Unavailable; UserError where none does."""
    for wait in (*WAITS, None):
        try:
            return ask()
        except Unavailable as unavailable:
            if wait is None or (unavailable.wait or 0) > 30:
                raise unavailable.why from unavailable
            time.sleep(max(wait, unavailable.wait or 0))
    raise AssertionError("the loop returns or raises")


def check(response: Response) -> None:
    """Raises Unavailable for a server that has no time now, HfHubHTTPError for any other refusal."""
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # it has no __all__

    if response.status_code in BUSY:
        raise _busy(response)
    if response.status_code >= 400:
        response.read()  # what the hub says about it
        hf_raise_for_status(response)


def _busy(response: Response) -> Exception:
    """What a server that has no time now says about when it will."""
    host = response.url.host
    header = response.headers.get("retry-after", "")
    wait = float(header) if header.isdecimal() else None
    if wait is not None and wait > LONGEST_WAIT:
        return UserError(
            "{host} has had too many requests (status {status}) and asks to wait {minutes} minutes", host=host,
            status=response.status_code, minutes=round(wait / 60),
            hint="try again then; with a token (soban login) more is allowed",
        )  # fmt: skip
    return Unavailable(
        UserError(
            "{host} cannot answer now (status {status})", host=host, status=response.status_code,
            hint="try again in a few minutes",
        ),
        wait,
    )  # fmt: skip


@contextlib.contextmanager
def _as_user_errors(url: str, client: Client) -> Iterator[None]:
    """Turns what the HTTP library raises into what a user can act on."""
    http = library()
    try:
        yield
    except http.ProxyError as error:
        raise UserError(
            "the proxy {proxy} does not let us through: {reason}", proxy=_proxy(), reason=_reason(error),
            hint="check HTTPS_PROXY, and the name and password in it",
        ) from error  # fmt: skip
    except http.TransportError as error:
        with contextlib.suppress(RuntimeError):  # it knows of no request
            url = str(error.request.url)  # after redirects
        if failure := _certificate_failure(error):
            raise certificates.refused(client, _base(url), failure) from error
        raise _unreachable(http, url, error) from error
    except http.InvalidURL as error:
        raise UserError("{url}: not an address", url=ascii(url)[1:-1][:60], hint="check HF_ENDPOINT") from error


def _unreachable(http: Any, url: str, error: Exception) -> Exception:
    """A network that fails: at once where there is no way to the host, else to be tried again."""
    if isinstance(error, http.ConnectError | http.ConnectTimeout):
        if proxy := _proxy():
            return UserError(
                "{host} cannot be reached through the proxy {proxy}: {reason}", host=_host(url), proxy=proxy,
                reason=_reason(error), hint="check the network and HTTPS_PROXY; models in the cache work without"
                if _any_held() else "check the network and HTTPS_PROXY",
            )  # fmt: skip
        return NoConnectionError(
            "{host} cannot be reached: {reason}", host=_host(url), reason=_reason(error),
            hint="check the network, or whether it needs a proxy (HTTPS_PROXY); models in the cache work without"
            if _any_held() else "check the network, or whether it needs a proxy (HTTPS_PROXY)",
        )  # fmt: skip
    if isinstance(error, http.TimeoutException):
        why = UserError(
            "{host} sends nothing for {seconds:.0f} seconds", host=_host(url), seconds=READ,
            hint="try again later",
        )  # fmt: skip
    else:
        why = UserError(
            "the connection to {host} broke: {reason}", host=_host(url), reason=_reason(error), hint="try again"
        )
    return Unavailable(why)


def _any_held() -> bool:
    """Whether any model of the cache is whole, so that it works without a network."""
    try:
        return any(model.complete for model in store.models())
    except UserError:  # a cache whose disk is away
        return False


class NoConnectionError(UserError):
    """There is no way to the host at all: no network, no such name, nobody who listens."""


def _reason(error: BaseException) -> str:
    """The innermost cause: common ones in the user's language, else in the system's words, where there are some."""
    words = {
        errno.ECONNREFUSED: translate("connection refused"),
        errno.ECONNRESET: translate("the other side has closed it"),
        errno.ECONNABORTED: translate("the other side has closed it"),
        errno.EPIPE: translate("the other side has closed it"),
        errno.ETIMEDOUT: translate("no answer in time"),
        errno.ENETUNREACH: translate("there is no network"),
        errno.EHOSTUNREACH: translate("there is no way to it"),
    }
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, socket.gaierror):  # its numbers differ from system to system
            return translate("no such name is known, or there is no network")
        if isinstance(inner, OSError) and inner.strerror:
            return words.get(inner.errno or 0, inner.strerror)
        inner = inner.__cause__ or inner.__context__
    return str(error) or type(error).__name__


def _certificate_failure(error: BaseException | None) -> ssl.SSLError | None:
    """The failure of a certificate that an error comes from."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        if isinstance(error, ssl.SSLError) and "CERTIFICATE" in str(error).upper():
            return error
        error = error.__cause__ or error.__context__
    return None


def _proxy() -> str | None:
    """The proxy of the environment, without the name and password that may stand in it."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"):
        if value := os.environ.get(name):
            return _host(value if "://" in value else f"http://{value}")
    return None


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        return (parts.hostname or "?") + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return "?"


def _base(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, "/", "", ""))
