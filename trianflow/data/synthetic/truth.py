"""Exact optical flow and visibility between two views of the same scene."""

from __future__ import annotations

import torch
from torch import Tensor

from trianflow.data.synthetic.raycast import Hits, entries
from trianflow.data.synthetic.views import EYE, HALF, SHAPE, SKY, Views
from trianflow.geometry.camera import invert_pose

_MIN_DEPTH = 0.02  # metres: nearer than this to the other camera's plane counts as behind it
_BORDER = 1e-3  # pixels by which a point may leave the image through rounding alone


def flow_and_visibility(views: Views, hits: Hits, partner: Tensor) -> tuple[Tensor, Tensor]:
    """Where every pixel of every view goes in the view's partner, and whether it is seen there.

    A surface point keeps its place in its primitive; the sky turns with the camera only.

    Args:
        views: F cameras.
        hits: the hits of all pixel centres, in image order.
        partner: `(F,)` int64, the number of each view's partner, which looks at the same scene.

    Returns:
        flow `(F, 2, H, W)` in pixels, and visibility `(F, 1, H, W)` float32: 1 where the point lies inside
        the other image and nothing hides it there.
    """
    F, H, W, Q = views.frames, views.height, views.width, views.slots
    device = hits.depth.device
    motion = _pixel_motion(views, partner.cpu()).to(device)
    still, table = motion[:, :, -1, None], motion[:, :, :-1].flatten(1)
    inverse = hits.depth.reciprocal()
    change = _moved(still, *(x.view(F, H * W) for x in (hits.u, hits.v, inverse))).flatten(1)
    instance = views.instance.flatten().clone()
    instance[Q - 1 :: Q] = 1
    special = instance.index_select(0, hits.column).nonzero()[:, 0]
    if len(special):
        m = table.index_select(1, hits.column.index_select(0, special))
        rays = (x.index_select(0, special) for x in (hits.u, hits.v, inverse))
        change.index_copy_(1, special, _moved(m, *rays))
    dw = change[2]
    scale = 1 + dw  # depth in the partner over depth here
    ahead = scale > _MIN_DEPTH * inverse
    scale = scale.clamp_(min=1e-4)
    x, y = ((change[i] - p * dw).div_(scale) for i, p in ((0, hits.u), (1, hits.v)))
    flow = torch.stack([x, y])
    x, y = x.add_(hits.u), y.add_(hits.v)

    jump = ((partner.to(device) - torch.arange(F, device=device)) * Q)[:, None]
    column = (hits.column.view(F, H * W) + jump).flatten()
    inside = (x >= -_BORDER) & (x <= W - 1 + _BORDER) & (y >= -_BORDER) & (y <= H - 1 + _BORDER)
    visible = ahead & inside & _facing(views, hits, partner.to(device), column)

    # what the pixels around the point see there; only another primitive than the point's own may hide it
    x0, y0 = x.clamp(0, W - 1).int(), y.clamp(0, H - 1).int()
    base = (partner.to(device, torch.int32) * (H * W))[:, None]
    corner = (y0 * W + x0).view(F, H * W).add_(base).flatten()
    right, down = (x0 < W - 1).int(), (y0 < H - 1).int() * W
    corners = [hits.column.index_select(0, i) for i in (corner, corner + right, corner + down, corner + right + down)]
    mixed = corners[0] != column
    for seen in corners[1:]:
        mixed |= seen != column
    unsure = (visible & mixed).nonzero()[:, 0]
    if len(unsure):
        candidates = torch.stack([seen.index_select(0, unsure) for seen in corners])
        new = (candidates != column.index_select(0, unsure)) & ((candidates + 1) % Q != 0)
        for i in range(1, 4):
            for j in range(i):
                new[i] &= candidates[i] != candidates[j]
        which = new.flatten().nonzero()[:, 0]
        point = unsure.index_select(0, which % len(unsure))
        us, vs, ratio, limit = (p.index_select(0, point) for p in (x, y, scale, inverse))
        w, _ = entries(views, candidates.flatten().index_select(0, which), us, vs)
        visible[point[w[0] * ratio > limit * (1 + 1e-4)]] = False
    flow = flow.view(2, F, H, W).transpose(0, 1)
    return flow.contiguous(), visible.view(F, 1, H, W).float()


def _moved(m: Tensor, u: Tensor, v: Tensor, inverse: Tensor) -> Tensor:
    """Change `(3, ...)` of homogeneous pixels by rows of `_pixel_motion`: `m` `(12, ...)`, the rest `(...)`."""
    out = torch.empty(3, *u.shape, device=u.device)
    for i in range(3):
        torch.mul(m[9 + i], inverse, out=out[i]).add_(m[3 * i + 2])
        out[i].addcmul_(m[3 * i], u).addcmul_(m[3 * i + 1], v)
    return out


def _pixel_motion(views: Views, partner: Tensor) -> Tensor:
    """Change of homogeneous pixels from a view to its partner: `(12, F, Q + 1)` float32, the world last.

    With m one column, (u', v', 1) ~ (u, v, 1) + m[:9] (u, v, 1) + m[9:] / depth: nothing large cancels.
    """
    poses = torch.cat([views.T_cl, views.T_cw[:, None]], 1)
    motion = poses[partner] @ invert_pose(poses)
    K = views.K[partner][:, None]
    rotation = K @ motion[..., :3, :3] @ torch.linalg.inv(views.K)[:, None]
    shift = (K @ motion[..., :3, 3:])[..., 0]
    table = torch.cat([rotation.flatten(2) - torch.eye(3, dtype=torch.float64).flatten(), shift], -1)
    return table.permute(2, 0, 1).float()


def _facing(views: Views, hits: Hits, partner: Tensor, column: Tensor) -> Tensor:
    """Which surface points face the partner's camera, `(N,)` bool; `column` is their primitive there."""
    F, Q = views.frames, views.slots
    here = views.table[EYE].unflatten(1, (F, Q))
    there, half = here[:, partner], views.table[HALF].unflatten(1, (F, Q))
    # (3, F, Q): is the face seen here in front of that camera?
    front = torch.where(here < 0, -there, there) > half
    facing = front.flatten(1).T.flatten().index_select(0, hits.column * 3 + hits.side.clamp(max=2))
    if len(hits.odd):
        eye = views.table[EYE].index_select(1, column.index_select(0, hits.odd))
        towards = ((eye - hits.point) * hits.normal).sum(0) > 0
        towards |= views.table[SHAPE].index_select(0, column.index_select(0, hits.odd)) == SKY
        facing = facing.index_copy(0, hits.odd, towards)
    return facing
