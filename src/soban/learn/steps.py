"""One training: what it starts from, its steps, and how well it does on text held out."""

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from soban import needs, system
from soban.errors import UserError
from soban.learn import corpus, gemma2, optimise
from soban.learn.saving import Progress
from soban.learn.tokenizer import save_tokenizer, special_ids, train_tokenizer

if TYPE_CHECKING:
    from soban.learn.train import TrainOptions

WARM_UP = 0.02  # share of the budget over which the learning rate rises
DECAY = 0.6  # share of the budget, at its end, over which it falls to zero
HELD_OUT_SHARE, HELD_OUT_MOST = 0.01, 400
TOKENIZER_DOCUMENTS = 40_000  # more teach the tokenizer nothing new


@dataclass(frozen=True)
class Training:
    """All that a step needs; the tensors change in place."""

    options: "TrainOptions"
    config: gemma2.Config
    tokenizer: Tokenizer
    ids: dict[str, int]  # pad_token_id, eos_token_id, bos_token_id
    data: corpus.Corpus
    test: corpus.Corpus
    test_bytes: int
    weights: dict[str, Tensor]
    state: dict[str, Tensor]
    threads: int
    workers: ThreadPoolExecutor

    @property
    def pad(self) -> int:
        """The id that fills rows up."""
        return self.ids["pad_token_id"]


@dataclass(frozen=True)
class Step:
    """What one step came to."""

    progress: Progress
    loss: float


def prepare(options: "TrainOptions", documents: list[str]) -> Training:
    """Tokenizer and fresh weights for the text, decided by the options alone; the tokenizer is saved."""
    torch.set_float32_matmul_precision("medium" if options.products == "fast" else "highest")
    torch.set_num_threads(1)  # `learn` has its own
    learning, measuring = corpus.held_out(documents, options.seed, HELD_OUT_SHARE, HELD_OUT_MOST)
    tokenizer = saved_tokenizer(options) if options.resume else new_tokenizer(options, learning)
    ids = special_ids(tokenizer)
    config = network(options, tokenizer.get_vocab_size())
    weights = gemma2.initial(config, options.seed)
    return Training(
        options=options,
        config=config,
        tokenizer=tokenizer,
        ids=ids,
        data=corpus.encode(tokenizer, learning, options.context, ids["eos_token_id"]),
        test=corpus.encode(tokenizer, measuring, options.context, ids["eos_token_id"]),
        test_bytes=sum(len(document.encode()) for document in measuring),
        weights=weights,
        state=optimise.initial_state(weights),
        threads=system.threads(),
        # Kept for all steps: the C library keeps a heap for each thread that ever was
        workers=ThreadPoolExecutor(system.threads()),
    )


def new_tokenizer(options: "TrainOptions", documents: list[str]) -> Tokenizer:
    """A tokenizer learnt from the text, and saved at once: a continuation must have the same."""
    tokenizer = train_tokenizer(documents[:TOKENIZER_DOCUMENTS], options.vocab_size)
    save_tokenizer(tokenizer, Path(options.out), options.context)
    return tokenizer


def saved_tokenizer(options: "TrainOptions") -> Tokenizer:
    """The tokenizer of the training that is continued."""
    path = Path(options.out) / "tokenizer.json"
    if not path.is_file():
        raise UserError(
            "{path}: not there, so the training cannot go on", path=path, hint="start again without --resume"
        )
    return Tokenizer.from_file(str(path))


def network(options: "TrainOptions", vocab_size: int) -> gemma2.Config:
    """The shape of the network that the options ask for."""
    return gemma2.Config(
        vocab_size=vocab_size,
        hidden_size=options.hidden_size,
        intermediate_size=options.intermediate_size,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.key_value_heads,
        head_dim=options.head_dim,
        max_position_embeddings=options.context,
        sliding_window=options.window,
        query_pre_attn_scalar=options.head_dim,
    )


