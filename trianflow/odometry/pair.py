"""What travels between the stages of one pair of frames: the key frame and the frame that is measured against it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from trianflow.flow.interface import FlowPair
from trianflow.flow.matches import Matches
from trianflow.flow.refinement import Refiner
from trianflow.geometry.camera import homogeneous, normalize_pixels
from trianflow.geometry.epipolar import fundamental_from_essential, sampson_distance, skew
from trianflow.geometry.scale import masked_median
from trianflow.odometry.preparation import Prepared
from trianflow.odometry.step import StepStatus
from trianflow.odometry.structure import Structure
from trianflow.pose.selection import robust_noise
from trianflow.pose.two_view import TwoView, TwoViewStatus

# Quantile of the parallax that tells of what is near: most of a street is too far away to move.
_NEAR = 0.9
_LEAST_NOISE = 1e-3  # pixels, as in two-view geometry


@dataclass(frozen=True)
class KeyFrame:
    """The frame that the coming ones are measured against.

    Attributes:
        index, time: of the frame; seconds.
        prepared: its image as the flow keeps it, and its depth.
        T_wc: `(4, 4)` float64, camera to world.
    """

    index: int
    time: float
    prepared: Prepared
    T_wc: Tensor


@dataclass(frozen=True)
class Guess:
    """A flow computed before it was known to be wanted: from the encoded image `start` to the prepared frame."""

    start: Any
    prepared: Prepared
    flow: FlowPair


@dataclass(frozen=True)
class Pair:
    """The current frame (b) against the key frame (a).

    Attributes:
        flow, matches, view: of the two, B = 1.
        overlap: share of the key frame's pixels that are visible and consistent in b, in [0, 1].
        sigma: `(N,)` standard deviations of the matches, pixels; infinite for those that are as the flow gives them.
        refiner: has brought the matches to a fraction of a pixel, and can bring others; None where the flow stands.
        p_b: `(M, 2)` float64 pixels, where the flow takes the structure's points.
        followed: `(M,)` bool, which of them arrive.
        arriving: share of what the structure knows of depth that arrives with them, in [0, 1]; 1 where it is not used.
    """

    flow: FlowPair
    matches: Matches
    view: TwoView
    overlap: float
    sigma: Tensor
    refiner: Refiner | None = None
    p_b: Tensor = field(default_factory=lambda: torch.zeros(0, 2, dtype=torch.float64))
    followed: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    arriving: float = 1.0

    @property
    def status(self) -> TwoViewStatus:
        """Of the two-view geometry."""
        return TwoViewStatus(int(self.view.status))

    def refined(self, p_a: Tensor, p_b: Tensor) -> tuple[Tensor, Tensor]:
        """Points `(N, 2)` in b as good as can be had, and `(N,)` their sigma, pixels; infinite by the flow alone."""
        if self.refiner is None:
            return p_b, torch.full((len(p_b),), torch.inf, dtype=torch.float64)
        return self.refiner(p_a, p_b)

    def near_parallax(self, T_ba: Tensor, K: Tensor) -> float:
        """What nine tenths of the inliers stay below of motion that the rotation of T_ba `(4, 4)` leaves, pixels."""
        inlier = self.view.inlier[0]
        return float(self._apart(T_ba, K)[inlier].quantile(_NEAR)) if bool(inlier.any()) else 0.0

    def _apart(self, T_ba: Tensor, K: Tensor) -> Tensor:
        """Motion of the matches `(N,)` that the rotation of T_ba leaves, pixels."""
        x_a, x_b = (normalize_pixels(p[0].double(), K) for p in (self.matches.p_a, self.matches.p_b))
        turned = homogeneous(x_a) @ T_ba[:3, :3].mT
        return (x_b - turned[:, :2] / turned[:, 2:].clamp_min(1e-6)).norm(dim=-1) * K[0, 0]

    def explained_by(self, T_ba: Tensor, K: Tensor, limit: float) -> Pair:
        """The pair where its motion `(4, 4)` has come from elsewhere than two-view geometry, which is disowned.

        Inliers are the matches within `limit` pixels of the epipolar geometry of that motion; noise, parallax and
        motion are theirs, the noise 0 where there are none.
        """
        p_a, p_b = self.matches.p_a.double(), self.matches.p_b.double()
        F_ba = fundamental_from_essential(skew(T_ba[:3, 3]) @ T_ba[:3, :3], K, K)
        squared = sampson_distance(F_ba, p_a[0], p_b[0])[None].square()
        inlier = self.matches.valid & (squared < limit**2)
        reach, floor = squared.new_tensor([limit]), squared.new_tensor([_LEAST_NOISE])
        noise = robust_noise(squared, inlier, reach, 1, floor)
        view = replace(
            self.view,
            inlier=inlier,
            status=torch.full_like(self.view.status, TwoViewStatus.NO_CONSENSUS),
            noise=torch.where(inlier.any(-1), noise, 0.0),
            parallax=masked_median(self._apart(T_ba, K)[None], inlier),
            motion=masked_median((p_b - p_a).norm(dim=-1), inlier),
            information=torch.zeros_like(self.view.information),
        )
        return replace(self, view=view)


@dataclass(frozen=True)
class KnownPoints:
    """Points in the key frame `(N, 3)`, their pixels in the current frame `(N, 2)`, sigma of their log depth `(N,)`."""

    X_a: Tensor
    p_b: Tensor
    log_sigma: Tensor
    source: str


@dataclass(frozen=True)
class Motion:
    """Motion since the key frame, in units of the trajectory.

    Attributes:
        T_ck: `(4, 4)` float64, key frame to current camera.
        status, scale_source, inlier_ratio, note: as in `Step`.
        measured: with a scale, by two-view geometry or the structure: depths can be filtered with it.
    """

    T_ck: Tensor
    status: StepStatus
    scale_source: str = ""
    inlier_ratio: float = 0.0
    note: str = ""
    measured: bool = False


@dataclass(frozen=True)
class Seen:
    """What the odometry made of its last frame, for pictures and point clouds.

    Attributes:
        prepared: the frame.
        key: the frame that it was measured against; None for the first.
        pair: the two compared; None for the first.
        advanced: it has become the key frame.
        number: row of `VisualOdometry.key_poses` that belongs to the key frame as it is now.
        structure: points in that key frame's camera, in units of the trajectory before metres.
    """

    prepared: Prepared
    key: KeyFrame | None
    pair: Pair | None
    advanced: bool
    number: int
    structure: Structure
