"""Pictures of odometry metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.evaluation.odometry import OdometryMetrics
from trianflow.evaluation.snippets import SnippetScore
from trianflow.visualization.style import legend_below, line_styles, new_figure, save_figure, style_axes


def plot_length_errors(path: str | Path, results: Mapping[str, OdometryMetrics], title: str = "") -> None:
    """Draw KITTI's t_err and r_err over the segment length, a line for each estimate; write the picture.

    Args:
        path: the picture; its folder must exist.
        results: name of the estimate to its metrics; all of one truth and one alignment.
        title: over the picture.

    Raises:
        TrianflowError: no segment at all, or the file cannot be written.
    """
    drawn = {name: m for name, m in results.items() if m.segments}
    if not drawn:
        raise TrianflowError(f"{path}: no estimate has a segment of the lengths asked for: no curve to draw")
    figure = new_figure(9, 4.4, title)
    left, right = figure.subplots(1, 2)
    for (name, m), style in zip(drawn.items(), line_styles(len(drawn))):
        lengths = [e.length for e in m.per_length]
        for axes, errors in ((left, [e.t_err for e in m.per_length]), (right, [e.r_err for e in m.per_length])):
            values = np.array(errors, dtype=np.float64)  # None becomes NaN, a gap in the line
            axes.plot(lengths, values, **style, marker="o", markersize=4, label=name, clip_on=False)
    for axes, label in ((left, "t_err (%)"), (right, "r_err (°/100 m)")):
        axes.set_xlabel("segment length (m)")
        axes.set_ylabel(label)
        style_axes(axes)
        axes.set_ylim(bottom=0)
    alignment = next(iter(drawn.values())).alignment
    handles, labels = left.get_legend_handles_labels()
    legend_below(figure, handles, labels, f"alignment to the truth: {alignment.label}")
    save_figure(figure, path)


def plot_snippet_errors(path: str | Path, scores: Mapping[str, SnippetScore], title: str = "") -> None:
    """Draw the ATE of each snippet along the sequence, and the share of snippets below an ATE; write the picture.

    Args:
        path: the picture; its folder must exist.
        scores: name of the prediction to its score; all of one truth and one length.
        title: over the picture, before the length of the snippets.

    Raises:
        TrianflowError: the file cannot be written.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    first = next(iter(scores.values()))
    length = first.errors.length
    window = first.true // 100 * 2 + 1
    figure = new_figure(10, 4.6, f"{title}, snippets of {length} frames".lstrip(", "))
    along, share = figure.subplots(1, 2, width_ratios=[5, 2], sharey=True)
    for (name, score), style in zip(scores.items(), line_styles(len(scores))):
        errors = score.errors.errors
        dots: dict[str, Any] = {"markersize": 2, "markeredgewidth": 0, "alpha": 0.4}
        along.plot(score.first, errors, "o", color=style["color"], **dots)
        label = f"{name}: mean {score.errors.mean:.3g} m, median {np.median(errors):.3g} m"
        along.plot(*_with_gaps(score.first, _running_median(errors, window)), label=label, **style)
        ranked = np.sort(errors)
        share.step(np.linspace(0, 100, len(ranked) + 1), np.r_[ranked[0], ranked], where="pre", **style)
    for axes in (along, share):
        style_axes(axes)
    along.set_xlabel("first frame of the snippet")
    along.set_ylabel(f"ATE of {length} frames (m)")
    share.set_xlabel("snippets below (%)")
    if any(score.errors.errors.any() for score in scores.values()):  # methods differ by factors, so do snippets
        along.set_yscale("log", nonpositive="mask")
        along.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        along.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        along.yaxis.set_minor_formatter(NullFormatter())
    lines = f"a dot for each snippet; lines: the median of {window} of them" if window > 1 else None
    handles, labels = along.get_legend_handles_labels()
    legend_below(figure, handles, labels, lines)
    save_figure(figure, path)


def _running_median(values: np.ndarray, window: int) -> np.ndarray:
    """The median of an odd number of neighbours of each of `(N,)` values, fewer at the ends."""
    padded = np.pad(values, window // 2, constant_values=np.nan)
    return np.asarray(np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1))


def _with_gaps(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A line over growing `x`, broken where more is missing than between its closest points."""
    steps = np.diff(x)
    gaps = np.flatnonzero(steps > min(steps, default=0)) + 1
    return np.insert(x.astype(np.float64), gaps, np.nan), np.insert(y, gaps, np.nan)
