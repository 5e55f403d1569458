"""The scale of a trajectory from every source that knows something of it, fused over time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

# Degrees of freedom of Student's t: how soon a measurement that disagrees counts less.
_FREEDOM = 4.0
# Drifts that are tried, in units of that which is told, and what each must explain better than the one before it: log
# likelihood.
_RATES, _RELUCTANCE = np.array([1.0, 2.0, 4.0, 8.0, 16.0]), 2.0
# Scatter of the measurements from one to the next: how many pairs the stated noise counts as, and the largest square of
# one pair, which keeps outliers out.
_PRIOR_PAIRS, _LARGEST_EXCESS = 5.0, 64.0


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

    How fast the structure drifts is learnt: filters with drifts from that which is told up to sixteen times as much run
    side by side, and the one that has foreseen the measurements best is believed. What one measurement differs by from
    the last is noise, not drift.

    Example:
        >>> scale = ScaleFilter()
        >>> _ = scale.step(0.002, {"camera_height": Measurement(0.5, 0.02)})
        >>> round(scale.step(0.002, {}).log_scale, 3)
        0.5
    """

    def __init__(self) -> None:
        # Of each of the filters:
        self._log_scale, self._information = np.zeros((2, len(_RATES)))
        self._merit = -_RELUCTANCE * np.arange(len(_RATES))  # log likelihood of what was measured
        self._noises: dict[str, _Noise] = {}

    @property
    def rate(self) -> float:
        """How many times as fast as it was told to be the drift seems."""
        return float(_RATES[self._merit.argmax()])

    def step(self, drift: float, measurements: Mapping[str, Measurement]) -> FusedScale:
        """The scale of the next frame.

        Args:
            drift: standard deviation of what the carried structure's log scale has changed by since the last frame, at
                the least.
            measurements: by source: `camera_height`, `speed`, `network` or `depth`; all of them of one unit.
        """
        walk = (drift * _RATES) ** 2
        information = self._information / (1 + walk * self._information)
        log_scale, powers = self._log_scale, {"structure": information}
        for source, measured in measurements.items():
            bias, noise = BIASES[source], self._noises.setdefault(source, _Noise())
            off = (measured.log_scale - log_scale) ** 2
            powers[source] = np.full_like(log_scale, 1 / (measured.sigma**2 + bias.frames * bias.sigma**2))
            if information[0] > 0:
                surprise = off / (1 / information + measured.sigma**2 + bias.sigma**2)
                powers[source] *= np.minimum(1.0, (_FREEDOM + 1) / (_FREEDOM + surprise))
                expected = 1 / information + noise.excess * measured.sigma**2 + bias.sigma**2
                likelihood = (_FREEDOM + 1) * np.log1p(off / (_FREEDOM * expected)) + np.log(expected)
                self._merit = self._merit - likelihood / 2
            noise.take(measured)
        total = sum(powers.values(), np.zeros_like(log_scale))
        best = int(self._merit.argmax())
        if total[best] > 0:
            pull = sum(powers[source] * (m.log_scale - log_scale) for source, m in measurements.items())
            self._log_scale, self._information = log_scale + pull / total, total
            shares = {source: float(power[best] / total[best]) for source, power in powers.items()}
        else:
            shares = {"structure": 1.0}
        return FusedScale(float(self._log_scale[best]), _sigma(float(self._information[best])), shares)


def smoothed_scales(steps: Iterable[tuple[float, Mapping[str, Measurement]]]) -> tuple[np.ndarray, np.ndarray]:
    """The scale of every frame by all frames (Rauch, Tung and Striebel).

    Args:
        steps: of every frame, drift and measurements as `ScaleFilter.step` takes them.

    Returns:
        Its logarithm and the standard deviation, `(N,)` float64 each; 0 and infinite where nothing was measured at
        all.
    """
    scale, passed = ScaleFilter(), []
    for drift, measurements in steps:
        scale.step(drift, measurements)
        passed.append(np.stack([scale._log_scale, scale._information, (drift * _RATES) ** 2]))
    best = int(scale._merit.argmax())
    log_scale, information, walks = np.array(passed).reshape(-1, 3, len(_RATES))[..., best].T.copy()
    with np.errstate(divide="ignore"):
        variance = 1 / information
    for k in range(len(log_scale) - 2, -1, -1):
        gain = 1 / (1 + walks[k + 1] * information[k])
        log_scale[k] += gain * (log_scale[k + 1] - log_scale[k])
        variance[k] = walks[k + 1] * gain + gain**2 * variance[k + 1]
    return log_scale, np.sqrt(variance)


class _Noise:
    """How much more the measurements of a source scatter from one to the next than they state."""

    def __init__(self) -> None:
        self._last: Measurement | None = None
        self._total, self._count = _PRIOR_PAIRS, _PRIOR_PAIRS

    @property
    def excess(self) -> float:
        """Of the variance, at least 1."""
        return max(1.0, self._total / self._count)

    def take(self, measured: Measurement) -> None:
        """Another measurement."""
        if self._last is not None:
            off = (measured.log_scale - self._last.log_scale) ** 2
            self._total += min(off / (measured.sigma**2 + self._last.sigma**2), _LARGEST_EXCESS)
            self._count += 1
        self._last = measured


def _sigma(information: float) -> float:
    return 1 / math.sqrt(information) if information > 0 else math.inf
