"""llama2.c's tokenizer.bin and run.c's encoding: a dummy space, UTF-8 characters or bytes, greedy merging."""

import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from soban.base.errors import UserError
from soban.text.stream.decode import BYTE_PIECE, ByteStream, run
from soban.text.tokenizers.markup import Span, checked, framed
from soban.text.tokenizers.merge import WordCache, crosses_words, merge
from soban.text.tokenizers.settings import read_bytes

BOS, EOS = 1, 2
FIRST_BYTE = 3  # the ids of the 256 bytes follow <unk>, BOS and EOS
FLOOR = -1e10  # run.c merges only into pieces scored above this
MAX_PIECE = 1 << 16


class Llama2cTokenizer:
    """A `Tokenizer` over the pieces of a tokenizer.bin; no text is ever taken for BOS or EOS."""

    bos_id: int | None = BOS
    eos_ids: tuple[int, ...] = (EOS,)
    special_tokens: Mapping[str, str] = {}

    def __init__(self, pieces: list[bytes], scores: list[float]) -> None:
        self.vocab_size = len(pieces)
        self._pieces = pieces
        self._ids = {piece: index for index, piece in reversed(list(enumerate(pieces)))}
        self._scores = {piece: scores[index] for piece, index in self._ids.items() if scores[index] > FLOOR}
        whole = any(crosses_words(piece, b" ") for piece in self._scores)
        self._words = WordCache(self._encode_word, b" ", whole)

    def encode(self, text: str, *, bos: bool | None = None, special: bool = False) -> list[int]:
        """The ids of `text`; see `Tokenizer`. `special` changes nothing."""
        data = checked(text).encode()
        ids = self._words.encode(b" " + data) if data else []
        return framed(ids, bos, BOS, [BOS], [])

    def find_markup(self, text: str) -> list[Span]:
        """Nothing: llama2.c has no tokens that are written in text."""
        return []

    def encode_rendered(self, text: str, hidden: Mapping[str, str]) -> list[int]:
        """The ids of a text without BOS."""
        return self.encode(text, bos=False)

    def mergeable(self) -> list[str]:
        """The pieces that merging may lead to, and single characters, as text."""
        return [text for piece in self._scores if (text := piece.decode(errors="ignore")).encode() == piece]

    def _encode_word(self, word: bytes) -> list[int]:
        ids: list[int] = []
        for character in word.decode():
            data = character.encode()
            index = self._ids.get(data)
            ids += [byte + FIRST_BYTE for byte in data] if index is None else [index]
        merged = merge([self._pieces[index] for index in ids], self._scores)
        # an unmerged symbol keeps its id, for several ids may be spelled alike
        return [ids[n] if piece == self._pieces[ids[n]] else self._ids[piece] for n, piece in merged]

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds to the text; b"" for BOS, EOS and ids that are none."""
        return b"" if token_id in (BOS, EOS) else self._bytes_of(token_id)

    def _bytes_of(self, token_id: int) -> bytes:
        if not 0 <= token_id < len(self._pieces):
            return b""
        piece = self._pieces[token_id]
        if len(piece) == 6 and (byte := BYTE_PIECE.fullmatch(piece.decode("latin-1"))):
            return bytes([int(byte[1], 16)])
        return piece

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`; as in run.c, a space right after BOS is dropped."""
        return run(ByteStream(self.token_bytes if skip_special else self._bytes_of, lead=1, restart=BOS), ids)

    def stream(self, after: Sequence[int] = ()) -> ByteStream:
        """A decoder for what follows the tokens `after`."""
        stream = ByteStream(self.token_bytes, lead=1, restart=BOS)
        for token_id in after:
            stream.feed(token_id)
        return stream


def load_llama2c_tokenizer(path: Path, vocab_size: int) -> Llama2cTokenizer:
    """The tokenizer.bin at `path`; UserError unless it holds exactly the `vocab_size` pieces of the model."""
    return Llama2cTokenizer(*read_pieces(path, vocab_size))


def read_pieces(path: Path, vocab_size: int) -> tuple[list[bytes], list[float]]:
    """The pieces and scores of a tokenizer.bin, in the order of their ids; errors as above."""
    if not path.is_file():
        raise UserError("{path}: there is no such tokenizer", path=path, hint="name the model's tokenizer.bin with -z")
    data = read_bytes(path)
    if vocab_size < FIRST_BYTE + 256:
        raise UserError(
            "{path}: a vocabulary of {size} tokens has no room for the {least} that llama2.c needs",
            path=path, size=vocab_size, least=FIRST_BYTE + 256,
            hint="name the tokenizer.bin that was made for this model",
        )  # fmt: skip
    pieces: list[bytes] = []
    scores: list[float] = []
    position = 4  # after max_token_length, which only run.c's buffers need
    while position < len(data) and len(pieces) < vocab_size:
        if len(data) - position < 8:
            break
        score, length = struct.unpack_from("<fi", data, position)
        position += 8
        if not 0 <= length <= min(MAX_PIECE, len(data) - position):
            raise UserError(
                "{path}: token {index} promises {length} bytes and {left} are left",
                path=path, index=len(pieces), length=length, left=len(data) - position, hint="fetch it again",
            )  # fmt: skip
        if math.isnan(score):
            raise UserError(
                "{path}: the score of token {index} is not a number",
                path=path,
                index=len(pieces),
                hint="fetch it again",
            )
        scores.append(score)
        pieces.append(data[position : position + length])
        position += length
    if len(pieces) < vocab_size:
        raise UserError(
            "{path}: holds {count} whole tokens; the model's vocabulary has {size}",
            path=path, count=len(pieces), size=vocab_size, hint="name the tokenizer.bin that was made for this model",
        )  # fmt: skip
    if position < len(data):
        raise UserError(
            "{path}: holds more than the {size} tokens of the model's vocabulary",
            path=path,
            size=vocab_size,
            hint="name the tokenizer.bin that was made for this model",
        )
    return pieces, scores
