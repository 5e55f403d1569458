"""The scale of a trajectory from every source that knows something of it, fused over time."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Degrees of freedom of Student's t: how soon a measurement that disagrees counts less.
_FREEDOM = 4.0


@dataclass(frozen=True)
class Measurement:
    """What a source says in one frame: the logarithm of metres per unit of the trajectory, and its own noise."""

    log_scale: float
    sigma: float


@dataclass(frozen=True)
class Bias:
    """An error that a source makes alike in many frames.

    Attributes:
        sigma: standard deviation, of the logarithm of the scale.
        frames: how many measurements in a row share it.
    """

    sigma: float
    frames: float


# The road's cross slope and the load of the car; slip and calibration; a network on a kind of scene; a depth camera.
BIASES = {
    "camera_height": Bias(0.02, 50),
    "speed": Bias(0.01, 100),
    "network": Bias(0.10, 100),
    "depth": Bias(0.01, 100),
}


@dataclass(frozen=True)
class FusedScale:
    """The scale in one frame, by that frame and those before.

    Attributes:
        log_scale: logarithm of metres per unit of the trajectory; 0 before the first measurement.
        sigma: its standard deviation; infinite before the first measurement.
        shares: how much the carried `structure`, that is all that was known before, and each measurement of this
            frame counted; they sum to 1.
    """

    log_scale: float
    sigma: float
    shares: dict[str, float]


class ScaleFilter:
    """A Kalman filter of one number, the logarithm of metres per unit, which walks as the carried structure drifts.

    Measurements that disagree count less, by Student's t. The bias of a source is fused as white noise of the same
    strength at low frequencies: its variance times the frames that share it. So many frames together never claim more
    than the bias allows, whatever noise they state.

    Example:
        >>> scale = ScaleFilter()
        >>> _ = scale.step(0.002, {"camera_height": Measurement(0.5, 0.02)})
        >>> round(scale.step(0.002, {}).log_scale, 3)
        0.5
    """

    def __init__(self) -> None:
        self._log_scale, self._information = 0.0, 0.0
        # Of every frame: as filtered, and the variance of the walk that led to it.
        self._log_scales, self._informations, self._walks = array("d"), array("d"), array("d")

    def step(self, drift: float, measurements: Mapping[str, Measurement]) -> FusedScale:
        """The scale of the next frame.

        Args:
            drift: standard deviation of what the carried structure's log scale has changed by since the last frame.
            measurements: by source: `camera_height`, `speed`, `network` or `depth`; all of them of one unit.
        """
        information = self._information / (1 + drift**2 * self._information)
        log_scale, powers = self._log_scale, {"structure": information}
        for source, measured in measurements.items():
            powers[source] = _power(measured, BIASES[source], log_scale, information)
        total = sum(powers.values())
        if total > 0:
            pull = sum(powers[source] * (m.log_scale - log_scale) for source, m in measurements.items())
            self._log_scale, self._information = log_scale + pull / total, total
            shares = {source: power / total for source, power in powers.items()}
        else:
            shares = {"structure": 1.0}
        self._log_scales.append(self._log_scale)
        self._informations.append(self._information)
        self._walks.append(drift**2)
        return FusedScale(self._log_scale, _sigma(self._information), shares)

    def smoothed(self) -> tuple[np.ndarray, np.ndarray]:
        """The scale of every frame by all frames (Rauch, Tung and Striebel).

        Returns:
            Its logarithm and the standard deviation, `(N,)` float64 each; 0 and infinite where nothing was measured
            at all.
        """
        log_scale, information = np.array(self._log_scales), np.array(self._informations)
        with np.errstate(divide="ignore"):
            variance = 1 / information
        for k in range(len(log_scale) - 2, -1, -1):
            walk = self._walks[k + 1]
            gain = 1 / (1 + walk * information[k])
            log_scale[k] += gain * (log_scale[k + 1] - log_scale[k])
            variance[k] = walk * gain + gain**2 * variance[k + 1]
        return log_scale, np.sqrt(variance)


def _power(measured: Measurement, bias: Bias, log_scale: float, information: float) -> float:
    """Inverse variance of a measurement, less where it disagrees with what is known."""
    variance = measured.sigma**2 + bias.frames * bias.sigma**2
    if information == 0:
        return 1 / variance
    surprise = (measured.log_scale - log_scale) ** 2 / (1 / information + measured.sigma**2 + bias.sigma**2)
    return min(1.0, (_FREEDOM + 1) / (_FREEDOM + surprise)) / variance


def _sigma(information: float) -> float:
    return 1 / math.sqrt(information) if information > 0 else math.inf
