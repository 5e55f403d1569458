"""Depth maps that a run has seen, and where from: what clouds and meshes of surfaces are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from trianflow.flow.interface import FlowPair
from trianflow.odometry.flow_depth import flow_depth
from trianflow.odometry.step import Step, StepStatus

if TYPE_CHECKING:
    from trianflow.odometry.pipeline import VisualOdometry

# Between key frames, a depth map every time that the picture has moved by this share of its width.
_MOTION = 0.02
_TRANSLATED = (StepStatus.OK, StepStatus.PLANAR, StepStatus.PNP)
_MEASURED = (*_TRANSLATED, StepStatus.ROTATION_ONLY)
# Where inverse depth, which is linear on a plane, bends by more than this share from pixel to pixel, there is an edge,
# and a sensor sees what is not there.
_EDGE = 0.05


@dataclass(frozen=True)
class Shot:
    """A depth map with its picture.

    Attributes:
        key: number of the key frame that it moves with.
        T_kc: `(4, 4)` float64 in the camera of that, in units of the trajectory before metres.
        image: `(H, W, 3)` uint8 RGB.
        depth: `(H, W)` float32 along z; 0 where unknown, and at edges.
        metres: units of the depth in that of T_kc, as far as was known then; None where it was not.
    """

    key: int
    T_kc: np.ndarray
    image: np.ndarray
    depth: np.ndarray
    metres: float | None


class ShotPicker:
    """Picks the frames whose depth is worth to be taken: key frames, and some between them where these move slowly."""

    def __init__(self) -> None:
        self._T_key = np.eye(4)  # camera to world of the newest key frame, as its step had it
        self._taken = 0  # since that

    def observe(self, odometry: VisualOdometry, step: Step) -> Shot | None:
        """The depth of a frame, after the odometry has taken it; None where it is to be left.

        That is where it has none, or its unit has nothing to do with that of the trajectory.
        """
        seen, metric = odometry.seen, odometry.metric
        if seen is None:
            return None
        if seen.advanced:
            self._T_key, self._taken = step.T_wc, 0
        depth, image = seen.prepared.depth, seen.prepared.image
        if depth is None or odometry.config.scale not in ("auto", "depth"):
            return None
        if seen.prepared.predicted and metric.wants_metres:  # the network has a unit of its own
            return None
        if not seen.advanced:
            assert seen.pair is not None
            moved = float(seen.pair.view.motion) / image.shape[1]
            if step.status not in _MEASURED or moved < (self._taken + 1) * _MOTION:
                return None
            self._taken += 1
        T_kc = np.linalg.inv(self._T_key) @ step.T_wc
        T_kc[:3, 3] /= metric.factor
        known = metric.factor if metric.known or not metric.carries else None
        return Shot(seen.number, T_kc, _color(image), np.where(without_edges(depth), depth, np.float32(0)), known)


def triangulated_shot(odometry: VisualOdometry, step: Step) -> Shot | None:
    """The depth of the newest key frame, by the flow between it and the one before.

    Who moves forward sees all of an image in the one before, and not all of it in the one after.

    Returns:
        A shot whose unit of depth is the distance of the two key frames: whatever is corrected later, it remains so.
        `metres` is None. None where there is no new key frame, or its motion was not measured.
    """
    seen = odometry.seen
    if seen is None or not seen.advanced or seen.pair is None or step.status not in _TRANSLATED:
        return None
    T_wa, T_wb = odometry.key_poses[seen.number - 1 : seen.number + 1]
    T_ab = np.linalg.inv(T_wa) @ T_wb
    distance = np.linalg.norm(T_ab[:3, 3])
    if not distance > 0:
        return None
    T_ab[:3, 3] /= distance
    back = FlowPair(flow_ab=seen.pair.flow.flow_ba, flow_ba=seen.pair.flow.flow_ab)
    depth = flow_depth(back, torch.from_numpy(T_ab), odometry.camera.K(), odometry.radial or 0.0)
    depth = np.where(without_edges(depth), depth, np.float32(0))
    return Shot(seen.number, np.eye(4), _color(seen.prepared.image), depth, None)


def _color(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else image[..., None].repeat(3, -1)


def without_edges(depth: np.ndarray) -> np.ndarray:
    """Where a depth map `(H, W)` is known and has no edge: `(H, W)` bool."""
    known = depth > 0
    inverse = 1 / np.where(known, depth, 1)
    good = known.copy()
    for w, k, out in ((inverse, known, good), (inverse.T, known.T, good.T)):
        bend = np.abs(w[:-2] - 2 * w[1:-1] + w[2:])
        out[1:-1] &= ~(k[:-2] & k[2:] & (bend > _EDGE * w[1:-1]))
    return good