def steps(training: Training, progress: Progress) -> Iterator[Step]:
    """Take steps from `progress` on until the budget is spent; weights and state change with each."""
    options = training.options
    started = time.monotonic() - progress.seconds
    batches = corpus.batches(training.data, options.seed, options.batch_size, training.pad)
    for batch in islice(batches, progress.step, None):
        share = spent(options, progress)
        if share >= 1:
            return
        loss = learn(training, batch)
        if not math.isfinite(loss):
            raise UserError(
                "the loss became {loss} at step {step}",
                loss=loss,
                step=progress.step + 1,
                hint="lower --learning-rate",
            )
        optimise.update(training.weights, training.state, progress.step + 1, options.learning_rate * schedule(share))
        tokens = progress.tokens + int((batch != training.pad).sum())
        progress = Progress(progress.step + 1, time.monotonic() - started, tokens)
        yield Step(progress, loss)


def spent(options: "TrainOptions", progress: Progress) -> float:
    """The share of the budget that is used up."""
    return progress.seconds / (60 * options.minutes) if options.steps is None else progress.step / options.steps


def schedule(share: float) -> float:
    """The learning rate as a share of its highest: up, level, then straight down to zero."""
    return min(1.0, (share + WARM_UP / 20) / WARM_UP, (1 - share) / DECAY)


def learn(training: Training, batch: corpus.Ids) -> float:
    """Put the gradients of a batch's mean loss into the weights; the loss, in nats a token.

    Each thread takes some rows from start to end, so they meet once a step. Threads inside each torch operation would
    meet thousands of times, and burn both cores in waiting whenever another program wants one.
    """
    weights = list(training.weights.values())
    parts = np.array_split(batch, min(training.threads, len(batch)))
    counts = [int((part[:, 1:] != training.pad).sum()) for part in parts]

    def gradients(part: corpus.Ids) -> tuple[float, tuple[Tensor, ...]]:
        loss = loss_sum(training, part)
        return loss.item(), torch.autograd.grad(loss, weights)

    results = list(training.workers.map(gradients, parts))
    for weight, *shares in zip(weights, *(shares for _, shares in results), strict=True):
        weight.grad = torch.stack(shares).sum(0) / sum(counts)
    return sum(loss for loss, _ in results) / sum(counts)


def loss_sum(training: Training, rows: corpus.Ids) -> Tensor:
    """Cross-entropy in nats, summed over all next tokens of rows (rows, length) that are not padding."""
    tokens = torch.from_numpy(rows).long()
    states = gemma2.hidden_states(training.config, training.weights, tokens[:, :-1])
    logits = gemma2.logits(training.config, training.weights, states.reshape(-1, training.config.hidden_size))
    return functional.cross_entropy(logits, tokens[:, 1:].reshape(-1), ignore_index=training.pad, reduction="sum")


def bits_per_byte(training: Training) -> float:
    """What the text held out costs in bits a byte: unlike a loss a token, comparable between tokenizers."""
    lengths = np.diff(training.test.starts)
    groups = corpus.group(np.argsort(lengths, kind="stable"), lengths, training.options.batch_size)
    rows = (corpus.padded(training.test, indices, training.pad) for indices in groups)
    with torch.no_grad():
        nats = sum(loss_sum(training, row).item() for row in rows)
    return nats / math.log(2) / training.test_bytes


def step_seconds(training: Training) -> float:
    """How long a step takes here: one is rehearsed, after one to warm up, and its gradients are thrown away."""
    batch = next(corpus.batches(training.data, training.options.seed, training.options.batch_size, training.pad))
    for _ in range(2):
        started = time.monotonic()
        learn(training, batch)
        for weight in training.weights.values():
            weight.grad = None
    return time.monotonic() - started


def memory(training: Training) -> int:
    """Bytes that training takes, roughly: weights, gradients, the optimisers' memory and what a step keeps."""
    learnt = 4 * sum(weight.numel() for weight in training.weights.values())
    remembered = 4 * sum(tensor.numel() for tensor in training.state.values())
    kept = needs.activation_floats(training.config, int(np.diff(training.test.starts).max()))
    return needs.TORCH + 2 * learnt + remembered + 4 * training.options.batch_size * kept + training.data.tokens.nbytes
