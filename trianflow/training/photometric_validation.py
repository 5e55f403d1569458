"""How good photometric depth and pose are, and whether their scale stays."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from trianflow.data.pairs.batch import PairBatch, PairTruth
from trianflow.flow.interface import FlowPair
from trianflow.geometry.camera import invert_pose, pose_matrix
from trianflow.geometry.warping import rigid_flow
from trianflow.systems.instance import InstaDM
from trianflow.systems.photometric import Photometric
from trianflow.training.validation import depth_errors, mean_figures, photometric_error, pose_errors

# All there is to measure, in the order of the table.
PHOTOMETRIC_FIGURES = ("photometric", "rotation", "direction", "length", "inverse_depth", "abs_rel", "abs_rel_constant")


def validate_photometric(
    system: Photometric | InstaDM, batches: Iterable[PairBatch], device: torch.device
) -> dict[str, float]:
    """Figures of merit over a set of pairs.

    Args:
        system: the modes (training or evaluation) of all its parts are restored afterwards.
        batches: pairs.
        device: of the system.

    Returns:
        Means over the pairs, medians for the pose: `photometric` (as of TrianFlow, along the flow of depth and pose);
        `inverse_depth`, its mean as the network has it, before any normalisation, which tells a collapse; with true
        poses `rotation` and `direction` in degrees, and `length`, that of the translation over the true one; with true
        depth `abs_rel` and `abs_rel_constant`, both scaled by the median. What no pair has is left out.
    """
    return mean_figures(system, batches, device, lambda batch: _measure(system, batch))


def _measure(system: Photometric | InstaDM, batch: PairBatch) -> dict[str, Tensor]:
    disparity_a, disparity_b = system.depth(torch.cat([batch.image_a, batch.image_b]))[0].split(len(batch))
    T_ba, known = system.estimate_pose(batch.image_a, batch.image_b, batch.K)
    truth = batch.truth or PairTruth()
    with torch.autocast(batch.image_a.device.type, enabled=False):
        depth_a, depth_b = (1 / system.inverse_depth(d) for d in (disparity_a, disparity_b))
        K = batch.K.to(T_ba)
        flow = FlowPair(rigid_flow(depth_a, T_ba, K), rigid_flow(depth_b, invert_pose(T_ba), K))
        values = {
            "photometric": photometric_error(batch.image_a, batch.image_b, flow),
            "inverse_depth": system.raw_inverse_depth(disparity_a).flatten(1).mean(1),
        }
        if truth.T_ba is not None:
            unit = pose_matrix(T_ba[:, :3, :3], torch.nn.functional.normalize(T_ba[:, :3, 3], dim=1))
            values |= pose_errors(unit, truth.T_ba, known, known)
            true_length = truth.T_ba[:, :3, 3].norm(dim=1)
            length = T_ba[:, :3, 3].norm(dim=1) / true_length
            values["length"] = length.where(true_length > 1e-3, torch.nan)
        if truth.depth_a is not None:
            values |= depth_errors(depth_a.flatten(1), truth.depth_a.flatten(1))
    return values
