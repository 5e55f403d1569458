"""Pictures of odometry metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.evaluation.odometry import OdometryMetrics
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
