"""What goes wrong on the way to the hub: certificates, proxies, no network, each in one line that helps."""

import errno
import http.server
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from soban.base.errors import UserError
from soban.hub import certificates, remote, session
from soban.hub.names import Repository
from tests.hub.stub import Hub, Model

MODEL = Repository("owner/model")


class Forbidding(http.server.BaseHTTPRequestHandler):
    """A proxy that lets nobody through."""

    def do_CONNECT(self) -> None:
        self.send_error(407, "Proxy Authentication Required")

    do_GET = do_CONNECT

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def intercepting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server as HF_ENDPOINT whose certificate a company has issued; the certificate's path."""
    for name in certificates.OWN:
        monkeypatch.delenv(name, raising=False)
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = "/O=Hanbit 보안 Proxy/CN=localhost"
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days",
             "2", "-utf8", "-subj", subject, "-addext", "subjectAltName=DNS:localhost"],
            check=True, capture_output=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs openssl")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forbidding)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"https://localhost:{server.server_address[1]}")
    yield certificate
    server.shutdown()
    server.server_close()


def test_who_intercepts_tls_is_named_with_what_to_do(hub: Hub, intercepting: Path) -> None:
    with pytest.raises(UserError, match=r"issued by Hanbit 보안 Proxy; .*SSL_CERT_FILE") as error:
        remote.files(MODEL)
    assert "localhost" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_the_users_own_certificate_is_trusted(
    hub: Hub, intercepting: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(intercepting))
    with pytest.raises(UserError, match="refuses"):  # the answer of the server, which has been believed
        remote.files(MODEL)
    monkeypatch.setenv(name, str(intercepting.parent / "missing.pem"))
    with pytest.raises(UserError, match="certificates cannot be read"):
        remote.files(MODEL)


def test_an_issuer_is_read_from_der(tmp_path: Path) -> None:
    assert certificates.issuer(_der(tmp_path, "/CN=only a name")) == "only a name"
    assert certificates.issuer(_der(tmp_path, "/O=An organisation/CN=a name")) == "An organisation"


def _der(folder: Path, subject: str) -> bytes:
    try:
        done = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "k", "-subj", subject,
             "-outform", "DER"], check=True, capture_output=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs openssl")
    return done.stdout


def test_a_proxy_that_refuses_is_named_without_its_password(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forbidding)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:geheim@{address}")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    with pytest.raises(UserError, match=f"the proxy {address} does not let us through: 407") as error:
        remote.files(MODEL)
    assert "geheim" not in str(error.value)
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=f"cannot be reached through the proxy {address}"):
        remote.files(MODEL)
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://x")
    with pytest.raises(UserError, match="the settings for the network are wrong"):
        remote.files(MODEL)


def test_without_a_network_it_is_said_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(session.NoConnectionError, match="cannot be reached: connection refused"):
        remote.files(MODEL)
    monkeypatch.setenv("HF_ENDPOINT", "http://no-such-host.invalid")
    with pytest.raises(session.NoConnectionError, match=r"no-such-host\.invalid cannot be reached"):
        remote.files(MODEL)


@pytest.mark.parametrize("address", ["nonsense", "ftp://x", "http://user:secret@x", "http://x y", "http://[::1"])
def test_an_address_that_is_none_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(UserError):
        remote.files(MODEL)


def test_a_part_of_a_file_is_read_without_the_rest(hub: Hub) -> None:
    data = bytes(range(256)) * 1000
    hub.models["owner/model"] = Model({"model.safetensors": data})
    assert remote.read_range(MODEL, "model.safetensors", 8, 1000) == data[8:1000]
    assert remote.read_range(MODEL, "model.safetensors", 255_990, 300_000) == data[255_990:]
    assert hub.sent() == 992 + 10
    with pytest.raises(UserError, match="a file that was listed is not there"):
        remote.read_range(MODEL, "other.safetensors", 0, 8)


def test_the_files_of_a_repository_have_sizes_and_hashes(hub: Hub) -> None:
    hub.models["owner/model"] = Model({"config.json": b"{}", "model.safetensors": b"x" * 20_000})
    found = {file.name: file for file in remote.files(MODEL)}
    assert found["config.json"].size == 2 and len(found["config.json"].hash) == 40
    assert found["model.safetensors"].size == 20_000 and len(found["model.safetensors"].hash) == 64


def test_an_answer_that_is_no_json_or_without_end_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.hub.stub._information", lambda *_: {"x": "y" * 2000})
    monkeypatch.setattr(session, "MOST_JSON", 1000)
    hub.models["owner/model"] = Model({})
    with pytest.raises(UserError, match="more than 1,000 bytes where less is expected"):
        remote.files(MODEL)


def test_where_nobody_listens_korean_says_so_in_korean(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{held.getsockname()[1]}")
        monkeypatch.setenv("SOBAN_LANG", "ko")
        with pytest.raises(session.NoConnectionError) as error:
            remote.files(MODEL)
    assert not re.search("[a-zA-Z]", str(error.value).replace("HTTPS_PROXY", "")), str(error.value)


def test_common_failures_of_a_network_are_told_in_korean_and_others_by_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOBAN_LANG", "ko")
    common: list[OSError] = [socket.gaierror(socket.EAI_NONAME, "Name or service not known")]
    for name in ("ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "EPIPE", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH"):
        common.append(OSError(getattr(errno, name), "in English"))
    for cause in common:
        outer = RuntimeError("outer")
        outer.__cause__ = cause
        assert re.fullmatch("[가-힣 .]+", session._reason(outer)), cause
    assert session._reason(OSError(errno.ELOOP, "round and round")) == "round and round"
