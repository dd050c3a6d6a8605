"""TinyStories from a hub on loopback: fetched, unpacked, and made into shards step by step."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from soban.base.errors import UserError
from soban.hub.fetching import Progress
from soban.learn.data import shards, tinystories
from soban.learn.data.prepare import Preparation, prepare
from tests.hub.conftest import hub as hub  # a fixture
from tests.hub.stub import Fault, Hub, Model

NAME = f"datasets/{tinystories.REPOSITORY.id}"


def archive(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return file.getvalue()


def story(number: int) -> dict[str, object]:
    words = ["fox", "river", "bridge", "shell", "walked", "found", "little", "brother", "told", "near", "old", "sun"]
    drawn = [words[hash_of(number, place) % len(words)] for place in range(40)]
    return {"story": " ".join(drawn) + ".", "instruction": {"prompt:": "x"}, "summary": "s", "source": "GPT-4"}


def hash_of(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


CONTENT = archive(
    {
        f"data{shard:02}.json": json.dumps([story(100 * shard + number) for number in range(100)]).encode()
        for shard in range(2)
    }
    | {"../../evil.json": b"[]", "README.md": b"x"}
)


def quiet(_: Progress) -> None:
    """Shows nothing."""


def test_a_download_that_was_stopped_leaves_what_the_next_goes_on_with_and_preparing_allows(
    hub: Hub, tmp_path: Path
) -> None:
    fault = Fault(cut=700)
    hub.models[NAME] = Model({tinystories.ARCHIVE: CONTENT}, faults={tinystories.ARCHIVE: fault})

    def stop(progress: Progress) -> None:
        assert progress.total == len(CONTENT)
        if progress.done >= 700:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tinystories.stories(tmp_path, stop, fetch=True)
    left = {path.name for path in tmp_path.iterdir()}
    assert left and left <= tinystories.BESIDE
    fault.cut = None
    assert len(tinystories.stories(tmp_path, quiet, fetch=True)) == 2
    assert hub.sent(tinystories.ARCHIVE) == len(CONTENT)
    assert {path.name for path in tmp_path.iterdir()} == {tinystories.FOLDER}


def test_the_three_steps_give_shards_with_the_vocabulary_that_was_learnt(hub: Hub, tmp_path: Path) -> None:
    spm = pytest.importorskip("sentencepiece")
    hub.models[NAME] = Model({tinystories.ARCHIVE: CONTENT})
    out = tmp_path / "data"
    with pytest.raises(UserError, match=r"no TinyStories in it.*download"):
        tinystories.stories(out, quiet, fetch=False)
    files = tinystories.stories(out, quiet, fetch=True)
    assert [Path(path).name for path in files] == ["data00.json", "data01.json"]
    assert not (tmp_path / "evil.json").exists() and not list(tmp_path.rglob("evil*"))
    requests = len(hub.requests)
    assert tinystories.stories(out, quiet, fetch=True) == files and len(hub.requests) == requests

    wanted = Preparation(files, out, vocab_size=300, beside=tinystories.BESIDE)
    folder = tinystories.train_vocabulary(wanted, lambda *stage: None)
    judge = spm.SentencePieceProcessor(model_file=str(folder / "tok300.model"))
    assert judge.vocab_size() == 300
    prepare(tinystories.with_vocabulary(wanted))
    opened = shards.Shards(out)
    stories = {str(story(number)["story"]) for number in range(200)}
    for ids in opened.documents:
        text = judge.decode(ids.tolist())
        assert text in stories and [1, *judge.encode(text), 2] == ids.tolist()
    assert opened.entries == 300 and (out / tinystories.FOLDER / "data00.json").is_file()
    with pytest.raises(UserError, match="not 280 entries"):
        tinystories.with_vocabulary(Preparation(files, out, vocab_size=280))


def test_a_vocabulary_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "some.json").write_text(json.dumps([story(number) for number in range(50)]), encoding="utf-8")
    wanted = Preparation((str(tmp_path / "some.json"),), tmp_path, vocab_size=300)
    folder = tinystories.train_vocabulary(wanted, lambda *stage: None)
    assert tinystories.train_vocabulary(wanted, lambda *stage: None) == folder
    (folder / "words.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"vocabulary: holds other files \(words\.txt\)"):
        tinystories.train_vocabulary(wanted, lambda *stage: None)
    assert (folder / "words.txt").read_text(encoding="utf-8") == "mine"
