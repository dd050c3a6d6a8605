"""One file of the hub's data to a place of the user's: whole and right, or as far as it came."""

import random
from pathlib import Path

import pytest

from soban.base.errors import UserError
from soban.hub import download, partial
from soban.hub.fetching import Progress
from soban.hub.names import Repository
from tests.hub.stub import Fault, Hub, Model

DATA = Repository("owner/stories", kind="datasets")
NAME = "all.tar.gz"
CONTENT = random.Random(1).randbytes(300_000)


def fetch(path: Path) -> list[Progress]:
    told: list[Progress] = []
    download.to_file(DATA, NAME, path, told.append)
    return told


@pytest.fixture
def stories(hub: Hub) -> Model:
    """What the hub has."""
    hub.models["datasets/owner/stories"] = model = Model({NAME: CONTENT, "README.md": b"# stories"})
    return model


def test_a_connection_that_breaks_costs_no_byte_twice_and_nothing_else_is_left(
    hub: Hub, stories: Model, tmp_path: Path
) -> None:
    stories.faults[NAME] = Fault(cut=70_000)
    told = fetch(tmp_path / "new" / "a")
    assert (tmp_path / "new" / "a").read_bytes() == CONTENT and hub.sent(NAME) == len(CONTENT)
    assert (told[-1].done, told[-1].total) == (len(CONTENT), len(CONTENT))
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"a"}
    assert {one.path for one in hub.requests if one.host.startswith("127.")} == {
        "/api/datasets/owner/stories/revision/main",
        f"/datasets/owner/stories/resolve/{stories.commit}/{NAME}",
    }


@pytest.mark.parametrize("change", [0, 1])
def test_a_file_that_was_replaced_meanwhile_is_fetched_from_its_beginning(
    stories: Model, tmp_path: Path, change: int
) -> None:
    begun = partial.Partial(tmp_path / "a", len(CONTENT) + change)
    begun.add(0, b"x" * 1000)
    begun.close()
    fetch(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_file_that_is_all_there_is_only_checked(hub: Hub, stories: Model, tmp_path: Path) -> None:
    begun = partial.Partial(tmp_path / "a", len(CONTENT))
    begun.add(0, CONTENT)
    begun.close()
    fetch(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT and not hub.sent(NAME)


def test_a_damaged_file_is_not_kept(stories: Model, tmp_path: Path) -> None:
    stories.faults[NAME] = Fault(content=b"x" * len(CONTENT))
    with pytest.raises(UserError, match="arrives damaged"):
        fetch(tmp_path / "a")
    assert not (tmp_path / "a").exists() and not partial.there(tmp_path / "a", len(CONTENT))


def test_what_the_hub_no_longer_has_and_what_does_not_fit_is_one_line(
    hub: Hub, stories: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soban.base.files.free_bytes", lambda _: 1000)
    with pytest.raises(UserError, match="no room: 300,000 bytes needed, 1,000 free"):
        fetch(tmp_path / "a")
    del stories.files[NAME]
    with pytest.raises(UserError, match=rf"no file {NAME} in it; {hub.url}/datasets/owner/stories tells"):
        fetch(tmp_path / "a")


def test_a_place_that_cannot_be_written_is_one_line(stories: Model, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: it is there already"):
        fetch(tmp_path / "file" / "a")


def test_offline_is_one_line(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=f"{NAME} is not here, and HF_HUB_OFFLINE=1 forbids the network"):
        fetch(tmp_path / "a")
    assert not hub.requests
