"""Metres for a trajectory of arbitrary unit: from depth, the camera's height over the road, and the car's speed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from trianflow.config import OdometryConfig
from trianflow.geometry.camera import invert_pose, normalize_pixels
from trianflow.geometry.radial import straighten
from trianflow.geometry.scale import robust_mean
from trianflow.geometry.triangulation import inverse_depths
from trianflow.odometry.ground import fit_ground, ground_points
from trianflow.odometry.motion import depth_at, noise_of
from trianflow.odometry.pair import KeyFrame, Pair
from trianflow.odometry.preparation import Preparation
from trianflow.odometry.scale_fusion import FusedScale, Measurement, ScaleFilter, smoothed_scales
from trianflow.odometry.speed import SpeedFile

# What a step adds to the drift of the carried structure's log scale, at the least: the filter learns if it is more.
# Where nothing ties its length to the steps before, all is open again.
_DRIFT, _BREAK = 0.002, 0.3
# Metres below which a car's speed does not tell the length of a step.
_LEAST_WAY = 0.02
# Height and speed make metres once the log scale is known to this: that takes more than a single frame.
_SURE = 0.1
# Matches of known depth that a measurement takes, and what all of them may be wrong by in unison, pixels.
_MIN_POINTS, _COHERENT = 50, 0.4
# What a measurement by depth may be wrong by for this, as a share: with less parallax it says nothing.
_LARGEST = 0.3


@dataclass(frozen=True)
class _Taken:
    """A step between key frames as it was taken; its length is in units of the trajectory."""

    drift: float
    length: float
    measured: dict[str, Measurement]


class MetricScale:
    """The length of every step between key frames in metres, by all that is known of it.

    With depth of a network, and neither height nor speed, its unit takes the place of metres.

    Args:
        K: `(3, 3)` intrinsics.
        config: the camera's height over the road, and the file of the car's speed, where they are known.
        preparation: knows where depth comes from, and how good it is.

    Attributes:
        carries: whether a window carries a scale of its own; else depth, where there is some, sets the length of a step
            itself, or that of the window.
        known: whether enough is known for metres. It stays so, with a larger `sigma`, where the trajectory is lost.
        sigma: standard deviation of the logarithm of the scale in the newest step; infinite where it is not known.

    Raises:
        UsageError: no such file of speeds.
        TrianflowError: it cannot be read.
    """

    def __init__(self, K: Tensor, config: OdometryConfig, preparation: Preparation) -> None:
        self._K, self._height, self._preparation = K, config.camera_height, preparation
        self._speed = SpeedFile.load(config.speed) if config.speed is not None else None
        self._takes_depth = config.scale in ("auto", "depth")
        self.carries = False
        self._filter = ScaleFilter()
        self._taken: list[_Taken] = []
        self._counts: Counter[str] = Counter()  # measurements of each source
        self._log_scale = 0.0
        self._pose = np.eye(4)  # of the newest key frame, in metres, as far as was known then
        self.known, self.sigma = False, math.inf

    @property
    def wants_metres(self) -> bool:
        """Whether height or speed are given, beside which a network's depth, which has a unit of its own, is no use."""
        return self._height is not None or self._speed is not None

    @property
    def factor(self) -> float:
        """Metres in the trajectory's unit in the newest step; 1 as long as they are not known."""
        return math.exp(self._log_scale) if self.known else 1.0

    def measure(self, pair: Pair, key: KeyFrame, T_ba: Tensor, end: float, radial: float) -> dict[str, Measurement]:
        """What the sources say of a step.

        Args:
            pair: the two frames.
            key: the first of them.
            T_ba: `(4, 4)` between them, in units of the trajectory.
            end: time of the second, seconds.
            radial: residual distortion of the images (`geometry.radial.straighten`).
        """
        found: dict[str, Measurement] = {}
        length, source = float(T_ba[:3, 3].norm()), self._preparation.depth_source
        depth = key.prepared.depth if self._takes_depth and (source == "depth" or not self.wants_metres) else None
        if length <= 0 or (depth is not None and not self.carries):
            return found
        if self._height is not None:
            points = ground_points(pair.flow, T_ba, self._K, radial)
            ground = fit_ground(*points, self._K, invert_pose(T_ba)[:3, 3], radial)
            if ground.ok:
                found["camera_height"] = Measurement(math.log(self._height / ground.height), ground.log_sigma)
        if self._speed is not None:
            way, sigma = self._speed.distance(key.time, end), self._speed.sigma(key.time, end)
            if way is not None and sigma is not None and way > _LEAST_WAY:
                found["speed"] = Measurement(math.log(way / length), sigma / way)
        if depth is not None and (measured := self._by_depth(pair, depth, T_ba, radial)) is not None:
            found[source] = measured
        return found

    def _by_depth(self, pair: Pair, depth: np.ndarray, T_ba: Tensor, radial: float) -> Measurement | None:
        """The scale between the depths of the first frame `(H, W)` and those of its matches by triangulation."""
        p_a, p_b, noise = pair.matches.p_a[0].double(), pair.matches.p_b[0].double(), noise_of(pair)
        x_a, x_b = (straighten(normalize_pixels(p, self._K), radial) for p in (p_a, p_b))
        inverse_depth, reach = inverse_depths(x_a, x_b, T_ba)
        known, reach = depth_at(depth, p_a), reach * self._K[0, 0]
        good = pair.view.inlier[0] & known.isfinite() & (reach > 0)
        if int(good.sum()) < _MIN_POINTS:
            return None
        ratio, doubt = (known * inverse_depth)[good], (known * noise / reach)[good]
        scale, sigma = robust_mean(ratio, doubt, self._preparation.depth_noise)
        common = _COHERENT / max(float(pair.view.parallax), _COHERENT)
        if not scale > 3 * sigma or common > _LARGEST:
            return None
        return Measurement(math.log(scale), math.hypot(sigma / scale, common))

    def advance(self, T_step: np.ndarray, measured: dict[str, Measurement], broken: bool = False) -> FusedScale:
        """Take a new key frame.

        Args:
            T_step: `(4, 4)` its pose in the one before, in units of the trajectory.
            measured: as `measure` gives it.
            broken: nothing ties the length of the step to those before: the unit may be another one from here on.
        """
        length = float(np.linalg.norm(T_step[:3, 3]))
        drift = _BREAK if broken else _DRIFT if length > 0 else 0.0
        fused = self._filter.step(drift, measured)
        self._taken.append(_Taken(drift, length, measured))
        self._counts.update(measured.keys())
        self._log_scale = fused.log_scale
        if self.known:
            self._pose = self.place(T_step)
        else:
            self._pose = self._pose @ T_step
            self.known = fused.sigma < _SURE or bool({"depth", "network"} & measured.keys())
            self._pose = _scaled(self._pose, self.factor)
        self.sigma = fused.sigma if self.known else math.inf
        return fused

    def place(self, T_kc: np.ndarray) -> np.ndarray:
        """The pose in metres `(4, 4)` of what stands at `T_kc` in the newest key frame, as far as is known now."""
        return self._pose @ _scaled(T_kc, self.factor)

    def metres(self, key_poses: np.ndarray) -> np.ndarray:
        """Metres in the unit of every step `(N - 1,)`, by what is known at the end.

        Since a step was measured the window may have changed its length: what was measured is the way in metres,
        which stays.

        Args:
            key_poses: `(N, 4, 4)` in units of the trajectory, one more than key frames were taken.
        """
        steps = []
        lengths = np.linalg.norm(np.diff(key_poses[:, :3, 3], axis=0), axis=1)
        for taken, length in zip(self._taken, lengths.tolist()):
            grown = math.log(length / taken.length) if taken.measured and length > 0 else 0.0
            measured = {source: replace(m, log_scale=m.log_scale - grown) for source, m in taken.measured.items()}
            steps.append((taken.drift, measured))
        return np.exp(smoothed_scales(steps)[0])

    def corrected(self, key_poses: np.ndarray, rows: list[tuple[int, np.ndarray]]) -> np.ndarray:
        """All poses in metres, by what is known at the end.

        Args:
            key_poses: `(N, 4, 4)` in units of the trajectory, one more than key frames were taken.
            rows: number of a key frame, and pose `(4, 4)` in it, for each pose that is wanted.
        """
        metres, keys = self.metres(key_poses), [key_poses[0]]
        for i, factor in enumerate(metres):
            keys.append(keys[-1] @ _scaled(np.linalg.inv(key_poses[i]) @ key_poses[i + 1], factor))
        return np.array([keys[k] @ _scaled(T, metres[min(k, len(metres) - 1)]) for k, T in rows]).reshape(-1, 4, 4)

    def shortcomings(self, begin: float, end: float) -> list[str]:
        """Why height and speed, where they are given, tell nothing, or too little for metres; a line each.

        None for a camera that has not moved.

        Args:
            begin, end: times of the first and the last frame, seconds.
        """
        lines: list[str] = []
        if not (steps := len(self._taken)):
            return lines
        roads, speeds = self._counts["camera_height"], self._counts["speed"]
        if self._height is not None and not (self.known and roads):
            line = f"camera height: a road was found in {roads} of {steps} steps; it takes "
            if roads:
                line += "some more to know the scale"
            else:
                line += (
                    "an even road in the lower middle of the picture, and frames that are not far apart: take every"
                    " frame, or give the speed"
                )
            lines.append(line)
        if self._speed is not None and not (self.known and speeds):
            first, last = self._speed.times[0], self._speed.times[-1]
            line = f"speed: known in {speeds} of {steps} steps; "
            if speeds:
                line += "it takes some more to know the scale"
            elif first <= begin and end <= last:
                line += "it takes steps in which the car drives and the motion is found"
            else:
                line += (
                    f"the frames run from {begin:.2f} to {end:.2f} s, the speeds from {first:.2f} to {last:.2f} s: both"
                    " must be of one clock"
                )
            lines.append(line)
        return lines


def _scaled(T: np.ndarray, factor: float) -> np.ndarray:
    out = T.copy()
    out[:3, 3] *= factor
    return out
