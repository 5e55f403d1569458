"""Insta-DM: depth, the camera's motion and those of rigid objects, which learn from pairs with instance masks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trianflow.data.pairs.batch import PairBatch
from trianflow.depth.dispnet import DispNet
from trianflow.depth.network import DepthNet, disparity_to_depth
from trianflow.geometry.camera import invert_pose, pixel_grid
from trianflow.geometry.splatting import forward_project
from trianflow.losses.instance import region_errors, reproject_regions
from trianflow.losses.smoothness import disparity_smoothness
from trianflow.pose.objects import ObjPoseNet, composite_motions, object_centres, region_masks
from trianflow.pose.posenet import PoseNet, image_pair
from trianflow.systems.instance_config import InstanceConfig, InstanceWeights
from trianflow.systems.result import StepResult


class InstaDM(nn.Module):
    """The networks of depth, of the camera's motion and of the objects' motions, and one training step of them.

    Without instance masks, or without `config.objects`, it is the rigid system: everything is taken to stand still.

    Args:
        config: networks and terms.

    Attributes:
        depth, pose, objects: the networks; objects is None in the rigid system.
        flow: None, there is none.
        objects_wait: whether a step of training leaves the pixels of objects out.

    Source: Lee et al., Instance-wise Depth and Motion Learning from Monocular Videos, NeurIPS workshop 2020.
    """

    def __init__(self, config: InstanceConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or InstanceConfig()
        self.depth = DepthNet() if config.depth == "resnet18" else DispNet(1)
        self.pose = PoseNet(config.pose, config.rotation)
        self.objects = ObjPoseNet(config.pose) if config.objects else None
        self.flow = None
        self.objects_wait = False

    def forward(self, batch: PairBatch, weights: InstanceWeights, seed: int = 0) -> StepResult:
        """The losses of a batch, in both directions of every pair.

        Networks run in the precision of the surrounding autocast, everything else in float32.

        Args:
            batch: pairs of images, with labels where they are known; an object that one frame alone shows is not
                compared.
            weights: of the terms.
            seed: nothing is drawn here.
        """
        # Items a -> b, then items b -> a: from p to q.
        B = len(batch)
        image_p, input_p = torch.cat([batch.image_a, batch.image_b]), torch.cat([batch.input_a, batch.input_b])
        image_q, input_q = image_p.roll(B, 0), input_p.roll(B, 0)
        labels = self._labels(batch)
        if self.objects_wait:
            labels = torch.where(labels > 0, -1, labels)
        labels_p = labels.transpose(0, 1).flatten(0, 1)
        disparity = self.depth(input_p)[0]
        T_qp = self.pose(image_pair(input_p, input_q)).T_ba
        with torch.autocast(image_p.device.type, enabled=False):
            K = batch.K.to(image_p).repeat(2, 1, 1)
            depth_p = disparity_to_depth(disparity)
        if self.objects is not None and self.objects_wait:
            motions = T_qp[:, None] + self.objects.nothing()
        else:
            motions = self.motions(input_p, input_q, depth_p, labels_p, labels_p.roll(B, 0), T_qp, K)
        with torch.autocast(image_p.device.type, enabled=False):
            errors = region_errors(
                image_p,
                image_q,
                depth_p,
                depth_p.roll(B, 0),
                labels_p,
                labels_p.roll(B, 0),
                invert_pose(motions),
                K,
                self.config.ssim,
            )
            terms = {"photometric": errors.total(errors.photometric), "geometric": errors.total(errors.geometric)}
            if weights.smooth > 0:
                terms["smooth"] = disparity_smoothness(disparity, image_p)
            used = {name: term for name, term in terms.items() if getattr(weights, name) > 0}
            total = torch.stack([getattr(weights, name) * term.mean() for name, term in used.items()]).sum()
        losses = {name: term.detach().mean() for name, term in used.items()}
        return StepResult(total, losses, None, disparity[:B].detach(), None)

    def motions(
        self,
        image_a: Tensor,
        image_b: Tensor,
        depth_a: Tensor,
        labels_a: Tensor,
        labels_b: Tensor,
        T_ba: Tensor,
        K: Tensor,
    ) -> Tensor:
        """The motion of every region: forward projection, and the network's residual motion of each object.

        Args:
            image_a, image_b: `(B, 3, H, W)`, as the networks see them.
            depth_a: `(B, 1, H, W)` float32.
            labels_a, labels_b: `(B, H, W)` int64, see `PairBatch`.
            T_ba: `(B, 4, 4)` float32 of the camera, in the unit of the depth.
            K: `(B, 3, 3)` float32.

        Returns:
            `(B, N + 1, 4, 4)` of `composite_motions`; N is the largest label, and at least 1, or 0 in the rigid system.
        """
        if self.objects is None:
            return T_ba[:, None]
        count = max(int(labels_a.max()), int(labels_b.max()), 1)
        with torch.autocast(image_a.device.type, enabled=False):
            seen = forward_project(depth_a, T_ba, K, self.config.factor)
            labels_i = seen.carry(labels_a, hole=-1)
            centres = object_centres(seen.depth.detach(), labels_i, count, K)
            intermediate = seen.render(image_a)
        T_objects = self.objects(intermediate, labels_i, image_b, labels_b, centres)
        with torch.autocast(image_a.device.type, enabled=False):
            return composite_motions(T_ba, T_objects)

    def flow_of(self, batch: PairBatch, depth_a: Tensor, T_ba: Tensor) -> Tensor:
        """Where depth and the motions of camera and objects take the pixels of the images a.

        Args:
            batch: pairs; its labels tell the objects.
            depth_a: `(B, 1, H, W)` float32, in the system's unit.
            T_ba: `(B, 4, 4)` float32 of the camera.

        Returns:
            `(B, 2, H, W)` pixels. An object that the other frame does not show moves as the camera alone would have it.
        """
        K = batch.K.to(depth_a)
        labels_a, labels_b = self._labels(batch).unbind(1)
        motions = self.motions(batch.image_a, batch.image_b, depth_a, labels_a, labels_b, T_ba, K)
        points = reproject_regions(depth_a, labels_a.clamp_min(0), motions, K).points
        height, width = depth_a.shape[-2:]
        return points.permute(0, 3, 1, 2) - pixel_grid(height, width, depth_a.dtype, depth_a.device)

    def inverse_depth(self, disparity: Tensor) -> Tensor:
        """Inverse depth `(B, 1, H, W)` of a disparity of the network."""
        return 1 / disparity_to_depth(disparity)

    raw_inverse_depth = inverse_depth  # nothing is normalised

    def estimate_pose(self, image_a: Tensor, image_b: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
        """The camera's motion between images `(B, 3, H, W)`.

        Returns:
            T_ba `(B, 4, 4)` in the unit of `inverse_depth`, and `(B,)` bool: whether it is known, which it always is.
        """
        T_ba = self.pose(image_pair(image_a, image_b)).T_ba
        return T_ba, torch.ones_like(T_ba[:, 0, 0], dtype=torch.bool)

    def _labels(self, batch: PairBatch) -> Tensor:
        """The labels of a batch, `(B, 2, H, W)` int64; zeros where nothing has a motion of its own."""
        if self.objects is None or batch.labels is None:
            return torch.zeros_like(batch.image_a[:, :2], dtype=torch.long)
        return _shared_labels(batch.labels)


def _shared_labels(labels: Tensor) -> Tensor:
    """Labels of pairs, `(B, 2, H, W)` int64, with -1 for objects that the other frame does not show."""
    labels = labels.clamp_min(-1)
    count = max(int(labels.max()), 0)
    shown = torch.stack([region_masks(view, count).flatten(2).any(-1) for view in labels.unbind(1)]).all(0)
    known = shown.gather(1, labels.flatten(1).clamp_min(0)).view_as(labels)
    return torch.where((labels > 0) & ~known, -1, labels)
