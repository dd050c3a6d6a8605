"""SentencePiece's Unigram: the best-scored segmentation of a text (src/unigram_model.cc, EncodeOptimized)."""

import math
from array import array
from collections.abc import Callable, Container

from soban.text.tokenizers.spm_file import PieceType, SentencePieceFile

SMALLEST_FLOAT = 2.0**-126  # where sentencepiece begins to look for the highest score
KEY = 3  # characters by which longer pieces are found
SHORT = (1, 2, 3)


def unigram(
    model: SentencePieceFile, left_out: Container[int], unknown: Callable[[str], list[int]]
) -> Callable[[str], list[int]]:
    """The segmentation of a whole text, without the pieces `left_out`; `unknown` has the ids of what no piece spells.

    Scores are added in float32 from the text's beginning, as there: where a text is long their rounding decides between
    segmentations, so no part of it can be taken by itself.
    """
    scores = _scores(model, left_out)
    longer: dict[str, set[int]] = {}
    for piece in scores:
        if len(piece) > KEY:
            longer.setdefault(piece[:KEY], set()).add(len(piece))
    # of the pieces to look for, by the characters with which they begin
    lengths = {key: (*SHORT, *sorted(sizes)) for key, sizes in longer.items()}
    normal = [piece.score for piece in model.pieces if piece.type is PieceType.NORMAL]
    unknown_score = array("f", [min(normal, default=0.0) - 10])[0]

    def encode(text: str) -> list[int]:
        size = len(text)
        best = array("f", [-math.inf]) * (size + 1)  # of the best path to each place; stores round to float32
        starts, pieces = array("l", [0]) * (size + 1), array("l", [0]) * (size + 1)  # of its last piece
        best[0] = 0.0
        rounded = array("f", [0.0])
        for start in range(size):
            here = best[start]
            for length in lengths.get(text[start : start + KEY], SHORT):
                end = start + length
                if end > size:
                    break
                entry = scores.get(text[start:end])
                if entry is not None:
                    score, index = here + entry[0], entry[1]
                elif length == 1:
                    rounded[0] = here + unknown_score  # a float there, while the other sums are doubles
                    score, index = rounded[0], -1
                else:
                    continue
                if score > best[end]:
                    best[end], starts[end], pieces[end] = score, start, index
        parts = []
        end = size
        while end:
            start, index = starts[end], pieces[end]
            parts.append(unknown(text[start:end]) if index < 0 else [index])
            end = start
        return [index for part in reversed(parts) for index in part]

    return encode


def _scores(model: SentencePieceFile, left_out: Container[int]) -> dict[str, tuple[float, int]]:
    """The score and id of each piece that text can have."""
    highest = max([SMALLEST_FLOAT, *(piece.score for piece in model.pieces if piece.type is PieceType.NORMAL)])
    scores: dict[str, tuple[float, int]] = {}
    for index, piece in enumerate(model.pieces):
        if piece.type is PieceType.NORMAL:
            scores[piece.text] = piece.score, index
        elif piece.type is PieceType.USER_DEFINED and index not in left_out:
            scores[piece.text] = len(piece.text.encode()) * highest - 0.1, index  # to win over any pieces together
    return scores
