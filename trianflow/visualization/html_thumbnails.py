"""Small pictures of a few frames with what was made of them: flow, depth, occlusion, matches."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from trianflow.flow.interface import FlowPair
from trianflow.flow.occlusion import flow_quality
from trianflow.visualization import overlay as draw
from trianflow.visualization.colors import color_depth, color_flow, color_scalar, depth_range, flow_range

HIDDEN, DOUBTFUL = (235, 64, 52), (255, 196, 0)  # no counterpart; there and back leads elsewhere
_QUALITY = 80  # of the JPEG files
_CELL = 12  # a match for each square of this side, pixels
_LONGEST = 0.06  # tail of a match, share of the width


@dataclass(frozen=True)
class FrameView:
    """A frame b and how it relates to its key frame a, as far as that is known.

    Attributes:
        image: `(H, W)` or `(H, W, 3)` uint8.
        flow: between a and b, B = 1.
        p_a, p_b: `(N, 2)` matches, pixels.
        inlier: `(N,)` bool, which of them fit.
        depth: `(H, W)` along z, 0 where unknown.
        points: `(M, 3)` x, y and depth of single points, in place of `depth`.
        unit: of the depths.
    """

    image: np.ndarray
    flow: FlowPair | None = None
    p_a: np.ndarray | None = None
    p_b: np.ndarray | None = None
    inlier: np.ndarray | None = None
    depth: np.ndarray | None = None
    points: np.ndarray | None = None
    unit: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture of a frame.

    Attributes:
        jpeg: base64.
        caption: in a few words, empty where there is nothing to say.
    """

    jpeg: str
    caption: str = ""


class Thumbnails:
    """Pictures of frames that are spread evenly over a run whose length is not known: at most `limit` of them.

    All frames are taken until there are too many; then every other one is dropped, and of the coming ones too.

    Args:
        limit: even number of frames.
        width: of the pictures, pixels; smaller images keep their size.

    Attributes:
        rows: of the frames that were taken.
        pictures: by layer (`image`, `flow`, `depth`, `occlusion`, `inliers`), one dict a frame.
    """

    def __init__(self, limit: int = 48, width: int = 400) -> None:
        self.rows: list[int] = []
        self.pictures: list[dict[str, Picture]] = []
        self._limit, self._width, self._stride, self._next = limit, width, 1, 0

    def offer(self, row: int, view: Callable[[], FrameView]) -> None:
        """Take a frame if it is due; rows rise from call to call. `view` is called only then."""
        if row < self._next:
            return
        if len(self.rows) == self._limit:
            self.rows, self.pictures = self.rows[::2], self.pictures[::2]
            self._stride *= 2
            self._next = row + -row % self._stride
            if row < self._next:
                return
        self.rows.append(row)
        self.pictures.append(draw_layers(view(), self._width))
        self._next = (row // self._stride + 1) * self._stride


def draw_layers(view: FrameView, width: int) -> dict[str, Picture]:
    """All pictures that a frame has: `image` always, the others where they are known.

    Args:
        view: the frame.
        width: of the pictures, pixels, at most.
    """
    H, W = view.image.shape[:2]
    width = min(width, W)
    height = max(1, round(H * width / W))
    image, S = draw.fitted(view.image, height, width), draw.resizing(view.image, height, width)
    shade = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] / np.float32(255)
    pictures = {"image": _picture(image)}
    if view.flow is not None:
        x, y = (
            cv2.resize(-part, (width, height), interpolation=cv2.INTER_AREA) for part in view.flow.flow_ba[0].numpy()
        )
        motion = np.stack([x, y], -1)
        largest = flow_range(motion)
        pictures["flow"] = _picture(color_flow(motion, largest) * (0.4 + 0.6 * shade), f"up to {largest:.3g} px")
        pictures["occlusion"] = _occlusion(image, view.flow)
    if view.p_a is not None and view.p_b is not None and view.inlier is not None:
        p_a, p_b = (p @ S[:2, :2] + S[:2, 2] for p in (view.p_a, view.p_b))
        pictures["inliers"] = _matches(image, p_a, p_b, view.inlier)
    if view.depth is not None and (view.depth > 0).any():
        small = cv2.resize(view.depth, (width, height), interpolation=cv2.INTER_NEAREST)
        ends = depth_range(small)
        pictures["depth"] = _picture(color_depth(small, ends) * (0.6 + 0.4 * shade), _span(ends, view.unit))
    elif view.points is not None and len(view.points):
        p = view.points[:, :2] @ S[:2, :2] + S[:2, 2]
        pictures["depth"] = _sparse_depth(image, p, view.points[:, 2], view.unit)
    return pictures


