"""How fast a training is here: some steps are taken, and undone."""

import time
from dataclasses import replace

from soban.learn.data.packing import Batch
from soban.learn.training import optimise, sizes
from soban.learn.training.forecast import Speed
from soban.learn.training.running import Run
from soban.learn.training.settings import Settings

# Of a probe's batch: a second or two of work, by the same count in each of several processes
PROBE_FLOPS = {"cpu": 2e10, "cuda": 2e13}
PROBES = 2  # after one that warms up


def probe(run: Run[Settings]) -> Speed:
    """Takes some steps whose effect is undone: the weights are as they were, and nothing is remembered of them."""
    settings = run.settings
    batches = [_first_rows(next(run.batches(0))[0], probe_rows(settings))]
    name = next(iter(run.computer.weights))
    still = replace(settings, learning_rate=0.0)  # at which a step leaves the weights where they are
    counts, seconds, updates = [], [], []
    for _ in range(1 + PROBES):
        start = time.perf_counter()
        gradients, _, tokens, _ = run.computer.gradients(batches)
        middle = time.perf_counter()
        optimise.update(run.computer.weights, gradients, run.state, 0, still, run.computer.workers.map)
        counts.append(tokens / settings.processes)
        seconds.append(middle - start)
        updates.append(time.perf_counter() - middle)
    for memory in run.state.values():
        memory.zero_()
    # several processes have to agree, for they must come to the same number of steps
    rates = [sum(counts[1:]) / sum(seconds[1:]), min(updates[1:])]
    rate, update = run.computer.group.sums({"": run.computer.weights[name].new_zeros(1)}, rates)
    return Speed(rate / settings.processes, update / settings.processes)


def probe_rows(settings: Settings) -> int:
    """Rows that take about a second, and give each thread something to do."""
    flops = sizes.flops_per_token(settings) * settings.shape.context
    kind = "cpu" if settings.device == "cpu" else "cuda"
    return min(settings.batch_size, max(settings.parts, int(PROBE_FLOPS[kind] / flops)))


def _first_rows(batch: Batch, rows: int) -> Batch:
    places = rows * batch.inputs.shape[1]
    return replace(
        batch, inputs=batch.inputs[:rows], targets=batch.targets[:rows], starts=batch.starts[batch.starts < places]
    )
