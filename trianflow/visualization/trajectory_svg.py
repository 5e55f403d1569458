"""A trajectory as a small drawing that needs no library: what a notebook shows of it."""

from __future__ import annotations

import numpy as np

_SIDE, _EDGE = 220, 12  # of the drawing and around it, pixels
_MOST = 400  # points of the line
_LINE, _START, _END = "#3b82f6", "#8a94a3", "#e8590c"  # seen on white and on black


def trajectory_svg(positions: np.ndarray, path_length: float) -> str:
    """Camera centres from above, x to the right and z up with one scale, a disc at the start and a square at the end.

    Args:
        positions: `(N, 3)`; without a pose, or with one that is not finite, there is only a line of text.
        path_length: written below.

    Returns:
        HTML without scripts, a few kilobytes at most.
    """
    if not len(positions):
        return "<div>Trajectory without a pose</div>"
    if not np.isfinite(positions).all():
        return f"<div>Trajectory of {len(positions)} poses, not all of them finite</div>"
    kept = np.unique(np.linspace(0, len(positions) - 1, min(len(positions), _MOST)).round().astype(int))
    plane = positions[kept][:, [0, 2]]
    with np.errstate(over="ignore"):
        extent = float(np.ptp(plane, axis=0).max())
    scale = (_SIDE - 2 * _EDGE) / extent if 1e-300 < extent < np.inf else 0.0
    centred = (plane - plane.min(0)) * scale
    left_over = (_SIDE - 2 * _EDGE - centred.max(0)) / 2
    x, y = centred[:, 0] + _EDGE + left_over[0], _SIDE - _EDGE - left_over[1] - centred[:, 1]
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist()))
    poses = "1 pose" if len(positions) == 1 else f"{len(positions)} poses"
    return (
        f'<div><svg width="{_SIDE}" height="{_SIDE}" role="img" aria-label="trajectory from above">'
        f'<polyline points="{points}" fill="none" stroke="{_LINE}" stroke-width="2" stroke-linejoin="round"/>'
        f'<circle cx="{x[0]:.1f}" cy="{y[0]:.1f}" r="4" fill="{_START}"><title>start</title></circle>'
        f'<rect x="{x[-1] - 4:.1f}" y="{y[-1] - 4:.1f}" width="8" height="8" fill="{_END}"><title>end</title></rect>'
        f"</svg><div>{poses}, path {path_length:.4g}, from above: "
        f'<span style="color:{_START}">●</span> start <span style="color:{_END}">■</span> end</div></div>'
    )
