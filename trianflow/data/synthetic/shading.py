"""From surface points to colours: filtered textures, light, haze, sky, and anti-aliased silhouettes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from trianflow.data.synthetic import views as rows
from trianflow.data.synthetic.raycast import Hits, entries, surface
from trianflow.data.synthetic.textures import TextureBank
from trianflow.data.synthetic.views import FACES, SKY, Views

_SUBPIXELS = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))
_CLOUD_SCALE = 0.35
_CONTACT = 0.4  # metres above the ground in which the contact shadow fades to a third
_FAR = 1e6  # metres: the sky's depth where a finite one is needed
_TINY = 1e-30
_CHUNK = 32768  # pixels shaded at once: small enough for the cache


def shade(views: Views, hits: Hits, textures: TextureBank, ends: Sequence[int]) -> Tensor:
    """Colours `(3, N)` float32 RGB in [0, 1] of N surface points, frame after frame, frame f up to `ends[f]`."""
    colours = hits.u.new_empty(3, len(hits.u))
    odd = _shade_odd(views, hits)
    is_sky = hits.depth.index_select(0, hits.odd).isinf().nonzero()[:, 0]
    sky = hits.odd.index_select(0, is_sky)
    up = -hits.ray[1].index_select(0, is_sky)  # the sky's own axes are the world's
    up /= hits.ray.index_select(1, is_sky).square().sum(0).sqrt()
    parts = [
        (frame, start, min(start + _CHUNK, end))
        for frame, (first, end) in enumerate(pairwise([0, *ends]))
        for start in range(first, end, _CHUNK)
    ]
    stops = torch.tensor([stop for _, _, stop in parts], device=hits.u.device)
    odd_ends = [0, *torch.searchsorted(hits.odd, stops).tolist()]
    sky_ends = [0, *torch.searchsorted(sky, stops).tolist()]
    for k, (frame, start, stop) in enumerate(parts):
        mine = slice(odd_ends[k], odd_ends[k + 1])
        place, values = hits.odd[mine] - start, odd[:, mine]
        out = colours[:, start:stop]
        air = views.air[:, frame, None]
        texture = _shade_part(views, hits, textures, slice(start, stop), air, place, values, out)
        mine = slice(sky_ends[k], sky_ends[k + 1])
        place = sky[mine] - start
        if len(place):
            out.index_copy_(1, place, _sky(air, up[mine], texture[0].index_select(0, place)))
    return colours.clamp_(0, 1)


def _shade_part(
    views: Views,
    hits: Hits,
    textures: TextureBank,
    part: slice,
    air: Tensor,
    odd: Tensor,
    values: Tensor,
    out: Tensor,
) -> Tensor:
    """Fill `out` `(3, n)` with the colours of a part of the hits of one frame, and return the texture's `(3, n)`.

    `odd` are the places of those that are no boxes within the part, `values` what `_shade_odd` says of them.
    """
    u, v, z = hits.u[part], hits.v[part], hits.depth[part].clamp(max=_FAR)
    face = views.faces.index_select(1, hits.column[part] * FACES + hits.side[part].clamp(max=FACES - 1))
    coordinates, widths = [], []
    for rows_of in (rows.FACE_S, rows.FACE_T):
        a, b, c = face[rows_of]
        x = torch.addcmul(c, a, u).addcmul_(b, v).mul_(z)
        widths.append(_hypot(a - x * hits.slope[0, part], b - x * hits.slope[1, part]).mul_(z))
        coordinates.append(x)
    lit, upright, number = face[rows.FACE_COLOUR], face[rows.FACE_UPRIGHT], face[rows.FACE_TEXTURE]
    if len(odd):
        for x, y in zip((*coordinates, *widths, number, upright), values):
            x.index_copy_(0, odd, y)
        lit.index_copy_(1, odd, values[6:])
    texture = textures.sample(number, *coordinates, *widths)
    rise, horizon = air[rows.RISE], air[rows.HORIZON]
    height = torch.add(rise[3], u * rise[1]).addcmul_(v, rise[2]).mul_(z).add_(rise[0])
    contact = 1 - upright * height.clamp_(min=0).mul_(-1 / _CONTACT).exp_()
    clear = torch.exp(-z * air[rows.HAZE])
    torch.mul(texture, lit.mul_(contact), out=out).sub_(horizon).mul_(clear).add_(horizon)
    return texture


def _sky(air: Tensor, up: Tensor, texture: Tensor) -> Tensor:
    """Colours `(3, n)` of the sky: `up` is the sine of the elevation, `texture` how cloudy it is, both `(n,)`."""
    horizon, zenith = air[rows.HORIZON], air[rows.ZENITH]
    blue = horizon + (up.clamp(0, 0.8) / 0.8).sqrt() * (zenith - horizon)
    cloud = ((texture - 0.42) / 0.4).clamp(0, 1)
    cloud = cloud * cloud * (3 - 2 * cloud) * (up / 0.12).clamp(0, 1) * 0.85
    return blue + cloud * (0.97 - blue)


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    """As `torch.hypot`, without its care for overflow: several times faster."""
    return (x * x).addcmul_(y, y).sqrt_()


def _shade_odd(views: Views, hits: Hits) -> Tensor:
    """Texture coordinates, their widths, texture, contact shadow, lit colour of what is no box: `(9, M)`."""
    odd, d, point, normal = hits.odd, hits.ray, hits.point, hits.normal
    p = views.table.index_select(1, hits.column.index_select(0, odd))
    depth = hits.depth.index_select(0, odd)
    z = torch.where(depth.isinf(), 1.0, depth)
    cap = hits.side.index_select(0, odd) == 1
    # how the point moves with the pixel: the tangent plane's intersection differentiated
    along = (normal * d).sum(0)
    along = torch.where(along.abs() < 1e-4, -1e-4, along)
    m = p[rows.RAY].unflatten(0, (3, 3))
    du = z * (m[:, 0] - d * ((normal * m[:, 0]).sum(0) / along))
    dv = z * (m[:, 1] - d * ((normal * m[:, 1]).sum(0) / along))
    extent = _hypot(du, dv)
    half = p[rows.HALF]
    rho = (point[0].square() + point[2].square()).clamp(min=1e-6)
    turn = _hypot(du[0] * point[2] - du[2] * point[0], dv[0] * point[2] - dv[2] * point[0]) / rho
    s = torch.where(cap, point[0], torch.atan2(point[0], point[2]) * half[0])
    t = torch.where(cap, point[2], point[1] - half[1])
    width_s = torch.where(cap, extent[0], turn * half[0])
    width_t = torch.where(cap, extent[2], extent[1])
    scale = 1 / torch.where(cap, p[rows.PERIOD][1], p[rows.PERIOD][0]).clamp(min=1e-3)
    number = torch.where(cap, p[rows.TEXTURE][1], p[rows.TEXTURE][0])
    s, t = (s + p[rows.OFFSET][0]) * scale, (t + p[rows.OFFSET][1]) * scale
    below = (normal * p[rows.DOWN]).sum(0)
    air = views.air.index_select(1, torch.div(hits.column.index_select(0, odd), views.slots, rounding_mode="floor"))
    facing = (normal * p[rows.SUN]).sum(0).clamp(min=0)
    bright = air[rows.SUN_STRENGTH] * facing + air[rows.AMBIENT] * (0.85 - 0.15 * below)
    # clouds lie on a plane overhead, lifted a little so that the horizon stays finite
    length = d.square().sum(0).sqrt()
    slope = _CLOUD_SCALE / (0.22 - d[1] / length).clamp(min=0.05)
    sky = p[rows.SHAPE] == SKY
    pixel = m[:, 0].square().sum(0).sqrt() * slope
    s, t = torch.where(sky, d[0] / length * slope, s), torch.where(sky, d[2] / length * slope, t)
    width_s = torch.where(sky, pixel, width_s * scale)
    width_t = torch.where(sky, pixel * slope / _CLOUD_SCALE, width_t * scale)
    return torch.stack([s, t, width_s, width_t, number, 0.4 * (1 - below.abs()), *(p[rows.TINT] * bright)])


def picture(views: Views, hits: Hits, textures: TextureBank) -> Tensor:
    """The images `(F, 3, H, W)` float32 RGB in [0, 1], from the hits of all pixel centres in image order.

    Pixels at the border of two surfaces are re-cast with four sub-samples, which test the primitives seen
    there and in the four neighbours; a surface that is not the centre's is shaded once, in the middle of its
    sub-samples.
    """
    F, H, W = views.frames, views.height, views.width
    colours = shade(views, hits, textures, range(H * W, F * H * W + 1, H * W))
    surfaces = (hits.column * 4 + hits.side).view(F, H, W)
    edge = torch.zeros(F, H, W, dtype=torch.bool, device=surfaces.device)
    across = surfaces[:, :, 1:] != surfaces[:, :, :-1]
    down = surfaces[:, 1:] != surfaces[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    where = edge.flatten().nonzero()[:, 0]
    if len(where):
        mean = _mean_colours(views, hits, surfaces.flatten(), where, textures, colours.index_select(1, where))
        colours.index_copy_(1, where, mean)
    return colours.view(3, F, H, W).transpose(0, 1).contiguous()


def _mean_colours(
    views: Views, hits: Hits, surfaces: Tensor, where: Tensor, textures: TextureBank, centre: Tensor
) -> Tensor:
    """Colours of the pixels `where`, averaged over sub-samples.

    Args:
        views, hits, textures: as in `picture`.
        surfaces: `(F * H * W,)` int64, every pixel's primitive and side as one number.
        where: `(E,)` int64, ascending.
        centre: `(3, E)` colours of the surfaces at the pixels' centres.

    Returns:
        `(3, E)`.
    """
    H, W, count = views.height, views.width, len(where)
    device = where.device
    line = torch.div(where, W, rounding_mode="floor")
    x, y = where - line * W, line % H
    first = where - x
    above, below = where - W * (y > 0), where + W * (y < H - 1)
    left, right = first + (x - 1).clamp_(min=0), first + (x + 1).clamp_(max=W - 1)
    near = torch.stack([hits.column.index_select(0, i) for i in (where, above, below, left, right)])
    new = (near + 1) % views.slots != 0  # the sky is what is left
    for i in range(1, len(near)):
        for j in range(i):
            new[i] &= near[i] != near[j]
    which = new.flatten().nonzero()[:, 0]
    column = near.flatten().index_select(0, which)
    pixel = which % count

    px, py = x.float(), y.float()
    w, side = entries(views, column, px.index_select(0, pixel), py.index_select(0, pixel), _SUBPIXELS)
    cells = (pixel + count * torch.arange(4, device=device)[:, None]).flatten()
    best = torch.zeros(4 * count, device=device).scatter_reduce_(0, cells, w.flatten(), "amax")
    miss = w < best.index_select(0, cells).view_as(w).clamp_(min=_TINY)
    key = (column * 4 + side).masked_fill_(miss, -1).flatten()
    sky = ((torch.div(line, H, rounding_mode="floor") + 1) * views.slots - 1) * 4
    key = torch.full_like(cells[:1], -1).expand(4 * count).clone().scatter_reduce_(0, cells, key, "amax")
    key = torch.where(key < 0, sky.repeat(4), key).view(4, count)

    # a sub-sample leads those of its surface that come after it
    own = (key == surfaces.index_select(0, where)).float().mean(0)
    share = torch.stack([(key == key[i]).float() for i in range(4)])
    leads = key != surfaces.index_select(0, where)
    for i in range(1, 4):
        for j in range(i):
            leads[i] &= key[i] != key[j]
    which = leads.T.flatten().nonzero()[:, 0]  # pixel after pixel
    pixel, lead = which >> 2, which & 3
    cell = lead * count + pixel
    number = share.sum(1)
    sub = torch.tensor(_SUBPIXELS, device=device)
    shift = [(share * sub[:, k, None]).sum(1).div_(number).flatten().index_select(0, cell) for k in (0, 1)]
    primitive = torch.div(key.flatten().index_select(0, cell), 4, rounding_mode="floor")
    u, v = (p.index_select(0, pixel).add_(d) for p, d in zip((px, py), shift))
    ends = torch.searchsorted(where.index_select(0, pixel), torch.arange(1, views.frames + 1, device=device) * (H * W))
    others = shade(views, surface(views, primitive, u, v), textures, ends.tolist())
    others *= number.flatten().index_select(0, cell) / 4
    return (centre * own).index_add_(1, pixel, others)
