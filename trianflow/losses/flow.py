"""The loss terms of optical flow without supervision: both directions, several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from trianflow.flow.interface import FlowPair
from trianflow.flow.occlusion import flow_quality
from trianflow.geometry.warping import flow_targets, sample
from trianflow.losses.masking import masked_mean
from trianflow.losses.photometric import photometric_losses
from trianflow.losses.smoothness import flow_smoothness


@dataclass(frozen=True)
class FlowLosses:
    """Loss terms of a batch of flows, summed over levels and both directions, not weighted.

    Attributes:
        pixel: `(B,)` absolute difference between image and warped image.
        ssim: `(B,)` structural dissimilarity of the two.
        smooth: `(B,)` second-order edge-aware smoothness of the flow.
        consistency: `(B,)` forward-backward difference, pixels.
    """

    pixel: Tensor
    ssim: Tensor
    smooth: Tensor
    consistency: Tensor


def flow_losses(image_a: Tensor, image_b: Tensor, pairs: Sequence[FlowPair]) -> FlowLosses:
    """Photometric, smoothness and consistency terms of a flow at several sizes.

    Photometric and consistency terms look where a pixel is visible in the other image and its flow consistent forth
    and back; the product is the mask, by whose mean they are normalised, and which has no gradient.

    Args:
        image_a, image_b: `(B, C, H, W)` in [0, 1].
        pairs: flows at 1, 1/2, 1/4, ... of the size, rounded down, in pixels of that size, `(B, 2, H_i, W_i)`. Level i
            sees means of 2^i x 2^i pixels of the images; rows and columns at the end that fill none are left out.

    Returns:
        `FlowLosses`. Differentiable in the flows. Items do not see each other; a term is zero where nothing is
        visible and consistent. Smoothness has no mask: flow that is not finite gives a loss that is not.

    Source: TrianFlow, section 3.2; normalisation of the published implementation.
    """
    batch = image_a.shape[0]
    images = torch.cat([image_a, image_b])
    totals = [images.new_zeros(2 * batch) for _ in range(4)]
    for i, pair in enumerate(pairs):
        level = images if i == 0 else avg_pool2d(images, 2**i)
        # Both directions at once: items a -> b, then items b -> a.
        there, back = torch.cat([pair.flow_ab, pair.flow_ba]), torch.cat([pair.flow_ba, pair.flow_ab])
        quality = flow_quality(FlowPair(there, back))
        mask = quality.visible * quality.consistent
        warped = sample(level.roll(batch, 0), flow_targets(there))
        terms = (
            *photometric_losses(level, warped, mask),
            flow_smoothness(there, level),
            masked_mean(quality.difference, mask),
        )
        totals = [total + term for total, term in zip(totals, terms)]
    return FlowLosses(*(total[:batch] + total[batch:] for total in totals))
