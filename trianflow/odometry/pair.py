"""What travels between the stages of one pair of frames: the key frame and the frame that is measured against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trianflow.flow.interface import FlowPair
from trianflow.flow.matches import Matches
from trianflow.odometry.preparation import Prepared
from trianflow.odometry.step import StepStatus
from trianflow.odometry.structure import Structure
from trianflow.pose.two_view import TwoView, TwoViewStatus


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
        p_b: `(M, 2)` float64 pixels, where the flow takes the structure's points.
        followed: `(M,)` bool, which of them arrive.
    """

    flow: FlowPair
    matches: Matches
    view: TwoView
    overlap: float
    p_b: Tensor
    followed: Tensor

    @property
    def status(self) -> TwoViewStatus:
        """Of the two-view geometry."""
        return TwoViewStatus(int(self.view.status))


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
        measured: by two-view geometry with a scale, so that the structure can be filtered with it.
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
