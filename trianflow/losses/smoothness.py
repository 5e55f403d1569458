"""Smoothness: what is estimated may bend, in most of the terms only where the image has an edge."""

from __future__ import annotations

from torch import Tensor

from trianflow.losses.masking import item_mean


def _edge_weights(image: Tensor, edge: float) -> tuple[Tensor, Tensor]:
    """exp(-edge |image gradient|), channels averaged: `(B, 1, H, W - 1)` along x and `(B, 1, H - 1, W)` along y."""
    along_x, along_y = (image.diff(dim=dim).abs().mean(1, keepdim=True) for dim in (3, 2))
    return (-edge * along_x).exp(), (-edge * along_y).exp()


def flow_smoothness(flow: Tensor, image: Tensor, edge: float = 10.0, scale: float = 20.0) -> Tensor:
    """Mean absolute second derivative of a flow, little of it asked for at the edges of the image.

    Args:
        flow: `(B, 2, H, W)` pixels, finite; an item that is not has a loss that is not.
        image: `(B, C, H, W)` in [0, 1].
        edge: how fast the weight falls with the gradient of the image.
        scale: length of flow that counts as one, pixels.

    Returns:
        `(B,)`, non-negative: half the sum of the means along x and y. The weight of a second derivative is that of
        the image gradient at the latter of its two differences.

    Source: TrianFlow, section 3.2; numbers of the published implementation.
    """
    weight_x, weight_y = _edge_weights(image, edge)
    bend_x, bend_y = flow.diff(dim=3).diff(dim=3).abs(), flow.diff(dim=2).diff(dim=2).abs()
    return (item_mean(weight_x[..., 1:] * bend_x) + item_mean(weight_y[..., 1:, :] * bend_y)) / (2 * scale)


def edge_aware_smoothness(x: Tensor, image: Tensor) -> Tensor:
    """Mean absolute gradient of a map, little of it asked for at the edges of the image.

    Args:
        x: `(B, 1, H, W)` finite; an item that is not has a loss that is not.
        image: `(B, C, H, W)` in [0, 1].

    Returns:
        `(B,)`, non-negative, in the unit of the map: the means along x and y, added.

    Source: Monodepth2 (Godard et al., ICCV 2019), section 3.
    """
    weight_x, weight_y = _edge_weights(image, 1.0)
    return item_mean(weight_x * x.diff(dim=3).abs()) + item_mean(weight_y * x.diff(dim=2).abs())


def second_order_smoothness(x: Tensor) -> Tensor:
    """Mean absolute second derivative of a map, edges of the image or not.

    Args:
        x: `(B, 1, H, W)` finite; an item that is not has a loss that is not.

    Returns:
        `(B,)`, non-negative, in the unit of the map: the means along x, along y, and twice that across, added; zero
        for a plane.

    Source: SfMLearner (Zhou et al., CVPR 2017), section 3.2.
    """
    along_x, along_y = x.diff(dim=3), x.diff(dim=2)
    straight = item_mean(along_x.diff(dim=3).abs()) + item_mean(along_y.diff(dim=2).abs())
    return straight + 2 * item_mean(along_x.diff(dim=2).abs())


def over_mean(x: Tensor) -> Tensor:
    """A non-negative map `(B, 1, H, W)` over its mean, the same for any multiple of it."""
    return x / (x.mean((1, 2, 3), keepdim=True) + 1e-7)


def disparity_smoothness(disparity: Tensor, image: Tensor) -> Tensor:
    """Mean absolute gradient of a disparity over its mean, little of it asked for at the edges of the image.

    Args:
        disparity: `(B, 1, H, W)` non-negative and finite; an item that is not finite has a loss that is not.
        image: `(B, C, H, W)` in [0, 1].

    Returns:
        `(B,)`, non-negative: the means along x and y, added; the same for any multiple of the disparity.

    Source: TrianFlow, section 3.4 (L_s).
    """
    return edge_aware_smoothness(over_mean(disparity), image)
