"""Measures what each number format costs, ours and llama.cpp's, and writes docs/quality.md with its plot.

    pip install gguf llama-cpp-python matplotlib
    python scripts/make_quality.py measure out/quality path/to/model --texts en,ko    # stories never seen in training
    python scripts/make_quality.py measure out/quality path/to/model --texts en,ko --outliers
    python scripts/make_quality.py measure out/quality path/to/other --texts path/to/text.txt
    python scripts/make_quality.py write out/quality                                  # docs/quality.md and quality.svg

Outlier channels: in every layer 0.5 % of the channels after a norm, and of those between up and down, are scaled by 50
and the weights that read them by 1/50, which changes no float32 output.
"""

import argparse
import ctypes
import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from soban.convert.gguf import to_gguf
from soban.convert.source import open_source
from soban.learn.synthetic import stories
from soban.loading.loaded import Loaded, load_files
from soban.loading.model_files import open_model
from soban.measure.evaluate import DOCUMENT_END, Evaluation, Scorer, Windows, evaluate, split_windows
from soban.measure.importance import collect, pieces_of
from soban.models import architecture
from soban.models.plan import Part
from soban.ops.formats import Floats
from soban.packing.assemble import assemble, pack, target_format
from soban.weights.checkpoint import Checkpoint
from soban.weights.gguf.importance import read_importance, write_importance
from soban.weights.opening import open_checkpoint
from soban.weights.safetensors import read_safetensors, write_safetensors

