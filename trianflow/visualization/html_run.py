"""The data of the page of a run: trajectories, curves, cloud and pictures, packed for its scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trianflow.visualization import overlay as draw
from trianflow.visualization.colors import color_scalar
from trianflow.visualization.html_page import packed, rounded
from trianflow.visualization.html_thumbnails import DOUBTFUL, HIDDEN, Thumbnails, depth_key, flow_key

# Layers of the pictures: what their colours mean.
_LAYERS = {
    "image": ("Image", []),
    "flow": ("Flow", []),
    "depth": ("Depth", []),
    "occlusion": ("Occlusion", [(HIDDEN, "not seen in the key frame"), (DOUBTFUL, "there and back disagree")]),
    "inliers": ("Inliers", [(draw.INLIER, "fits the motion"), (draw.OUTLIER, "does not")]),
}


@dataclass(frozen=True)
class Curve:
    """A number over the frames.

    Attributes:
        title: what it is.
        unit: of it.
        values: one a frame, None or NaN where it is not known.
        detail: what it is more exactly, in a few words.
    """

    title: str
    unit: str
    values: Sequence[float | None]
    detail: str = ""


@dataclass
class RunView:
    """A run as it is drawn.

    Attributes:
        rows: of `report.json`, one a frame.
        T_wc: `(N, 4, 4)` camera to world.
        unit: of it.
        view_angle: half the width and half the height of what the camera sees at depth 1.
        scale: of `T_wc` to the trajectory of the run: other than 1 where an alignment has changed it.
        truth: `(M, 3)` positions in the same world; none where there is no truth.
        alignment: how the estimate was laid over the truth, in words.
        errors: `(N,)` distances from the truth, NaN where it has no pose; None without truth.
        loops: pairs of rows.
        cloud, colors: `(P, 3)` points in the same world, and uint8 RGB.
        curves: in order.
    """

    rows: Sequence[Mapping[str, Any]]
    T_wc: np.ndarray
    unit: str = "units"
    view_angle: tuple[float, float] = (0.6, 0.4)
    scale: float = 1.0
    truth: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    alignment: str = ""
    errors: np.ndarray | None = None
    loops: Sequence[Sequence[int]] = ()
    cloud: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    colors: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.uint8))
    curves: Sequence[Curve] = ()


def run_data(view: RunView, thumbnails: Thumbnails) -> dict[str, Any]:
    """What the scripts of the page read."""
    rows = view.rows
    counts = Counter(row["status"] for row in rows)
    words = [word for word, _ in counts.most_common()]
    sources = sorted({row["scale_source"] for row in rows})
    return {
        "unit": view.unit,
        "frames": {
            "index": [row["index"] for row in rows],
            "time": rounded([row["time"] for row in rows], 12),
            "name": [row["name"] for row in rows],
            "status": [words.index(row["status"]) for row in rows],
            "source": [sources.index(row["scale_source"]) for row in rows],
            "matches": [row["matches"] for row in rows],
            "note": {str(i): row["note"] for i, row in enumerate(rows) if row["note"]},
        },
        "statuses": [{"word": w, "label": w.replace("_", " "), "count": counts[w]} for w in words],
        "sources": sources,
        "poses": packed(view.T_wc[:, :3].astype(np.float64)),
        "truth": packed(view.truth.astype(np.float64)),
        "alignment": view.alignment,
        "errors": None if view.errors is None else rounded(view.errors.tolist()),
        "loops": [list(pair) for pair in view.loops],
        "cloud": {"points": packed(view.cloud.astype(np.float64)), "colors": packed(view.colors)},
        "curves": [
            {"title": c.title, "unit": c.unit, "detail": c.detail, "values": rounded(c.values)} for c in view.curves
        ],
        "viewAngle": list(view.view_angle),
        "ramp": [_hex(color) for color in color_scalar(np.linspace(0, 0.85, 24)[None], 0, 1)[0].tolist()],
        "pictures": _pictures(thumbnails),
        "flowKey": flow_key(),
        "depthKey": depth_key(),
    }


def _pictures(thumbnails: Thumbnails) -> dict[str, Any]:
    """Layers that at least one frame has, and the pictures in them."""
    layers = []
    for key, (label, legend) in _LAYERS.items():
        found = [pictures.get(key) for pictures in thumbnails.pictures]
        if any(found):
            layers.append(
                {
                    "key": key,
                    "label": label,
                    "legend": [{"color": _hex(color), "text": text} for color, text in legend],
                    "jpeg": [picture.jpeg if picture else None for picture in found],
                    "caption": [picture.caption if picture else "" for picture in found],
                }
            )
    return {"rows": thumbnails.rows, "layers": layers}


def _hex(color: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
