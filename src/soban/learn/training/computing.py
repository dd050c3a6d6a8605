"""Where gradients are computed: a thread for each share of a batch, a GPU, or several processes."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from soban.base.errors import UserError
from soban.learn.data.packing import IGNORED, Batch
from soban.learn.training import network
from soban.learn.training.settings import AT_ONCE

Loss = Callable[[Any, Tensor, Tensor, Tensor], Tensor]  # of a model, inputs, documents, targets: nats, summed


@dataclass(frozen=True)
class Piece:
    """Rows that are computed together, as tensors (rows, length)."""

    inputs: Tensor
    documents: Tensor
    targets: Tensor


def pieces(batches: Sequence[Batch], parts: int, at_once: int = AT_ONCE) -> list[list[Piece]]:
    """The rows of all batches in so many parts of about equal numbers, each in pieces of at most `at_once` tokens."""
    fields = zip(*((batch.inputs, batch.documents(), batch.targets) for batch in batches), strict=True)
    arrays = [np.concatenate(some) for some in fields]
    count, length = arrays[0].shape
    shares = []
    for rows in np.array_split(np.arange(count), min(parts, count)):
        groups = np.array_split(rows, -(-len(rows) * length // max(at_once, length)))
        shares.append([Piece(*(torch.from_numpy(array[group]).long() for array in arrays)) for group in groups])
    return shares


class Computer:
    """Computes the gradients of the weights that learn: `weights` are float32, and changed by whoever learns from them;
    the `frozen` ones stay as they are.

    On a CPU each thread takes some rows from start to end, so that threads meet once a step. Threads inside each torch
    operation would meet thousands of times, and burn all cores in waiting whenever another program wants one.
    """

    def __init__(
        self, model: Any, *, dtype: torch.dtype, device: str, parts: int,
        learns: Callable[[str], bool] = lambda name: True, loss: Loss = network.loss, at_once: int = AT_ONCE,
    ) -> None:  # fmt: skip
        """`model`: a transformers model, which is computed with in `dtype`. `learns`: which of its weights do, by name.
        `loss`: of it and some rows; `at_once`: tokens that a thread computes at a time."""
        self.group = Group(device)  # first: it tells each process its GPU
        self.weights: dict[str, Tensor] = {
            name: weight.detach().to(device, torch.float32, copy=True)
            for name, weight in model.named_parameters()
            if learns(name)
        }
        self.frozen = {name: weight.detach() for name, weight in model.named_parameters() if not learns(name)}
        for name, weight in model.named_parameters():
            weight.requires_grad_(learns(name))
        self.model = model.to(device=device, dtype=dtype)
        self.copies = {name: weight for name, weight in self.model.named_parameters() if name in self.weights}
        self.device = device
        self.parts, self.at_once, self._loss = parts, at_once, loss
        self._threads = torch.get_num_threads()
        if device == "cpu":
            torch.set_num_threads(1)
        # Kept for all steps: the C library keeps a heap for each thread that ever was
        self.workers = ThreadPoolExecutor(self.parts)

    def close(self) -> None:
        """Lets its threads go, and gives torch its own back."""
        self.workers.shutdown(wait=False, cancel_futures=True)
        torch.set_num_threads(self._threads)

    def gradients(
        self, batches: Sequence[Batch], stop: Callable[[], bool] = lambda: False
    ) -> tuple[dict[str, Tensor], float, int, bool]:
        """The gradients of the mean loss over all batches (of all processes), that loss in nats a token, the tokens
        learnt from, and whether any process wants to stop."""
        (total, loss), *others = self.workers.map(self._share, pieces(batches, self.parts, self.at_once))
        for gradients, more in others:
            loss += more
            for name, gradient in gradients.items():
                total[name] += gradient
        count = sum(int((batch.targets != IGNORED).sum()) for batch in batches)
        loss, whole, stops = self.group.sums(total, [loss, float(count), float(stop())])
        for gradient in total.values():
            gradient /= whole
        return total, loss / whole, int(whole), stops > 0

    def _share(self, share: Sequence[Piece]) -> tuple[dict[str, Tensor], float]:
        """The summed gradients of some pieces, in float32, and their summed loss."""
        total: dict[str, Tensor] = {}
        nats = 0.0
        for piece in share:
            loss = self.loss(piece)
            gradients = torch.autograd.grad(loss, list(self.copies.values()))
            nats += loss.item()
            for name, gradient in zip(self.copies, gradients, strict=True):
                if name in total:
                    total[name] += gradient
                else:
                    total[name] = gradient.float()
        return total, nats

    def loss(self, piece: Piece) -> Tensor:
        """The summed loss of a piece, in nats."""
        inputs, documents, targets = (x.to(self.device) for x in (piece.inputs, piece.documents, piece.targets))
        return self._loss(self.model, inputs, documents, targets)

    def measure(self, batches: Iterable[Batch]) -> tuple[float, int]:
        """The summed loss of batches in nats, and over how many tokens."""

        def share(some: Sequence[Piece]) -> float:
            with torch.no_grad():
                return sum(self.loss(piece).item() for piece in some)

        nats, count = 0.0, 0
        for batch in batches:
            nats += sum(self.workers.map(share, pieces([batch], self.parts, self.at_once)))
            count += int((batch.targets != IGNORED).sum())
        return nats, count

    @torch.no_grad()
    def refresh(self) -> None:
        """Brings the copy that is computed with up to the weights."""
        for name, copy in self.copies.items():
            copy.copy_(self.weights[name])


class Group:
    """The processes of `accelerate launch` or torchrun; alone where there are none."""

    def __init__(self, device: str) -> None:
        self.rank, self.size = 0, int(os.environ.get("WORLD_SIZE", "1"))
        if self.size > 1:
            from accelerate import PartialState

            state = PartialState(cpu=device == "cpu")
            self.rank, self.size = state.process_index, state.num_processes

    def sums(self, gradients: dict[str, Tensor], numbers: list[float]) -> list[float]:
        """Sums over all processes: of the gradients in place, and of some numbers."""
        if self.size == 1:
            return numbers
        from accelerate.utils import reduce

        flat = torch.cat([gradient.reshape(-1) for gradient in gradients.values()])
        totals = torch.tensor(numbers, dtype=torch.float64, device=flat.device)
        try:
            flat, totals = reduce(flat, "sum"), reduce(totals, "sum")
        except RuntimeError as error:  # torch's for a connection that broke, and for one that is silent for too long
            raise UserError(
                "another process of this training has ended ({reason})", reason=str(error).strip()[-200:],
                hint="see what that one says; --resume goes on from the last checkpoint",
            ) from error  # fmt: skip
        for gradient, part in zip(gradients.values(), flat.split([g.numel() for g in gradients.values()]), strict=True):
            gradient.copy_(part.view_as(gradient))
        return [float(number) for number in totals]