DOCS = Path(__file__).resolve().parents[1] / "docs"
UNSEEN = 987_654_321  # seed of the held-out stories; the bundled model learnt from another
STORIES = 400
CONTEXT = 512
OUTLIERS, FACTOR = 0.005, np.float32(50)
PEER_TYPES = ("Q4_0", "IQ4_NL", "IQ4_XS", "Q4_1", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")
OWN_TYPES = ("q4_0", "iq4_xs", "q4_k_m", "q5_k_m", "q6_k")  # of `soban quantize`
ANOTHER = 5  # seed of the stories from which the importance matrix is made


# What is quantised how: the two formats that users choose, and what other mixes would give.
VARIANTS: dict[str, Callable[[Part], str] | None] = {
    "q8": None,
    "q4": None,
    "q4, values in 4 bits too": lambda part: "q8" if part.vocabulary else "q4",
    "q4, vocabulary in 4 bits too": lambda part: "q8" if part.precise and not part.vocabulary else "q4",
    "q4 throughout": lambda part: "q4",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("out", type=Path)
    one.add_argument("model", type=Path)
    one.add_argument("--texts", default="en,ko", help="en, ko (stories of the simulated world), or files")
    one.add_argument("--tokens", type=int, default=6000, help="of each model's texts together")
    one.add_argument("--outliers", action="store_true", help="measure the model with outlier channels")
    commands.add_parser("write").add_argument("out", type=Path)
    given = parser.parse_args()
    if given.command == "write":
        write(given.out)
    else:
        measure(given.out, given.model, given.texts.split(","), given.tokens, given.outliers)


def measure(out: Path, model: Path, texts: list[str], tokens: int, outliers: bool) -> None:
    """Every format of one model; the figures go to a file of their own in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    name = model.name + (" with outliers" if outliers else "")
    if outliers:
        model = with_outliers(model, out / name)
    exact = load_files(model, dtype="f32", tokenizer=None, force=False)
    pieces = [
        split_windows(exact.tokenizer, text(source), CONTEXT, CONTEXT // 2, tokens // len(texts)) for source in texts
    ]
    over = Windows(tuple(w for piece in pieces for w in piece.windows), sum(piece.bytes for piece in pieces))
    reference = Scorer(exact, CONTEXT)
    found = [
        entry("soban", label, bits, evaluate(Scorer(loaded, CONTEXT), reference, over))
        for label in VARIANTS
        for bits, loaded in [packed(exact, model, label, out / f"{name}.{label}.safetensors")]
    ]
    plain = out / f"{name}.gguf"
    to_gguf(open_source(model), plain, "f32", tokenizer=None)
    peer = Peer(plain)
    check_same_logits(reference, peer, over)
    for kind in PEER_TYPES:
        file = out / f"{name}.{kind}.gguf"
        bits = quantise(plain, file, kind)
        found.append(entry("llama.cpp", kind, bits, evaluate(Peer(file), peer, over)))  # type: ignore[arg-type]
    found += quantised(model, out, name, texts, reference, over)
    for kind in PEER_TYPES[:-1]:
        file = out / f"{name}.{kind}.imatrix.gguf"
        bits = quantise(plain, file, kind, out / f"{name}.imatrix.gguf")
        found.append(entry("llama.cpp", f"{kind}, imatrix", bits, evaluate(Peer(file), peer, over)))  # type: ignore[arg-type]
    result = {"model": name, "tokens": found[0]["tokens"], "rows": found}
    (out / f"{name}.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


def quantised(
    model: Path, out: Path, name: str, texts: list[str], reference: Scorer, over: Windows
) -> Iterator[dict[str, Any]]:
    """What `soban quantize` writes, with the importance matrix of other texts of the same kind and without."""
    files, matrix = open_model(model), out / f"{name}.imatrix.gguf"
    pieces = [
        piece for source in texts for piece in pieces_of(
            files.tokenizer(), text(source, ANOTHER), 8192, files.checkpoint.config["max_position_embeddings"]
        )
    ]  # fmt: skip
    importance = collect(model, pieces, ",".join(texts))
    matrix.unlink(missing_ok=True)
    write_importance(matrix, importance)
    for kind in OWN_TYPES:
        for label, how in ((f"{kind.upper()}", None), (f"{kind.upper()}, imatrix", importance)):
            file = out / f"{name}.own.{label}.gguf"
            file.unlink(missing_ok=True)
            to_gguf(open_source(model), file, kind, tokenizer=None, importance=how, balanced=True)
            loaded = load_files(file, dtype="gguf", tokenizer=None, force=False)
            yield entry("soban", f"quantize {label}", bits_of(file), evaluate(Scorer(loaded, CONTEXT), reference, over))


def text(source: str, seed: int = UNSEEN) -> str:
    """Stories in a language, or a file; of the latter another half for each seed."""
    if source in ("en", "ko"):
        return DOCUMENT_END.join(itertools.islice(stories(seed, source), STORIES))  # type: ignore[arg-type]
    whole = Path(source).read_text(encoding="utf-8")
    return whole[: len(whole) // 2] if seed == UNSEEN else whole[len(whole) // 2 :]


def entry(program: str, label: str, bits: float, found: Evaluation) -> dict[str, Any]:
    assert found.reference is not None
    against = dataclasses.asdict(found.reference) | {"above": dataclasses.asdict(found.reference.perplexity_above)}
    row = {"program": program, "format": label, "bits": bits, "tokens": found.tokens} | against
    print(f"{program:10} {label:30} {bits:6.3f} bits  KL {row['divergence']['mean']:.6f}", flush=True)
    return row


def packed(exact: Loaded, model: Path, label: str, path: Path) -> tuple[float, Loaded]:
    """Bits per weight of a variant's file, and the model in it."""
    checkpoint, made, choose = open_checkpoint(model), exact.architecture, VARIANTS[label]
    path.unlink(missing_ok=True)

    def chosen(part: Part, tensor: Any, kind: str) -> str:
        return target_format(part, tensor, kind) if choose is None or len(tensor.shape) != 2 else choose(part)

    with mock.patch("soban.packing.assemble.target_format", chosen):
        pack(made, checkpoint, label[:2], path)
    tensors, metadata = read_safetensors(path)
    weights = assemble(made, Checkpoint(path, checkpoint.config, {}, tensors, (path,), metadata))
    count = sum(int(np.prod(shape)) for shape in made.plan.shapes().values())
    bits = 8 * sum(tensor.data.nbytes for tensor in tensors.values()) / count
    return bits, dataclasses.replace(exact, weights=weights, dtype=label[:2], cache_format="bf16")


def with_outliers(model: Path, folder: Path) -> Path:
    """A copy of the model that computes the same, with a few channels 50 times as large."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in model.glob("*.json"):
        shutil.copyfile(file, folder / file.name)
    checkpoint = open_checkpoint(model)
    made = architecture(checkpoint.config)
    values = {name: np.array(checkpoint.tensors[name].float32()) for name in made.plan.shapes()}
    dice = np.random.default_rng(5)
    for pair in (pair for layer in made.plan.layers for pair in layer.pairs):
        chosen, offset, source = _some(dice, pair.source.shape[0]), np.float32(pair.offset), values[pair.source.name]
        source[chosen] = (source[chosen] + offset) * FACTOR - offset
        for reader in pair.readers:
            values[reader.name][:, chosen] /= FACTOR
    entries = [(name, "F32", value.shape) for name, value in values.items()]
    write_safetensors(folder / "model.safetensors", entries, lambda name: [values[name]])
    return folder


def _some(dice: np.random.Generator, count: int) -> Any:
    return dice.choice(count, max(1, round(OUTLIERS * count)), replace=False)


class Peer:
    """A GGUF model in llama.cpp, with the face of `Scorer`. One thread: several only get into each other's way here."""

    def __init__(self, path: Path) -> None:
        import llama_cpp

        _quiet()
        self.llama = llama_cpp
        settings = llama_cpp.llama_model_default_params()
        settings.use_extra_bufts = False  # its AMX kernels crash on rows of 128
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
        how = llama_cpp.llama_context_default_params()
        how.n_ctx = how.n_batch = how.n_ubatch = CONTEXT
        how.n_threads = how.n_threads_batch = 1
        how.type_k = how.type_v = 0  # float32
        self.context = llama_cpp.llama_init_from_model(self.model, how)
        self.size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(CONTEXT, 0, 1)

    def scores(self, tokens: Sequence[int], first: int) -> Iterator[Floats]:
        llama, batch = self.llama, self.batch
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, i, 1, 0
            batch.logits[i] = i >= first
        if llama.llama_decode(self.context, batch):
            raise SystemExit("llama.cpp could not compute")
        yield np.ctypeslib.as_array(llama.llama_get_logits(self.context), shape=(len(tokens) - first, self.size))


_KEPT: list[Any] = []  # ctypes callbacks live as long as somebody holds them


def _quiet() -> None:
    import llama_cpp

    if not _KEPT:
        _KEPT.append(llama_cpp.llama_log_callback(lambda level, line, data: None))
        llama_cpp.llama_log_set(_KEPT[0], ctypes.c_void_p(0))


def quantise(source: Path, target: Path, kind: str, matrix: Path | None = None) -> float:
    """Writes the GGUF in llama.cpp's type, by an importance matrix; the bits per weight of all its tensors."""
    import llama_cpp

    _quiet()
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}"), 1
    if matrix is not None:
        values = {
            name: (sums.sum(axis=0) / counts.sum()).astype(np.float32)
            for importance in [read_importance(matrix)]
            for (name, sums), counts in zip(importance.sums.items(), importance.counts.values(), strict=True)
        }
        table = (llama_cpp.llama_model_imatrix_data * (len(values) + 1))()
        for one, (name, numbers) in zip(table, values.items(), strict=False):
            one.name, one.size = name.encode(), numbers.size
            one.data = numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        settings.imatrix = table
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(settings)):
        raise SystemExit(f"llama.cpp could not make {kind}")
    return bits_of(target)


