"""Tokens and gated models: each refusal has its own words, its page and its next step."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from soban.base.errors import UserError
from soban.hub import access, download, place, store
from soban.hub.names import Repository
from tests.hub.stub import Hub, Model, Token
from tests.hub.test_download import wait_for
from tests.hub.test_stub import client

NAME = "google/gated"
GATED = Repository(NAME)
FILES: dict[str, bytes | Path] = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"x" * 50_000}

# The token; what is said, the page, the step. {url} is the hub's address.
REFUSALS = [
    (None, "no access token is set", "open {url}/google/gated, log in and accept the terms", "soban login"),
    ("hf_no", "have not been accepted by the token's account", "open {url}/google/gated", "accept the terms"),
    ("hf_fine", "a fine-grained one that may not read gated models", "open {url}/settings/tokens", "tick"),
    ("hf_wrong", "wrong, expired or deleted", "set it to one from {url}/settings/tokens", "unset HF_TOKEN"),
    ("hf_asked", "its makers have not answered yet", "{url}/google/gated tells", "days"),
]


@pytest.fixture
def gated(hub: Hub) -> Hub:
    hub.models[NAME] = Model(dict(FILES), gated="manual")
    hub.tokens = {
        "hf_no": Token(), "hf_yes": Token(consented={NAME}), "hf_asked": Token(waiting={NAME}),
        "hf_fine": Token("fineGrained", reads_gated=False, consented={NAME}),
    }  # fmt: skip
    return hub


@pytest.mark.parametrize(("token", "what", "page", "step"), REFUSALS)
def test_each_refusal_says_what_is_missing_where_to_go_and_what_to_do(
    gated: Hub, monkeypatch: pytest.MonkeyPatch, token: str | None, what: str, page: str, step: str
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError) as error:
        download.pull(GATED, lambda _: None)
    assert isinstance(error.value, access.AccessError) == (token != "hf_wrong")  # which waiting does not mend
    said = str(error.value)
    assert what in said and page.format(url=gated.url) in said and step in said and "\n" not in said
    assert token is None or token not in said
    assert not gated.sent()


def test_a_mirror_that_answers_no_such_question_is_asked_for_the_files(
    gated: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated.answers_checks = False
    monkeypatch.setenv("HF_TOKEN", "hf_no")
    with pytest.raises(access.AccessError, match="terms have not been accepted"):
        download.pull(GATED, lambda _: None)
    monkeypatch.setenv("HF_TOKEN", "hf_yes")
    assert store.complete_folder(GATED) is None and download.pull(GATED, lambda _: None) == store.complete_folder(GATED)


def test_the_refusals_differ(gated: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    said = set()
    for token, *_ in REFUSALS:
        monkeypatch.setenv("HF_TOKEN", token or "")
        with pytest.raises(UserError) as error:
            access.check(GATED)
        said.add(error.value.template)
    assert len(said) == len(REFUSALS)


def test_a_fine_grained_token_is_told_from_missing_consent_even_where_the_hub_does_not(
    gated: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated.tokens["hf_fine"].reads_gated = True  # for the gate, which then asks for consent
    gated.tokens["hf_fine"].consented.clear()
    monkeypatch.setenv("HF_TOKEN", "hf_fine")
    with pytest.raises(access.AccessError, match="terms have not been accepted"):
        access.check(GATED)
    monkeypatch.setattr(access, "identify", lambda _: access.Identity("a", "b", "fineGrained", False))
    with pytest.raises(access.AccessError, match="fine-grained"):
        access.check(GATED)


def test_with_consent_it_is_fetched(gated: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_yes")
    folder = download.pull(GATED, lambda _: None)
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    monkeypatch.delenv("HF_TOKEN")
    assert store.complete_folder(GATED) == folder


def test_waiting_goes_on_by_itself_as_soon_as_access_is_given(gated: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_no")
    monkeypatch.setattr(access, "POLLS", (0.02,))
    said: list[str] = []
    waiting = threading.Thread(target=access.wait_until_granted, args=(GATED, said.append), daemon=True)
    waiting.start()
    wait_for(lambda: len(said) == 3)
    gated.tokens["hf_no"].waiting.add(NAME)
    wait_for(lambda: len(said) == 6)
    assert "not been accepted" in said[0] and "not answered yet" in said[3] and waiting.is_alive()
    gated.tokens["hf_no"] = Token(consented={NAME})
    waiting.join(timeout=5)
    assert not waiting.is_alive()


def test_waiting_asks_gently_and_ends_where_it_is_of_no_use(gated: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 20:
            del gated.models[NAME]

    with pytest.raises(UserError, match="no such model"):
        access.wait_until_granted(GATED, lambda _: None, sleep)
    assert min(slept) >= 3 and slept[-1] >= 10 and len(slept) == 20


def test_the_token_is_kept_for_all_tools_and_readable_by_its_owner_only(hub: Hub, tmp_path: Path) -> None:
    hub.tokens["hf_read"] = Token()
    path = tmp_path / "home" / "token"
    access.save("hf_read")
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert access.token() == "hf_read"
    said = client(hub, tmp_path / "home", "import huggingface_hub as h; print(h.get_token(), h.whoami()['name'])")
    assert said.split() == ["hf_read", "tester"]
    path.chmod(0o644)
    access.save("hf_read")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 or os.name != "posix"
    assert access.forget() and not path.exists() and not access.forget()


def test_logging_out_also_forgets_what_the_hubs_own_login_has_listed(hub: Hub, tmp_path: Path) -> None:
    hub.tokens |= {"hf_one": Token(), "hf_two": Token()}
    login = "import huggingface_hub as h; h.login('hf_one', add_to_git_credential=False)"
    client(hub, tmp_path / "home", login)
    listed = tmp_path / "home" / "stored_tokens"
    assert "hf_one" in listed.read_text()
    assert access.forget()
    assert "hf_one" not in listed.read_text()


@pytest.mark.parametrize("text", ["", " ", "two words", "hf_\u202e", "hf_1\r\nX-Evil: 1", "x" * 600, "토큰"])
def test_what_cannot_be_a_token_is_sent_nowhere(hub: Hub, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no access token"):
        access.checked(text)
    assert not hub.requests


def test_a_token_is_told_by_its_kind(gated: Hub) -> None:
    assert access.identify("hf_no") == access.Identity("tester", "of the test", "read", True)
    assert access.identify("hf_fine") == access.Identity("tester", "of the test", "fineGrained", False)
    with pytest.raises(access.AccessError, match="does not accept"):
        access.identify("hf_wrong")


def test_a_token_file_that_cannot_be_read_is_one_line(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\xff\xfe")
    for at, said in ((tmp_path, "it is a folder"), (file / "token", "part of the path is no folder"), (file, "UTF-8")):
        monkeypatch.setenv("HF_TOKEN_PATH", str(at))
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(at))
        with pytest.raises(UserError, match=said) as error:
            access.token()
        assert str(error.value).startswith(f"{at}: the access token cannot be read")

    def forbidden() -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    monkeypatch.setattr("huggingface_hub.get_token", forbidden)
    with pytest.raises(UserError, match="cannot be read: permission denied"):
        access.token()


def test_a_wrong_token_in_the_file_is_mended_by_a_login(gated: Hub, tmp_path: Path) -> None:
    access.save("hf_wrong")
    with pytest.raises(access.AccessError, match=r"make a new one at .* and run soban login") as error:
        download.pull(GATED, lambda _: None)
    assert str(place.token_file()) in str(error.value)
