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
    other = partner.cpu()
    table = _pixel_motion(views, other)
    still, table = table[:, :, -1], table[:, :, :-1]
    pixel = lambda x: x.view(F, H * W)  # noqa: E731
    u, v = pixel(hits.u), pixel(hits.v)
    inverse = pixel(1 / hits.depth)
    instance = views.instance.flatten().clone()
    instance[Q - 1 :: Q] = 1
    special = (instance > 0).index_select(0, hits.column).nonzero()[:, 0]
    m = still.to(device)[:, :, None]
    du, dv, dw = (
        m[i] * u + m[i + 1] * v + (m[i + 2] + m[j] * inverse) for i, j in ((0, 9), (3, 10), (6, 11))
    )
    du, dv, dw = du.flatten(), dv.flatten(), dw.flatten()
    if len(special):
        us, vs, ws = hits.u[special], hits.v[special], inverse.flatten()[special]
        m = table.flatten(1).to(device).index_select(1, hits.column[special])
        rows = [m[i] * us + m[i + 1] * vs + (m[i + 2] + m[j] * ws) for i, j in ((0, 9), (3, 10), (6, 11))]
        du, dv, dw = (x.index_copy(0, special, row) for x, row in zip((du, dv, dw), rows))
    scale = 1 + dw  # depth in the partner over depth here
    ahead = scale > _MIN_DEPTH * inverse.flatten()
    scale = scale.clamp(min=1e-4)
    flow = torch.stack([(du - hits.u * dw) / scale, (dv - hits.v * dw) / scale])

    jump = ((partner.to(device) - torch.arange(F, device=device)) * Q).repeat_interleave(H * W)
    column = hits.column + jump
    x, y = hits.u + flow[0], hits.v + flow[1]
    inside = (x >= -_BORDER) & (x <= W - 1 + _BORDER) & (y >= -_BORDER) & (y <= H - 1 + _BORDER)
    visible = ahead & inside & _facing(views, hits, partner.to(device), column)

    x0, y0 = x.clamp(0, W - 1).long(), y.clamp(0, H - 1).long()
    x1, y1 = (x0 + 1).clamp(max=W - 1), (y0 + 1).clamp(max=H - 1)
    base = (partner.to(device) * H).repeat_interleave(H * W)
    tops, bottoms = (base + y0) * W, (base + y1) * W
    corners = [hits.column[line + side] for line in (tops, bottoms) for side in (x0, x1)]
    mixed = corners[0] != column
    for corner in corners[1:]:
        mixed |= corner != column
    unsure = (visible & mixed).nonzero()[:, 0]
    if len(unsure):
        candidates = torch.stack([corner[unsure] for corner in corners])
        new = (candidates != column[unsure]) & ((candidates + 1) % Q != 0)
        for i in range(1, 4):
            for j in range(i):
                new[i] &= candidates[i] != candidates[j]
        slot, which = new.nonzero().unbind(1)
        point = unsure[which]
        w, _ = entries(views, candidates[slot, which], x[None, point], y[None, point])
        hidden = point[w[0] * scale[point] > inverse.flatten()[point] * (1 + 1e-4)]
        visible = visible.index_fill(0, hidden, False)
    flow = flow.view(2, F, H, W).transpose(0, 1)
    return flow.contiguous(), visible.view(F, 1, H, W).float()


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
    front = (
        torch.where(here < 0, -there, there) > half
    )  # (3, F, Q): is the face seen here in front of that camera?
    facing = front.flatten(1).T.flatten().index_select(0, hits.column * 3 + hits.side.clamp(max=2))
    if len(hits.odd):
        eye = views.table[EYE].index_select(1, column[hits.odd])
        towards = ((eye - hits.point) * hits.normal).sum(0) > 0
        towards |= views.table[SHAPE].index_select(0, column[hits.odd]) == SKY
        facing = facing.index_copy(0, hits.odd, towards)
    return facing
