"""How good the networks are: against the truth where there is some, by how well images explain each other where not."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor, nn

from trianflow.data.pairs.batch import PairBatch, PairTruth
from trianflow.depth.network import disparity_to_depth
from trianflow.evaluation.depth import absolute_relative, scaled_by_median
from trianflow.evaluation.flow import end_point_error, is_outlier
from trianflow.flow.interface import FlowPair
from trianflow.geometry.warping import flow_targets, sample
from trianflow.losses.photometric import ssim
from trianflow.pose.two_view import TwoViewStatus
from trianflow.systems.geometry import solve_geometry
from trianflow.systems.trianflow import TrianFlow

# All there is to measure, in the order of the table.
FIGURES = (
    *("photometric", "solved", "epe", "epe_visible", "epe_zero", "outliers"),
    *("rotation", "direction", "depth_error", "abs_rel", "abs_rel_constant"),
)

_MEDIANS = ("rotation", "direction")
_OUTSIDE = 1.5  # photometric error of a pixel that leaves the image, in units of that of zero flow


def watched(stage: str, learning: Collection[str]) -> tuple[str, ...]:
    """The figures that decide which checkpoint of a stage is the best, lower is better: the first that there is.

    Args:
        stage: its name.
        learning: networks that learn in it.
    """
    if stage in ("photometric", "instance"):
        return "abs_rel", "photometric"
    return ("epe", "photometric") if "flow" in learning else ("abs_rel", "depth_error")


@torch.no_grad()
def validate(
    system: TrianFlow,
    batches: Iterable[PairBatch],
    with_depth: bool,
    device: torch.device,
    *,
    with_flow: bool = True,
) -> dict[str, float]:
    """Figures of merit over a set of pairs.

    Args:
        system: the modes (training or evaluation) of all its parts are restored afterwards.
        batches: pairs.
        with_depth: whether the depth network has learned something worth a look.
        device: of the system.
        with_flow: the same of the flow network; without it, nothing is measured but depth against the truth.

    Returns:
        Means over the pairs, medians for the pose:
        `photometric` (see `photometric_error`) and `solved` (share of pairs with a pose); with true flow `epe`,
        `epe_visible`, `epe_zero` (of no flow at all) in pixels, `outliers` (KITTI's Fl, a share); with true poses
        `rotation` and `direction` in degrees; with depth `depth_error` (relative, to the triangulated points) and with
        true depth `abs_rel` and `abs_rel_constant` (of the best constant depth), both scaled by the median. What no
        pair has is left out.
    """
    if not with_flow:
        return mean_figures(system, batches, device, lambda batch: _measure_depth(system, batch))
    return mean_figures(system, batches, device, lambda batch: _measure(system, batch, with_depth))


@torch.no_grad()
def mean_figures(
    system: nn.Module,
    batches: Iterable[PairBatch],
    device: torch.device,
    measure: Callable[[PairBatch], dict[str, Tensor]],
) -> dict[str, float]:
    """What is measured of batches, summed up over all of them, the system in evaluation mode meanwhile.

    Args:
        system: the modes (training or evaluation) of all its parts are restored afterwards.
        batches: pairs.
        device: of the system.
        measure: values by their names, NaN where there is none.

    Returns:
        Means, medians for the pose; what no pair has is left out.
    """
    modes = [(module, module.training) for module in system.modules()]
    system.eval()
    found: dict[str, list[Tensor]] = defaultdict(list)
    try:
        for batch in batches:
            for name, values in measure(batch.to(device)).items():
                found[name].append(values.double().flatten().cpu())
    finally:
        for module, training in modes:
            module.training = training
    figures = {}
    for name, parts in found.items():
        values = torch.cat(parts)
        values = values[values.isfinite()]
        if len(values):
            figures[name] = float(values.median() if name in _MEDIANS else values.mean())
    return figures


def photometric_error(image_a: Tensor, image_b: Tensor, flow: FlowPair) -> Tensor:
    """How badly the images explain each other along a flow: 0.15 |difference| + 0.85 (1 - SSIM) / 2, both directions.

    Every pixel counts, so that no flow gains by leaving the image or contradicting itself: a pixel whose target lies
    outside, or is not finite, counts as half as much again as if it stood still, about what a wrong target costs.

    Args:
        image_a, image_b: `(B, C, H, W)` in [0, 1].
        flow: `(B, 2, H, W)` pixels.

    Returns:
        `(B,)`, non-negative; NaN for a flow without one finite pixel in a direction.
    """
    images, there = torch.cat([image_a, image_b]), torch.cat([flow.flow_ab, flow.flow_ba])
    targets = flow_targets(there)
    limit = targets.new_tensor([images.shape[-1] - 1, images.shape[-2] - 1])
    inside = ((targets >= 0) & (targets <= limit)).all(-1)[:, None]
    warped = sample(images.roll(len(image_a), 0), flow_targets(torch.where(inside, there, 0.0)))
    error = 0.15 * (images - warped).abs() + 0.85 * ((1 - ssim(images, warped)) / 2).clamp(0, 1)
    known = there.isfinite().all(1).flatten(1).any(1)
    error = (error * torch.where(inside, 1.0, _OUTSIDE)).mean((1, 2, 3)).where(known, torch.nan)
    return (error[: len(image_a)] + error[len(image_a) :]) / 2


def _measure(system: TrianFlow, batch: PairBatch, with_depth: bool) -> dict[str, Tensor]:
    flow = system.flow(batch.image_a, batch.image_b, 1)[0]
    disparity = system.depth(batch.image_a)[0] if with_depth else None
    truth = batch.truth or PairTruth()
    with torch.autocast(batch.image_a.device.type, enabled=False):
        geometry = solve_geometry(flow, batch.K.to(flow.flow_ab), system.config.geometry, 0)
        values = {
            "photometric": photometric_error(batch.image_a, batch.image_b, flow),
            "solved": geometry.usable,
        }
        if truth.flow_ab is not None:
            values |= _flow_errors(flow.flow_ab, truth.flow_ab, truth.visible_a)
        if truth.T_ba is not None:
            status = geometry.view.status
            known = status < TwoViewStatus.TOO_FEW_MATCHES
            values |= pose_errors(geometry.view.T_ba, truth.T_ba, status == TwoViewStatus.OK, known)
        if disparity is not None:
            depth = disparity_to_depth(disparity)
            there = depth.flatten(1).gather(1, _index(geometry.p_a, depth.shape[-1]))
            aligned = scaled_by_median(there, geometry.depth_a, geometry.valid)
            values["depth_error"] = absolute_relative(aligned, geometry.depth_a, geometry.valid)
            if truth.depth_a is not None:
                values |= depth_errors(depth.flatten(1), truth.depth_a.flatten(1))
    return values


def _measure_depth(system: TrianFlow, batch: PairBatch) -> dict[str, Tensor]:
    if batch.truth is None or batch.truth.depth_a is None:
        return {}
    depth = disparity_to_depth(system.depth(batch.image_a)[0])
    return depth_errors(depth.flatten(1), batch.truth.depth_a.flatten(1))


def _index(p: Tensor, width: int) -> Tensor:
    column, row = p.round().long().unbind(-1)
    return row * width + column


def _flow_errors(flow: Tensor, truth: Tensor, visible: Tensor | None) -> dict[str, Tensor]:
    error = end_point_error(flow, truth)
    values = {
        "epe": error.flatten(1).nanmean(1),
        "epe_zero": torch.hypot(truth[:, 0], truth[:, 1]).flatten(1).nanmean(1),
        "outliers": is_outlier(error, truth).double().where(error.isfinite(), torch.nan).flatten(1).nanmean(1),
    }
    if visible is not None:
        values["epe_visible"] = error.where(visible > 0.5, torch.nan).flatten(1).nanmean(1)
    return values


def pose_errors(T_ba: Tensor, truth: Tensor, moving: Tensor, known: Tensor) -> dict[str, Tensor]:
    """Errors of rotation and unit translation, degrees `(B,)`; NaN where not `known`, or not `moving`."""
    R, t = T_ba.double()[:, :3, :3], T_ba.double()[:, :3, 3]
    R_true, t_true = truth[:, :3, :3].double(), truth[:, :3, 3].double()
    # By the chord, which is exact for small angles, where the cosine is not.
    rotation = 2 * ((R - R_true).flatten(1).norm(dim=1) / math.sqrt(8)).clamp(max=1).asin()
    t_true = torch.nn.functional.normalize(t_true, dim=1)
    direction = 2 * ((t - t_true).norm(dim=1) / 2).clamp(max=1).asin()
    moving = moving & (truth[:, :3, 3].norm(dim=1) > 1e-3)
    return {
        "rotation": torch.rad2deg(rotation).where(known, torch.nan),
        "direction": torch.rad2deg(direction).where(moving, torch.nan),
    }


def depth_errors(depth: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """AbsRel of depth `(B, N)` scaled by the median, and that of the best constant depth; truth within 80 m."""
    valid = truth.isfinite() & (truth > 1e-3) & (truth < 80)
    truth = torch.where(valid, truth, 1.0)
    return {
        "abs_rel": absolute_relative(scaled_by_median(depth, truth, valid), truth, valid),
        "abs_rel_constant": absolute_relative(scaled_by_median(torch.ones_like(depth), truth, valid), truth, valid),
    }
