"""Where the camera has been so far, for pictures that are drawn while it moves."""

from __future__ import annotations

import numpy as np

from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.step import Step

_EVERY = 50  # frames after which all positions are asked for anew, as later frames have corrected them


class PathSoFar:
    """The positions of all frames so far, at a cost that does not grow with every frame.

    New positions are appended as they were found; every so often, and when metres become known, all are replaced by
    the odometry's own.
    """

    def __init__(self) -> None:
        self._corrected = np.zeros((0, 3))
        self._new: list[np.ndarray] = []
        self._metric = False
        self._sources: set[str] = set()

    def add(self, odometry: VisualOdometry, step: Step) -> None:
        """Called once a frame, after `track`."""
        self._sources |= {step.scale_source, *step.shares}
        self._new.append(step.T_wc[:3, 3].copy())
        if len(self._new) >= max(_EVERY, len(self._corrected) // 20) or odometry.metric.known != self._metric:
            self._corrected = odometry.trajectory.positions
            self._new.clear()
            self._metric = odometry.metric.known

    @property
    def unit(self) -> str:
        """Of the positions, as far as it is known: `m`, `network units` or `units`."""
        if "network" in self._sources:
            return "network units"
        measured = "depth" in self._sources and "unit" not in self._sources
        return "m" if measured or self._metric else "units"

    @property
    def positions(self) -> np.ndarray:
        """`(N, 3)` float64 in the world."""
        return np.concatenate([self._corrected, *([np.array(self._new)] if self._new else [])])
