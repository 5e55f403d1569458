"""A picture of a trajectory: seen from above, and its height along the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.evaluation.alignment import Alignment, align_trajectories
from trianflow.trajectory import Trajectory
from trianflow.visualization.style import FAINT, INK, legend_below, line_styles, new_figure, save_figure, style_axes

_TRUTH = "#b3bac5"
_MARKS = {
    "static": "#0891b2",
    "rotation_only": "#8b3fc7",
    "planar": "#c99700",
    "too_few_matches": "#e11d48",
    "no_consensus": "#f97316",
}


def plot_trajectory(
    path_png: str | Path,
    est: Trajectory | Mapping[str, Trajectory],
    gt: Trajectory | None = None,
    status: Sequence[str] | None = None,
    title: str = "",
    alignment: Alignment | str = Alignment.SIM3,
    unit: str | None = None,
) -> None:
    """Draw estimates, and the truth they are aligned to, from above and from the side; write the picture.

    Args:
        path_png: the picture; its folder must exist.
        est, gt, status, title, alignment, unit: as for `trajectory_figure`.

    Raises:
        TrianflowError: no pose to draw, nothing in common with the truth, or the file cannot be written.
        ValueError: `status` has another length than the estimate, or there are several estimates.
    """
    try:
        figure = trajectory_figure(est, gt, status, title, alignment, unit)
    except NoPose as e:
        raise TrianflowError(f"{path_png}: {e}") from None
    save_figure(figure, path_png)


class NoPose(TrianflowError):
    """There is nothing to draw."""


def trajectory_figure(
    est: Trajectory | Mapping[str, Trajectory],
    gt: Trajectory | None = None,
    status: Sequence[str] | None = None,
    title: str = "",
    alignment: Alignment | str = Alignment.SIM3,
    unit: str | None = None,
) -> Any:
    """Estimates, and the truth they are aligned to, from above and from the side.

    Above: x to the right and z forward in the frame of the first camera, equal axes. Below: the height (-y)
    over the path length, drawn on a scale of its own. A single estimate is coloured by its distance from the truth.

    Args:
        est: one trajectory, or several by name.
        gt: the truth in metres, drawn as far as there are estimates; None draws the estimates as they are.
        status: one word a pose of a single estimate; poses whose status is not `ok` are marked.
        title: over the picture.
        alignment: how each estimate is laid over the truth; named in the legend.
        unit: of the axes; None for metres with a truth and an arbitrary unit without.

    Returns:
        A matplotlib `Figure`.

    Raises:
        TrianflowError: no pose to draw, or nothing in common with the truth.
        ValueError: `status` has another length than the estimate, or there are several estimates.
    """
    named = dict(est) if isinstance(est, Mapping) else {"estimate": est}
    if not named or not all(len(t) for t in named.values()):
        raise NoPose("no pose to draw")
    if status is not None and (len(named) > 1 or len(status) != len(next(iter(named.values())))):
        raise ValueError("status is one word for each pose of a single estimate")
    lines, truth, error, begins = _align(named, gt, Alignment(alignment))
    bracket = f" ({unit or ('m' if gt is not None else 'arbitrary unit')})"

    figure = new_figure(8, 8.6, title)
    above, side = figure.subplots(2, 1, height_ratios=[4, 1])
    if truth is not None:
        above_width = 4 if error is None else 8  # wider than what lies on it
        for axes, x, y, width in ((above, *_above(truth), above_width), (side, *_side(truth), 4)):
            axes.plot(x, y, color=_TRUTH, linewidth=width, solid_capstyle="round", label="ground truth")
    for (label, trajectory), style in zip(lines.items(), line_styles(len(lines))):
        for axes, x, y in ((above, *_above(trajectory)), (side, *_side(trajectory, begins[label]))):
            axes.plot(x, y, **style, solid_capstyle="round", label=label, zorder=3)
    if error is not None:
        _color_by_error(figure, above, *_above(next(iter(lines.values()))), error, f"distance from the truth{bracket}")
    for trajectory in lines.values():
        _ends(above, *_above(trajectory))
    if status is not None:
        first = next(iter(lines.values()))
        _mark(above, *_above(first), status)
        _mark(side, *_side(first, begins[next(iter(lines))]), status)

    above.set_aspect("equal", adjustable="datalim")
    above.set_xlabel(f"x, right{bracket}")
    above.set_ylabel(f"z, forward{bracket}")
    side.set_xlabel(f"path length{bracket}")
    side.set_ylabel(f"height{bracket}")
    for axes in (above, side):
        style_axes(axes)
    figure.align_ylabels([above, side])
    aligned = f"alignment to the truth: {Alignment(alignment).label}" if gt is not None else None
    handles, labels = above.get_legend_handles_labels()
    legend_below(figure, handles, labels, aligned)
    return figure


def _align(
    named: Mapping[str, Trajectory], gt: Trajectory | None, alignment: Alignment
) -> tuple[dict[str, Trajectory], Trajectory | None, np.ndarray | None, dict[str, float]]:
    """The trajectories to draw by name and the truth as far as they go, in one world, and the error of a single one.

    The error is the distance from the truth at each pose, of poses without a true one that of their neighbours. Last
    the path length at which each trajectory begins: at its first common pose it has come as far as the truth.
    """
    if gt is None:
        return {name: t.relative_to_first() for name, t in named.items()}, None, None, dict.fromkeys(named, 0.0)
    pairs = {name: align_trajectories(gt, t, alignment) for name, t in named.items()}
    begin, end = min(p.gt_index[0] for p in pairs.values()), max(p.gt_index[-1] for p in pairs.values()) + 1
    T_first = np.linalg.inv(gt.T_wc[begin])  # estimates may begin at different frames of the truth
    lines = {}
    for name, p in pairs.items():
        T_0 = T_first @ gt.T_wc[p.gt_index[0]]
        lines[name] = Trajectory(p.est.times, T_0 @ p.est.T_wc)
    error = None
    if len(pairs) == 1:
        (p,) = pairs.values()
        distance = np.linalg.norm(p.gt.positions[p.gt_index] - p.est.positions[p.est_index], axis=1)
        error = np.interp(np.arange(len(p.est)), p.est_index, distance)
    come = gt.distances - gt.distances[begin]
    begins = {name: float(come[p.gt_index[0]] - p.est.distances[p.est_index[0]]) for name, p in pairs.items()}
    return lines, Trajectory(gt.times[begin:end], T_first @ gt.T_wc[begin:end]), error, begins


def _color_by_error(figure: Any, axes: Any, x: np.ndarray, y: np.ndarray, error: np.ndarray, label: str) -> None:
    """Draw each segment in the colour of the mean error `(N,)` at its ends, with a bar for the colours."""
    from matplotlib.collections import LineCollection

    points = np.stack([x, y], 1)
    segments = LineCollection(
        list(np.stack([points[:-1], points[1:]], 1)), cmap="plasma", linewidth=3, capstyle="round", zorder=4
    )
    segments.set_array((error[:-1] + error[1:]) / 2)
    segments.set_clim(0, max(float(error.max()), 1e-9))
    axes.add_collection(segments)
    bar = figure.colorbar(segments, ax=axes, shrink=0.6, aspect=30, pad=0.01)
    bar.set_label(label, color=INK)
    bar.ax.tick_params(color=FAINT, labelcolor=INK, labelsize=9)
    bar.outline.set_visible(False)


def _above(trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    return trajectory.positions[:, 0], trajectory.positions[:, 2]


def _side(trajectory: Trajectory, begin: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    return begin + trajectory.distances, -trajectory.positions[:, 1]


def _mark(axes: Any, x: np.ndarray, y: np.ndarray, status: Sequence[str]) -> None:
    """Dots on the poses whose status is not `ok`, one colour and legend entry a status."""
    words = np.array(list(status))
    for word, count in sorted(Counter(status).items()):
        if word != "ok":
            at = words == word
            color = _MARKS.get(word, "#111111")
            label = f"{word.replace('_', ' ')} ({count})"
            style: dict[str, Any] = {"markersize": 5, "markeredgewidth": 0}
            axes.plot(x[at], y[at], "o", color=color, label=label, zorder=5, **style)


def _ends(axes: Any, x: np.ndarray, y: np.ndarray) -> None:
    """A disc where the trajectory starts and a square where it ends."""
    style: dict[str, Any] = {
        "markeredgecolor": "white",
        "markeredgewidth": 1.2,
        "linestyle": "none",
        "zorder": 6,
    }
    axes.plot(x[:1], y[:1], marker="o", markersize=9, color=INK, label="start", **style)
    axes.plot(x[-1:], y[-1:], marker="s", markersize=8, color=INK, label="end", **style)
