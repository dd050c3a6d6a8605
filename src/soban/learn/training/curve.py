"""The curve of a training as a picture: loss while learning above, bits per byte of text held out below."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from soban.learn.training import checkpoint

NAME = "losses.png"
INK, FAINT, LEARNT, HELD_OUT = "#333333", "#dddddd", "#3b6ea5", "#c2571a"
SIZE = (8.0, 5.4)  # inches
DOTS = 144  # an inch
SMOOTHED = 0.02  # share of the steps over which the thick line averages
LABEL_ROOM = 1.07  # of the axis, for the numbers at the ends of the lines
SHOWN = 0.95  # of the losses: the fall of the first steps would flatten all that comes after
# Fonts with Hangul of Windows, macOS and Linux
HANGUL = ("Malgun Gothic", "Apple SD Gothic Neo", "Noto Sans CJK KR", "NanumGothic", "UnDotum")
POINTS = 2000  # of the raw line at most: more are not seen, and take time


def draw(rows: Sequence[dict[str, str]], path: Path, title: str) -> None:
    """Draws the table of losses. Raises ImportError without matplotlib, UserError where it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    training = _columns(rows, "loss")
    held_out = _columns(rows, "held_out_bits_per_byte")
    figure = Figure(SIZE, DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    unit, scale = _unit(max([1.0, *training[0], *held_out[0]]))
    _learning(above, training[0] / scale, training[1])
    _measuring(below, held_out[0] / scale, held_out[1])
    for axes, label in ((above, "training loss\nnats a token"), (below, "held out\nbits a byte")):
        _plain(axes, label)
    figure.align_ylabels()
    above.set_title(title, loc="left", fontsize=11, color=INK, pad=12, fontfamily=_fonts(), parse_math=False)
    below.set_xlabel(f"tokens learnt from{unit}", color=INK, fontsize=10)
    below.set_xlim(0, max([1e-9, *training[0], *held_out[0]]) / scale * LABEL_ROOM)
    checkpoint.whole(path, lambda part: figure.savefig(part, format="png"))


def _fonts() -> list[str]:
    """Fonts for a title that may be Korean: the usual one, and those with Hangul that are there."""
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in HANGUL if name in there)]


def _columns(rows: Sequence[dict[str, str]], name: str) -> tuple[Any, Any]:
    """Tokens, and the values of a column where it has some."""
    pairs = [(float(row["tokens"]), float(row[name])) for row in rows if row.get(name)]
    table = np.array(pairs or np.empty((0, 2)))
    return table[:, 0], table[:, 1]


def _unit(most: float) -> tuple[str, float]:
    if most >= 2e6:
        return " (millions)", 1e6
    return (" (thousands)", 1e3) if most >= 2e3 else ("", 1.0)


def _learning(axes: Any, tokens: Any, losses: Any) -> None:
    """The losses of single steps faintly, their mean over some steps thickly."""
    if not len(losses):
        return
    every = -(-len(losses) // POINTS)
    axes.plot(tokens[::every], losses[::every], color=LEARNT, alpha=0.25, linewidth=0.7)
    smooth = smoothed(losses, max(1, round(SMOOTHED * len(losses))))
    axes.plot(tokens[::every], smooth[::every], color=LEARNT, linewidth=1.8, solid_capstyle="round")
    axes.annotate(
        f"{smooth[-1]:.3f}", (tokens[-1], smooth[-1]), (6, 0), textcoords="offset points", color=LEARNT, fontsize=10,
        va="center", annotation_clip=False,
    )  # fmt: skip
    low, high = losses.min(), np.quantile(losses, SHOWN)
    axes.set_ylim(low - 0.06 * (high - low) - 1e-3, high + 0.06 * (high - low) + 1e-3)


def smoothed(values: Any, window: int) -> Any:
    """The mean of each value and up to `window` - 1 on both sides of it: at the beginning as many on each, so that a
    steep fall stays where it is, and at the end those before it, so that it is as smooth as the rest."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    before = np.minimum(places, window - 1)
    after = np.minimum(before, len(values) - 1 - places)
    return (sums[places + after + 1] - sums[places - before]) / (before + after + 1)


def _measuring(axes: Any, tokens: Any, bits: Any) -> None:
    """Every measurement as a point; the best one is named."""
    if not len(bits):
        axes.text(0.5, 0.5, "not measured yet", transform=axes.transAxes, ha="center", color=INK, fontsize=10)
        return
    axes.plot(tokens, bits, color=HELD_OUT, linewidth=1.8, marker="o", markersize=4)
    best = int(bits.argmin())
    axes.annotate(
        f"{bits[best]:.3f}", (tokens[best], bits[best]), (6, 0), textcoords="offset points", color=HELD_OUT,
        fontsize=10, va="center", annotation_clip=False,
    )  # fmt: skip
    axes.margins(y=0.12)


def _plain(axes: Any, label: str) -> None:
    """No box, light lines across, and what the numbers are."""
    axes.set_ylabel(label, color=INK, fontsize=10)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
