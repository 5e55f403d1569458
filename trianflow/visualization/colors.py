"""Flow and scalar maps as colours."""

from __future__ import annotations

import cv2
import numpy as np


def color_flow(flow: np.ndarray, largest: float | None = None) -> np.ndarray:
    """A flow field as colours: hue is its direction, saturation its length; white stands still.

    Args:
        flow: `(H, W, 2)` pixels; what is not finite becomes black.
        largest: length of full saturation, pixels; by default the 99th percentile.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    known = np.isfinite(flow).all(-1)
    dx, dy = (np.where(known, flow[..., i], 0.0) for i in (0, 1))
    length = np.hypot(dx, dy)
    if largest is None:
        largest = float(np.percentile(length[known], 99)) if known.any() else 1.0
    hue = (np.arctan2(dy, dx) / (2 * np.pi) % 1.0) * 360
    saturation = np.clip(length / max(largest, 1e-6), 0, 1)
    hsv = np.stack([hue, saturation, np.ones_like(hue)], -1).astype(np.float32)
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255
    rgb[~known] = 0
    return rgb.round().astype(np.uint8)


def color_scalar(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """A map of numbers as colours, low dark and high bright (magma).

    Args:
        values: `(H, W)`; what is not finite becomes black.
        low, high: ends of the scale; by default the 2nd and 98th percentile.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    known = np.isfinite(values)
    finite = values[known] if known.any() else np.zeros(1)
    low = float(np.percentile(finite, 2)) if low is None else low
    high = float(np.percentile(finite, 98)) if high is None else high
    scaled = np.clip((np.where(known, values, low) - low) / max(high - low, 1e-12), 0, 1)
    bgr = cv2.applyColorMap((scaled * 255).round().astype(np.uint8), cv2.COLORMAP_MAGMA)
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    rgb[~known] = 0
    return rgb
