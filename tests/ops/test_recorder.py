"""Recording: the list that forward() leaves is the computation, and its memory plan lets nothing be overwritten."""

import random

import numpy as np

from soban import ops
from soban.models import architecture
from soban.ops import reference
from soban.ops.native.program import plan_arena
from soban.ops.recorder import Program, Recorded, replay
from soban.packing.assemble import assemble
from soban.weights.opening import open_checkpoint

from ..conftest import GOLDEN


def test_a_recorded_model_replayed_by_numpy_is_the_model_called_with_arrays() -> None:
    checkpoint = open_checkpoint(GOLDEN / "gemma2")
    made = architecture(checkpoint.config)
    weights, c = assemble(made, checkpoint), made.config
    batch = ops.make_batch([[4, 8, 15], [16, 23]], [0, 0], [[0], [1]], [2, 4])

    def cache() -> ops.Cache:
        return ops.make_cache(2, [ops.LayerGeometry(c.kv_heads, c.head_size)] * c.num_hidden_layers, "f32")

    first = cache()
    hidden = made.family.forward(c, weights, batch, [first[i] for i in range(c.num_hidden_layers)])
    called = made.family.logits(c, weights, ops.take_rows(hidden, batch.outputs))
    np.testing.assert_array_equal(replay(made.record(weights), reference, batch, cache()), called)


def test_values_that_live_together_never_share_memory() -> None:
    dice = random.Random(1)
    for _ in range(30):
        program = Program()
        values = [program.value("tokens", dice.randrange(1, 50))]
        values[0] = ops.softcap(values[0], 1.0)
        for _ in range(60):
            x = dice.choice(values[-6:])
            same = [v for v in values[-6:] if v.columns == x.columns]
            half = x[:, : max(1, x.columns // 2)]
            values.append(ops.add(x, dice.choice(same)) if dice.random() < 0.5 else ops.softcap(half, 2.0))
        program.result = values[-3]
        rows = {"tokens": 7, "outputs": 3}
        offsets, size = plan_arena(program, rows)
        memory = np.full(size, -1)
        for i, step in enumerate(program.steps):  # write each value's number, and find it there when it is read
            for value in (v for v in step.arguments.values() if isinstance(v, Recorded) and (i or v.buffer)):
                assert memory[offsets[value.buffer]] == value.buffer
            length = program.widths[step.out.buffer] * rows[step.out.rows]
            memory[offsets[step.out.buffer] : offsets[step.out.buffer] + length] = step.out.buffer
        start = offsets[program.result.buffer]
        assert (memory[start : start + 7 * program.result.columns] == program.result.buffer).all()
