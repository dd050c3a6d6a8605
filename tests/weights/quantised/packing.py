"""GPTQ's and AWQ's packing, number by number, as their papers' programs do it."""

import json

import numpy as np
import numpy.typing as npt
import torch

Ints = npt.NDArray[np.int64]
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # which of eight outputs each half byte of a word holds, the lowest first


def packed(numbers: Ints, bits: int) -> Ints:
    """Each row of (rows, count) as words: number i begins at bit i * bits of all words in a row."""
    words = np.zeros((len(numbers), -(-numbers.shape[1] * bits // 32)), np.uint64)
    for i in range(numbers.shape[1]):
        for bit in range(bits):
            place = i * bits + bit
            words[:, place // 32] |= (numbers[:, i].astype(np.uint64) >> np.uint64(bit) & np.uint64(1)) << np.uint64(
                place % 32
            )
    return words.astype(np.uint32).view(np.int32)


def gptq(q: Ints, zeros: Ints, scales: npt.NDArray, order: Ints, bits: int, form: str) -> dict[str, torch.Tensor]:
    """A layer's tensors of numbers (out, in), zeros and scales (out, groups), and each input's group."""
    kept = zeros if form == "gptq_v2" else (zeros - 1) % 2**bits
    tensors = {
        "qweight": packed(q, bits).T, "qzeros": packed(kept.T, bits), "scales": scales.T,
        "g_idx": order.astype(np.int32),
    }  # fmt: skip
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}


def awq(q: Ints, zeros: Ints, scales: npt.NDArray) -> dict[str, torch.Tensor]:
    def turned(numbers: Ints) -> Ints:
        return packed(numbers.reshape(len(numbers), -1, 8)[..., AWQ_ORDER].reshape(len(numbers), -1), 4)

    tensors = {"qweight": turned(q.T), "qzeros": turned(zeros.T), "scales": scales.T}
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}


def rounded(weight: npt.NDArray, bits: int, size: int) -> tuple[Ints, Ints, npt.NDArray]:
    """A matrix to the nearest of so many levels: numbers, zeros and scales of groups."""
    groups = weight.reshape(len(weight), -1, size)
    low, high = groups.min(axis=2), groups.max(axis=2)
    scales = ((high - low) / (2**bits - 1)).astype(np.float16)
    zeros = np.clip(np.rint(-low / scales), 0, 2**bits - 1).astype(np.int64)
    q = np.clip(np.rint(groups / scales[:, :, None]) + zeros[:, :, None], 0, 2**bits - 1).astype(np.int64)
    return q.reshape(weight.shape), zeros, scales


def restored(q: Ints, zeros: Ints, scales: npt.NDArray) -> npt.NDArray[np.float32]:
    """The matrix that is computed with."""
    each = q.shape[1] // zeros.shape[1]
    numbers = (q - np.repeat(zeros, each, axis=1)) * np.repeat(scales.astype(np.float64), each, axis=1)
    return numbers.astype(np.float32)


def nf4(weight: npt.NDArray, table: npt.NDArray) -> tuple[dict[str, npt.NDArray], npt.NDArray[np.float32]]:
    """A Linear4bit's tensors with blocks of 64, by what follows the layer's name, and the numbers that they mean."""
    blocks = weight.reshape(-1, 64)
    largest = np.abs(blocks).max(axis=1).astype(np.float32)
    codes = np.abs(blocks[:, :, None] / largest[:, None, None] - table).argmin(axis=2).astype(np.uint8).reshape(-1)
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": list(weight.shape)}
    tensors = {
        "weight": (codes[::2] << 4 | codes[1::2])[:, None], "weight.absmax": largest, "weight.quant_map": table,
        "weight.quant_state.bitsandbytes__nf4": np.frombuffer(json.dumps(state).encode(), np.uint8),
    }  # fmt: skip
    return tensors, (table[codes].reshape(blocks.shape) * largest[:, None]).reshape(weight.shape)