def bits_of(file: Path) -> float:
    """Bits per weight of all its tensors."""
    import gguf

    tensors = gguf.GGUFReader(file).tensors
    return float(8 * sum(int(t.n_bytes) for t in tensors) / sum(int(t.n_elements) for t in tensors))


def check_same_logits(ours: Scorer, peer: Peer, over: Windows) -> None:
    """Both programs compute the same model in float32; llama.cpp's table for GELU has 16 bits."""
    tokens = over.windows[0][0]
    mine = np.concatenate([scores.copy() for scores in ours.scores(tokens, 0)])
    theirs = next(peer.scores(tokens, 0))
    apart = float(np.abs(mine - theirs).max() / np.abs(mine).max())
    print(f"largest difference of float32 logits between the programs: {apart:.1e} of the largest logit")
    assert apart < 1e-3, apart


PROSE = """\
# What fewer bits cost

How far each number format takes a model from itself in float32: ours (q8, q4) and llama.cpp's, on the same texts.
Written by `scripts/make_quality.py`, which makes everything it needs; `soban eval MODEL --perplexity TEXT --kl f32`
measures yours.

![Bits per weight against divergence](quality.svg)

- **Bits** are those of the whole file, vocabulary included, for each weight.
- **KL** is the divergence from float32's predictions, in nats a token: 0 means the same predictions. Each program
  is compared with its own float32; in float32 both give the same logits. Our figures include the int8 activations
  that q8 and q4 compute with; llama.cpp rounds its activations as well.
- **Perplexity** is how much higher it is than in float32, and **first choice** how often the likeliest token is the
  same.
- **Line** is the KL of the straight line through llama.cpp's Q4_0 and Q4_K_M at that many bits; where it has fallen
  below zero there is none. Below the line is better.

The models are small, and small models suffer most from rounding. *stories-4.6M* is the model that comes with soban (4.6
million weights, a quarter of them vocabulary) as it was before it was packed, on stories in English and Korean that it
has not seen. *TinyStories-656K* is a Llama with 0.67 million; its rows of 128 are too short for llama.cpp's K types,
which then become Q5_0, Q5_1 and Q8_0.

*With outliers* means that 0.5 % of the channels after each norm, and of those between up and down, were made 50 times
as large and the weights that read them 50 times smaller. In float32 this changes nothing. Rounding in groups suffers:
a group shares its scale with the outlier. Before soban quantises, it moves powers of two back from such channels into
the weights that read them ([016](decisions/016-balanced-channels.md)), and turns each 256 columns by Hadamard's
matrix, which spreads what is left over all of them ([038](decisions/038-turned-blocks.md)).

## What the figures say

"""
AFTER = """
## Where q4 stands

It lies below the line on each of the four. Against Q4_K_M as it is, not the line, it has a third of the KL on
*stories-4.6M* with 0.37 bits more, and on *TinyStories-656K*, whose rows are too short for Q4_K so that most of that
file is Q5_0 and Q8_0, more than twice its KL with 0.75 bits less. Between q4 and q8 are GGUF files of 5 and 6 bits.

## Files of four to six bits

What `soban quantize` writes, without a text and with an importance matrix of other stories, computed by soban;
llama.cpp's own files, with the same matrix or without, computed by llama.cpp. *stories-4.2M* is an earlier story model,
in English and Korean. KL, 3,300 tokens, standard errors 2 to 6 %:

| | bits | soban | with imatrix | llama.cpp | with imatrix |
|---|---|---|---|---|---|
| stories-4.2M, IQ4_XS | 4.86 | 0.0276 | 0.0282 | 0.0300 | 0.0300 |
| Q4_K_M | 5.27 | 0.0237 | 0.0224 | 0.0236 | 0.0234 |
| Q5_K_M | 5.91 | 0.0064 | 0.0064 | 0.0076 | 0.0066 |
| Q6_K | 6.59 | 0.0029 | 0.0026 | 0.0032 | 0.0029 |
| with outliers, IQ4_XS | 4.86 | 0.0281 | 0.0274 | 0.1287 | 0.1048 |
| Q4_K_M | 5.27 | 0.0240 | 0.0226 | 0.2626 | 0.0836 |
| Q5_K_M | 5.91 | 0.0064 | 0.0065 | 0.1207 | 0.0685 |
| Q6_K | 6.59 | 0.0028 | 0.0026 | 0.0740 | 0.0761 |
| TinyStories-656K, Q4_0 | 6.13 | 0.0687 | 0.0617 | 0.0687 | 0.0612 |
| IQ4_XS | 6.13 | 0.0522 | 0.0493 | 0.0551 | 0.0504 |
| Q4_K_M | 6.99 | 0.0141 | 0.0121 | 0.0142 | 0.0122 |
| Q5_K_M | 7.24 | 0.0097 | 0.0092 | 0.0120 | 0.0088 |
| Q6_K | 8.52 | 0.00100 | 0.00100 | 0.00098 | 0.00098 |
| with outliers, Q4_0 | 6.13 | 0.0696 | 0.0626 | 0.1482 | 0.1374 |
| IQ4_XS | 6.13 | 0.0518 | 0.0497 | 0.1675 | 0.0935 |
| Q4_K_M | 6.99 | 0.0145 | 0.0124 | 0.0861 | 0.0825 |
| Q5_K_M | 7.24 | 0.0097 | 0.0093 | 0.1960 | 0.0276 |
| Q6_K | 8.52 | 0.00098 | 0.00098 | 0.0218 | 0.0218 |

At equal bits ours is at or below llama.cpp's, but for Q5_K_M with a matrix and Q6_K (there: Q8_0) on
*TinyStories-656K*, where it is 4 % and 2 % above; differences of less than 5 % are within the errors. Q4_0 of
*stories-4.2M* is left out: it has other bits (5.53 here, with the vocabulary in 8, and 5.04 there). The importance
matrix brings nothing to 15 %; making outlier channels even brings up to a factor of 28.

## Where bits are well spent

Of the parts of a layer, the values (`v_proj`) gain most from 8 bits and are small: they have them in q4. The
vocabulary is the largest single loss in 4 bits, so that q4 keeps it in 8 where it is small; the rows `vocabulary in 4
bits too` show what it would cost: fifteen times the KL on *stories-4.6M*. Gate and up gain nearly nothing, first and
last layers no more than others.

A row of 256 columns has one scale, and each 32 of them a whole-number step and offset
([037](decisions/037-one-scale-for-256.md)), found by least squares in turns with the integers. Before, groups of 64
had a scale and a minimum in bfloat16, at as many bits: a KL of 0.0367 on *TinyStories-656K* for 0.0289 now, and
0.0011 for 0.0009 with q8.
"""


