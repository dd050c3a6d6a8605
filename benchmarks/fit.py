"""What `soban plan` predicts against what is measured: memory, and tokens per second of reading and writing.

    python scripts/make_random_gemma2.py out/gemma-2-2b-random
    python benchmarks/fit.py out/gemma-2-2b-random path/to/small/model --rounds 3

Every figure is of a process of its own. Predictions are made anew in each round, with nothing remembered, in turn with
the measurements; medians. A folder whose weights are stored in 16 bits is measured a second time with weights stored in
32, as a file of the same shapes that is all holes. Appends one line a form to benchmarks/results/fit.jsonl.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common

KINDS = ("f32", "bf16", "q8", "q4")
NAMES = ("memory", "prefill", "decode")
ALLOWED = {"memory": 0.10, "prefill": 0.20, "decode": 0.20}
MINUTE = 60
PREDICT = """
import json, sys
from soban.resources import memory as needs
from soban.measure import forecast
from soban.measure.headers import outline
from soban.models import architecture
name, kind, context = sys.argv[1] or None, sys.argv[2], int(sys.argv[3])
checkpoint = outline(name).checkpoint
made = architecture(checkpoint.config)
context = min(context, made.config.max_position_embeddings)
cache = needs.cache_format(kind)
takes = needs.needed(made, checkpoint, kind, context, cache=cache)
rates = forecast.rates(made, checkpoint, kind, 1, cache)
print(json.dumps({"memory": takes.total, "prefill": rates.prefill, "decode": rates.decode}))
"""
CLOCK = """
import sys, time
from soban.base import system
if sys.argv[4] == "cpu":
    time.perf_counter = lambda: time.process_time() / system.threads()
"""
PACK = """
import sys, soban
soban.load(sys.argv[1] or None, dtype=sys.argv[2])
print("{}")
"""
MEASURE = """
import json, statistics, sys, time
import numpy as np
import soban
from soban.base import system
from soban.talk.generation import Generation
from soban.talk.prompt import Prompt
from soban.loading.loaded import BUNDLED
from soban.measure.forecast import PROMPT
from soban.weights.opening import open_checkpoint
name, kind, context = sys.argv[1] or BUNDLED, sys.argv[2], int(sys.argv[3])
most = open_checkpoint(soban.loading.loaded.Path(name)).config["max_position_embeddings"]
model = soban.load(name, dtype=kind, context=min(context, most))
model.ends = frozenset()  # random ids may make it end at once
random, starts, step = np.random.default_rng(1), [], model.engine.step
def timed():
    starts.append(time.perf_counter())
    return step()
model.engine.step = timed
def written(length, new):
    ids = random.integers(3, model.config.vocab_size, length).tolist()
    options = model.sampling(do_sample=False, max_new_tokens=new, prompt_lookup_num_tokens=0)
    starts.clear()
    Generation(model, Prompt(ids), options).read()
    return [after - before for before, after in zip(starts, starts[1:])]  # with all that Python does in between
