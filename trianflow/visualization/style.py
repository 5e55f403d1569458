"""What all plots have in common: colours, frames, legends, and how they are written."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trianflow.errors import TrianflowError

INK, FAINT = "#1f2933", "#8a94a3"
_UNNAMED = re.compile(r"_child\d+|_nolegend_")  # what matplotlib calls lines that were given no label
_LINES = ("#1d5fd1", "#d9480f", "#0b8a6b", "#8b3fc7", "#c99700", "#0891b2")


def new_figure(width: float, height: float, title: str = "") -> Any:
    """A matplotlib figure of a size in inches, with no window and no global state; a notebook shows it.

    Raises:
        TrianflowError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise TrianflowError("plots need matplotlib: pip install matplotlib") from None

    figure = Figure(figsize=(width, height), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure._repr_png_ = lambda: _png(figure)  # type: ignore[attr-defined]
    if title:
        text = figure.suptitle("", x=0.02, ha="left", fontsize=12, fontweight="bold", color=INK)
        set_words(text, title)
    return figure


def _png(figure: Any) -> bytes:
    with io.BytesIO() as file:
        _save(figure, file, format="png", dpi=90)
        return file.getvalue()


def _save(figure: Any, target: Any, **options: Any) -> None:
    """Write a figure without a word on letters that the font lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(target, **options)


def set_words(text: Any, words: str) -> None:
    """Put the name of a file, or other words of the user's, into a text of a figure: what stands in it is no formula.

    Bytes of the name that are no UTF-8 become `?`.
    """
    text.set_parse_math(False)
    text.set_text(words.encode(errors="replace").decode())


def line_styles(n: int) -> list[dict[str, Any]]:
    """Colour and dashes of n lines: six colours, then the same ones dashed, dotted, dash-dotted."""
    dashes = ("-", "--", ":", "-.")
    return [
        {"color": _LINES[i % len(_LINES)], "linestyle": dashes[i // len(_LINES) % len(dashes)], "linewidth": 1.6}
        for i in range(n)
    ]


def style_axes(axes: Any) -> None:
    """A quiet frame: no top and right spine, faint grid behind the lines; limits are set afterwards."""
    axes.grid(True, color="#e6e9ee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(0.06, 0.08)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(FAINT)
    axes.tick_params(color=FAINT, labelcolor=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def legend_below(figure: Any, handles: Sequence[Any], labels: Sequence[str], title: str | None = None) -> None:
    """A legend under all axes, in as many columns as its labels leave room for, and rows as equal as may be.

    It has one entry a label: those given, and all lines of the figure that have one, as matplotlib neither hands out
    nor takes labels that begin with `_`, and the name of a file may.
    """
    lines = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    entries = {label: line for label, line in lines.items() if not _UNNAMED.fullmatch(label)}
    entries |= zip(labels, handles)
    if not entries:
        return
    rows = math.ceil(len(entries) / min(max(108 // (max(map(len, entries)) + 8), 1), 5))
    legend = figure.legend(
        list(entries.values()),
        ["-"] * len(entries),
        title=title,
        title_fontproperties={"size": 9.5},
        loc="outside lower center",
        ncols=math.ceil(len(entries) / rows),
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
    )
    for text, label in zip(legend.get_texts(), entries):
        set_words(text, label)


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a matplotlib figure; the suffix chooses the format (png, pdf, svg).

    Raises:
        TrianflowError: the file cannot be written, or the suffix is no format.
    """
    try:
        _save(figure, path)
    except (OSError, ValueError) as e:  # ValueError: a suffix that matplotlib does not know
        reason = e.strerror if isinstance(e, OSError) else str(e).partition("\n")[0].split(" (")[0]
        raise TrianflowError(f"{path}: cannot write the picture: {reason}") from e