def write(out: Path) -> None:
    """docs/quality.md and its plot from all that was measured into `out`."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*.json"))]
    results.sort(key=lambda result: (result["model"].startswith("Tiny"), result["model"]))
    lines = [PROSE + summary(results)]
    for result in results:
        lines += ["", f"## {result['model']}", "", f"{result['tokens']:,} tokens.", ""]
        lines += [
            "| | bits | KL | 99 of 100 below | line | perplexity | first choice |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [table_row(row, line_through(result)(row["bits"])) for row in by_bits(result)]
    (DOCS / "quality.md").write_text("\n".join(lines) + "\n" + AFTER, encoding="utf-8")
    draw(results, DOCS / "quality.svg")


def by_bits(result: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(result["rows"], key=lambda row: (row["bits"], row["program"]))


def one(result: dict[str, Any], label: str) -> dict[str, Any]:
    return next(row for row in result["rows"] if row["format"] == label)


def line_through(result: dict[str, Any]) -> Callable[[float], float]:
    """The KL at a number of bits on the line through llama.cpp's Q4_0 and Q4_K_M."""
    ends = [(row["bits"], row["divergence"]["mean"]) for row in (one(result, "Q4_0"), one(result, "Q4_K_M"))]
    slope = (ends[1][1] - ends[0][1]) / (ends[1][0] - ends[0][0])
    return lambda bits: ends[0][1] + slope * (bits - ends[0][0])


