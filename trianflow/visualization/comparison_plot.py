"""Pictures of a comparison of methods: how they learn, and how their poses stand faster motion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trianflow.visualization.style import legend_below, line_styles, new_figure, save_figure, style_axes

Curve = Sequence[tuple[float, float]]


def plot_learning(path: str | Path, depth_error: Mapping[str, Curve], inverse_depth: Mapping[str, Curve]) -> None:
    """Draw the error of depth, and the mean inverse depth, by the minutes of training; write the picture.

    A scale that collapses shows as an inverse depth that falls, or rises, without end.

    Args:
        path: the picture; its folder must exist.
        depth_error: AbsRel by method.
        inverse_depth: by method, in the network's own unit; a method may be missing. Without any, error alone is drawn.

    Raises:
        TrianflowError: the file cannot be written.
    """
    figure = new_figure(10, 4.6, "Learning")
    known = [name for name in depth_error if inverse_depth.get(name)]
    panels = list(figure.subplots(1, 1 + bool(known), squeeze=False)[0])
    for (name, curve), style in zip(depth_error.items(), line_styles(len(depth_error))):
        panels[0].plot(*_columns(curve), label=name, marker=".", **style)
        if name in known:
            panels[1].plot(*_columns(inverse_depth[name]), marker=".", **style)
    for axes, label in zip(panels, ("AbsRel, scaled by the median", "mean inverse depth, network's unit")):
        style_axes(axes)
        axes.set_xlabel("minutes of training")
        axes.set_ylabel(label)
        axes.set_xlim(left=0)
    _from_zero(panels[0])
    if known:
        _by_ratio(panels[1], [y for name in known for _, y in inverse_depth[name]])
    legend_below(figure, *panels[0].get_legend_handles_labels())
    save_figure(figure, path)


def plot_poses(path: str | Path, scores: Mapping[str, Mapping[int, tuple[float, float]]]) -> None:
    """Draw the errors of rotation and translation by the stride between the frames; write the picture.

    Args:
        path: the picture; its folder must exist.
        scores: by method and stride the median rotation error in degrees, and that of the translation as a share.

    Raises:
        TrianflowError: the file cannot be written.
    """
    figure = new_figure(10, 4.6, "Poses of pairs, the camera as fast as in training and faster")
    panels = figure.subplots(1, 2)
    strides = sorted({stride for score in scores.values() for stride in score})
    for (name, score), style in zip(scores.items(), line_styles(len(scores))):
        for panel, axes in enumerate(panels):
            axes.plot(list(score), [values[panel] for values in score.values()], marker="o", label=name, **style)
    for axes, label in zip(panels, ("rotation error, degrees", "translation error, share of the length")):
        style_axes(axes)
        axes.set_xlabel("frames from the first image to the second")
        axes.set_ylabel(label)
        axes.set_xticks(strides)
        _from_zero(axes)
    legend_below(figure, *panels[0].get_legend_handles_labels())
    save_figure(figure, path)


def _from_zero(axes: Any) -> None:
    """A scale from zero to a little above the lines."""
    highest = max((y for line in axes.get_lines() for y in line.get_ydata() if math.isfinite(y)), default=0.0)
    axes.set_ylim(0, 1.05 * highest or 1.0)


def _by_ratio(axes: Any, values: Sequence[float]) -> None:
    """A logarithmic scale with plain numbers on it, twice as far as the values both ways."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.set_ylim(min(values) / 2, max(values) * 2)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _columns(curve: Curve) -> tuple[list[float], list[float]]:
    return [x for x, _ in curve], [y for _, y in curve]
