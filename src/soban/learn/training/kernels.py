"""The native library's kernels for training, on torch's tensors: each in one pass, in the thread that calls."""

import ctypes
import functools
from collections.abc import Sequence
from ctypes import Structure, c_double, c_float, c_int32, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from soban.ops import formats, native, run

ACTIVATIONS = ("silu", "gelu_tanh")  # the index is the number in native/soban.h
FORMATS = {torch.float32: formats.FORMATS.index("f32"), torch.bfloat16: formats.FORMATS.index("bf16")}


class Glu(Structure):
    _fields_ = (
        ("format", c_int32), ("activation", c_int32), ("count", c_int64), ("gate", c_void_p), ("up", c_void_p),
        ("out", c_void_p), ("grad_gate", c_void_p), ("grad_up", c_void_p),
    )  # fmt: skip


class Norm(Structure):
    _fields_ = (
        ("format", c_int32), ("unused", c_int32), ("rows", c_int64), ("columns", c_int64), ("epsilon", c_float),
        ("offset", c_float), ("x", c_void_p), ("weight", c_void_p), ("out", c_void_p), ("grad_x", c_void_p),
        ("inverse", c_void_p), ("grad_weight", c_void_p),
    )  # fmt: skip


class Rope(Structure):
    _fields_ = (
        ("format", c_int32), ("back", c_int32), ("shape", c_int64 * 4), ("from_strides", c_int64 * 4),
        ("to_strides", c_int64 * 4), ("size", c_int64), ("source", c_void_p), ("to", c_void_p),
        ("angles", c_void_p), ("scale", c_float), ("unused", c_float),
    )  # fmt: skip


class Loss(Structure):
    _fields_ = (
        ("format", c_int32), ("learning", c_int32), ("rows", c_int64), ("columns", c_int64), ("logits", c_void_p),
        ("targets", c_void_p), ("scratch", c_void_p), ("cap", c_float), ("unused", c_float),
    )  # fmt: skip


class Attention(Structure):
    _fields_ = (
        ("rows", c_int32), ("key_heads", c_int32), ("tokens", c_int32), ("queries", c_int32), ("size", c_int32),
        ("cap", c_float), ("q", c_void_p), ("k", c_void_p), ("v", c_void_p), ("first", c_void_p), ("out", c_void_p),
        ("grad_q", c_void_p), ("grad_k", c_void_p), ("grad_v", c_void_p), ("shares", c_void_p), ("scratch", c_void_p),
    )  # fmt: skip


def declared(library: ctypes.CDLL, isa: str) -> tuple[ctypes.CDLL, int]:
    """The library with the types that its functions of training return, and the number of an instruction set."""
    library.soban_next_token_loss.restype = c_double
    library.soban_attention_shares.restype = library.soban_attention_room.restype = c_int64
    return library, native.ISAS.index(isa)


@functools.cache
def _library() -> tuple[ctypes.CDLL, int] | None:
    """The library and the number of the instruction set that it is to use; None where torch computes instead."""
    if not run.use_native() or (isa := native.chosen_isa()) == "scalar":
        return None
    loaded = native.library()
    assert loaded is not None
    return declared(loaded, isa)


