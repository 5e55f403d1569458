"""Exact ray casting of convex primitives: which surface a pixel sees, and where it hits it.

The image is cut into tiles; each primitive's conservative screen bounds say which tiles it may touch, and
every tile tests its own primitives only, the nearest first, until what is left must be hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.data.synthetic.scene import BOX, ELLIPSOID
from trianflow.data.synthetic.textures import exact_matmul
from trianflow.data.synthetic.views import EYE, FACES, HALF, RAY, SHAPE, SKY, Views

TILE = 16
NEAR = 0.05
_CHUNK = 16384  # pixels at once: small enough for the cache


def box_entry(planes: Tensor, dim: int) -> Tensor:
    """Inverse depth at which rays enter boxes, 0 where they miss.

    Args:
        planes: inverse depths of the three entry planes and then of the six exit planes.
        dim: along which dimension these nine lie.

    Returns:
        The shape of `planes` without `dim`.
    """
    entry, leave = planes.narrow(dim, 0, 3).amin(dim), planes.narrow(dim, 3, 6).amax(dim)
    return entry.mul_(greater(entry, leave.clamp_(min=0)))


def greater(a: Tensor, b: Tensor) -> Tensor:
    """1.0 where `a > b`, else 0.0; with `lerp` and products much faster than `torch.where` on a processor."""
    return torch.gt(a, b, out=torch.empty_like(a))


def round_entry(d: Tensor, eye: Tensor, half: Tensor, ellipsoid: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse depth at which rays enter round primitives, 0 where they miss, and whether through a cap.

    Args:
        d, eye, half: rays, camera centres and half extents in local axes, `(m, 3, n)` or broadcastable to it.
        ellipsoid: `(m, 1)` bool, false for cylinders.

    Returns:
        `(m, n)` float32 and bool.
    """
    # in units of the half extents; a cylinder has no extent along its axis
    inverse = half.reciprocal()
    inverse = torch.cat([inverse[:, :1], inverse[:, 1:2] * ellipsoid[:, None], inverse[:, 2:]], 1)
    ray, origin = d * inverse, eye * inverse
    a = _dot(ray, ray)
    nearest = _dot(ray, origin).div_(a).neg_()
    # from the ray's point nearest to the axis: no cancellation for far primitives
    foot = torch.addcmul(origin, nearest[:, None], ray)
    inside = (1 - _dot(foot, foot)).div_(a)
    root = inside.clamp(min=0).sqrt_()
    slope = d[:, 1].reciprocal()
    middle, reach = -eye[:, 1] * slope, half[:, 1] * slope.abs()
    cap_near, near = middle - reach, nearest - root
    z, far = torch.maximum(near, cap_near), torch.minimum(nearest + root, middle + reach)
    hit = torch.minimum(torch.minimum(inside, z), far - z) > 0
    return torch.where(hit, z.reciprocal(), 0.0), cap_near > near


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Scalar products along dimension 1, of size 3."""
    return (a[:, 0] * b[:, 0]).addcmul_(a[:, 1], b[:, 1]).addcmul_(a[:, 2], b[:, 2])


_SIGNS = torch.tensor([[(i >> k & 1) * 2.0 - 1 for k in range(3)] for i in range(8)])
_EDGES = torch.tensor([(i, i | 1 << k) for i in range(8) for k in range(3) if not i >> k & 1])


def screen_bounds(views: Views) -> tuple[Tensor, Tensor]:
    """Conservative bounds of every primitive: `(F, P, 4)` pixels (u0, v0, u1, v1) and nearest depth `(F, P)`.

    Primitives that cannot be seen get an empty rectangle (u1 < u0).
    """
    device = views.table.device
    half = views.table[HALF].unflatten(1, (-1, views.slots))[..., :-1].permute(1, 2, 0).double()
    T = views.T_cl[:, :-1].to(device)
    corners = half[:, :, None] * _SIGNS.to(half)
    X = corners @ T[..., :3, :3].transpose(-1, -2) + T[..., None, :3, 3]
    a, b = X[:, :, _EDGES[:, 0]], X[:, :, _EDGES[:, 1]]
    za, zb = a[..., 2], b[..., 2]
    share = (NEAR - za) / torch.where(za == zb, 1.0, zb - za)
    points = torch.cat([X, a + share[..., None] * (b - a)], 2)
    valid = torch.cat([X[..., 2] > NEAR, (za > NEAR) != (zb > NEAR)], 2) & (half[:, :, None, 0] >= 0)
    pixels = points @ views.K.to(device)[:, None].transpose(-1, -2)
    pixels = pixels[..., :2] / pixels[..., 2:].clamp(min=NEAR / 2)
    low = torch.where(valid[..., None], pixels, torch.inf).amin(2)
    high = torch.where(valid[..., None], pixels, -torch.inf).amax(2)
    return torch.cat([low, high], -1), torch.where(valid, points[..., 2], torch.inf).amin(2)


def cast(views: Views) -> Tensor:
    """The primitive every pixel centre sees: `(F * H * W,)` int64 columns of `Views.table`."""
    device, Q, F = views.table.device, views.slots, views.frames
    bounds, nearest = screen_bounds(views)
    columns, rows = -(-views.width // TILE), -(-views.height // TILE)
    limit = torch.tensor([views.width, views.height, views.width, views.height], device=device) - 1.0
    grown = bounds + torch.tensor([-1.0, -1.0, 1.0, 1.0], device=device)
    seen = (grown[..., :2] <= limit[:2]).all(-1) & (grown[..., 2:] >= 0).all(-1)
    tiles = (grown.nan_to_num().clamp(min=0).minimum(limit) / TILE).floor().long()
    wide = (tiles[..., 2] - tiles[..., 0] + 1).flatten()
    count = wide * (tiles[..., 3] - tiles[..., 1] + 1).flatten() * seen.flatten()

    which = torch.arange(len(count), device=device).repeat_interleave(count)
    k = torch.arange(len(which), device=device) - (count.cumsum(0) - count).index_select(0, which)
    across = wide.index_select(0, which)
    tx = tiles[..., 0].flatten().index_select(0, which) + k % across
    ty = tiles[..., 1].flatten().index_select(0, which) + torch.div(k, across, rounding_mode="floor")
    frame = torch.div(which, Q - 1, rounding_mode="floor")
    tile = (frame * rows + ty) * columns + tx
    rank_z = torch.empty_like(count)
    rank_z[nearest.flatten().argsort(stable=True)] = torch.arange(len(count), device=device)
    order = (tile * len(count) + rank_z.index_select(0, which)).argsort()
    tile, which, tx, ty, frame = torch.stack([tile, which, tx, ty, frame]).index_select(1, order)
    per_tile = torch.bincount(tile, minlength=F * rows * columns)
    layer = torch.arange(len(tile), device=device) - (per_tile.cumsum(0) - per_tile).index_select(0, tile)
    column = which + frame  # Q a frame where the sky counts, Q - 1 where not
    most = (1 + 1e-5) / nearest.flatten().index_select(0, which).float()
    origin = TILE * torch.stack([tx, ty]).float()

    # inverse depths and rays of a tile are affine in the position within it
    M = views.table[RAY].T.contiguous().unflatten(1, (3, 3))
    planes = views.planes.permute(2, 0, 1).contiguous()
    eye, half = views.table[EYE].T.contiguous(), views.table[HALF].T.contiguous()
    shape = views.table[SHAPE].index_select(0, column)
    inside = torch.arange(TILE * TILE, device=device)
    basis = torch.stack([inside % TILE, inside // TILE, torch.ones_like(inside)]).float()
    buffer = torch.zeros(F * rows * columns, TILE * TILE, device=device)
    hit = (torch.arange(F, device=device) * Q + Q - 1).repeat_interleave(rows * columns)[:, None]
    hit = hit.to(torch.int32).repeat(1, TILE * TILE)
    deepest, start = int(per_tile.max()), 0
    while start < deepest:
        # 0, 1, 2-3, 4-7, ... of each tile: the nearest first, and what must be hidden by then is left out
        end = max(2 * start, start + 1)
        chosen = ((layer >= start) & (layer < end)).nonzero()[:, 0]
        visible = most.index_select(0, chosen) > buffer.amin(1).index_select(0, tile.index_select(0, chosen))
        chosen = chosen.index_select(0, visible.nonzero()[:, 0])
        flat = shape.index_select(0, chosen) == BOX
        w = torch.zeros(len(chosen), TILE * TILE, device=device)
        for boxes in (True, False):
            e = (flat == boxes).nonzero()[:, 0]
            if not len(e):
                continue
            those = chosen.index_select(0, e)
            ce, corner = column.index_select(0, those), origin.index_select(1, those)[..., None]
            linear = (planes if boxes else M).index_select(0, ce)
            linear[..., 2].addcmul_(linear[..., 0], corner[0]).addcmul_(linear[..., 1], corner[1])
            values = exact_matmul(linear.flatten(0, 1), basis).unflatten(0, (len(e), -1))
            if boxes:
                found = box_entry(values, 1)
            else:
                found, _ = round_entry(
                    values.add_(1e-12),
                    eye.index_select(0, ce)[..., None],
                    half.index_select(0, ce)[..., None],
                    shape.index_select(0, those)[:, None] == ELLIPSOID,
                )
            w = found if len(e) == len(w) else w.index_copy_(0, e, found)
        # a row a tile, padded to the fullest
        there, row, alike = torch.unique_consecutive(
            tile.index_select(0, chosen), return_inverse=True, return_counts=True
        )
        old = buffer.index_select(0, there)
        if len(there) == len(chosen):
            winner = column.index_select(0, chosen)[:, None].to(torch.int32)
        else:
            turn = torch.arange(len(row), device=device) - (alike.cumsum(0) - alike).index_select(0, row)
            most_alike = int(alike.max())
            place = row * most_alike + turn
            owner = hit.new_zeros(len(there) * most_alike)
            owner[place] = column.index_select(0, chosen).to(torch.int32)
            padded = w.new_zeros(len(there) * most_alike, TILE * TILE).index_copy_(0, place, w)
            w, turn = padded.unflatten(0, (len(there), most_alike)).max(1)
            winner = owner.view(len(there), most_alike).gather(1, turn)
        hit.index_copy_(0, there, torch.where(w > old, winner, hit.index_select(0, there)))
        buffer.index_copy_(0, there, old.maximum(w))
        start = end
    hit = hit.unflatten(0, (F, rows, columns)).unflatten(-1, (TILE, TILE)).transpose(2, 3)
    return hit.flatten(3).flatten(1, 2)[:, : views.height, : views.width].flatten().long()


@dataclass(frozen=True)
class Hits:
    """Surface points seen through N pixels.

    Attributes:
        u, v: `(N,)` float32 pixels.
        column: `(N,)` int64, column of `Views.table`: the frame and the primitive.
        side: `(N,)` int64: the axis of a box's face, 0, 1 or 2; of a round primitive 1 a cap, 3 its side.
        slope: `(2, N)` float32, change of the face's inverse depth with u and with v (boxes only).
        depth: `(N,)` float32, metres along the camera's z; inf for the sky.
        odd: `(M,)` int64, which of the N are no boxes, ascending.
        ray, point, normal: `(3, M)` float32, of the odd ones, in their primitive's frame; the sky's point is
            its ray.
    """

    u: Tensor
    v: Tensor
    column: Tensor
    side: Tensor
    slope: Tensor
    depth: Tensor
    odd: Tensor
    ray: Tensor
    point: Tensor
    normal: Tensor


def surface(views: Views, column: Tensor, u: Tensor, v: Tensor) -> Hits:
    """Where the rays through pixels (u, v) hit primitives that they are known to hit; all `(N,)`."""
    depth, slope, side = torch.empty_like(u), u.new_empty(2, len(u)), torch.empty_like(column)
    fronts = views.planes[:FACES].flatten(0, 1)
    for start in range(0, len(u), _CHUNK):
        part = slice(start, start + _CHUNK)
        a, b, c = fronts.index_select(1, column[part]).unflatten(0, (FACES, 3)).unbind(1)
        w = torch.addcmul(c, a, u[part]).addcmul_(b, v[part])
        entry, beyond_x, z_first = _first(w)
        torch.reciprocal(entry, out=depth[part])
        side[part] = _axis(beyond_x, z_first)
        for out, x in zip(slope, (a, b)):
            torch.lerp(x[0], torch.lerp(x[1], x[2], z_first), beyond_x, out=out[part])

    shape = views.table[SHAPE].index_select(0, column)
    odd = (shape != BOX).nonzero()[:, 0]
    p = views.table[: SHAPE + 1].index_select(1, column.index_select(0, odd))
    eye, half, shape = p[EYE], p[HALF], p[SHAPE]
    m = p[RAY].unflatten(0, (3, 3))
    ray = (m[:, 0] * u.index_select(0, odd)).addcmul_(m[:, 1], v.index_select(0, odd)).add_(m[:, 2]).add_(1e-12)
    sky, ball = shape == SKY, shape == ELLIPSOID
    w, cap = round_entry(ray[None], eye[None], half[None], ball[None])
    # a sub-sample on the very silhouette may miss by rounding: then the nearest point of the ray is as good
    z = torch.where(w[0] > 0, 1 / w[0], (-(ray * eye).sum(0) / ray.square().sum(0)).clamp(min=NEAR))
    point = torch.where(sky, ray, eye + z * ray)
    gradient = point / half.square()
    gradient[1] *= ball
    top = torch.zeros_like(gradient)
    top[1] = -ray[1].sign()
    normal = torch.where(cap[0] & ~sky, top, gradient / gradient.square().sum(0).sqrt())
    depth.index_copy_(0, odd, z.masked_fill(sky, torch.inf))
    side.index_copy_(0, odd, torch.where(sky, 0, torch.where(cap[0], 1, 3)))
    return Hits(u, v, column, side, slope, depth, odd, ray, point, normal)


def entries(
    views: Views, column: Tensor, u: Tensor, v: Tensor, shifts: Sequence[tuple[float, float]] = ((0.0, 0.0),)
) -> tuple[Tensor, Tensor]:
    """Inverse depth of entry (0: missed) and side of rays against one primitive each.

    Args:
        views: the cameras.
        column: `(n,)` int64.
        u, v: `(n,)` pixels.
        shifts: in pixels; s rays a primitive go through (u, v) shifted by each.

    Returns:
        `(s, n)` float32 and int64.
    """
    w, side = u.new_empty(len(shifts), len(u)), column.new_empty(len(shifts), len(u))
    planes = views.planes.flatten(0, 1)
    for start in range(0, len(u), _CHUNK // 4):
        part = slice(start, start + _CHUNK // 4)
        a, b, c = planes.index_select(1, column[part]).unflatten(0, (9, 3)).unbind(1)
        centre = torch.addcmul(c, a, u[part]).addcmul_(b, v[part])
        for k, (du, dv) in enumerate(shifts):
            values = torch.add(centre, a, alpha=du).add_(b, alpha=dv)
            w[k, part] = box_entry(values, 0)
            side[k, part] = _axis(*_first(values)[1:])
    shape = views.table[SHAPE].index_select(0, column)
    odd = (shape != BOX).nonzero()[:, 0]
    if len(odd):
        p = views.table[: SHAPE + 1].index_select(1, column.index_select(0, odd))
        m = p[RAY].unflatten(0, (3, 3))
        shift = torch.tensor(shifts, device=u.device)
        us = u.index_select(0, odd) + shift[:, :1, None]
        vs = v.index_select(0, odd) + shift[:, 1:, None]
        ray = torch.addcmul(m[:, 2], m[:, 0], us).addcmul_(m[:, 1], vs).add_(1e-12)
        other, cap = round_entry(ray, p[EYE][None], p[HALF][None], (p[SHAPE] == ELLIPSOID)[None])
        w.index_copy_(1, odd, other)
        side.index_copy_(1, odd, torch.where(cap, 1, 3))
    return w, side


def _first(planes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The last entered of three entry planes `(3 or more, n)`: inverse depth; 1.0 if not x; 1.0 if z before y."""
    z_first = torch.lt(planes[2], planes[1], out=torch.empty_like(planes[0]))
    least = torch.minimum(planes[1], planes[2])
    return torch.minimum(planes[0], least), greater(planes[0], least), z_first


def _axis(beyond_x: Tensor, z_first: Tensor) -> Tensor:
    """The face's axis 0, 1 or 2, in float32, from the last two answers of `_first`."""
    return torch.addcmul(beyond_x, beyond_x, z_first)
