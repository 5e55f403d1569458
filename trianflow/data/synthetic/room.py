"""A furnished room with a free way around its middle."""

from __future__ import annotations

import math

import torch

from trianflow.data.synthetic.scene import BOX, CYLINDER, ELLIPSOID, Curve, Dice, Light, Mover, Scene, SceneBuilder
from trianflow.data.synthetic.textures import TextureBank

_WALLS = ("plaster", "wallpaper", "brick", "planks", "concrete", "tiles")
_FLOORS = ("planks", "tiles", "carpet", "paving")
_STUFF = ("noise0", "noise1", "noise2", "planks", "tiles", "stripes", "metal", "carpet", "wallpaper")


def make_room(seed: int, moving_objects: int, textures: TextureBank) -> Scene:
    """A room of 7 x 6 to 11 x 9 metres; see `make_scene`."""
    dice = Dice(seed)
    builder = SceneBuilder(textures)
    width, length, height = dice.uniform(7, 11), dice.uniform(6, 9), dice.uniform(2.6, 3.4)
    clearance = 0.8
    loop = closed_walk(width / 2 - 2.4, length / 2 - 2.4)
    shell(builder, dice, width, length, height)
    pictures = [f"crop{i}" for i in range(textures.crops)] or [
        "noise0",
        "noise1",
        "facade_stone",
        "facade_brick",
        "stripes",
    ]
    for wall in range(4):
        span, away = (width, length / 2) if wall % 2 == 0 else (length, width / 2)
        angle = wall * math.pi / 2
        s, c = math.sin(angle), math.cos(angle)
        place = -span / 2 + 0.3
        while place < span / 2 - 0.5:
            wide = dice.uniform(0.5, 1.7)
            wide = min(wide, span / 2 - 0.1 - place)
            deep, tall = dice.uniform(0.3, 0.6), dice.uniform(0.4, 2.1)
            middle, out = place + wide / 2, away - deep / 2 - 0.02
            x, z = c * middle + s * out, -s * middle + c * out
            kind = dice.uniform(0, 1)
            texture = _STUFF[dice.choice(len(_STUFF))]
            if kind < 0.6:
                builder.add(BOX, (wide * 0.92, tall, deep), x, z, 0, angle, texture, "planks", dice.tint(0.3),
                            offset=(dice.uniform(0, 2), dice.uniform(0, 2)))  # fmt: skip
                if dice.uniform(0, 1) < 0.6:
                    thick = dice.uniform(0.15, 0.35)
                    ball = ELLIPSOID if dice.uniform(0, 1) < 0.5 else CYLINDER
                    builder.add(
                        ball,
                        (thick, thick * 1.4, thick),
                        x,
                        z,
                        tall,
                        0,
                        _STUFF[dice.choice(len(_STUFF))],
                        tint=dice.tint(0.3),
                    )
            elif kind < 0.75:
                builder.add(CYLINDER, (deep, 2 * tall / 3, deep), x, z, 0, 0, texture, tint=dice.tint(0.3))
            if tall < 1.2 or kind >= 0.75:
                x, z = c * middle + s * (away - 0.02), -s * middle + c * (away - 0.02)
                high = dice.uniform(0.5, 0.9)
                picture = pictures[dice.choice(len(pictures))]
                builder.add(BOX, (wide * 0.8 + 0.08, high + 0.08, 0.06), x, z, 1.3, angle, "planks", tint=(0.6,) * 3)
                builder.add(
                    BOX,
                    (wide * 0.8, high, 0.08),
                    x,
                    z,
                    1.34,
                    angle,
                    picture,
                    period=max(wide * 0.8, high) * 2,
                )
            place += wide + dice.uniform(0.0, 0.5)
    inner = max(min(width, length) / 2 - 2.4 - clearance - 0.2, 0.0)
    if inner > 0.3:  # a low table in the middle
        size = inner * 1.2
        builder.add(BOX, (size, 0.06, size), 0, 0, 0.5, 0.4, "planks")
        builder.add(CYLINDER, (0.12, 0.5, 0.12), 0, 0, 0, 0, "metal")
        builder.add(ELLIPSOID, (0.3, 0.24, 0.3), 0, 0, 0.56, 0, "noise1")
    for k in range(moving_objects):
        # objects stay low and between the furniture's front and the middle, under the camera's sight line
        builder.movers.append(
            Mover(closed_walk(width / 2 - 1.25, length / 2 - 1.25, 40), dice.uniform(0, 30), dice.uniform(0.2, 0.6))
        )
        size = dice.uniform(0.25, 0.4)
        builder.add(BOX, (size, size, size * 1.3), 0, 0, 0.05, 0, f"noise{k % 3}", tint=dice.tint(0.2), instance=k + 1)
        builder.add(ELLIPSOID, (size * 0.8,) * 3, 0, 0, size, 0, "stripes", tint=dice.tint(0.2), instance=k + 1)
    light = Light(sun=(0.35, -0.9, -0.5), sun_strength=0.45, ambient=0.82, haze=math.inf)
    return builder.finish("room", light, loop, clearance, dice.uniform(1.35, 1.6))