def usable(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether these kernels compute with such tensors; else torch does."""
    return device.type == "cpu" and dtype in FORMATS and _library() is not None


def attends(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether attention is theirs, too: not in bfloat16, for whose products torch has units that theirs do not use, nor
    on ARM, where it may have others."""
    library = _library()
    return (
        dtype == torch.float32
        and device.type == "cpu"
        and library is not None
        and native.ISAS[library[1]] not in native.ARM
    )


def take(x: Tensor) -> bool:
    """Whether these kernels compute with tensors such as this one."""
    return usable(x.dtype, x.device)


def _call(name: str, task: Structure) -> Any:
    library = _library()
    assert library is not None
    loaded, isa = library
    return getattr(loaded, name)(isa, ctypes.byref(task))


def glu(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """activation(gate) * up, of one shape; `activation`: one of ACTIVATIONS."""
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    _call("soban_glu_forward", _glu(gate, up, activation, out))
    return out


def glu_backward(gate: Tensor, up: Tensor, gradient: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """The gradients of gate and up."""
    gate, up, gradient = gate.contiguous(), up.contiguous(), gradient.contiguous()
    grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(gate)
    task = _glu(gate, up, activation, gradient)
    task.grad_gate, task.grad_up = grad_gate.data_ptr(), grad_up.data_ptr()
    _call("soban_glu_backward", task)
    return grad_gate, grad_up


def _glu(gate: Tensor, up: Tensor, activation: str, out: Tensor) -> Glu:
    return Glu(
        FORMATS[gate.dtype], ACTIVATIONS.index(activation), gate.numel(), gate.data_ptr(), up.data_ptr(), out.data_ptr()
    )


def norm(x: Tensor, weight: Tensor, epsilon: float, offset: float) -> tuple[Tensor, Tensor]:
    """x (rows, width) over its root mean square, times (weight + offset); and 1 over that root (rows), in float32."""
    out, inverse = torch.empty_like(x), torch.empty(len(x))
    task = _norm(x, weight, offset, out, inverse)
    task.epsilon = epsilon
    _call("soban_norm_forward", task)
    return out, inverse


def norm_backward(x: Tensor, weight: Tensor, offset: float, inverse: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and, in float32, of weight."""
    grad_x, grad_weight = torch.empty_like(x), torch.empty(x.shape[1])
    task = _norm(x, weight, offset, gradient, inverse)
    task.grad_x, task.grad_weight = grad_x.data_ptr(), grad_weight.data_ptr()
    _call("soban_norm_backward", task)
    return grad_x, grad_weight


def _norm(x: Tensor, weight: Tensor, offset: float, out: Tensor, inverse: Tensor) -> Norm:
    assert x.is_contiguous() and weight.is_contiguous() and out.is_contiguous()
    return Norm(
        FORMATS[x.dtype], 0, *x.shape, 0.0, offset, x.data_ptr(), weight.data_ptr(), out.data_ptr(),
        inverse=inverse.data_ptr(),
    )  # fmt: skip


def rope(x: Tensor, to: Tensor, angles: Tensor, scale: float = 1.0, *, back: bool = False) -> None:
    """Writes x * scale to `to`, both (rows, key heads, tokens, queries of a key head, size) in any order in memory but
    for the last; pairs (i, i + size / 2) turned by angles (tokens, 2, size / 2), cosines first, or turned back."""
    assert x.shape == to.shape and x.stride(4) == to.stride(4) == 1 and angles.is_contiguous()
    strides: list[Sequence[int]] = [x.stride()[:4], to.stride()[:4]]
    four = c_int64 * 4
    task = Rope(
        FORMATS[x.dtype], back, four(*x.shape[:4]), *(four(*some) for some in strides), x.shape[4], x.data_ptr(),
        to.data_ptr(), angles.data_ptr(), scale,
    )  # fmt: skip
    _call("soban_turn_pairs", task)


def next_token_loss(logits: Tensor, targets: Tensor, cap: float | None, scratch: Tensor, *, learning: bool) -> float:
    """The summed cross-entropy of logits (rows, vocabulary) in nats; `learning`: they become its gradient.

    `scratch`: (vocabulary) in float32.
    """
    assert logits.is_contiguous() and targets.is_contiguous() and targets.dtype == torch.int64
    task = Loss(
        FORMATS[logits.dtype], learning, *logits.shape, logits.data_ptr(), targets.data_ptr(), scratch.data_ptr(),
        cap or 0.0,
    )  # fmt: skip
    return float(_call("soban_next_token_loss", task))


def attention(q: Tensor, k: Tensor, v: Tensor, first: Tensor, cap: float | None) -> tuple[Tensor, Tensor]:
    """What each query (B, K, T, G, D) makes of keys (B, K, T, 1, D) and values (B, T, K, D), as (B, T, K, G, D), and
    what the way back needs. It looks from `first` of its token (B, 1, 1, T) to its own token; with a cap, q has been
    divided by it."""
    task = _attention(q, k, v, first, cap)
    rows, heads, length, group, width = q.shape
    out = q.new_empty(rows, length, heads, group, width)
    shares = q.new_empty(_call("soban_attention_shares", task))
    scratch = q.new_empty(_call("soban_attention_room", task))
    task.out, task.shares, task.scratch = out.data_ptr(), shares.data_ptr(), scratch.data_ptr()
    _call("soban_attention_forward", task)
    return out, shares


def attention_backward(
    q: Tensor, k: Tensor, v: Tensor, first: Tensor, cap: float | None, shares: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v."""
    task = _attention(q, k, v, first, cap)
    gradients = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    scratch = q.new_empty(_call("soban_attention_room", task))
    task.grad_q, task.grad_k, task.grad_v = (x.data_ptr() for x in gradients)
    task.out, task.shares, task.scratch = gradient.data_ptr(), shares.data_ptr(), scratch.data_ptr()
    _call("soban_attention_backward", task)
    return gradients


def _attention(q: Tensor, k: Tensor, v: Tensor, first: Tensor, cap: float | None) -> Attention:
    assert q.dtype == torch.float32 and all(x.is_contiguous() for x in (q, k, v, first))
    rows, heads, length, group, width = q.shape
    return Attention(
        rows, heads, length, group, width, cap or 0.0, q.data_ptr(), k.data_ptr(), v.data_ptr(), first.data_ptr()
    )
