"""From files to a folder that training reads: whole or not at all, once, and the same for everybody."""

import dataclasses
import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.cli import main
from soban.learn.data import cleaning, keeping, records, shards, tinystories, vocabulary
from soban.learn.data.prepare import Preparation, prepare

WORDS = "fox river bridge shell morning walked found little brother told every near old and the a was"
KOREAN = "여우가 강가에 다리를 조개를 아침마다 걸었어요 찾았어요 작은 동생에게 오래된 그리고 말했어요"


def text(number: int) -> str:
    chance = random.Random(number)
    words = (KOREAN if number % 2 else WORDS).split()
    return " ".join(chance.choices(words, k=40)) + "."


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "글"
    folder.mkdir()
    rows = "".join(json.dumps({"text": text(number)}) + "\n" for number in range(200))
    (folder / "a.jsonl").write_text(rows, encoding="utf-8")
    (folder / "b.txt").write_bytes("\n\n".join(text(number) for number in range(150, 260)).encode("cp949"))
    return folder


def listing(folder: Path) -> dict[str, bytes]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: (folder / name).read_bytes() for name in names if name not in (".lock", keeping.REPORT)}


def test_every_document_comes_back_by_its_tokenizer_in_one_split(texts: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    out = tmp_path / "data"
    report = prepare(Preparation((str(texts),), out, vocab_size=400, test=0.1)).report
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    texts_back: list[str] = []
    for name in ("train", "validation", "test"):
        opened = shards.Shards(out, name)
        decoded = [tokenizer.decode(ids.tolist()) for ids in opened.documents]
        assert opened.bytes == sum(len(one.encode()) for one in decoded)
        assert all((ids[0], ids[-1]) == (opened.bos_id, opened.eos_id) for ids in opened.documents)
        assert report["splits"][name]["tokens"] == opened.tokens
        texts_back += decoded
    assert sorted(texts_back) == sorted({text(number) for number in range(260)})
    assert report["left_out"] == {"duplicates": 50} and report["kept"] == 260


def test_what_is_there_is_not_made_again_and_the_same_text_gives_the_same_bytes(texts: Path, tmp_path: Path) -> None:
    wanted = Preparation((str(texts),), tmp_path / "data", vocab_size=400)
    assert prepare(wanted).new
    before = (tmp_path / "data" / shards.MANIFEST).stat().st_mtime_ns
    again = prepare(wanted)
    assert not again.new and again.report["kept"] == 260
    assert (tmp_path / "data" / shards.MANIFEST).stat().st_mtime_ns == before
    other = tmp_path / "other"
    prepare(Preparation((str(texts),), other, vocab_size=400))
    assert listing(other) == listing(tmp_path / "data")
    with (texts / "b.txt").open("ab") as file:
        file.write(b"\n\nAnother document that is new.")
    before = listing(tmp_path / "data")
    with pytest.raises(UserError, match=r"data: holds finished data, of other text .*; --force replaces them"):
        prepare(wanted)
    assert listing(tmp_path / "data") == before
    assert prepare(dataclasses.replace(wanted, force=True)).report["kept"] == 261


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit there")
def test_a_disk_that_is_full_at_any_moment_is_told_and_leaves_nothing(texts: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from soban.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import tokenizers, soban.learn.data.prepare\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\n"
        "sys.exit(main(['data', sys.argv[2], '--out', sys.argv[3], '--vocab-size', '400', '-q', '--json']))"
    )
    for most in (0, 100, 1000, 4000, 12_000, 30_000, 60_000):
        words = [sys.executable, "-c", code, str(most), str(texts), str(tmp_path / "data")]
        done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=300)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, (most, done.stderr)
        assert "no room" in done.stderr or "cannot be" in done.stderr, (most, done.stderr)
        left = {path.name for path in (tmp_path / "data").iterdir()} if (tmp_path / "data").exists() else set()
        assert left <= {".lock"}, most


def test_what_looks_like_a_special_token_stays_text(tmp_path: Path) -> None:
    lines = [f"{text(number)} <s>old price</s> <unk> <0x41>" for number in range(20)]
    (tmp_path / "a.txt").write_text("\n\n".join(lines), encoding="utf-8")
    prepare(Preparation((str(tmp_path / "a.txt"),), tmp_path / "data", vocab_size=300))
    for ids in shards.Shards(tmp_path / "data").documents:
        assert sorted(ids[(ids < 3)].tolist()) == [1, 2]


