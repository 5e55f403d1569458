"""TrianFlow: flow and depth that learn from each other through two-view geometry, without labels."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from trianflow.data.pairs.batch import PairBatch, PairTruth
from trianflow.depth.network import DepthNet, disparity_to_depth
from trianflow.flow.interface import FlowPair
from trianflow.flow.pwc import PWCNet
from trianflow.geometry.warping import sample
from trianflow.losses.flow import flow_losses
from trianflow.losses.geometry import (
    align_scale,
    depth_consistency_loss,
    epipolar_band_loss,
    reproject,
    rigid_flow_loss,
    triangulation_loss,
)
from trianflow.losses.smoothness import disparity_smoothness
from trianflow.losses.supervised_depth import supervised_depth_loss
from trianflow.losses.supervised_flow import supervised_flow_loss
from trianflow.systems.config import LossWeights, SystemConfig
from trianflow.systems.geometry import PairGeometry, solve_geometry
from trianflow.systems.result import StepResult

_FLOW_LEVELS = 3  # of the losses without truth, finest first (published)
_TRUTH_LEVELS = 4  # of the loss with truth: all that the network gives


class TrianFlow(nn.Module):
    """The flow network, the depth network and one training step of both.

    Args:
        config: networks and geometry. `imagenet` is for `training.initial`: nothing is read here.

    Source: Zhao et al., Towards Better Generalization: Joint Depth-Pose Learning without PoseNet, CVPR 2020.
    """

    def __init__(self, config: SystemConfig | None = None) -> None:
        super().__init__()
        self.config = config or SystemConfig()
        self.flow = PWCNet(self.config.normalize_features)
        self.depth = DepthNet(deepest=self.config.deepest)

    def forward(self, batch: PairBatch, weights: LossWeights, seed: int = 0) -> StepResult:
        """The losses of a batch.

        Networks run in the precision of the surrounding autocast, everything else in float32. A pair without usable
        geometry (`PairGeometry.usable`) adds nothing to the epipolar term and to all terms of depth: not to its
        smoothness either, which alone would flatten it.

        Args:
            batch: pairs of images.
            weights: of the terms.
            seed: of the random matches; the same for all items, so that a batch may be split among processes.
        """
        trains_flow = any(p.requires_grad for p in self.flow.parameters())
        with nullcontext() if trains_flow else torch.no_grad():
            flows_ab, flows = self._flow(batch, weights) if weights.need_flow else ([], [])
        disparity = self._disparity(batch, weights) if weights.need_depth else None
        truth = batch.truth or PairTruth()
        with torch.autocast(batch.image_a.device.type, enabled=False):
            terms: dict[str, Tensor] = {}
            if weights.truth > 0:
                there = torch.full_like(flows_ab[0], torch.nan) if truth.flow_ab is None else truth.flow_ab
                terms["truth"] = supervised_flow_loss(flows_ab, there, truth.visible_a)
            if weights.need_flow_losses:
                found = flow_losses(batch.image_a, batch.image_b, flows[:_FLOW_LEVELS])
                terms |= {"pixel": found.pixel, "ssim": found.ssim}
                terms |= {"flow_smooth": found.smooth, "flow_consistency": found.consistency}
            if disparity is not None and weights.depth_truth > 0:
                depth = disparity_to_depth(disparity[: len(batch)])
                known = torch.full_like(depth, torch.nan) if truth.depth_a is None else truth.depth_a
                terms["depth_truth"] = supervised_depth_loss(depth, known * self._zoom(batch.K.to(depth), depth))
            if disparity is not None and weights.depth_smooth > 0 and not weights.need_structure:
                terms["depth_smooth"] = disparity_smoothness(disparity, batch.image_a)
            geometry = None
            if weights.need_geometry:
                geometry = solve_geometry(flows[0], batch.K.to(batch.image_a), self.config.geometry, seed)
                limits = self.config.geometry
                taught: dict[str, Tensor] = {}
                if weights.epipolar > 0:
                    taught["epipolar"] = epipolar_band_loss(geometry.distance, limits.inlier, limits.rigid)
                if disparity is not None and weights.need_structure:
                    taught |= self._depth_losses(batch, flows[0], disparity, geometry, weights)
                terms |= {name: torch.where(geometry.usable, term, 0.0) for name, term in taught.items()}
            used = {name: term for name, term in terms.items() if getattr(weights, name) > 0}
            total = torch.stack([getattr(weights, name) * term.mean() for name, term in used.items()]).sum()
        losses = {name: term.detach().mean() for name, term in used.items()}
        disparity_a = None if disparity is None else disparity[: len(batch)].detach()
        return StepResult(total, losses, flows[0] if flows else None, disparity_a, geometry)

    def _flow(self, batch: PairBatch, weights: LossWeights) -> tuple[list[Tensor], list[FlowPair]]:
        """The flow a -> b, and the flow of both directions where a term looks at it; finest first."""
        levels = _TRUTH_LEVELS if weights.truth > 0 else _FLOW_LEVELS if weights.need_flow_losses else 1
        if weights.need_both_ways:
            flows = self.flow(batch.input_a, batch.input_b, levels)
            return [flow.flow_ab for flow in flows], flows
        features = [f.chunk(2) for f in self.flow.encode(torch.cat([batch.input_a, batch.input_b]))]
        size = (batch.input_a.shape[-2], batch.input_a.shape[-1])
        return self.flow.decode([a for a, _ in features], [b for _, b in features], *size, levels), []

    def _disparity(self, batch: PairBatch, weights: LossWeights) -> Tensor:
        """Of the first images, and behind them of the second where a term looks at both."""
        images = torch.cat([batch.input_a, batch.input_b]) if weights.need_structure else batch.input_a
        disparity: Tensor = self.depth(images)[0]
        return disparity

    def _zoom(self, K: Tensor, depth: Tensor) -> Tensor:
        """What brings things as near as a camera of the configured focal length would show them, `(B, 1, 1, 1)`.

        An image does not tell the focal length: of the same picture, a longer lens makes all as much farther away.
        Source: the canonical camera of Metric3D (Yin et al., ICCV 2023).
        """
        focal = K[:, :1, :1, None]
        return torch.ones_like(focal) if self.config.focal is None else self.config.focal * depth.shape[-1] / focal

    def _depth_losses(
        self, batch: PairBatch, flow: FlowPair, disparity: Tensor, geometry: PairGeometry, weights: LossWeights
    ) -> dict[str, Tensor]:
        disparity_a, disparity_b = disparity.split(len(batch))
        aligned, triangulation = [], []
        for disp, points, reference in (
            (disparity_a, geometry.p_a, geometry.depth_a),
            (disparity_b, geometry.p_b, geometry.depth_b),
        ):
            depth = disparity_to_depth(disp)
            there = sample(depth, points[:, None], "reflection")[:, 0, 0]
            scale = align_scale(there, reference, geometry.valid)
            aligned.append(scale[:, None, None, None] * depth)
            triangulation.append(triangulation_loss(scale[:, None] * there, reference, geometry.valid))
        terms = {}
        if weights.triangulation > 0:
            terms["triangulation"] = triangulation[0] + triangulation[1]
        if weights.depth_consistency + weights.rigid_flow > 0:
            moved = reproject(aligned[0], geometry.view.T_ba, batch.K.to(aligned[0]))
            if weights.depth_consistency > 0:
                weight = geometry.inlier * geometry.score
                terms["depth_consistency"] = depth_consistency_loss(moved, aligned[1], weight)
            if weights.rigid_flow > 0:
                terms["rigid_flow"] = rigid_flow_loss(flow.flow_ab, moved, geometry.inlier)
        if weights.depth_smooth > 0:
            smooth = [
                disparity_smoothness(d, i) for d, i in ((disparity_a, batch.image_a), (disparity_b, batch.image_b))
            ]
            terms["depth_smooth"] = smooth[0] + smooth[1]
        return terms
