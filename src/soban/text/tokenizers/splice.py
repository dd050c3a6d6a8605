"""One text, spelled by other tokens: keeping the tokens that a model has already computed."""

from collections.abc import Sequence

from soban.text.tokenizers.tokenizer import Tokenizer


def spliced(tokenizer: Tokenizer, old: Sequence[int], ids: list[int]) -> list[int]:
    """The text of `ids`, its beginning spelled as in `old` as far as both spell the same.

    A model does not always write the tokens that the tokenizer would choose for its words, and what is in the cache is
    found by tokens. Those that steer the model are only ever equal to themselves, whatever text they stand for.
    """
    here, there = _same(tokenizer, old, ids)
    result = [*old[:here], *ids[there:]]
    # decoders that look at a token's neighbours may read the parts otherwise than the whole
    if tokenizer.decode(result, skip_special=False) != tokenizer.decode(ids, skip_special=False):
        return ids
    return result


def _same(tokenizer: Tokenizer, old: Sequence[int], ids: Sequence[int]) -> tuple[int, int]:
    """How many tokens of each spell the longest beginning that both have in common."""
    here = there = 0
    best = (0, 0)
    left, right = b"", b""  # what one of them is ahead of the other
    while True:
        if not left and not right:
            while here < len(old) and there < len(ids) and old[here] == ids[there]:
                here, there = here + 1, there + 1
            best = (here, there)
        if not left:
            if here == len(old) or not (left := _plain_bytes(tokenizer, old[here])):
                return best
            here += 1
        if not right:
            if there == len(ids) or not (right := _plain_bytes(tokenizer, ids[there])):
                return best
            there += 1
        shared = min(len(left), len(right))
        if left[:shared] != right[:shared]:
            return best
        left, right = left[shared:], right[shared:]


def _plain_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """What a token adds to the text; b"" for one that steers the model."""
    data = tokenizer.token_bytes(token)
    spelled = tokenizer.find_markup(data.decode("utf-8", "replace"))
    return b"" if any(span.token_id == token for span in spelled) else data