def closed_walk(half_x: float, half_z: float, turns: int = 1) -> Curve:
    """An ellipse, driven clockwise seen from above, `turns` times; sampled evenly in arc length."""
    angle = torch.linspace(0, 2 * math.pi, 4001, dtype=torch.float64)
    x, z = half_x * angle.sin(), half_z * angle.cos()
    along = torch.cat([torch.zeros(1, dtype=torch.float64), torch.hypot(x.diff(), z.diff()).cumsum(0)])
    count = int(float(along[-1]) / 0.05)
    s = torch.linspace(0, float(along[-1]), count + 1, dtype=torch.float64)
    i = torch.searchsorted(along, s).clamp(1, 4000)
    even = angle[i - 1] + (s - along[i - 1]) / (along[i] - along[i - 1]) * (angle[i] - angle[i - 1])
    even = torch.cat([even[:-1] + 2 * math.pi * k for k in range(turns)] + [2 * math.pi * turns + even[:1]])
    points = torch.stack([half_x * even.sin(), half_z * even.cos()], -1)
    heading = torch.atan2(half_x * even.cos(), -half_z * even.sin())
    heading = heading + 2 * math.pi * torch.round((even + math.pi / 2 - heading) / (2 * math.pi))
    return Curve(float(along[-1]) / count, points, heading)


def shell(builder: SceneBuilder, dice: Dice, width: float, length: float, height: float) -> None:
    """Floor, ceiling and walls of so many metres, with beams, a carpet and a lamp."""
    thick = 0.3
    floor, wall = _FLOORS[dice.choice(len(_FLOORS))], _WALLS[dice.choice(len(_WALLS))]
    builder.add(BOX, (width + 1, thick, length + 1), 0, 0, -thick, 0, floor, tint=dice.tint(0.2))
    builder.add(BOX, (width + 1, thick, length + 1), 0, 0, height, 0, "plaster", tint=(1.05, 1.05, 1.05))
    for x, z, size in (
        (0, length / 2 + thick / 2, (width + 1, height, thick)),
        (0, -length / 2 - thick / 2, (width + 1, height, thick)),
        (width / 2 + thick / 2, 0, (thick, height, length)),
        (-width / 2 - thick / 2, 0, (thick, height, length)),
    ):
        texture = wall if dice.uniform(0, 1) < 0.7 else _WALLS[dice.choice(len(_WALLS))]
        builder.add(BOX, size, x, z, 0, 0, texture, tint=dice.tint(0.25), offset=(dice.uniform(0, 3), 0))
    for k in range(3):
        x = width * (k - 1) / 3
        builder.add(BOX, (0.16, 0.2, length), x, 0, height - 0.2, 0, "planks", tint=(0.8, 0.8, 0.8))
    builder.add(BOX, (width * 0.35, 0.012, length * 0.3), 0.4, 0.3, 0.0, 0.3, "carpet", tint=dice.tint(0.3))
    builder.add(ELLIPSOID, (0.4, 0.3, 0.4), 0, 0, height - 0.7, 0, "white", tint=(1.1, 1.1, 1.0))
