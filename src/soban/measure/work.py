"""What a token costs a model: bytes that decoding reads, multiply-adds that prefill makes, bits of a weight."""

from dataclasses import dataclass

from soban.loading.loaded import Loaded
from soban.ops.formats import PANEL, Matrix


@dataclass(frozen=True)
class Work:
    """Of one token: what the linear layers of the body and the output head hold, and bytes of cache by position."""

    body_weights: int  # of a linear layer each is one multiply-add for a token
    body_bytes: int
    head_weights: int
    head_bytes: int
    cache_bytes: int  # that a position takes, keys and values of all layers

    @property
    def body_bits(self) -> float:
        return 8 * self.body_bytes / max(1, self.body_weights)

    @property
    def head_bits(self) -> float:
        return 8 * self.head_bytes / max(1, self.head_weights)

    def bytes_per_token(self, context: int) -> int:
        """What decoding a token reads: every weight once, and the keys and values of the context."""
        return self.body_bytes + self.head_bytes + context * self.cache_bytes

    def multiply_adds(self, tokens: int) -> int:
        """What a prompt takes, with the logits of its last token; attention is left out."""
        return tokens * self.body_weights + self.head_weights


def work_of(loaded: Loaded, cache_bytes: int) -> Work:
    """Counted in the model's recorded program, so that whatever is computed is counted."""
    sums = {"tokens": [0, 0], "outputs": [0, 0]}
    for step in loaded.architecture.record(loaded.weights).steps:
        if step.op == "linear":
            matrix = step.arguments["w"]
            assert isinstance(matrix, Matrix)
            sums[step.out.rows][0] += sum(part.rows * part.columns for part in matrix.parts)
            sums[step.out.rows][1] += sum(part.data.nbytes for part in matrix.parts)
        elif step.op == "refine":
            (part,) = step.arguments["residual"].parts
            panels = -(-part.rows // PANEL)
            sums[step.out.rows][1] += part.data.nbytes * step.arguments["panels"] // panels
    (body_weights, body_bytes), (head_weights, head_bytes) = sums["tokens"], sums["outputs"]
    return Work(body_weights, body_bytes, head_weights, head_bytes, cache_bytes)
