"""Photometric depth-pose learning: depth and pose networks that put an image together from its neighbours in time.

SfMLearner, Monodepth2, all mixtures of the two, and the baselines PoseNet and PoseNet-Flow of TrianFlow.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from trianflow.data.pairs.batch import PairBatch
from trianflow.depth.dispnet import DispNet
from trianflow.depth.network import DepthNet, disparity_to_depth
from trianflow.flow.interface import FlowPair
from trianflow.flow.occlusion import flow_quality
from trianflow.flow.pwc import PWCNet
from trianflow.geometry.camera import invert_pose
from trianflow.losses.flow import flow_losses
from trianflow.losses.geometry import depth_consistency_loss, reproject, rigid_flow_loss
from trianflow.losses.masking import item_mean
from trianflow.losses.masks import multi_mask
from trianflow.losses.smoothness import edge_aware_smoothness, over_mean, second_order_smoothness
from trianflow.losses.synthesis import (
    appearance_error,
    explanation_cost,
    masked_share,
    reduce_views,
    synthesize,
    velocity_error,
)
from trianflow.pose.direct import Alignment, align
from trianflow.pose.posenet import PoseNet, flow_input, image_pair
from trianflow.systems.photometric_config import PhotometricConfig, PhotometricWeights
from trianflow.systems.result import StepResult

_FLOW_LEVELS = 3  # of the flow's own losses, finest first, as in TrianFlow
_FLOW_SHARES = {"pixel": 0.15, "ssim": 0.85, "smooth": 10.0}  # as in TrianFlow


@dataclass(frozen=True)
class _Source:
    """Another view of the target.

    Attributes:
        image, input: `(B, 3, H, W)`, for the losses and for the networks.
        T_st: `(B, 4, 4)` target to source.
        explained: of the target's pixels, finest first, `(B, 1, h, w)`; empty without masks.
        length: `(B,)` metres between the two, NaN where unknown; None where nothing is known.
        flow: target to source and back; None where there is no flow network.
    """

    image: Tensor
    input: Tensor
    T_st: Tensor
    explained: list[Tensor]
    length: Tensor | None
    flow: list[FlowPair]


@dataclass(frozen=True)
class _Target:
    """An image that others are to put together.

    Attributes:
        image: `(B, 3, H, W)`.
        inverses: its inverse depth, finest first, `(B, 1, h, w)`.
        sources: the others.
        visible: which of its pixels each of them may show, `(B, 1, H, W)`.
    """

    image: Tensor
    inverses: list[Tensor]
    sources: list[_Source]
    visible: list[Tensor]


class Photometric(nn.Module):
    """The networks and one training step of them.

    Args:
        config: networks and terms.

    Attributes:
        depth, pose: the networks.
        flow: beside a pose network of flow, else None.
        mask_waits: whether a step of training goes without the auto-mask.

    Source: SfMLearner (Zhou et al., CVPR 2017), Monodepth2 (Godard et al., ICCV 2019), depth normalisation and
    alignment of DDVO (Wang et al., CVPR 2018), Multi-mask, baselines of TrianFlow (Zhao et al., CVPR 2020).
    """

    def __init__(self, config: PhotometricConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PhotometricConfig()
        self.depth = DepthNet(config.scales) if config.depth == "resnet18" else DispNet(config.scales)
        self.pose = PoseNet(config.pose, config.rotation, config.explain)
        self.flow = PWCNet(True) if config.pose == "flow" else None
        self.mask_waits = False

    def forward(self, batch: PairBatch, weights: PhotometricWeights, seed: int = 0) -> StepResult:
        """The losses of a batch of pairs, or of triples where the frame before is there too.

        Networks run in the precision of the surrounding autocast, everything else in float32.

        Args:
            batch: the image a is the target.
            weights: of the terms.
            seed: nothing is drawn here.
        """
        disparities = self.depth(batch.input_a)
        sources = self._sources(batch, weights, 1 / self.inverse_depth(disparities[0]))
        config = self.config
        need_others = config.both_ways or config.multi_mask or weights.depth_consistency > 0
        others = [self.depth(source.input) for source in sources] if need_others else []
        with torch.autocast(batch.image_a.device.type, enabled=False):
            K = batch.K.to(batch.image_a)
            inverses = [self.inverse_depth(disparity) for disparity in disparities]
            there = [[self._inverse_of_other(x, of_a) for x, of_a in zip(found, disparities)] for found in others]
            depths = [1 / found[0] for found in there]
            visible = [(torch.ones_like(inverses[0]),) * 2 for _ in sources]
            if config.multi_mask:
                masks = [multi_mask(1 / inverses[0], depth, s.T_st, K) for s, depth in zip(sources, depths)]
                visible = [(of_a.mask.float(), of_other.mask.float()) for of_a, of_other in masks]
            share = 0.5 if config.both_ways else 1.0
            targets = [(_Target(batch.image_a, inverses, sources, [of_a for of_a, _ in visible]), share)]
            if config.both_ways:
                for s, found, (_, of_other) in zip(sources, there, visible):
                    back = _Source(batch.image_a, batch.input_a, invert_pose(s.T_st), [], s.length, [])
                    targets.append((_Target(s.image, found, [back], [of_other]), share / len(sources)))
            terms = {name: torch.zeros_like(K[:, 0, 0]) for name in ("photometric", "smooth", "explainability")}
            for target, share in targets:
                for scale in range(len(inverses)):
                    for name, term in self._terms_of_scale(target, scale, K, weights).items():
                        terms[name] = terms[name] + share * term / len(inverses)
            terms["disparity"] = item_mean(inverses[0])
            lengths = [velocity_error(s.T_st, s.length) for s in sources if s.length is not None]
            terms["velocity"] = sum(lengths, torch.zeros_like(K[:, 0, 0])) / len(sources)
            if weights.depth_consistency > 0:
                moved = [reproject(1 / inverses[0], s.T_st, K) for s in sources]
                everywhere = torch.ones_like(inverses[0])
                found = [depth_consistency_loss(m, depth, everywhere) for m, depth in zip(moved, depths)]
                terms["depth_consistency"] = torch.stack(found).mean(0)
            if self.flow is not None:
                terms |= self._flow_terms(batch, sources, inverses[0], K, weights)
        used = {name: term for name, term in terms.items() if getattr(weights, name) > 0}
        total = torch.stack([getattr(weights, name) * term.mean() for name, term in used.items()]).sum()
        losses = {name: term.detach().mean() for name, term in used.items()}
        return StepResult(total, losses, None, disparities[0].detach(), None)

    def inverse_depth(self, disparity: Tensor) -> Tensor:
        """Inverse depth `(B, 1, h, w)` of a disparity of the network, with mean one where depth is normalised."""
        inverse = self.raw_inverse_depth(disparity)
        return over_mean(inverse) if self.config.normalize_depth else inverse

    @staticmethod
    def raw_inverse_depth(disparity: Tensor) -> Tensor:
        """Inverse depth as the network has it."""
        return 1 / disparity_to_depth(disparity)

    def estimate_pose(self, image_a: Tensor, image_b: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
        """The pose of images `(B, 3, H, W)` in their order in time.

        Returns:
            T_ba `(B, 4, 4)` in the unit of depth, and `(B,)` bool: whether it is known. Where direct alignment finds
            none, the pose is the network's, if there is one that says where to begin, else none.
        """
        T_ba = self._pose(image_a, image_b, K, [])[0]
        if self.config.alignment == "off":
            return T_ba, torch.ones_like(T_ba[:, 0, 0], dtype=torch.bool)
        depth = 1 / self.inverse_depth(self.depth(image_a)[0])
        found = self._align(image_a, image_b, depth, K, T_ba)
        return found.T_ba, found.found | (self.config.alignment == "network")

    def _inverse_of_other(self, disparity: Tensor, disparity_a: Tensor) -> Tensor:
        """Inverse depth of another view of the target a, in the unit of a's of the same size."""
        inverse = self.raw_inverse_depth(disparity)
        if self.config.normalize_depth:
            inverse = inverse / self.raw_inverse_depth(disparity_a).mean((1, 2, 3), keepdim=True)
        return inverse

    def _aligned(self, image: Tensor, other: Tensor, depth: Tensor, K: Tensor, T_st: Tensor) -> Tensor:
        """The pose from an image `(B, 3, H, W)` with its depth to another, where the network says `T_st`."""
        return T_st if self.config.alignment == "off" else self._align(image, other, depth, K, T_st).T_ba

    def _align(self, image: Tensor, other: Tensor, depth: Tensor, K: Tensor, T_st: Tensor) -> Alignment:
        with torch.autocast(image.device.type, enabled=False):
            return align(image, other, depth, K.to(depth), T_st)

    def _pose(self, first: Tensor, second: Tensor, K: Tensor, flows: list[FlowPair]) -> tuple[Tensor, list[Tensor]]:
        """The pose of a pair in its order in time, and the masks of both images; at rest where no network is asked."""
        if self.config.alignment == "identity":
            return torch.eye(4).to(first).expand(len(first), 4, 4), []
        if self.flow is None:
            found = self.pose(image_pair(first, second), self.config.scales)
        else:
            flow = (flows or self.flow(first, second, 1))[0].flow_ab
            found = self.pose(flow_input(flow.detach(), K), self.config.scales)
        return found.T_ba, found.explained

    def _sources(self, batch: PairBatch, weights: PhotometricWeights, depth: Tensor) -> list[_Source]:
        K, lengths = batch.K, batch.lengths
        after = None if lengths is None else lengths[:, 0]
        flows = self._flows(batch.input_a, batch.input_b, weights)
        T_ba, explained = self._pose(batch.input_a, batch.input_b, K, flows)
        T_ba = self._aligned(batch.image_a, batch.image_b, depth, K, T_ba)
        masks = [mask[:, :1] for mask in explained]
        sources = [_Source(batch.image_b, batch.input_b, T_ba, masks, after, flows)]
        if batch.image_c is not None and batch.input_c is not None:
            before = None if lengths is None else lengths[:, 1]
            flows = self._flows(batch.input_c, batch.input_a, weights)
            T_ac, explained = self._pose(batch.input_c, batch.input_a, K, flows)
            masks = [mask[:, 1:] for mask in explained]
            flows = [FlowPair(flow.flow_ba, flow.flow_ab) for flow in flows]
            T_ca = self._aligned(batch.image_a, batch.image_c, depth, K, invert_pose(T_ac))
            sources.append(_Source(batch.image_c, batch.input_c, T_ca, masks, before, flows))
        return sources

    def _flows(self, first: Tensor, second: Tensor, weights: PhotometricWeights) -> list[FlowPair]:
        if self.flow is None:
            return []
        with torch.set_grad_enabled(torch.is_grad_enabled() and weights.flow > 0):
            return self.flow(first, second, _FLOW_LEVELS if weights.flow > 0 else 1)

    def _terms_of_scale(self, target: _Target, scale: int, K: Tensor, weights: PhotometricWeights) -> dict[str, Tensor]:
        config, sources, inverse = self.config, target.sources, target.inverses[scale]
        image = _shrunk(target.image, inverse.shape[-2:])
        terms = {"smooth": self._smoothness(inverse, image) / 2**scale} if weights.smooth > 0 else {}
        if config.explain:
            masks = [s.explained[scale] for s in sources]
            terms["explainability"] = torch.stack([explanation_cost(mask) for mask in masks]).mean(0)
        if weights.photometric == 0:
            return terms
        if config.upscale:
            image = target.image
            inverse = interpolate(inverse, image.shape[-2:], mode="bilinear", align_corners=False)
        K = _scaled_intrinsics(K, target.image.shape[-2:], image.shape[-2:])
        errors, seen, still = [], [], []
        masked = config.auto_mask and not self.mask_waits
        for source, mask in zip(sources, target.visible):
            other = _shrunk(source.image, image.shape[-2:])
            found = synthesize(other, 1 / inverse, source.T_st, K)
            error = appearance_error(image, found.image, config.ssim)
            if masked:
                still.append(appearance_error(image, other, config.ssim).detach())
            errors.append(error)
            seen.append(found.seen & (interpolate(mask, image.shape[-2:], mode="nearest") > 0))
        kept = None
        if masked:
            # The mean is over the same views; the smallest is of all, as every unmoved view sees every pixel.
            at_rest = seen if config.reduction == "average" else [torch.ones_like(mask) for mask in seen]
            moved = reduce_views([error.detach() for error in errors], seen, config.reduction)
            kept = moved < reduce_views(still, at_rest, config.reduction)
        if config.explain:
            sized = [interpolate(s.explained[scale], image.shape[-2:], mode="nearest") for s in sources]
            errors = [error * mask for error, mask in zip(errors, sized)]
        anywhere = torch.cat(seen, 1).any(1, keepdim=True)
        terms["photometric"] = masked_share(reduce_views(errors, seen, config.reduction), anywhere, kept)
        return terms

    def _smoothness(self, inverse: Tensor, image: Tensor) -> Tensor:
        config = self.config
        x = inverse if config.smooth_of == "disparity" else 1 / inverse
        x = over_mean(x) if config.smooth_normalized else x
        return edge_aware_smoothness(x, image) if config.smooth_kind == "edge_aware" else second_order_smoothness(x)

    def _flow_terms(
        self, batch: PairBatch, sources: list[_Source], inverse: Tensor, K: Tensor, weights: PhotometricWeights
    ) -> dict[str, Tensor]:
        terms: dict[str, list[Tensor]] = {"flow": [], "rigid_flow": []}
        for source in sources:
            if weights.flow > 0:
                found = flow_losses(batch.image_a, source.image, source.flow)
                terms["flow"].append(sum(share * getattr(found, name) for name, share in _FLOW_SHARES.items()))
            if weights.rigid_flow > 0:
                flow = source.flow[0]
                score = flow_quality(FlowPair(flow.flow_ab.detach(), flow.flow_ba.detach())).score
                moved = reproject(1 / inverse, source.T_st, K)
                terms["rigid_flow"].append(rigid_flow_loss(flow.flow_ab, moved, score))
        return {name: torch.stack(values).mean(0) for name, values in terms.items() if values}


def _shrunk(image: Tensor, size: torch.Size) -> Tensor:
    """An image at a smaller size, means of areas; itself where the size fits."""
    return image if image.shape[-2:] == size else interpolate(image, size, mode="area")


def _scaled_intrinsics(K: Tensor, full: torch.Size, size: torch.Size) -> Tensor:
    """Intrinsics `(B, 3, 3)` of images resized from `full` (height, width) to `size`: u' = (u + 0.5) s - 0.5."""
    if full == size:
        return K
    s = K.new_tensor([size[1] / full[1], size[0] / full[0], 1.0])
    offset = K.new_zeros(3, 3)
    offset[:2, 2] = (s[:2] - 1) / 2
    return s[:, None] * K + offset
