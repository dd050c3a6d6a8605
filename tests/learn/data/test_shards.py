"""Shards hold the documents that were written, and batches lay them out without losing or mixing any."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.learn.data import packing, shards

BOS, EOS = 1, 2


def documents(count: int, most: int = 30, seed: int = 0) -> list[list[int]]:
    chance = np.random.default_rng(seed)
    return [[BOS, *chance.integers(3, 500, chance.integers(1, most)).tolist(), EOS] for _ in range(count)]


def folder(tmp_path: Path, texts: list[list[int]], entries: int = 500, shard_tokens: int = 200) -> Path:
    files = shards.write_shards(tmp_path, "train", (np.array(ids) for ids in texts), entries, shard_tokens)
    manifest = {
        "format": shards.FORMAT,
        "data_hash": "x",
        "tokenizer": {"entries": entries, "bos_token_id": BOS, "eos_token_id": EOS},
        "splits": {
            "train": {
                "bytes": 1000,
                "documents": len(texts),
                "tokens": sum(map(len, texts)),
                "shards": shards.shard_json(files),
            },
        },
    }
    shards.write_json(tmp_path / shards.MANIFEST, manifest)
    return tmp_path


@pytest.mark.parametrize(("entries", "dtype"), [(500, np.uint16), (1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)])
def test_documents_come_back_from_several_shards(tmp_path: Path, entries: int, dtype: type) -> None:
    texts = documents(100)
    opened = shards.Shards(folder(tmp_path, texts, entries))
    assert len(opened.manifest["splits"]["train"]["shards"]) > 3
    assert [ids.tolist() for ids in opened.documents] == texts
    assert opened.documents[57].dtype == dtype and opened.tokens == sum(map(len, texts))
    with pytest.raises(IndexError):
        opened.documents[100]


def test_the_files_are_plain_numpy_arrays(tmp_path: Path) -> None:
    texts = documents(20)
    folder(tmp_path, texts, shard_tokens=10_000)
    tokens, starts = np.load(tmp_path / "train/00000.npy"), np.load(tmp_path / "train/00000.starts.npy")
    assert tokens.tolist() == list(itertools.chain(*texts))
    assert starts.tolist() == list(itertools.accumulate(map(len, texts), initial=0))


def test_a_folder_that_is_not_finished_or_was_changed_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, documents(100))
    with pytest.raises(UserError, match=r"it has no test split.*train"):
        shards.Shards(tmp_path, "test")
    np.save(tmp_path / "train/00001.npy", np.zeros(7, np.uint16))
    with pytest.raises(UserError, match=r"00001\.npy: not as the manifest has it"):
        shards.Shards(tmp_path)
    (tmp_path / "train/00001.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"00001\.npy"):
        shards.Shards(tmp_path)
    (tmp_path / shards.MANIFEST).write_text(json.dumps({"format": "other"}), encoding="utf-8")
    with pytest.raises(UserError, match=r"its format is 'other'"):
        shards.Shards(tmp_path)
    (tmp_path / shards.MANIFEST).unlink()
    with pytest.raises(UserError, match="no prepared data"):
        shards.Shards(tmp_path)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> shards.Documents:
    return shards.Shards(folder(tmp_path_factory.mktemp("shards"), documents(60))).documents


def test_an_epoch_has_every_token_once(opened: shards.Documents) -> None:
    rows = packing.rows_in(int(opened.lengths.sum()), 16)
    seen = [batch.inputs for batch in itertools.islice(packing.batches(opened, 1, 16, seed=4), rows)]
    order = np.random.default_rng((4, 0)).permutation(len(opened))
    line = np.concatenate([opened[int(number)] for number in order])
    assert np.concatenate(seen).ravel().tolist() == line[: rows * 16].tolist()


def test_no_target_is_of_another_document_and_starts_part_them(opened: shards.Documents) -> None:
    for batch in itertools.islice(packing.batches(opened, 3, 16, seed=1), 40):
        flat, targets = batch.inputs.ravel(), batch.targets.ravel()
        # a document begins where BOS stands, a row where it is cut: both told by plain Python
        expected = [at for at, token in enumerate(flat) if token == BOS or at % 16 == 0]
        assert batch.starts.tolist() == expected
        for at, (token, target) in enumerate(zip(flat, targets, strict=True)):
            if token == EOS:
                assert target == packing.IGNORED
            elif (at + 1) % 16:
                assert target == flat[at + 1]
            else:
                assert target > EOS or target == EOS
        position, document = [], []
        for at in range(len(flat)):
            new = at in set(expected)
            position.append(0 if new else position[-1] + 1)
            document.append((document[-1] if document else -1) + new)
        assert batch.positions().ravel().tolist() == position
        assert batch.documents().ravel().tolist() == document


def test_batches_are_the_same_from_any_step_on_and_each_process_has_its_own(opened: shards.Documents) -> None:
    whole = list(itertools.islice(packing.batches(opened, 4, 16, seed=9), 50))  # several epochs
    later = next(packing.batches(opened, 4, 16, seed=9, step=49))
    assert (later.inputs == whole[49].inputs).all() and (later.targets == whole[49].targets).all()
    ranks = [packing.batches(opened, 2, 16, seed=9, rank=rank, ranks=2) for rank in range(2)]
    for batch in whole[:30]:
        assert (np.concatenate([next(one).inputs for one in ranks]) == batch.inputs).all()
    other = next(packing.batches(opened, 4, 16, seed=10))
    assert (other.inputs != whole[0].inputs).any()


def test_measuring_sees_every_token_once_in_order(opened: shards.Documents) -> None:
    batches = list(packing.once(opened, 3, 16))
    targets = np.concatenate([batch.targets.ravel() for batch in batches])
    expected = [token for ids in opened for token in ids[1:].tolist()]  # all but what follows from nothing
    assert targets[targets != packing.IGNORED].tolist() == expected


def test_a_sample_is_from_all_over_and_always_the_same(opened: shards.Documents) -> None:
    tokens = int(opened.lengths.sum())
    for most in (1, tokens // 3, tokens // 2):
        numbers = opened.sample(most)
        assert most <= opened.lengths[numbers].sum() < most + opened.lengths.max()
        assert (np.diff(numbers) > 0).all() and (numbers == opened.sample(most)).all()
        batches = packing.once(opened, 3, 16, numbers)
        assert (
            sum(int((batch.targets != packing.IGNORED).sum()) for batch in batches)
            == (opened.lengths[numbers] - 1).sum()
        )
    assert numbers.min() < len(opened) / 3 < 2 * len(opened) / 3 < numbers.max()
    assert opened.sample(10 * tokens).tolist() == list(range(len(opened)))


def test_too_little_text_for_a_row_is_told(opened: shards.Documents) -> None:
    with pytest.raises(UserError, match="make no row of 100000"):
        next(packing.batches(opened, 1, 100_000))


ODD: list[Any] = [
    None, True, 0, -1, 1, 2**31, 2**63, 2**70, -(2**70), 1.5, 1e308, float("nan"), "", "x", "../x.npy",
    "train/../00000.npy", "train/00001.npy", "\ud800", "0" * 64, [], [1], [[]], {}, {"a": 1}, [{}], [None],
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each value of a JSON document stands."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, content in inner:
        yield from places(content, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The document with another value there; None of `Ellipsis` takes it away."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and new is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def opened_alike(folder: Path, texts: list[list[int]]) -> bool:
    """Whether the folder is refused by a UserError, or has the very documents; anything else is raised."""
    try:
        opened = shards.Shards(folder)
        return [ids.tolist() for ids in opened.documents] == texts
    except UserError as error:
        assert "\n" not in str(error)
        return True


def test_every_field_of_a_manifest_is_checked(tmp_path: Path) -> None:
    texts = documents(60)
    folder(tmp_path, texts)
    path = tmp_path / shards.MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for place in places(manifest):
        for new in (*ODD, ...):
            if place or new is not ...:
                path.write_text(json.dumps(changed(manifest, place, new)), encoding="utf-8")
                assert opened_alike(tmp_path, texts), (place, new)
    for text in ("", "[]", "{", "nul", "[" * 100_000, '{"format": "soban-data 1", "format": "x"}'):
        path.write_text(text, encoding="utf-8")
        assert opened_alike(tmp_path, texts), text[:20]


@pytest.mark.slow
def test_a_damaged_shard_is_refused_or_found_by_its_hash(tmp_path: Path) -> None:
    texts = documents(60)
    folder(tmp_path, texts)
    shards.check_hashes(tmp_path)
    files = sorted((tmp_path / "train").iterdir())
    for seed in range(1500):
        chance = random.Random(seed)
        path = chance.choice(files)
        before = path.read_bytes()
        data = bytearray(before)
        match chance.randrange(5):
            case 0:  # in the header, which is text
                at = chance.randrange(128)
                data[at] = chance.choice([chance.randrange(256), ord(chance.choice("(),{}'0123456789[]: -<>"))])
            case 1:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            case 2:
                del data[chance.randrange(len(data)) :]
            case 3:
                data += chance.randbytes(chance.randint(1, 9))
            case _:
                at = chance.randrange(len(data))
                data[at:at] = chance.randbytes(chance.randint(1, 9))
        path.write_bytes(data)
        try:
            shards.Shards(tmp_path)
        except UserError as error:
            assert "\n" not in str(error), seed
        if data != before:
            with pytest.raises(UserError, match=r"not as the manifest has it"):
                shards.check_hashes(tmp_path)
        path.write_bytes(before)
    assert opened_alike(tmp_path, texts)
