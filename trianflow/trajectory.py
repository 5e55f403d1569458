"""A camera trajectory and its file formats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trajectory:
    """Camera poses over time.

    Attributes:
        times: `(N,)` float64, seconds, not decreasing.
        T_wc: `(N, 4, 4)` float64, camera to world (the world is the first camera unless aligned), metres or,
            for a monocular trajectory, an arbitrary unit.
    """

    times: np.ndarray
    T_wc: np.ndarray