def flow_key(size: int = 96) -> str:
    """The wheel of flow colours as a data URI (PNG, transparent around it)."""
    span = np.linspace(-1, 1, size)
    flow = np.stack(np.meshgrid(span, span), -1)
    inside = np.hypot(flow[..., 0], flow[..., 1]) <= 1
    return _png(np.dstack([color_flow(flow, 1.0), 255 * inside.astype(np.uint8)]))


def depth_key(length: int = 128) -> str:
    """The colours of depth, near first, as a data URI (PNG)."""
    return _png(color_scalar(np.linspace(1, 0, length)[None], 0, 1))


def _occlusion(image: np.ndarray, flow: FlowPair) -> Picture:
    height, width = image.shape[:2]
    stride = max(1, flow.flow_ab.shape[-1] // width)
    quality = flow_quality(FlowPair(flow.flow_ba, flow.flow_ab), stride=stride)  # of the frame, not of the key frame
    hidden = quality.visible[0, 0] < 0.5
    doubtful = ~quality.consistent[0, 0] & ~hidden
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, -1).astype(np.float32)
    for mask, color in ((doubtful, DOUBTFUL), (hidden, HIDDEN)):
        small = mask.numpy().astype(np.uint8)
        shown = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST) > 0
        grey[shown] = 0.4 * grey[shown] + 0.6 * np.array(color, np.float32)
    return _picture(grey, f"{100 * float(hidden.float().mean()):.0f} % hidden")


def _matches(image: np.ndarray, p_a: np.ndarray, p_b: np.ndarray, inlier: np.ndarray) -> Picture:
    canvas = (0.75 * image).astype(np.uint8)
    for kind, color in ((inlier, draw.INLIER), (~inlier, draw.OUTLIER)):
        chosen = np.flatnonzero(kind)[draw.spread(p_b[kind], _CELL)]
        draw.draw_motion(canvas, p_a[chosen], p_b[chosen], color, _LONGEST * image.shape[1])
    return _picture(canvas, f"{100 * inlier.mean():.0f} % fit" if len(inlier) else "no matches")


def _sparse_depth(image: np.ndarray, p: np.ndarray, depth: np.ndarray, unit: str) -> Picture:
    """Single points in the colours of their depth, on the dimmed image."""
    ends = depth_range(depth)
    colors = color_depth(depth[None], ends)[0]
    canvas = (0.55 * image).astype(np.uint8)
    radius = max(1, round(image.shape[1] / 200))
    for i in np.argsort(-depth):
        cv2.circle(canvas, (round(p[i, 0]), round(p[i, 1])), radius, colors[i].tolist(), -1, cv2.LINE_AA)
    return _picture(canvas, _span(ends, unit))


def _span(ends: tuple[float, float], unit: str) -> str:
    near, far = (float(f"{end:.3g}") for end in ends)  # 1070, not 1.07e+03
    return f"{near:g} to {far:g} {unit}".strip()


def _picture(rgb: np.ndarray, caption: str = "") -> Picture:
    bgr = cv2.cvtColor(rgb.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return Picture(base64.b64encode(data.tobytes()).decode("ascii"), caption)


def _png(rgb: np.ndarray) -> str:
    way = cv2.COLOR_RGBA2BGRA if rgb.shape[-1] == 4 else cv2.COLOR_RGB2BGR
    data = cv2.imencode(".png", cv2.cvtColor(rgb, way))[1]
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode("ascii")
