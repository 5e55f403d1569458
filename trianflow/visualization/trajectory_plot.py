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

INK = "#1f2933"
_FAINT, _TRUTH, _END = "#8a94a3", "#b3bac5", "#c2410c"
_LINES = ("#1d5fd1", "#d9480f", "#0b8a6b", "#8b3fc7", "#c99700", "#0891b2")
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

    Above: x to the right and z forward in the frame of the first camera, equal axes. Below: the height (-y)
    over the path length, drawn on a scale of its own.

    Args:
        path_png: the picture; its folder must exist. The suffix chooses the format (png, pdf, svg).
        est: one trajectory, or several by name.
        gt: the truth in metres; None draws the estimates as they are.
        status: one word a pose of a single estimate; poses whose status is not `ok` are marked.
        title: over the picture.
        alignment: how each estimate is laid over the truth; named in the legend.
        unit: of the axes; None for metres with a truth and an arbitrary unit without.

    Raises:
        TrianflowError: no pose to draw, nothing in common with the truth, or the file cannot be written.
        ValueError: `status` has another length than the estimate, or there are several estimates.
    """
    named = dict(est) if isinstance(est, Mapping) else {"estimate": est}
    if not named or not all(len(t) for t in named.values()):
        raise TrianflowError(f"{path_png}: no pose to draw")
    if status is not None and (len(named) > 1 or len(status) != len(next(iter(named.values())))):
        raise ValueError("status is one word for each pose of a single estimate")
    lines, truth = _align(named, gt, Alignment(alignment))

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8.6), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    above, side = figure.subplots(2, 1, height_ratios=[4, 1])
    if truth is not None:
        for axes, x, y in ((above, *_above(truth)), (side, *_side(truth))):
            axes.plot(x, y, color=_TRUTH, linewidth=4, solid_capstyle="round", label="ground truth")
    for (label, trajectory), style in zip(lines.items(), line_styles(len(lines))):
        for axes, x, y in ((above, *_above(trajectory)), (side, *_side(trajectory))):
            axes.plot(x, y, **style, solid_capstyle="round", label=label, zorder=3)
    for trajectory in lines.values():
        _ends(above, *_above(trajectory))
    if status is not None:
        first = next(iter(lines.values()))
        _mark(above, *_above(first), status)
        _mark(side, *_side(first), status)

    bracket = f" ({unit or ('m' if gt is not None else 'arbitrary unit')})"
    above.set_aspect("equal", adjustable="datalim")
    above.set_xlabel(f"x, right{bracket}")
    above.set_ylabel(f"z, forward{bracket}")
    side.set_xlabel(f"path length{bracket}")
    side.set_ylabel(f"height{bracket}")
    for axes in (above, side):
        style_axes(axes)
    figure.align_ylabels([above, side])
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold", color=INK)
    legend = dict(zip(*reversed(above.get_legend_handles_labels())))  # one entry a label
    figure.legend(
        legend.values(),
        legend.keys(),
        title=f"alignment to the truth: {Alignment(alignment).label}" if gt is not None else None,
        title_fontproperties={"size": 9.5},
        loc="outside lower center",
        ncols=int(np.clip(108 // (max(map(len, legend)) + 8), 1, 5)),
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
    )
    save_figure(figure, path_png)


def _align(
    named: Mapping[str, Trajectory], gt: Trajectory | None, alignment: Alignment
) -> tuple[dict[str, Trajectory], Trajectory | None]:
    """The trajectories to draw by name, and the truth, in one world."""
    if gt is None:
        return {name: t.relative_to_first() for name, t in named.items()}, None
    pairs = {name: align_trajectories(gt, t, alignment) for name, t in named.items()}
    begin = min(p.gt_index[0] for p in pairs.values())
    T_first = np.linalg.inv(gt.T_wc[begin])  # estimates may begin at different frames of the truth
    lines = {}
    for name, p in pairs.items():
        T_0 = T_first @ gt.T_wc[p.gt_index[0]]
        lines[name] = Trajectory(p.est.times, T_0 @ p.est.T_wc)
    return lines, Trajectory(gt.times, T_first @ gt.T_wc)


def _above(trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    return trajectory.positions[:, 0], trajectory.positions[:, 2]


def _side(trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    return trajectory.distances, -trajectory.positions[:, 1]


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
    axes.plot(x[-1:], y[-1:], marker="s", markersize=8, color=_END, label="end", **style)


def line_styles(n: int) -> list[dict[str, Any]]:
    """Colour and dashes of n lines: six colours, then the same ones dashed, dotted, dash-dotted."""
    dashes = ("-", "--", ":", "-.")
    return [
        {"color": _LINES[i % len(_LINES)], "linestyle": dashes[i // len(_LINES) % len(dashes)], "linewidth": 1.6}
        for i in range(n)
    ]


def style_axes(axes: Any) -> None:
    """A quiet frame: no top and right spine, faint grid behind the lines."""
    axes.grid(True, color="#e6e9ee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(0.06, 0.08)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_FAINT)
    axes.tick_params(color=_FAINT, labelcolor=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a matplotlib figure.

    Raises:
        TrianflowError: the file cannot be written, or the suffix is no format.
    """
    try:
        figure.savefig(path)
    except (OSError, ValueError) as e:  # ValueError: a suffix that matplotlib does not know
        reason = e.strerror if isinstance(e, OSError) else str(e).split(" (")[0]
        raise TrianflowError(f"{path}: cannot write the picture: {reason}") from e
