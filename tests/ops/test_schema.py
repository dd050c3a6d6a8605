"""The table of operations: the reference and the native header have what it says, and recording refuses the rest."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soban import ops
from soban.ops import formats, reference, schema
from soban.ops.recorder import BatchSlots, LayerSlot, Program, Recorded

HEADER = Path(__file__).resolve().parents[2] / "native" / "soban.h"


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_native_header_lists_the_operations_of_the_table() -> None:
    assert words(schema.header()) in words(HEADER.read_text(encoding="utf-8")), f"it should have\n{schema.header()}"


@pytest.mark.parametrize("name", ["ACTIVATIONS", "SLOTS"])
def test_the_native_header_numbers_words_as_the_table_does(name: str) -> None:
    lists = re.findall(r"enum \{([^}]*)\};([^\n]*)", HEADER.read_text(encoding="utf-8"))
    (words,) = [inside for inside, comment in lists if f"schema.{name}" in comment]
    numbered = words.lower().replace("soban_", "").split(",")
    # in C the two arrays that are also numbers of rows have longer names
    there = [word.strip().replace("token_ids", "tokens").replace("output_rows", "outputs") for word in numbered]
    assert tuple(there) == getattr(schema, name)


def test_every_operation_has_a_reference_with_its_operands() -> None:
    recordable = {
        name: list(inspect.signature(function).parameters)
        for name, function in inspect.getmembers(reference, inspect.isfunction)
        if hasattr(function, "__wrapped__")
    }
    assert recordable == {name: list(row.operands) for name, row in schema.OPERATIONS.items()}


WEIGHTS = formats.matrix(np.ones((4, 8), np.float32))
BIASED = formats.matrix(np.ones((4, 8), np.float32), bias=np.ones(4, np.float32))
ONES = np.ones(8, np.float32)
REFUSED: dict[str, tuple[Callable[[Recorded, BatchSlots], Any], str]] = {
    "rows of what is no row": (lambda x, b: ops.embed(b.outputs, WEIGHTS, 1.0), "ids is to be the batch's tokens or"),
    "angles of tokens": (lambda x, b: ops.rotary(b.tokens, b.rotation, np.ones((1, 4)), 1.0), "the batch's positions"),
    "slopes to both sides": (
        lambda x, b: ops.attention(x, x, x, b, LayerSlot(0), 1.0, slopes=ONES[:2], causal=False), "slopes are for what",
    ),
    "another row of frequencies": (lambda x, b: ops.rotary(b.positions, 0, np.ones((1, 4)), 1.0), "rotation, not 0"),
    "rows by position": (lambda x, b: ops.take_rows(x, b.positions), "the batch's outputs, not the batch's positions"),
    "rows by an array": (lambda x, b: ops.take_rows(x, np.arange(2)), "the batch's outputs"),
    "a table with a bias": (lambda x, b: ops.embed(b.tokens, BIASED, 1.0), "without a bias, not a matrix"),
    "an array as a value": (lambda x, b: ops.add(x, np.ones((3, 8))), "y is to be a value"),
    "an array as the first value": (lambda x, b: ops.add(np.ones((3, 8)), x), "x is to be a value"),
    "a value as a vector": (lambda x, b: ops.rms_norm(x, x, 1e-5), "weight is to be an array of 8 numbers"),
    "a vector of another length": (lambda x, b: ops.rms_norm(x, ONES[:4], 1e-5), r"not an array \(4,\)"),
    "a matrix of other columns": (lambda x, b: ops.linear(x[:, :7], WEIGHTS), "a matrix of 7 columns, not"),
    "an array as a matrix": (lambda x, b: ops.linear(x, np.ones((4, 8))), "w is to be a matrix"),
    "unequal columns": (lambda x, b: ops.add(x, x[:, :7]), "8 columns and 7"),
    "a weight that no head fits": (lambda x, b: ops.head_norm(x, ONES[:3], 1e-5), "weight is to be"),
    "a turn of more than a head": (lambda x, b: ops.rope(x, x, False, 4), "8 columns of each head of 4 do not turn"),
    "another activation": (lambda x, b: ops.glu(x, "tanh"), "activation is to be silu or"),
    "a value as a number": (lambda x, b: ops.softcap(x, x), "cap is to be a number"),
    "tokens beside outputs": (lambda x, b: ops.add(x, ops.take_rows(x, b.outputs)), "rows of tokens and rows of"),
    "attention of outputs": (
        lambda x, b: ops.attention(*[ops.take_rows(x, b.outputs)] * 3, b, LayerSlot(0), 1.0), "rows of tokens and",
    ),
    "attention without its batch": (lambda x, b: ops.attention(x, x, x, None, LayerSlot(0), 1.0), "the batch, not"),
    "attention over an array": (lambda x, b: ops.attention(x, x, x, b, np.ones(2), 1.0), "a layer of the cache"),
    "a value of another program": (
        lambda x, b: ops.add(x, ops.embed(Program().batch().tokens, WEIGHTS, 1.0)), "of the same program",
    ),
}  # fmt: skip


@pytest.mark.parametrize("call", REFUSED)
def test_what_an_instruction_does_not_hold_cannot_be_recorded(call: str) -> None:
    program = Program()
    x = ops.embed(program.batch().tokens, WEIGHTS, 1.0)
    record, message = REFUSED[call]
    with pytest.raises(TypeError, match=f"cannot be recorded: .*{message}"):
        record(x, program.batch())
