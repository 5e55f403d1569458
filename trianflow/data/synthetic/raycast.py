"""Exact ray casting of convex primitives: which surface a pixel sees, and where it hits it.

The image is cut into tiles; each primitive's conservative screen bounds say which tiles it may touch, and
every tile tests its own primitives only, the nearest first, until what is left must be hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.data.synthetic.scene import BOX, ELLIPSOID
from trianflow.data.synthetic.textures import exact_matmul
from trianflow.data.synthetic.views import EYE, FACES, HALF, RAY, SHAPE, SKY, Views

TILE = 16
NEAR = 0.05


def box_entry(planes: Tensor, dim: int) -> Tensor:
    """Inverse depth at which rays enter boxes, 0 where they miss.

    Args:
        planes: inverse depths of the three entry planes and then of the six exit planes.
        dim: along which dimension these nine lie.

    Returns:
        The shape of `planes` without `dim`.
    """
    entry, leave = planes.narrow(dim, 0, 3).amin(dim), planes.narrow(dim, 3, 6).amax(dim)
    return torch.where((entry > leave) & (entry > 0), entry, 0.0)


def round_entry(d: Tensor, eye: Tensor, half: Tensor, ellipsoid: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse depth at which rays enter round primitives, 0 where they miss, and whether through a cap.

    Args:
        d, eye, half: rays, camera centres and half extents in local axes, `(m, 3, n)` or broadcastable to it.
        ellipsoid: `(m, 1)` bool, false for cylinders.

    Returns:
        `(m, n)` float32 and bool.
    """
    weight = half.square().reciprocal()
    weight = torch.cat([weight[:, :1], weight[:, 1:2] * ellipsoid[:, None], weight[:, 2:]], 1)
    weighted = d * weight
    a = (weighted * d).sum(1)
    nearest = -(weighted * eye).sum(1) / a
    # from the ray's point nearest to the axis: no cancellation for far primitives
    foot = eye + nearest[:, None] * d
    inside = (1 - (foot.square() * weight).sum(1)) / a
    root = inside.clamp(min=0).sqrt()
    inverse = 1 / d[:, 1]
    middle, reach = -eye[:, 1] * inverse, half[:, 1] * inverse.abs()
    cap_near, cap_far = middle - reach, middle + reach
    near, far = nearest - root, torch.minimum(nearest + root, cap_far)
    cap = cap_near > near
    z = torch.where(cap, cap_near, near)
    return torch.where((inside > 0) & (z < far) & (z > 0), 1 / z, 0.0), cap


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
    k = torch.arange(len(which), device=device) - (count.cumsum(0) - count)[which]
    tx = tiles[..., 0].flatten()[which] + k % wide[which]
    ty = tiles[..., 1].flatten()[which] + k // wide[which]
    frame = which // (Q - 1)
    tile = (frame * rows + ty) * columns + tx
    rank_z = torch.empty_like(count)
    rank_z[nearest.flatten().argsort(stable=True)] = torch.arange(len(count), device=device)
    order = (tile * len(count) + rank_z[which]).argsort()
    tile, which, tx, ty, frame = tile[order], which[order], tx[order], ty[order], frame[order]
    per_tile = torch.bincount(tile, minlength=F * rows * columns)
    layer = torch.arange(len(tile), device=device) - (per_tile.cumsum(0) - per_tile)[tile]
    column = frame * Q + which % (Q - 1)
    most = (1 + 1e-5) / nearest.flatten()[which].float()

    # inverse depths and rays of a tile are affine in the position within it
    M = views.table[RAY].T.contiguous().unflatten(1, (3, 3))
    eye, half = views.table[EYE].T.contiguous(), views.table[HALF].T.contiguous()
    shape = views.table[SHAPE].long()
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
        chosen = chosen[most[chosen] > buffer.amin(1)[tile[chosen]]]
        c, t = column[chosen], tile[chosen]
        flat = shape[c] == BOX
        w = torch.zeros(len(chosen), TILE * TILE, device=device)
        for boxes in (True, False):
            e = (flat == boxes).nonzero()[:, 0]
            if not len(e):
                continue
            ce, origin = c[e], TILE * torch.stack([tx[chosen[e]], ty[chosen[e]]])[:, :, None].float()
            linear = views.planes[ce] if boxes else M[ce]
            corner = linear[..., 0] * origin[0] + linear[..., 1] * origin[1] + linear[..., 2]
            linear = torch.cat([linear[..., :2], corner[..., None]], -1)
            values = exact_matmul(linear.flatten(0, 1), basis).unflatten(0, (len(e), -1))
            if boxes:
                found = box_entry(values, 1)
            else:
                ball = shape[ce][:, None] == ELLIPSOID
                found, _ = round_entry(values.add_(1e-12), eye[ce][..., None], half[ce][..., None], ball)
            w = found if len(e) == len(w) else w.index_copy_(0, e, found)
        # a row a tile, padded to the fullest
        there, row, alike = torch.unique_consecutive(t, return_inverse=True, return_counts=True)
        turn = torch.arange(len(t), device=device) - (alike.cumsum(0) - alike)[row]
        most_alike = int(alike.max()) if len(t) else 1
        padded = w.new_zeros(len(there), most_alike, TILE * TILE)
        padded[row, turn] = w
        owner = c.new_zeros(len(there), most_alike)
        owner[row, turn] = c
        w, turn = padded.max(1) if most_alike > 1 else (padded[:, 0], torch.zeros_like(hit[:1]).long())
        old = buffer[there]
        winner = owner.gather(1, turn.expand(len(there), -1)).to(torch.int32)
        hit[there] = torch.where(w > old, winner, hit[there])
        buffer[there] = torch.maximum(w, old)
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
        plane: `(3, N)` float32, the face's inverse depth as an affine function of the pixel (boxes only).
        depth: `(N,)` float32, metres along the camera's z; inf for the sky.
        odd: `(M,)` int64, which of the N are no boxes.
        ray, point, normal: `(3, M)` float32, of the odd ones, in their primitive's frame; the sky's point is
            its ray.
    """

    u: Tensor
    v: Tensor
    column: Tensor
    side: Tensor
    plane: Tensor
    depth: Tensor
    odd: Tensor
    ray: Tensor
    point: Tensor
    normal: Tensor

    def select(self, which: Tensor) -> Hits:
        """The hits `which`, `(n,)` int64, ascending."""
        place = torch.full_like(self.column, -1)
        place[self.odd] = torch.arange(len(self.odd), device=which.device)
        place = place[which]
        odd = (place >= 0).nonzero()[:, 0]
        place = place[odd]
        return Hits(
            self.u[which],
            self.v[which],
            self.column[which],
            self.side[which],
            self.plane.index_select(1, which),
            self.depth[which],
            odd,
            self.ray[:, place],
            self.point[:, place],
            self.normal[:, place],
        )


def surface(views: Views, column: Tensor, u: Tensor, v: Tensor) -> Hits:
    """Where the rays through pixels (u, v) hit primitives that they are known to hit; all `(N,)`."""
    entry = views.planes[:, :FACES].flatten(1).T.contiguous().index_select(1, column).unflatten(0, (FACES, 3))
    w = entry[:, 0] * u + entry[:, 1] * v + entry[:, 2]
    yz = w[2] < w[1]
    least = torch.where(yz, w[2], w[1])
    x = w[0] <= least
    least = torch.where(x, w[0], least)
    plane = torch.where(x, entry[0], torch.where(yz, entry[2], entry[1]))
    side = torch.where(x, 0, torch.where(yz, 2, 1))
    depth = 1 / least

    shape = views.table[SHAPE].index_select(0, column)
    odd = (shape != BOX).nonzero()[:, 0]
    p = views.table[: SHAPE + 1].index_select(1, column[odd])
    eye, half, shape = p[EYE], p[HALF], p[SHAPE]
    ray = p[RAY].unflatten(0, (3, 3))
    ray = (ray[:, 0] * u[odd] + ray[:, 1] * v[odd] + ray[:, 2]).add_(1e-12)
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
    depth = depth.index_copy(0, odd, z.masked_fill(sky, torch.inf))
    side = side.index_copy(0, odd, torch.where(sky, 0, torch.where(cap[0], 1, 3)))
    return Hits(u, v, column, side, plane, depth, odd, ray, point, normal)


def entries(views: Views, column: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse depth of entry (0: missed) and side of s rays against each of n primitives.

    Args:
        views: the cameras.
        column: `(n,)` int64.
        u, v: `(s, n)` pixels.

    Returns:
        `(s, n)` float32 and int64.
    """
    m = views.planes.flatten(1).T.contiguous().index_select(1, column).unflatten(0, (9, 3))[:, :, None]
    planes = m[:, 0] * u + m[:, 1] * v + m[:, 2]
    w = box_entry(planes, 0)
    side = torch.where(
        planes[0] <= torch.minimum(planes[1], planes[2]), 0, torch.where(planes[2] < planes[1], 2, 1)
    )
    shape = views.table[SHAPE].index_select(0, column)
    odd = (shape != BOX).nonzero()[:, 0]
    if len(odd):
        p = views.table[: SHAPE + 1].index_select(1, column[odd])
        ray = p[RAY].unflatten(0, (3, 3))[:, :, None]
        ray = (ray[:, 0] * u[:, odd] + ray[:, 1] * v[:, odd] + ray[:, 2]).add_(1e-12)
        other, cap = round_entry(
            ray.transpose(0, 1), p[EYE][None], p[HALF][None], (p[SHAPE] == ELLIPSOID)[None]
        )
        w, side = w.index_copy(1, odd, other), side.index_copy(1, odd, torch.where(cap, 1, 3))
    return w, side
