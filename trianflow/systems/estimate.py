"""What any system makes of a pair without knowing the truth: depth, a pose in its unit, and how pixels move."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.data.pairs.batch import PairBatch
from trianflow.depth.network import disparity_to_depth
from trianflow.geometry.camera import pose_matrix
from trianflow.geometry.scale import masked_median
from trianflow.geometry.warping import rigid_flow, sample
from trianflow.systems.geometry import solve_geometry
from trianflow.systems.instance import InstaDM
from trianflow.systems.photometric import Photometric
from trianflow.systems.trianflow import TrianFlow


@dataclass(frozen=True)
class PairEstimate:
    """Depth and pose of a pair.

    Attributes:
        depth_a: `(B, 1, H, W)`, positive, in a unit of the system's own.
        T_ba: `(B, 4, 4)` float64 in that unit; none where it is not known.
        known: `(B,)` bool: whether there is a pose.
        flow_ab: `(B, 2, H, W)` where depth and motions take the pixels: all as the camera moves, but for the objects of
            a system that knows motions of their own.
    """

    depth_a: Tensor
    T_ba: Tensor
    known: Tensor
    flow_ab: Tensor


@torch.no_grad()
def estimate_pair(system: TrianFlow | Photometric | InstaDM, batch: PairBatch) -> PairEstimate:
    """Depth of the images a and pose of the pairs, by the networks in the mode that they are in.

    A pose network gives the pose as it is; TrianFlow solves it from flow, and its length is that with which the
    triangulated points agree with the predicted depth in the median. Insta-DM is told which pixels are objects.
    """
    disparity = system.depth(batch.image_a)[0]
    K = batch.K.to(disparity)
    if not isinstance(system, TrianFlow):
        depth = 1 / system.inverse_depth(disparity)
        T_ba, known = system.estimate_pose(batch.image_a, batch.image_b, batch.K)
        moved = system.flow_of(batch, depth, T_ba) if isinstance(system, InstaDM) else rigid_flow(depth, T_ba, K)
        return PairEstimate(depth, T_ba.double(), known, moved)
    depth = disparity_to_depth(disparity)
    flow = system.flow(batch.image_a, batch.image_b, 1)[0]
    found = solve_geometry(flow, K, system.config.geometry, 0)
    predicted = sample(depth, found.p_a[:, None], "reflection")[:, 0, 0]
    length = masked_median(predicted / torch.where(found.valid, found.depth_a, 1.0), found.valid).double()
    T = found.view.T_ba.double()
    T_ba = pose_matrix(T[:, :3, :3], T[:, :3, 3] * length[:, None])
    still = torch.eye(4, dtype=T.dtype, device=T.device).expand_as(T)
    T_ba = torch.where(found.usable[:, None, None], T_ba, still)
    return PairEstimate(depth, T_ba, found.usable, rigid_flow(depth, T_ba.to(depth), K))
