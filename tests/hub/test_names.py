"""What a word names: the catalogue's models, repositories of the hub, addresses; and what can be no name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soban.base.errors import UserError
from soban.hub import names
from soban.hub.names import Repository


@pytest.mark.parametrize(
    ("word", "identity", "revision"),
    [
        ("owner/name", "owner/name", "main"),
        ("owner/name@v1.0", "owner/name", "v1.0"),
        ("owner/name@refs/pr/3", "owner/name", "refs/pr/3"),
        (" Qwen/Qwen2.5-7B_x ", "Qwen/Qwen2.5-7B_x", "main"),
        ("https://huggingface.co/owner/name", "owner/name", "main"),
        ("https://huggingface.co/owner/name/", "owner/name", "main"),
        ("https://huggingface.co/owner/name/tree/dev", "owner/name", "dev"),
        ("https://huggingface.co/owner/name/tree/refs/pr/3", "owner/name", "refs/pr/3"),
        ("https://huggingface.co/owner/name/blob/main/config.json", "owner/name", "main"),
        ("https://huggingface.co/owner/name?library=x#files", "owner/name", "main"),
        ("huggingface.co/owner/name", "owner/name", "main"),
        ("hf.co/owner/name", "owner/name", "main"),
        ("GOOGLE/GEMMA-2-2B-IT", "google/gemma-2-2b-it", "main"),
    ],
)
def test_a_repository_is_found(word: str, identity: str, revision: str) -> None:
    found = names.find(word)
    assert found is not None and (found.id, found.revision) == (identity, revision)


def test_the_hub_of_ones_own_has_addresses_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="not an address of the hub"):
        names.find("https://hub.example.org/owner/name")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.org")
    assert names.find("https://hub.example.org/owner/name") == Repository("owner/name")


@pytest.mark.parametrize("word", ["gemma2", "GEMMA2", "gemma2:2b", "Gemma2:2B", "google/gemma-2-2b-it"])
def test_large_and_small_letters_are_the_same_in_the_catalogue(word: str) -> None:
    found = names.find(word)
    assert found is not None and found.entry is not None and found.entry.name == "gemma2:2b"
    assert str(found) == "google/gemma-2-2b-it"


def test_a_repository_of_several_models_is_none_of_them() -> None:
    assert names.find("karpathy/tinyllamas") == Repository("karpathy/tinyllamas")
    found = names.find("stories15M")
    assert found is not None and found.entry is not None and found.entry.files == ("stories15M.bin",)


@pytest.mark.parametrize(
    "word",
    ["", "   ", "hello", "안녕하세요", "What is 3/4 of 8?", "google/gemma-2-2b-it is a model", "두\n줄/글", "...",
     "con", "gemma-2", "한국/일본", "nul.txt", "and, so on"],
)  # fmt: skip
def test_other_words_name_nothing(word: str) -> None:
    assert names.find(word) is None


HOSTILE = [
    "../../etc/passwd", "owner/..", "../name",
    "owner/../name", "owner/name/../../x", "a/b..c", "a/b..", "a/.b", ".a/b", "a/b.",
    "a./b", "/etc/passwd", "/owner/name", "~/models/x", "C:\\models\\x", "C:/models/x", "\\\\server\\share\\x",
    "owner\\name", "owner/na\x00me", "owner/\x1b[31mname", "owner/name\x7f", "owner/\u202ename", "a/b/c", "a//b", "a/",
    "/", "a/b@", "a/b@../x", "a/b@/x", "a/b@x/../y", "a/b@.git", "con/name", "owner/NUL", "owner/aux.txt", "lpt1/x",
    "owner/com3.tar.gz", "a--b/c", "owner/name.git",
    "x" * 97 + "/y", "a/" + "y" * 500, "a/b@" + "z" * 200, "a/b%2e%2e", "a/b?x=1", "a/b#c", "a/b;rm",
    "http://evil.example/owner/name", "https://huggingface.co.evil.example/a/b", "file:///etc/passwd",
    "https://huggingface.co/", "https://huggingface.co/owner", "https://huggingface.co/../../etc/passwd", "https://huggingface.co/datasets/a/b",
    "https://huggingface.co/a/..%2f..", "https://user:secret@evil.example/a/b", "https://[", "https://huggingface.co/spaces/a/b",
    "gemma2:../../x", "gemma2:",
]  # fmt: skip


@pytest.mark.parametrize("word", HOSTILE, ids=lambda word: ascii(word)[:40])
def test_what_can_be_no_name_is_one_clear_line(word: str) -> None:
    with pytest.raises(UserError) as caught:
        names.find(word)
    line = str(caught.value)
    assert "\n" not in line and line.isprintable() and len(line) < 300 and "; " in line


def test_the_longest_name_is_the_hubs() -> None:
    """huggingface_hub's own check is the judge of what a repository can be called."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    fits = "x/" + "y" * 96
    validate_repo_id(fits)
    assert names.find(fits) == Repository(fits)
    with pytest.raises(HFValidationError):
        validate_repo_id(fits + "y")
    with pytest.raises(UserError):
        names.find(fits + "y")


@given(st.text(min_size=1, max_size=30))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_whatever_is_found_is_a_name_that_the_hub_takes(text: str) -> None:
    from huggingface_hub.utils import validate_repo_id

    try:
        found = names.find(text)
    except UserError as error:
        assert str(error).isprintable()
        return
    if found is not None:
        validate_repo_id(found.id)
        assert ".." not in found.revision and "\\" not in found.revision


@given(st.from_regex(r"[a-zA-Z0-9._/@:~-]{1,20}", fullmatch=True))
@settings(max_examples=1000, deadline=None, derandomize=True)
def test_no_name_leads_out_of_the_caches_folder(text: str) -> None:
    from huggingface_hub.utils import validate_repo_id

    try:
        found = names.find(text)
    except UserError:
        return
    if found is not None:
        validate_repo_id(found.id)
        for part in (*found.id.split("/"), *found.revision.split("/")):
            assert part not in ("", ".", "..") and not part.startswith(".") and not part.endswith(".")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("gemma2:3b", "gemma2:2b"),
        ("gema2:2b", "gemma2:2b"),
        ("llama3.2:2b", "llama3.2:3b"),
        ("stories:15k", "stories:15m"),
    ],
)
def test_a_near_miss_is_told_what_may_be_meant(wrong: str, near: str) -> None:
    with pytest.raises(UserError) as caught:
        names.find(wrong)
    assert f"did you mean {near}" in str(caught.value)


def test_a_short_name_with_a_revision_is_refused_with_what_to_write() -> None:
    with pytest.raises(UserError, match="short names take no revision; write google/gemma-2-2b-it@main"):
        names.find("gemma2:2b@main")
