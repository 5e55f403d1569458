"""Metres for a trajectory of arbitrary unit: from the camera's height over the road, and from the car's speed."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from trianflow.geometry.camera import invert_pose
from trianflow.odometry.ground import fit_ground, ground_points
from trianflow.odometry.pair import Pair
from trianflow.odometry.scale_fusion import FusedScale, Measurement, ScaleFilter
from trianflow.odometry.speed import SpeedFile

# What a step adds to the drift of the carried structure's log scale; where the structure was lost, all is open again.
_DRIFT, _LOST = 0.002, 0.3
# Metres below which a car's speed does not tell the length of a step.
_LEAST_WAY = 0.02


class MetricScale:
    """The length of every step between key frames in metres, by all that is known of it.

    Args:
        K: `(3, 3)` intrinsics.
        camera_height: metres over the road; None where it is not known.
        speed: of the car; None where it is not known.
    """

    def __init__(self, K: Tensor, camera_height: float | None, speed: SpeedFile | None) -> None:
        self._K, self._height, self._speed = K, camera_height, speed
        self._filter = ScaleFilter()
        self._log_scale = 0.0
        self._pose = np.eye(4)  # of the newest key frame, in metres, as far as was known then

    def measure(self, pair: Pair, T_ba: Tensor, start: float, end: float) -> dict[str, Measurement]:
        """What the sources say of a step.

        Args:
            pair: the two frames.
            T_ba: `(4, 4)` between them, in units of the trajectory.
            start, end: their times, seconds.
        """
        found: dict[str, Measurement] = {}
        length = float(T_ba[:3, 3].norm())
        if length <= 0:
            return found
        if self._height is not None:
            ground = fit_ground(*ground_points(pair.flow, T_ba, self._K), self._K, invert_pose(T_ba)[:3, 3])
            if ground.ok:
                found["camera_height"] = Measurement(math.log(self._height / ground.height), ground.log_sigma)
        if self._speed is not None:
            way, sigma = self._speed.distance(start, end), self._speed.sigma(start, end)
            if way is not None and sigma is not None and way > _LEAST_WAY:
                found["speed"] = Measurement(math.log(way / length), sigma / way)
        return found

    def advance(self, T_step: np.ndarray, measured: dict[str, Measurement], lost: bool = False) -> FusedScale:
        """Take a new key frame: its pose `(4, 4)` in the one before, in units of the trajectory."""
        still = not lost and not np.linalg.norm(T_step[:3, 3]) > 0
        fused = self._filter.step(_LOST if lost else 0.0 if still else _DRIFT, measured)
        self._log_scale = fused.log_scale
        self._pose = self.place(T_step)
        return fused

    def place(self, T_kc: np.ndarray) -> np.ndarray:
        """The pose in metres `(4, 4)` of what stands at `T_kc` in the newest key frame, as far as is known now."""
        return self._pose @ _scaled(T_kc, self._log_scale)

    def corrected(self, key_poses: np.ndarray, rows: list[tuple[int, np.ndarray]]) -> np.ndarray:
        """All poses in metres, by what is known at the end.

        Args:
            key_poses: `(N, 4, 4)` in units of the trajectory, one more than key frames were taken.
            rows: number of a key frame, and pose `(4, 4)` in it, for each pose that is wanted.
        """
        if not rows:
            return np.zeros((0, 4, 4))
        log_scales = self._filter.smoothed()[0]
        keys = [key_poses[0]]
        for i, log_scale in enumerate(log_scales):
            keys.append(keys[-1] @ _scaled(np.linalg.inv(key_poses[i]) @ key_poses[i + 1], log_scale))
        last = len(log_scales) - 1
        out = [keys[k] @ _scaled(T, log_scales[min(k, last)] if last >= 0 else 0.0) for k, T in rows]
        return np.array(out).reshape(-1, 4, 4)


def _scaled(T: np.ndarray, log_scale: float) -> np.ndarray:
    out = T.copy()
    out[:3, 3] *= math.exp(log_scale)
    return out
