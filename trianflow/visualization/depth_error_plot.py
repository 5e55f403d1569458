"""A picture of depth errors: how they spread over the images, and how they grow with distance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.evaluation.depth_scores import DISTANCES, DepthScore
from trianflow.evaluation.depth_table import SCALING_WORDS

_INK, _FAINT = "#1f2933", "#8a94a3"
_LINES = ("#1d5fd1", "#d9480f", "#0b8a6b", "#8b3fc7", "#c99700", "#0891b2")


def plot_depth_errors(path: str | Path, scores: Mapping[str, DepthScore]) -> None:
    """Draw the share of images below an AbsRel, and AbsRel by the distance of the truth; write the picture.

    Args:
        path: the picture; its folder must exist. The suffix chooses the format (png, pdf, svg).
        scores: by name, all of one protocol.

    Raises:
        TrianflowError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(10, 4.6), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    by_image, by_distance = figure.subplots(1, 2)
    for index, (name, score) in enumerate(scores.items()):
        color = _LINES[index % len(_LINES)]
        style = "-" if index < len(_LINES) else "--"
        errors = np.sort([image.errors.abs_rel for image in score.images])
        share = np.arange(1, len(errors) + 1) / len(errors) * 100
        by_image.step(
            np.r_[errors[0], errors], np.r_[0, share], style, where="post", color=color, linewidth=1.6, label=name
        )
        relative, counts = score.by_distance
        filled = np.flatnonzero(counts)
        middle = np.sqrt(DISTANCES[:-1] * DISTANCES[1:])
        by_distance.plot(middle[filled], relative[filled], style, marker="o", markersize=4, color=color, linewidth=1.6)
    by_image.set_xlabel("AbsRel of an image")
    by_image.set_ylabel("images below, %")
    by_image.set_ylim(0, 102)
    by_distance.set_xscale("log", base=2)
    by_distance.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    by_distance.xaxis.set_minor_formatter(NullFormatter())
    by_distance.set_xlabel("true distance, m")
    by_distance.set_ylabel("AbsRel of the pixels")
    by_distance.set_ylim(bottom=0)
    for axes in (by_image, by_distance):
        axes.grid(True, color="#e6e9ee", linewidth=0.8)
        axes.set_axisbelow(True)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(_FAINT)
        axes.tick_params(color=_FAINT, labelcolor=_INK, labelsize=9)
    first = next(iter(scores.values()))
    title = f"{first.protocol.name}: {first.protocol.label}; scaling: {SCALING_WORDS[first.scaling]}"
    figure.suptitle(title, x=0.02, ha="left", fontsize=11, fontweight="bold", color=_INK)
    columns = int(np.clip(108 // (max(map(len, scores)) + 8), 1, 5))
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9.5, labelcolor=_INK)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as e:  # ValueError: a suffix that matplotlib does not know
        reason = e.strerror if isinstance(e, OSError) else str(e).split(" (")[0]
        raise TrianflowError(f"{path}: cannot write the picture: {reason}") from e
