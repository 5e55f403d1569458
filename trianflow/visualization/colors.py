"""Flow, depth and other maps of numbers as colours."""

from __future__ import annotations

import cv2
import numpy as np

# Middlebury's wheel: red, yellow, green, cyan, blue, magenta and red again, at these of its 55 steps
_STEPS = np.array([0, 15, 21, 25, 36, 49, 55])
_CORNERS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], np.float64)
_BEYOND = 0.75  # brightness of what is longer than the wheel reaches


def color_flow(flow: np.ndarray, largest: float | None = None) -> np.ndarray:
    """A flow field in Middlebury's colours: hue is its direction, saturation its length; white stands still.

    To the right is red, down yellow, to the left cyan, up violet.

    Args:
        flow: `(H, W, 2)` pixels; what is not finite becomes black.
        largest: length of full saturation, pixels, longer flow is darker; by default `flow_range`.

    Returns:
        `(H, W, 3)` uint8 RGB.

    Source: Baker et al., "A database and evaluation methodology for optical flow", IJCV 92, 2011.
    """
    if largest is None:
        largest = flow_range(flow)
    known = _known(flow)
    dx, dy = (np.where(known, flow[..., i], 0).astype(np.float32) for i in (0, 1))
    length = np.hypot(dx, dy) / np.float32(max(largest, 1e-6))
    step = np.arctan2(dy, dx) * np.float32((_STEPS[-1] - 1) / (2 * np.pi)) % np.float32(_STEPS[-1] - 1)
    rgb = np.zeros((*known.shape, 3), np.uint8)
    for channel, corner in enumerate(_CORNERS.T):
        hue = np.interp(step, _STEPS, corner).astype(np.float32)
        value = np.where(length <= 1, 1 - length * (1 - hue), _BEYOND * hue)
        rgb[..., channel] = np.where(known, 255 * value + 0.5, 0)
    return rgb


def flow_range(flow: np.ndarray) -> float:
    """The length that most of a flow `(H, W, 2)` stays below, its 99th percentile, pixels; 1 where nothing is known."""
    known = _known(flow)
    return float(np.percentile(np.hypot(*flow[known].T), 99)) if known.any() else 1.0


def _known(flow: np.ndarray) -> np.ndarray:
    return np.isfinite(flow[..., 0]) & np.isfinite(flow[..., 1])


def color_scalar(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """A map of numbers as colours that look evenly spaced, low dark and high bright (viridis).

    Args:
        values: `(H, W)`; what is not finite becomes black, which is no colour of the scale.
        low, high: ends of the scale; by default the 2nd and 98th percentile.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    known = np.isfinite(values)
    finite = values[known] if known.any() else np.zeros(1)
    low = float(np.percentile(finite, 2)) if low is None else low
    high = float(np.percentile(finite, 98)) if high is None else high
    scaled = np.clip((np.where(known, values, low) - low) / max(high - low, 1e-12), 0, 1)
    bgr = cv2.applyColorMap((scaled * 255).round().astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    rgb[~known] = 0
    return rgb


def color_depth(depth: np.ndarray, ends: tuple[float, float] | None = None) -> np.ndarray:
    """Depths as colours by their inverse: near is bright, and a step in colour is as sure near as far.

    Args:
        depth: `(H, W)` along z; what is not finite or not positive is unknown and becomes black.
        ends: depths of the brightest and the darkest colour; by default `depth_range`.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    near, far = ends or depth_range(depth)
    return color_scalar(_inverse(depth), 1 / far, 1 / near)


def depth_range(depth: np.ndarray) -> tuple[float, float]:
    """The depths that most of a map `(H, W)` lies between, its 2nd and 98th percentile; 1 and 2 where none is known."""
    inverse = _inverse(depth)
    known = inverse[np.isfinite(inverse)]
    if not known.size:
        return 1.0, 2.0
    low, high = np.percentile(known, (2, 98)).tolist()
    return 1 / high, 1 / low


def _inverse(depth: np.ndarray) -> np.ndarray:
    known = np.isfinite(depth) & (depth > 0)
    return np.divide(1.0, depth, out=np.full(depth.shape, np.nan), where=known)
