"""Training text: files or the built-in stories to documents, documents to tokens, tokens to batches."""

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from soban.errors import UserError
from soban.learn.stories import stories
from soban.text.encodings import decode
from soban.weights.files import reason

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = NDArray[np.int32]  # token ids

SEPARATOR = re.compile(r"<\|endoftext\|>|\n[ \t]*\n")
WINDOW = 64  # batches that are formed together, so that each holds documents of about one length
# Rows are padded to a multiple of this, and one more. torch builds and keeps a program for every shape of matrices that
# it meets: with lengths as they come, that took eight gigabytes in half an hour.
LENGTHS = 8
ENCODED_AT_ONCE = 2048  # documents; the library's own objects take a hundred times the memory of the ids


@dataclass(frozen=True)
class Corpus:
    """Documents as one run of token ids; document i is tokens[starts[i] : starts[i + 1]]."""

    tokens: Ids
    starts: NDArray[np.int64]

    def document(self, index: int) -> Ids:
        """The ids of one document, from its BOS to its EOS."""
        return self.tokens[self.starts[index] : self.starts[index + 1]]

    def __len__(self) -> int:
        return len(self.starts) - 1


def built_in(seed: int, count: int) -> list[str]:
    """`count` stories that the generator writes, half English and half Korean, in turns."""
    pairs = zip(stories(seed, "en"), stories(seed, "ko"), strict=False)
    return [story for pair in islice(pairs, (count + 1) // 2) for story in pair][:count]


def read_documents(paths: Sequence[str]) -> list[str]:
    """The documents of text files (parted by blank lines or <|endoftext|>) and the `text` fields of .jsonl files."""
    return [document for path in paths for document in read_file(Path(path))]


def read_file(path: Path) -> list[str]:
    """The documents of one file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            "{path}: cannot be read ({reason})",
            path=path,
            reason=reason(error),
            hint="check that the file is there and that you may read it",
        ) from error
    text = decode(data, path)
    documents = json_texts(text, path) if path.suffix == ".jsonl" else SEPARATOR.split(text)
    documents = [document.strip() for document in documents if document.strip()]
    if not documents:
        raise UserError("{path}: there is no text in it", path=path, hint="name a file with text")
    return documents


def json_texts(text: str, path: Path) -> list[str]:
    """The `text` field of every line."""
    documents = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)["text"]
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                '{path}: line {number} is not {{"text": "..."}}',
                path=path,
                number=number,
                hint="correct or delete the line",
            ) from error
        if not isinstance(document, str):
            raise UserError(
                "{path}: line {number}: `text` is not a string",
                path=path,
                number=number,
                hint="correct or delete the line",
            )
        documents.append(document)
    return documents


def encode(tokenizer: "Tokenizer", documents: Iterable[str], context: int, eos: int) -> Corpus:
    """Every document as `<bos>` text `<eos>`; one longer than the context in pieces that each begin with `<bos>`."""
    pieces: list[Ids] = []
    rest = iter(documents)
    while some := list(islice(rest, ENCODED_AT_ONCE)):
        for encoding in tokenizer.encode_batch_fast(some):
            bos, *ids = encoding.ids
            ids.append(eos)
            pieces += [np.array([bos, *ids[i : i + context]], np.int32) for i in range(0, len(ids), context)]
    starts = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
    return Corpus(np.concatenate(pieces), starts)


def batches(corpus: Corpus, seed: int, size: int, pad: int) -> Iterator[Ids]:
    """Batches (rows, length) without end, about `size` tokens each, padded at the right; a seed decides their order.

    Documents of like length share a batch, so that little is padding and no document sees another.
    """
    lengths = np.diff(corpus.starts)
    epoch = 0
    while True:
        chance = np.random.default_rng((seed, epoch))
        order = chance.permutation(len(corpus))
        in_window = max(1, round(WINDOW * size / lengths.mean()))
        for first in range(0, len(order), in_window):
            window = order[first : first + in_window]
            groups = group(window[np.argsort(lengths[window], kind="stable")], lengths, size)
            for index in chance.permutation(len(groups)):
                yield padded(corpus, groups[index], pad)
        epoch += 1


def group(indices: NDArray[np.int64], lengths: NDArray[np.int64], size: int) -> list[list[int]]:
    """Documents, sorted by length, in groups that take at most `size` tokens each once padded (or one document)."""
    groups: list[list[int]] = [[]]
    for index in indices.tolist():
        if groups[-1] and (len(groups[-1]) + 1) * padded_length(lengths[index]) > size:
            groups.append([])
        groups[-1].append(index)
    return groups


def padded_length(length: int) -> int:
    """The length of a row for a document: all but the last token are read, so that many are a multiple of LENGTHS."""
    return -(-(length - 1) // LENGTHS) * LENGTHS + 1


def padded(corpus: Corpus, indices: Sequence[int], pad: int) -> Ids:
    """Some documents as one array."""
    rows = [corpus.document(index) for index in indices]
    array = np.full((len(rows), padded_length(max(map(len, rows)))), pad, np.int32)
    for row, ids in zip(array, rows, strict=True):
        row[: len(ids)] = ids
    return array


def held_out(documents: list[str], seed: int, share: float, most: int) -> tuple[list[str], list[str]]:
    """The documents to learn from and a few that are kept for measuring."""
    shuffled = random.Random(seed).sample(documents, len(documents))
    count = min(most, max(1, round(share * len(shuffled))))
    return shuffled[count:], shuffled[:count]
