"""What a calibration has left of radial distortion, learnt on the way: a tenth of a pixel of it bends the scale."""

from __future__ import annotations

from torch import Tensor

from trianflow.geometry.camera import normalize_pixels
from trianflow.geometry.radial import radial_of_pair
from trianflow.odometry.bundle import Window
from trianflow.odometry.pair import Pair
from trianflow.pose.two_view import TwoViewStatus

# Neighbouring matches share their errors: a pair's information on the distortion, which a smooth error of the
# flow imitates best, counts a fifteenth (or less, where the pairs scatter more); a window's a tenth.
_PAIR_INFLATION = 15.0
_WINDOW_INFLATION = 10.0
_MATCHES = 2000
# Share of what is known of the distortion that outlives a pair with more to say of it.
_MEMORY = 0.99


class ResidualDistortion:
    """The estimate and what it rests on.

    Args:
        K: `(3, 3)` float64 intrinsics.
        sigma: what the calibration may have left; 0: nothing is learnt.

    Attributes:
        radial: as `geometry.radial.straighten` takes it.
        sigma: its standard deviation.
    """

    def __init__(self, K: Tensor, sigma: float) -> None:
        self._K, self._f = K, float(K.diagonal()[:2].mean())
        self._learns = sigma > 0
        self.radial, self.sigma = 0.0, sigma
        self._scatter = _PAIR_INFLATION

    def watch(self, pair: Pair, p_a: Tensor, p_b: Tensor) -> bool:
        """Learn of a pair and its inliers `(N, 2)`; whether its camera turns more than it moves, which tells it."""
        R = pair.view.T_ba[0, :3, :3].double()
        angle = float(((R.diagonal().sum() - 1) / 2).clamp(-1, 1).arccos())
        if pair.status is not TwoViewStatus.OK or not self._learns:
            return False
        if angle * self._f < float(pair.view.parallax):
            return False
        every = max(len(p_a) // _MATCHES, 1)
        x_a, x_b = normalize_pixels(p_a[::every], self._K), normalize_pixels(p_b[::every], self._K)
        noise = max(float(pair.view.noise), 0.1) / self._f
        radial, information = radial_of_pair(x_a, x_b, pair.view.T_ba[0].double(), noise)
        if information > 0:
            information *= len(p_a) / len(x_a)
            surprise = max((radial - self.radial) ** 2 - self.sigma**2, 0.0) * information
            self._scatter += (surprise - self._scatter) / 10
            self._fuse(radial, information / max(self._scatter, _PAIR_INFLATION))
        return True

    def learn(self, window: Window, information: float, frames: int) -> None:
        """Learn of an adjusted window, which says so much of its distortion; it shares all but one of its frames."""
        if window.radial_sigma <= 0 or information <= 0:
            return
        prior = 1 / window.radial_sigma**2
        alone = (window.radial * (information + prior) - window.radial_prior * prior) / information
        self._fuse(alone, information / (_WINDOW_INFLATION * frames))

    def _fuse(self, radial: float, information: float) -> None:
        prior = _MEMORY / self.sigma**2
        self.radial = (prior * self.radial + information * radial) / (prior + information)
        self.sigma = (prior + information) ** -0.5
