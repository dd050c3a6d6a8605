"""TLS as the system trusts it, and the name of whoever stands in between where that fails."""

import contextlib
import functools
import os
import ssl
from collections.abc import Iterator
from typing import Any

from soban.base.errors import UserError

ORGANISATION, COMMON_NAME = b"\x55\x04\x0a", b"\x55\x04\x03"  # the object identifiers 2.5.4.10 and 2.5.4.3
OWN = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def context() -> ssl.SSLContext:
    """What is trusted: the file that the environment names, or else the system's own certificates.

    A company's proxy is known to the system, and to no list of certificates that comes with a library.
    """
    return _context(*next(((name, os.environ[name]) for name in OWN if os.environ.get(name)), ("", "")))


@functools.cache  # reading the system's certificates takes a tenth of a second
def _context(name: str, path: str) -> ssl.SSLContext:
    if not path:
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if os.path.isdir(path):
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise UserError(
            "{name}={path}: these certificates cannot be read: {reason}", name=name, path=path, reason=error,
            hint="name a PEM file",
        ) from error  # fmt: skip


def refused(client: Any, url: str, failure: ssl.SSLError) -> UserError:
    """The error for a certificate that is not trusted, with the name of its issuer where it can be had."""
    host = client.build_request("GET", url).url.host
    reason = getattr(failure, "verify_message", "") or failure.reason or str(failure)
    if issuer := _issuer(client, url):
        return UserError(
            "the connection to {host} is not trusted ({reason}): its certificate is issued by {issuer}", host=host,
            reason=reason, issuer=issuer,
            hint="if that is your company's proxy or virus scanner, save its root certificate as a PEM file and set "
            "SSL_CERT_FILE to it; otherwise somebody may be reading along",
        )  # fmt: skip
    return UserError(
        "the connection to {host} is not trusted: {reason}", host=host, reason=reason,
        hint="check the PC's clock; behind a company's proxy set SSL_CERT_FILE to its root certificate",
    )  # fmt: skip


def _issuer(client: Any, url: str) -> str | None:
    """Who issued the certificate that the host shows; nothing is sent to it but a request for its first page."""
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(Exception):  # it is only for the message
        looking = type(client)(verify=unchecked, timeout=5.0, follow_redirects=False)
        with looking, looking.stream("HEAD", url) as response:
            tls = response.extensions["network_stream"].get_extra_info("ssl_object")
            return issuer(tls.getpeercert(True))
    return None


def issuer(certificate: bytes) -> str | None:
    """The issuer of a certificate in DER (RFC 5280, 4.1): its organisation, or else its common name."""
    (_, whole), *_ = _parts(certificate)
    (_, signed), *_ = _parts(whole)
    fields = list(_parts(signed))
    if fields[0][0] == 0xA0:  # the version, which is optional
        fields = fields[1:]
    names: dict[bytes, str] = {}
    for _, attributes in _parts(fields[2][1]):  # after the serial number and the algorithm
        for _, pair in _parts(attributes):
            (_, name), (kind, value) = _parts(pair)
            names[name] = value.decode("utf-16-be" if kind == 0x1E else "utf-8", "replace")
    text = names.get(ORGANISATION) or names.get(COMMON_NAME)
    return "".join(character if character.isprintable() else "?" for character in text)[:80] if text else None


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, content) of the values that follow one another in DER."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            digits = length & 0x7F
            length = int.from_bytes(data[at : at + digits], "big")
            at += digits
        yield tag, data[at : at + length]
        at += length