def summary(results: list[dict[str, Any]]) -> str:
    """For each model, q8's and q4's figures in a sentence."""
    told = []
    for result in results:
        q8, q4 = one(result, "q8"), one(result, "q4")
        line = line_through(result)(q4["bits"])
        where = f"the line is at {line:.5f} there" if line > 0 else "the line has fallen below zero there"
        told.append(
            f"- {result['model']}: q8 changes perplexity by {percent(q8['above'])}; q4 has a KL of "
            f"{q4['divergence']['mean']:.5f} with {q4['bits']:.2f} bits, and {where}."
        )
    return "\n".join(told)


def percent(value: dict[str, float]) -> str:
    return f"{100 * value['mean']:+.2f} ± {100 * value['error']:.2f} %"


def table_row(row: dict[str, Any], line: float) -> str:
    label = f"**soban {row['format']}**" if row["program"] == "soban" else f"llama.cpp {row['format']}"
    cells = [
        label, f"{row['bits']:.2f}", f"{row['divergence']['mean']:.5f} ± {row['divergence']['error']:.5f}",
        f"{row['divergence_99']:.4f}", f"{line:.5f}" if line > 0 else "", percent(row["above"]),
        f"{100 * row['agreement']['mean']:.1f} %",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


OURS, THEIRS, INK = "#c2410c", "#475569", "#1e293b"
# What is drawn: format -> (label, where it stands beside its point, in typographic points).
PLACES = {
    "q8": ("q8", (0, 8)), "q4": ("q4", (9, -9)), "q4 throughout": ("q4 throughout", (2, -15)),
    "q4, vocabulary in 4 bits too": ("vocabulary in 4", (10, 2)),
    "Q4_0": ("Q4_0", (6, 5)), "Q4_1": ("Q4_1", (7, 0)), "Q4_K_M": ("Q4_K_M", (-7, -9)), "Q5_K_M": ("Q5_K_M", (7, 2)),
    "Q6_K": ("Q6_K", (7, 2)), "Q8_0": ("Q8_0", (7, -8)),
}  # fmt: skip


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Bits against divergence, a panel for each model."""
    import matplotlib
    from matplotlib import pyplot

    matplotlib.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "soban", "font.family": "sans-serif", "font.size": 9}
    )
    figure, panels = pyplot.subplots(2, 2, figsize=(10, 7.6), layout="constrained")
    for panel, result in zip(panels.T.flat, results, strict=True):
        draw_panel(panel, result)
    for panel in panels[1]:
        panel.set_xlabel("bits for each weight of the whole file")
    for panel in panels[:, 0]:
        panel.set_ylabel("KL from float32, nats a token")
    figure.savefig(path, metadata={"Date": None})


def draw_panel(panel: Any, result: dict[str, Any]) -> None:
    line = line_through(result)
    bits = np.linspace(4.3, 8.8, 400)
    values = np.array([line(b) for b in bits])
    lowest = min(row["divergence"]["mean"] for row in result["rows"]) / 2
    panel.plot(bits[values > lowest], values[values > lowest], "--", color=THEIRS, linewidth=1, alpha=0.6)
    for row in (row for row in result["rows"] if row["format"] in PLACES):
        mine = row["program"] == "soban"
        color, place = OURS if mine else THEIRS, (row["bits"], row["divergence"]["mean"])
        panel.plot(*place, "o" if mine else "s", color=color, markersize=7 if mine else 5)
        label, beside = PLACES[row["format"]]
        panel.annotate(
            label, place, xytext=beside, textcoords="offset points", fontsize=8.5, color=color,
            ha="left" if beside[0] > 0 else "right" if beside[0] < 0 else "center",
            fontweight="bold" if label in ("q4", "q8") else "normal",
        )  # fmt: skip
    panel.set_yscale("log")
    panel.set_xlim(4.3, 9.1)
    panel.margins(y=0.12)
    panel.set_title(result["model"], loc="left", color=INK, fontweight="bold", fontsize=10.5)
    panel.grid(color="#e2e8f0", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
