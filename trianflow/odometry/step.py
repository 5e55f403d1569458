"""What the odometry says about each frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

import numpy as np


class StepStatus(str, Enum):
    """How the pose of a frame came about."""

    FIRST = "first"  # the world's origin
    OK = "ok"  # two-view geometry and a scale
    PNP = "pnp"  # from points of known depth
    STATIC = "static"  # no motion since the key frame
    ROTATION_ONLY = "rotation_only"  # rotation, no translation that could be told from none
    PLANAR = "planar"  # two-view geometry of a plane, of which two poses may fit alike
    LOST = "lost"  # constant velocity
    DUPLICATE = "duplicate"  # the same image again
    BRIDGED = "bridged"  # no usable image: constant velocity

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Step:
    """One row of the trajectory and how it was found.

    Attributes:
        index, time: of the frame; time in seconds.
        T_wc: `(4, 4)` float64, camera to world; the world is the first camera. In metres (of a network's depth: in its
            unit) where `scale_sigma` is finite, or depth alone sets the scale, else in a unit that the first step sets.
            The first frames are in that unit too where metres become known later: the trajectory at the end is in one.
        status: `StepStatus`.
        matches: matches used.
        inlier_ratio: share of them that fit, in [0, 1].
        parallax: median displacement since the key frame that rotation does not explain, pixels.
        scale: length of the translation since the key frame, in the unit of T_wc; 0 without translation.
        scale_source: `depth` (measured), `network` (its depth), `structure`, `unit`, `velocity` or empty.
        shares: how much each source has counted in the scale of a key frame, summing to 1: `structure`, all that was
            known before, `depth` or `network`, `camera_height`, `speed`; empty where nothing tells metres, or where the
            trajectory is in the unit of measured depth itself.
        scale_sigma: standard deviation of the logarithm of that scale; infinite where it is not known.
        tracks: points that the window follows into a key frame; 0 for other frames.
        window: why the window has adjusted nothing at a key frame; empty where it has.
        key_frame: index of the frame that this one was measured against.
        milliseconds: spent in `track`.
        note: one line for a person, empty where all is well.
    """

    index: int
    time: float
    T_wc: np.ndarray
    status: StepStatus
    matches: int = 0
    inlier_ratio: float = 0.0
    parallax: float = 0.0
    scale: float = 0.0
    scale_source: str = ""
    shares: dict[str, float] = field(default_factory=dict)
    scale_sigma: float = math.inf
    tracks: int = 0
    window: str = ""
    key_frame: int = -1
    milliseconds: float = 0.0
    note: str = ""
