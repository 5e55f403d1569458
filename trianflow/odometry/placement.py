"""Where the key frames of a run stand at its end, when all corrections are made and metres are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from trianflow.odometry.pipeline import VisualOdometry
    from trianflow.odometry.run import OdometryRun


@dataclass(frozen=True)
class Placement:
    """Key frames before and after metres.

    Attributes:
        T_wc: `(N, 4, 4)` camera to world in the trajectory as it is written.
        before: `(N, 4, 4)` as `VisualOdometry.key_poses` has them.
        metres: `(N,)` what a unit of `before` is in units of `T_wc`, around each key frame.
    """

    T_wc: np.ndarray
    before: np.ndarray
    metres: np.ndarray

    def place(self, X: np.ndarray, key: np.ndarray, metres: np.ndarray) -> np.ndarray:
        """Points among the key frames as they were before, among those in the trajectory.

        Args:
            X: `(M, 3)` in the world of `before`.
            key: `(M,)` number of the key frame that each moves with.
            metres: `(M,)` to scale each by around that.
        """
        T_cw = np.linalg.inv(self.before)[key]
        X_c = np.einsum("mij,mj->mi", T_cw[:, :3, :3], X) + T_cw[:, :3, 3]
        return np.einsum("mij,mj->mi", self.T_wc[key, :3, :3], X_c * metres[:, None]) + self.T_wc[key, :3, 3]


class KeyRows:
    """Knows the row of the trajectory that belongs to each key frame.

    Attributes:
        rows: of each key frame, by number.
    """

    def __init__(self) -> None:
        self.rows: list[int] = []
        self._frames = 0

    def observe(self, odometry: VisualOdometry) -> None:
        """Take a frame, after the odometry has."""
        if odometry.seen is not None and odometry.seen.advanced:
            self.rows.append(self._frames)
        self._frames += 1

    def placement(self, run: OdometryRun, odometry: VisualOdometry) -> Placement:
        """At the end of the run."""
        key_poses = odometry.key_poses
        metres = np.ones(len(self.rows))
        if odometry.metric.known:
            steps = odometry.metric.metres(key_poses)
            metres = steps[np.minimum(np.arange(len(self.rows)), len(steps) - 1)]
        return Placement(run.trajectory.T_wc[self.rows], key_poses[: len(self.rows)], metres)
