"""A picture of depth errors: how they spread over the images, and how they grow with distance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trianflow.evaluation.depth_scores import DISTANCES, DepthScore
from trianflow.evaluation.depth_table import SCALING_WORDS
from trianflow.visualization.style import legend_below, line_styles, new_figure, save_figure, style_axes


def plot_depth_errors(path: str | Path, scores: Mapping[str, DepthScore]) -> None:
    """Draw the share of images below an AbsRel, and AbsRel by the distance of the truth; write the picture.

    Args:
        path: the picture; its folder must exist.
        scores: by name, all of one protocol.

    Raises:
        TrianflowError: the file cannot be written.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter

    first = next(iter(scores.values()))
    title = f"{first.protocol.name}: {first.protocol.label}; scaling: {SCALING_WORDS[first.scaling]}"
    figure = new_figure(10, 4.6, title)
    by_image, by_distance = figure.subplots(1, 2)
    for (name, score), style in zip(scores.items(), line_styles(len(scores))):
        errors = np.sort([image.errors.abs_rel for image in score.images])
        share = np.arange(1, len(errors) + 1) / len(errors) * 100
        by_image.step(np.r_[errors[0], errors], np.r_[0, share], where="post", label=name, **style)
        relative, counts = score.by_distance
        filled = np.flatnonzero(counts)
        middle = np.sqrt(DISTANCES[:-1] * DISTANCES[1:])
        by_distance.plot(middle[filled], relative[filled], marker="o", markersize=4, **style)
    for axes in (by_image, by_distance):
        style_axes(axes)
    by_image.set_xlabel("AbsRel of an image")
    by_image.set_ylabel("images below, %")
    by_image.set_ylim(0, 102)
    by_distance.set_xscale("log", base=2)
    by_distance.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    by_distance.xaxis.set_minor_formatter(NullFormatter())
    by_distance.set_xlabel("true distance, m")
    by_distance.set_ylabel("AbsRel of the pixels")
    by_distance.set_ylim(bottom=0)
    legend_below(figure, *by_image.get_legend_handles_labels())
    save_figure(figure, path)