def test_a_tokenizer_that_is_there_is_taken(texts: Path, tmp_path: Path, fixtures: Path) -> None:
    from tokenizers import Tokenizer

    model = fixtures / "models" / "TinyStories-656K"
    report = prepare(Preparation((str(texts),), tmp_path / "data", tokenizer=model)).report
    judge = Tokenizer.from_file(str(model / "tokenizer.json"))
    opened = shards.Shards(tmp_path / "data")
    assert report["tokenizer"]["entries"] == judge.get_vocab_size()
    assert Tokenizer.from_file(str(tmp_path / "data/tokenizer.json")).to_str() == judge.to_str()
    for ids in list(opened.documents)[:20]:
        whole = judge.decode(ids[1:-1].tolist())
        assert judge.encode(whole, add_special_tokens=False).ids == ids[1:-1].tolist()


def test_a_vocabulary_larger_than_the_text_supports_is_refused(texts: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--vocab-size 30000: this text supports only \d+ entries"):
        prepare(Preparation((str(texts),), tmp_path / "data", vocab_size=30_000))
    assert {path.name for path in (tmp_path / "data").iterdir()} <= {".lock"}
    with pytest.raises(UserError, match="--vocab-size 100: out of range"):
        prepare(Preparation((str(texts),), tmp_path / "data", vocab_size=100))


def test_a_run_that_is_killed_leaves_nothing_and_the_next_is_whole(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    prepare(Preparation((str(texts),), out, vocab_size=400))
    old = listing(out)
    code = (
        "import os, sys, signal; from pathlib import Path; from soban.learn.data import keeping, prepare as p, shards\n"
        "def stop(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
        "setattr(*{'shards': (shards, 'write_shards', stop), 'publish': (keeping, 'publish', stop)}[sys.argv[1]])\n"
        "p.prepare(p.Preparation((sys.argv[2],), Path(sys.argv[3]), vocab_size=380, force=True))"
    )
    for moment in ("shards", "publish"):
        done = subprocess.run(
            [sys.executable, "-c", code, moment, str(texts), str(out)], env=environment(), timeout=300
        )
        assert done.returncode == -signal.SIGKILL
        assert {name: data for name, data in listing(out).items() if not name.startswith(".work")} == old
    prepare(Preparation((str(texts),), out, vocab_size=380, force=True))
    assert shards.Shards(out).entries == 380 and not (out / ".work").exists()


MOVES = 13  # manifest, report, tokenizer, its settings and two splits away; the same and a third to their place


def stopped_at(move: int, monkeypatch: pytest.MonkeyPatch, stop: Callable[[], None]) -> None:
    """Calls `stop` before that one of the moves."""
    moved, replace = itertools.count(), Path.replace

    def counted(path: Path, target: Path) -> Path:
        if next(moved) == move:
            stop()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", counted)


def fail() -> None:
    raise PermissionError(errno.EACCES, "in use")


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, and data of them."""
    folder = tmp_path_factory.mktemp("older")
    (folder / "a.txt").write_text("\n\n".join(text(number) for number in range(60)), encoding="utf-8")
    prepare(older_data(folder, 400))
    return folder


def older_data(folder: Path, size: int) -> Preparation:
    return Preparation(
        (str(folder / "a.txt"),), folder / "data", vocab_size=size, test=0.0 if size == 400 else 0.1, force=size != 400
    )


@pytest.mark.parametrize("move", range(MOVES))
def test_where_files_cannot_be_moved_the_old_ones_are_back_and_the_new_ones_are_kept(
    older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: int
) -> None:
    shutil.copytree(older, tmp_path, dirs_exist_ok=True)
    out, wanted = tmp_path / "data", older_data(tmp_path, 380)
    old = listing(out)
    stopped_at(move, monkeypatch, fail)
    with pytest.raises(UserError, match=r"cannot be written: permission denied.*what it has made is kept"):
        prepare(wanted)
    assert {name: data for name, data in listing(out).items() if not name.startswith(".work")} == old
    assert shards.Shards(out).entries == 400
    monkeypatch.undo()
    monkeypatch.setattr("soban.learn.data.prepare.clean", lambda *_: pytest.fail("made once more"))
    assert prepare(wanted).new
    assert shards.Shards(out, "test").entries == 380
    assert {path.name for path in out.iterdir()} <= {".lock", *keeping.REPLACED}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("move", [0, 1, 3, 5, 6, 9, 12])
def test_a_run_that_is_killed_while_files_are_moved_is_settled_by_the_next(
    older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: int, first: bool
) -> None:
    shutil.copytree(older, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "data"
    if first:
        shutil.rmtree(out)
    stopped_at(move % 7 if first else move, monkeypatch, fail)
    monkeypatch.setattr(keeping, "put_back", lambda out: None)
    with pytest.raises(UserError, match="cannot be written"):
        prepare(older_data(tmp_path, 380))
    monkeypatch.undo()
    assert prepare(older_data(tmp_path, 370)).new
    assert shards.Shards(out, "test").entries == 370
    assert {path.name for path in out.iterdir()} <= {".lock", *keeping.REPLACED}


def test_nothing_is_moved_onto_older_data_that_could_not_be_deleted(older: Path, tmp_path: Path) -> None:
    shutil.copytree(older, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "data"
    (out / keeping.OLD / "train").mkdir(parents=True)
    (out / keeping.OLD / "train" / "00000.npy").write_bytes(b"in use")
    before = listing(out)
    with pytest.raises(UserError, match="cannot be written"):
        prepare(older_data(tmp_path, 380))
    assert {name: data for name, data in listing(out).items() if not name.startswith(".work")} == before
    shutil.rmtree(out / keeping.OLD)
    assert prepare(older_data(tmp_path, 380)).new


@pytest.mark.parametrize("move", [0, 5, 12])
def test_ctrl_c_while_files_are_moved_comes_too_late(
    older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: int
) -> None:
    shutil.copytree(older, tmp_path, dirs_exist_ok=True)
    stopped_at(move, monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
    words = ("--vocab-size", "380", "--test", "0.1", "--force")
    assert main(["data", str(tmp_path / "a.txt"), "--out", str(tmp_path / "data"), *words]) == 0
    assert shards.Shards(tmp_path / "data", "test").entries == 380
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("move", [0, 5, 12])
def test_an_interruption_while_files_are_moved_brings_the_old_ones_back_where_no_command_holds_it_off(
    older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: int
) -> None:
    shutil.copytree(older, tmp_path, dirs_exist_ok=True)
    old = listing(tmp_path / "data")
    stopped_at(move, monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        prepare(older_data(tmp_path, 380))
    left = listing(tmp_path / "data")
    assert {name: content for name, content in left.items() if not name.startswith(".work")} == old


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3] / "src")}


def test_a_folder_with_other_things_in_it_is_left_alone(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match=r"mine: holds other files \(thesis\.doc\)"):
        prepare(Preparation((str(texts),), tmp_path / "mine"))
    with pytest.raises(UserError, match="holds the text itself"):
        prepare(Preparation((str(texts),), texts))
    with pytest.raises(UserError, match="cannot be made"):
        prepare(Preparation((str(texts),), tmp_path / ("x" * 300)))
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be made"):
        prepare(Preparation((str(texts),), tmp_path / "file" / "data"))


def corpus(folder: Path) -> dict[str, bytes]:
    for name in ("train", "test"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.txt").write_text("\n\n".join(text(number) for number in range(60)), encoding="utf-8")
    return listing(folder)


def test_the_users_own_splits_are_neither_replaced_nor_deleted(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    before = corpus(out)
    with pytest.raises(UserError, match="corpus: holds the text itself"):
        prepare(Preparation((str(out / "train"),), out, vocab_size=400))
    with pytest.raises(UserError, match="corpus: holds the text itself"):
        prepare(Preparation((str(out / "test" / "a.txt"),), out, vocab_size=400))
    with pytest.raises(UserError, match=r"corpus: holds other files \(test\)"):
        prepare(Preparation((str(texts),), out, vocab_size=400))
    assert listing(out) == before


@pytest.mark.parametrize(
    "manifest", ['{"name": "app"}', '{"format": 1}', "[]", "no json", '{"format": "soban-data 1"}']
)
def test_another_programs_manifest_does_not_make_a_folder_ours(texts: Path, tmp_path: Path, manifest: str) -> None:
    out = tmp_path / "app"
    (out / "test").mkdir(parents=True)
    (out / "test" / "app.test.js").write_text("x", encoding="utf-8")
    (out / "manifest.json").write_text(manifest, encoding="utf-8")
    before = listing(out)
    with pytest.raises(UserError, match=r"app: holds other files \(manifest\.json\)"):
        prepare(Preparation((str(texts),), out, vocab_size=400))
    assert listing(out) == before


def test_of_an_earlier_run_only_what_it_has_made_is_replaced(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    prepare(Preparation((str(texts),), out, vocab_size=400, test=0.1))
    (out / "notes.md").write_text("mine", encoding="utf-8")
    (out / "train" / "mine.txt").write_text("mine", encoding="utf-8")
    before = listing(out)
    with pytest.raises(UserError, match=r"data: holds other files \(train/mine\.txt\)"):
        prepare(Preparation((str(texts),), out, vocab_size=380, force=True))
    assert listing(out) == before
    (out / "train" / "mine.txt").rename(out / "mine.txt")
    (out / "test" / ".DS_Store").write_bytes(b"")
    assert prepare(Preparation((str(texts),), out, vocab_size=380, force=True)).new
    assert not (out / "test").exists() and {"notes.md", "mine.txt"} < set(listing(out))


def test_a_manifest_that_names_files_elsewhere_deletes_none_of_them(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    prepare(Preparation((str(texts),), out, vocab_size=400))
    manifest = json.loads((out / shards.MANIFEST).read_text(encoding="utf-8"))
    manifest["splits"]["train"]["shards"].append({"name": "../../글/a.jsonl"})
    manifest["splits"]["../글"] = {"shards": [{"name": "../글/b.txt"}]}
    (out / shards.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    assert prepare(Preparation((str(texts),), out, vocab_size=380, force=True)).new
    assert {path.name for path in texts.iterdir()} == {"a.jsonl", "b.txt"}


def test_data_within_the_folder_of_the_text_is_not_read_as_text(texts: Path) -> None:
    wanted = Preparation((str(texts),), texts / "out", vocab_size=400)
    assert prepare(wanted).new and not prepare(wanted).new


def test_a_full_disk_is_told_before_anything_is_written(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "free_bytes", lambda folder: 1000)
    with pytest.raises(UserError, match=r"no room: [\d,]+ bytes needed, 1,000 free"):
        prepare(Preparation((str(texts),), tmp_path / "data"))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("what", ["look", "make", "vocabulary"])
def test_a_run_that_fails_has_closed_its_files_before_their_folder_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    (tmp_path / "a.txt").write_text("A fox.\n\n" + "x" * 2000, encoding="utf-8")
    monkeypatch.setattr(records, "LONGEST", 1000)
    opened, seen = [], []
    begin, remove = cleaning.Texts.__init__, shutil.rmtree

    def noted(texts: cleaning.Texts, path: Path) -> None:
        begin(texts, path)
        opened.append(texts)

    def judged(path: Path, *how: Any, **more: Any) -> None:
        seen.extend(texts._file.closed for texts in opened)
        remove(path, *how, **more)

    monkeypatch.setattr(cleaning.Texts, "__init__", noted)
    monkeypatch.setattr(shutil, "rmtree", judged)
    wanted = Preparation((str(tmp_path / "a.txt"),), None if what == "look" else tmp_path / "data")
    with pytest.raises(UserError, match="more than 1,000 characters"):
        tinystories.train_vocabulary(wanted, lambda *stage: None) if what == "vocabulary" else prepare(wanted)
    assert seen and all(seen)


def test_nothing_left_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("!!\n\n??\n", encoding="utf-8")
    with pytest.raises(UserError, match="no text is left of 2 documents"):
        prepare(Preparation((str(tmp_path / "a.txt"),), tmp_path / "data"))


def test_two_runs_do_not_meet_in_one_folder(texts: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    (tmp_path / "data").mkdir()
    with FileLock(tmp_path / "data" / ".lock"), pytest.raises(UserError, match="another soban data is at work"):
        prepare(Preparation((str(texts),), tmp_path / "data"))


def test_the_size_of_the_vocabulary_is_the_smallest_of_about_the_fewest_bits(fixtures: Path) -> None:
    stories = (fixtures / "text" / "tinystories_sample.txt").read_text(encoding="utf-8")[:300_000]
    size, tried = vocabulary.choose_size(stories.split("<|endoftext|>"), "llama")
    bits = {one.entries: one.bits_per_byte for one in tried}
    assert 512 in bits and len(bits) > 1 and size in bits
    enough = min(bits.values()) * (1 + vocabulary.GOOD_ENOUGH)
    assert bits[size] <= enough and all(bits[other] > enough for other in bits if other < size)


@pytest.mark.parametrize("texts", [["one text"], ["the", "the the the the"], ["", "the fox and the river"], []])
def test_text_too_little_to_try_sizes_with_gives_the_smallest(texts: list[str]) -> None:
    assert vocabulary.choose_size(texts, "llama") == (512, [])


@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_few_documents_are_prepared_without_a_size(tmp_path: Path, count: int) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(text(number) for number in range(count)), encoding="utf-8")
    assert prepare(Preparation((str(tmp_path / "a.txt"),), tmp_path / "data", validation=0.0)).report["kept"] == count
    assert len(shards.Shards(tmp_path / "data").documents) == count


def test_the_n_gram_estimate_is_witten_bells() -> None:
    import numpy as np

    chance = np.random.default_rng(0)
    seen, new, size = chance.integers(0, 6, 80), chance.integers(0, 8, 30), 8

    def probability(history: tuple[int, ...], token: int) -> float:
        """By the formula, with plain counting over the places that have a whole history before them."""
        lower = probability(history[1:], token) if history else 1 / size
        after = [int(seen[at]) for at in range(2, len(seen)) if tuple(seen[at - len(history) : at].tolist()) == history]
        return (after.count(token) + len(set(after)) * lower) / (len(after) + len(set(after))) if after else lower

    chances = vocabulary.probabilities(seen, new, size)
    expected = [probability(tuple(new[at - 2 : at].tolist()), int(new[at])) for at in range(2, len(new))]
    assert chances == pytest.approx(expected)
    sums = [sum(probability((a, b), token) for token in range(size)) for a in range(3) for b in range(3)]
    assert sums == pytest.approx([1] * 9)
