"""From surface points to colours: filtered textures, light, haze, sky, and anti-aliased silhouettes."""

from __future__ import annotations

import torch
from torch import Tensor

from trianflow.data.synthetic import views as rows
from trianflow.data.synthetic.raycast import Hits, entries, surface
from trianflow.data.synthetic.textures import TextureBank
from trianflow.data.synthetic.views import FACES, SKY, Views

_SUBPIXELS = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))
_CLOUD_SCALE = 0.35


def shade(views: Views, hits: Hits, textures: TextureBank) -> Tensor:
    """Colours `(N, 3)` float32 RGB in [0, 1] of N surface points."""
    u, v, plane, z = hits.u, hits.v, hits.plane, hits.depth
    face = views.faces.index_select(1, hits.column * FACES + hits.side.clamp(max=FACES - 1))
    S, T = face[rows.FACE_S], face[rows.FACE_T]
    s = (S[0] * u + S[1] * v + S[2]) * z
    t = (T[0] * u + T[1] * v + T[2]) * z
    width_s = _hypot(S[0] - s * plane[0], S[1] - s * plane[1]) * z
    width_t = _hypot(T[0] - t * plane[0], T[1] - t * plane[1]) * z
    lit, upright, number = face[rows.FACE_COLOUR], face[rows.FACE_UPRIGHT], face[rows.FACE_TEXTURE]
    if len(hits.odd):
        odd = _shade_odd(views, hits)
        fields = [
            x.index_copy(0, hits.odd, y) for x, y in zip((s, t, width_s, width_t, number, upright), odd[:6])
        ]
        s, t, width_s, width_t, number, upright = fields
        lit = lit.index_copy(1, hits.odd, odd[6:9])
    colour = textures.sample(number, s, t, width_s, width_t).T

    frame = torch.div(hits.column, views.slots, rounding_mode="floor")
    air = views.air[: rows.RISE.stop].index_select(1, frame)
    far = torch.where(z.isinf(), 1.0, z)
    rise = air[rows.RISE]
    height = rise[0] + far * (rise[1] * u + rise[2] * v + rise[3])
    contact = 1 - upright * torch.exp(-height.clamp(min=0) / 0.4)
    clear = torch.exp(-far * air[rows.HAZE])
    horizon = air[rows.HORIZON]
    out = horizon + clear * (colour * (lit * contact) - horizon)
    sky = z.isinf().nonzero()[:, 0]
    if len(sky):
        up = (height[sky] - rise[0, sky]) / _length(views, hits, sky)
        mix = (up.clamp(0, 0.8) / 0.8).sqrt()
        blue = horizon[:, sky] + mix * (views.air[rows.ZENITH][:, frame[sky]] - horizon[:, sky])
        cloud = ((colour[0, sky] - 0.42) / 0.4).clamp(0, 1)
        cloud = cloud * cloud * (3 - 2 * cloud) * (up / 0.12).clamp(0, 1) * 0.85
        out = out.index_copy(1, sky, blue + cloud * (0.97 - blue))
    return out.clamp(0, 1).T


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    """As `torch.hypot`, without its care for overflow: several times faster."""
    return (x * x).addcmul_(y, y).sqrt_()


def _length(views: Views, hits: Hits, which: Tensor) -> Tensor:
    """Length of the rays with unit z of the pixels `which`, all of them odd."""
    place = torch.searchsorted(hits.odd, which)
    return hits.ray[:, place].square().sum(0).sqrt()


def _shade_odd(views: Views, hits: Hits) -> Tensor:
    """Texture coordinates, their widths, texture, contact shadow, lit colour of what is no box: `(9, M)`."""
    odd, d, point, normal = hits.odd, hits.ray, hits.point, hits.normal
    p = views.table.index_select(1, hits.column[odd])
    z = torch.where(hits.depth[odd].isinf(), 1.0, hits.depth[odd])
    cap = hits.side[odd] == 1
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
    air = views.air.index_select(1, torch.div(hits.column[odd], views.slots, rounding_mode="floor"))
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
    there and in the four neighbours; each surface found is shaded once, in the middle of its sub-samples.
    """
    F, H, W = views.frames, views.height, views.width
    column, side = hits.column.view(F, H, W), hits.side.view(F, H, W)
    surfaces = column * 4 + side
    edge = torch.zeros(F, H, W, dtype=torch.bool, device=column.device)
    across = surfaces[:, :, 1:] != surfaces[:, :, :-1]
    down = surfaces[:, 1:] != surfaces[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    edge = edge.flatten()
    plain, where = (~edge).nonzero()[:, 0], edge.nonzero()[:, 0]
    colours = torch.empty(F * H * W, 3, device=column.device)
    colours[plain] = shade(views, hits.select(plain), textures)
    if len(where):
        colours[where] = _mean_colours(views, hits.column, where, textures)
    return colours.view(F, H, W, 3).permute(0, 3, 1, 2).contiguous()


def _mean_colours(views: Views, seen: Tensor, where: Tensor, textures: TextureBank) -> Tensor:
    """Colours `(E, 3)` of the pixels `where`, averaged over sub-samples; `seen`: every pixel's primitive."""
    H, W, count = views.height, views.width, len(where)
    device = where.device
    line = torch.div(where, W, rounding_mode="floor")
    x, y = where - line * W, line % H
    f = torch.div(line, H, rounding_mode="floor")
    here = where - x
    up, below = torch.where(y > 0, where - W, where), torch.where(y < H - 1, where + W, where)
    near = torch.stack(
        [seen[i] for i in (where, up, below, here + (x - 1).clamp(min=0), here + (x + 1).clamp(max=W - 1))]
    )
    new = (near + 1) % views.slots != 0  # the sky is what is left
    for i in range(1, len(near)):
        new[i] &= (near[:i] != near[i]).all(0)
    slot, pixel = new.nonzero().unbind(1)
    column = near[slot, pixel]

    sub = torch.tensor(_SUBPIXELS, device=device).T[:, :, None]
    px, py = x.float(), y.float()
    w, side = entries(views, column, px[pixel] + sub[0], py[pixel] + sub[1])
    cell = pixel + count * torch.arange(4, device=device)[:, None]
    best = torch.zeros(4 * count, device=device).scatter_reduce(0, cell.flatten(), w.flatten(), "amax")
    sky = ((f + 1) * views.slots - 1) * 4
    key = (column * 4 + side).masked_fill((w != best[cell]) | (w == 0), -1)
    key = sky.repeat(4).scatter_reduce(0, cell.flatten(), key.flatten(), "amax", include_self=False)
    key = torch.where(best > 0, key, sky.repeat(4)).view(4, count)

    share = (key[:, None] == key[None]).float()  # (4, 4, E)
    number = share.sum(1)
    middle = (share * sub[:, None]).sum(2) / number
    leads = torch.ones_like(key, dtype=torch.bool)
    for i in range(1, 4):
        leads[i] = (share[i, :i] == 0).all(0)
    lead, pixel = leads.nonzero().unbind(1)
    primitive = torch.div(key[lead, pixel], 4, rounding_mode="floor")
    hits = surface(views, primitive, px[pixel] + middle[0, lead, pixel], py[pixel] + middle[1, lead, pixel])
    part = shade(views, hits, textures) * (number[lead, pixel] / 4)[:, None]
    return torch.zeros(count, 3, device=device).index_add_(0, pixel, part)