written(16, 2)  # the weights come into memory
rounds = [written(model.engine.context - 8, 8)]
use = system.memory_use()
length = min(PROMPT, model.engine.context // 2)
slow = statistics.median(rounds[0][1:])
if slow > 0.3:  # what was read to fill the context is enough of a slow model: its first step's tokens, not half of them
    length = min(PROMPT, model.engine.context - 8)
    rounds[0] = [rounds[0][0], *rounds[0][-7:]]
else:
    rounds = [written(length, max(8, min(100, model.engine.context - length, int(4 / slow)))) for _ in range(3)]
print(json.dumps({
    "memory": use.anonymous + use.mapped, "anonymous": use.anonymous, "mapped": use.mapped,
    "prefill": length / min(steps[0] for steps in rounds),
    "decode": 1 / statistics.median(sorted(steps[1:])[len(steps) // 4] for steps in rounds),
}))
"""


def child(code: str, name: str, kind: str, context: int, clock: str, environment: dict[str, str]) -> dict[str, float]:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", CLOCK + code, name, kind, str(context), clock], capture_output=True, text=True,
        env={**os.environ, **environment}, timeout=10 * MINUTE,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout))


def compared(name: str, kind: str, context: int, clock: str, rounds: int) -> dict[str, Any]:
    """Medians of both, taken in turn; before that the model is packed."""
    child(PACK, name, kind, context, clock, {})
    predicted, measured = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as empty:
            predicted.append(child(PREDICT, name, kind, context, clock, {"SOBAN_CACHE": empty}))
        measured.append(child(MEASURE, name, kind, context, clock, {}))

    def median(rows: list[dict[str, float]]) -> dict[str, float]:
        return {key: statistics.median(row[key] for row in rows) for key in rows[0]}

    return {"predicted": median(predicted), "measured": median(measured)}


def in_32_bits(folder: Path, into: Path) -> Path:
    """A model of the same shapes whose weights are stored in float32, all of them holes of the file."""
    from soban.weights.safetensors import read_safetensors

    for path in folder.glob("*.json"):
        shutil.copy(path, into)
    header: dict[str, Any] = {}
    position = 0
    for name, tensor in read_safetensors(folder / "model.safetensors")[0].items():
        end = position + 4 * tensor.data.size
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with (into / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + position)
    config = json.loads((into / "config.json").read_text(encoding="utf-8"))
    (into / "config.json").write_text(json.dumps({**config, "torch_dtype": "float32"}), encoding="utf-8")
    return into


def row(title: str, kind: str, found: dict[str, Any]) -> str:
    """Predicted, measured, and by how much the prediction is off; ! where that is more than is allowed."""
    cells = [f"{title:34}{kind:6}"]
    for name in NAMES:
        predicted, measured = found["predicted"][name], found["measured"][name]
        off = predicted / measured - 1
        scale = 1e6 if name == "memory" else 1
        mark = "!" if abs(off) > ALLOWED[name] else " "
        cells.append(f"{predicted / scale:10.4g}{measured / scale:10.4g}{off:+7.0%}{mark}")
    return "".join(cells)


def main() -> None:
    parser = common.parser(__doc__, model=False)
    parser.add_argument("models", type=Path, nargs="*", help="Hugging Face folders, else the bundled model")
    parser.add_argument("--kinds", nargs="*", default=KINDS)
    parser.add_argument("--context", type=int, default=512, help="tokens that stand in memory, at the most")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall",
        help="cpu: time that the threads get, for machines whose cores have other work; it leaves waiting out",
    )  # fmt: skip
    options = parser.parse_args()
    from soban.weights.opening import open_checkpoint

    heads = "".join(f"{name + ': told, found':>27} " for name in ("MB", "read/s", "write/s"))
    print(f"{'':40}{heads}")
    with tempfile.TemporaryDirectory(dir=common.FILES.parent if common.FILES.parent.is_dir() else None) as folder:
        todo = [] if options.models else [("bundled", "", "q8")]
        for path in options.models:
            todo += [(path.name, str(path), kind) for kind in options.kinds]
            if "f32" in options.kinds and open_checkpoint(path).tensors["model.norm.weight"].format != "f32":
                todo.append((f"{path.name}, stored in 32 bits", str(in_32_bits(path, Path(folder))), "f32"))
        for title, name, kind in todo:
            found = compared(name, kind, options.context, options.clock, options.rounds)
            print(row(title, kind, found), flush=True)
            common.append(
                "fit",
                {
                    "when": time.strftime("%Y-%m-%d %H:%M"), "machine": common.cpu(), "cores": os.cpu_count(),
                    "model": title, "kind": kind, "context": options.context, "clock": options.clock,
                    "rounds": options.rounds, **found,
                },
            )  # fmt: skip


if __name__ == "__main__":
    main()
