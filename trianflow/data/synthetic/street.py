"""A street: a curved road with kerbs, houses, trees, lamps, parked cars and traffic."""

from __future__ import annotations

import math

import torch

from trianflow.data.synthetic.scene import BOX, CYLINDER, ELLIPSOID, Curve, Dice, Light, Mover, Scene, SceneBuilder
from trianflow.data.synthetic.textures import TextureBank

_LANE = 3.4  # metres; the camera has the middle of three lanes
_FACADES = ("facade_brick", "facade_plaster", "facade_grey", "facade_stone", "facade_plaster", "facade_brick")
_PAINTS = (
    (0.75, 0.12, 0.10),
    (0.16, 0.30, 0.62),
    (0.92, 0.92, 0.90),
    (0.20, 0.21, 0.23),
    (0.62, 0.64, 0.66),
    (0.13, 0.38, 0.28),
    (0.85, 0.62, 0.14),
)


def make_street(seed: int, moving_objects: int, textures: TextureBank, length: float) -> Scene:
    """A street to drive along for `length` metres; see `make_scene`."""
    dice = Dice(seed)
    builder = SceneBuilder(textures)
    ends = 15.0, 90.0
    route = _road_line(dice, length, ends)
    line = _Line(route)
    half_road = 1.5 * _LANE + 2.3
    walk = dice.uniform(2.2, 3.6)
    _ground(builder, dice, line, ends, half_road, walk)
    for side in (-1, 1):
        _houses(builder, dice, line, ends, side, half_road + walk)
        _furniture(builder, dice, line, ends, side, half_road, walk)
        s = -ends[0] + dice.uniform(0, 10)
        while s < length + ends[1] * 0.5:
            at, heading = line.at(s, side * (half_road - 1.15))
            if dice.uniform(0, 1) < 0.6:
                _car(builder, dice, at[0], at[1], heading + math.pi * (side < 0), 0)
            s += dice.uniform(6, 12)
    _backdrop(builder, dice, line, ends)
    for k in range(moving_objects):
        oncoming = k % 2 == 1
        start = dice.uniform(30, 70) if oncoming else dice.uniform(8, 14)
        start += 14 * (k // 2)
        speed = dice.uniform(4, 9) if oncoming else dice.uniform(6, 10)
        builder.movers.append(Mover(route, start, speed, -_LANE if oncoming else _LANE, oncoming))
        _car(builder, dice, 0.0, 0.0, 0.0, k + 1)
    turn = dice.uniform(-2.6, -0.4)
    sun = (math.cos(turn), -dice.uniform(0.7, 1.1), math.sin(turn))
    return builder.finish("street", Light(sun=sun), route, 0.5 * _LANE, 1.6)


def _road_line(dice: Dice, length: float, ends: tuple[float, float]) -> Curve:
    """A winding line with a bend, straight beyond its ends; its curvature stays below 1/27 m."""
    step = 0.25
    s = torch.arange(int(length / step) + 1, dtype=torch.float64) * step
    curvature = torch.zeros_like(s)
    for wave in (140.0, 75.0):
        amplitude, phase = dice.uniform(-1, 1) / 220, dice.uniform(0, 2 * math.pi)
        curvature += amplitude * torch.sin(2 * math.pi * s / wave + phase)
    bend, middle = dice.uniform(-0.7, 0.7), length * dice.uniform(0.3, 0.7)
    within = ((s - middle) / 25).clamp(-1, 1)
    curvature += bend / 50 * (1 + torch.cos(math.pi * within))
    fade = (torch.minimum(s, s[-1] - s) / 15).clamp(0, 1)
    heading = torch.cumsum(curvature * fade, 0) * step
    heading = heading - heading[0]
    along = torch.stack([heading.sin(), heading.cos()], -1) * step
    points = torch.cat([torch.zeros(1, 2, dtype=torch.float64), ((along[1:] + along[:-1]) / 2).cumsum(0)])
    return Curve(step, points, heading)


class _Line:
    """The route in plain floats, for placing things beside it."""

    def __init__(self, route: Curve) -> None:
        self.step, self.length = route.step, route.length
        self.points, self.headings = route.points.tolist(), route.headings.tolist()

    def at(self, s: float, offset: float) -> tuple[tuple[float, float], float]:
        """As `Curve.at`: position on the ground and heading, `offset` metres right of arc length `s`."""
        where = s / self.step
        i = min(max(int(where), 0), len(self.points) - 2)
        f = where - i
        heading = self.headings[i] + min(max(f, 0.0), 1.0) * (self.headings[i + 1] - self.headings[i])
        (x0, z0), (x1, z1) = self.points[i], self.points[i + 1]
        x, z = x0 + f * (x1 - x0), z0 + f * (z1 - z0)
        return (x + offset * math.cos(heading), z - offset * math.sin(heading)), heading


def _ground(
    builder: SceneBuilder, dice: Dice, line: _Line, ends: tuple[float, float], half_road: float, walk: float
) -> None:
    (mx, mz), _ = line.at(line.length / 2, 0)
    reach = 2 * line.length + 500
    builder.add(BOX, (reach, 0.5, reach), mx, mz, -0.5 - 0.05, texture="grass", period=7.0)
    piece = 7.5
    count = int((line.length + sum(ends)) / piece)
    surface, pavement = "asphalt", ("paving", "cobble", "paving")[dice.choice(3)]
    tint = dice.tint()
    for i in range(count):
        s = -ends[0] + (i + 0.5) * piece
        lift = 0.004 * (i % 2)
        (x, z), yaw = line.at(s, 0)
        size = (2 * half_road, 0.3, piece * 1.2)
        builder.add(BOX, size, x, z, -0.3 + lift, yaw, surface, tint=tint, offset=(0.3, s % 5.0))
        for side in (-1, 1):
            (x, z), yaw = line.at(s, side * (half_road + walk / 2 + 0.1))
            builder.add(
                BOX,
                (walk - 0.2, 0.3, piece * 1.18),
                x,
                z,
                -0.18 + lift,
                yaw,
                "concrete",
                pavement,
                offset=(0, s % 4.0),
            )
            (x, z), yaw = line.at(s, side * (half_road + 0.1))
            builder.add(BOX, (0.2, 0.3, piece * 1.18), x, z, -0.15 + lift, yaw, "concrete", tint=(1.1, 1.1, 1.08))
            if i * piece < line.length + 0.7 * sum(ends):
                (x, z), yaw = line.at(s, side * _LANE / 2)
                builder.add(BOX, (0.16, 0.02, 3.0), x, z, lift, yaw, "white")
        if dice.uniform(0, 1) < 0.5:
            (x, z), yaw = line.at(s + dice.uniform(-2, 2), dice.uniform(-3.5, 3.5))
            if dice.uniform(0, 1) < 0.5:
                builder.add(
                    BOX,
                    (dice.uniform(0.8, 2.2), 0.02, dice.uniform(1, 4)),
                    x,
                    z,
                    -0.009,
                    yaw,
                    "asphalt",
                    tint=(0.72,) * 3,
                )
            else:
                builder.add(CYLINDER, (0.7, 0.02, 0.7), x, z, -0.008, 0, "metal", "cobble", tint=(0.8,) * 3)
    s = dice.uniform(20, 40)
    while s < line.length + 30:
        for k in range(-7, 8):
            (x, z), yaw = line.at(s, k * 0.95)
            builder.add(BOX, (0.5, 0.02, 3.0), x, z, 0.004, yaw, "white", tint=(0.95,) * 3)
        s += dice.uniform(50, 80)


def _houses(builder: SceneBuilder, dice: Dice, line: _Line, ends: tuple[float, float], side: int, face: float) -> None:
    s = -ends[0]
    while s < line.length + ends[1] * 0.75:
        width, depth = dice.uniform(9, 17), dice.uniform(8, 13)
        storeys = 2 + dice.choice(4)
        texture = _FACADES[dice.choice(len(_FACADES))]
        period = float(builder.textures.periods[builder.textures.index(texture)])
        height = storeys * period / 2 + 0.5
        back = dice.uniform(0.1, 1.6)
        (x, z), yaw = line.at(s + width / 2, side * (face + back + depth / 2))
        tint = dice.tint(0.18)
        builder.add(BOX, (depth, height, width), x, z, 0, yaw, texture, "roof", tint, offset=(width * 0.5, 0.0))
        (x, z), _ = line.at(s + width / 2, side * (face + back + depth / 2 - 0.1))
        builder.add(BOX, (depth + 0.3, 0.35, width + 0.3), x, z, height, yaw, "concrete", "roof", tint)
        builder.add(BOX, (depth + 0.1, 0.7, width + 0.06), x, z, 0, yaw, "concrete", tint=(0.8, 0.78, 0.75))
        kind = dice.uniform(0, 1)
        (x, z), _ = line.at(s + width / 2, side * (face + back + 0.45))
        if kind < 0.35:  # a shop's awning
            builder.add(BOX, (1.5, 0.22, width * 0.7), x, z, 2.75, yaw, "stripes", tint=dice.tint(0.4))
        elif kind < 0.6 and builder.textures.crops:
            picture = f"crop{dice.choice(builder.textures.crops)}"
            builder.add(BOX, (1.0, 2.4, width * 0.5), x, z, 3.2, yaw, picture)
        elif kind < 0.6:
            builder.add(BOX, (0.2, 1.1, width * 0.5), x, z, 3.0, yaw, f"noise{dice.choice(3)}", period=2.4)
        (x, z), _ = line.at(s + width * dice.uniform(0.3, 0.7), side * (face + back + 2.5))
        builder.add(BOX, (0.9, 1.6, 0.9), x, z, height + 0.3, yaw, "brick")
        s += width + (dice.uniform(2.5, 6) if dice.uniform(0, 1) < 0.3 else 0.06)


def _furniture(
    builder: SceneBuilder,
    dice: Dice,
    line: _Line,
    ends: tuple[float, float],
    side: int,
    half_road: float,
    walk: float,
) -> None:
    s = -ends[0] + dice.uniform(0, 12)
    lamp = True
    while s < line.length + ends[1] * 0.6:
        (x, z), yaw = line.at(s, side * (half_road + 0.75))
        if lamp:
            builder.add(CYLINDER, (0.16, 6.0, 0.16), x, z, 0.1, 0, "metal", tint=(0.42, 0.46, 0.45))
            builder.add(CYLINDER, (0.34, 0.9, 0.34), x, z, 0.1, 0, "metal", tint=(0.36, 0.40, 0.39))
            (ax, az), _ = line.at(s, side * (half_road + 0.05))
            builder.add(BOX, (1.5, 0.1, 0.1), ax, az, 6.0, yaw, "metal", tint=(0.42, 0.46, 0.45))
            (ax, az), _ = line.at(s, side * (half_road - 0.6))
            builder.add(BOX, (0.7, 0.16, 0.3), ax, az, 5.9, yaw, "white")
        else:
            height, crown = dice.uniform(2.0, 2.8), dice.uniform(2.2, 3.6)
            builder.add(CYLINDER, (0.32, height + 1.0, 0.32), x, z, 0, 0, "bark")
            builder.add(BOX, (1.3, 0.04, 1.3), x, z, 0.11, yaw, "bark", tint=(0.8, 0.7, 0.6))
            green = dice.tint(0.2)
            builder.add(ELLIPSOID, (crown, crown * 1.1, crown), x, z, height, dice.uniform(0, 6), "leaves", tint=green)
            for _ in range(2):
                dx, dz = dice.uniform(-0.5, 0.5) * crown, dice.uniform(-0.5, 0.5) * crown
                size = crown * dice.uniform(0.6, 0.8)
                builder.add(
                    ELLIPSOID,
                    (size, size, size),
                    x + dx,
                    z + dz,
                    height + dice.uniform(0, 0.5) * crown,
                    dice.uniform(0, 6),
                    "leaves",
                    tint=dice.tint(0.25),
                )
        lamp = dice.uniform(0, 1) < 0.4
        s += dice.uniform(6, 11)
        if dice.uniform(0, 1) < 0.5:
            (x, z), yaw = line.at(s - 3, side * (half_road + walk - 0.6))
            builder.add(
                BOX,
                (0.5, 0.95, 0.7),
                x,
                z,
                0.1,
                yaw,
                ("planks", "brick", "metal")[dice.choice(3)],
                tint=dice.tint(0.4),
            )


def _car(builder: SceneBuilder, dice: Dice, x: float, z: float, yaw: float, instance: int) -> None:
    paint = _PAINTS[dice.choice(len(_PAINTS))]
    tall, long = dice.uniform(0.95, 1.2), dice.uniform(3.9, 4.6)
    shift = dice.uniform(0, 1.5), dice.uniform(0, 1.5)
    c, s = math.cos(yaw), math.sin(yaw)

    def put(
        shape: int,
        size: tuple[float, float, float],
        right: float,
        ahead: float,
        base: float,
        texture: str,
        tint: tuple[float, float, float],
        top: str | None = None,
        lying: bool = False,
    ) -> None:
        builder.add(
            shape,
            size,
            x + c * right + s * ahead,
            z - s * right + c * ahead,
            base,
            yaw,
            texture,
            top,
            tint,
            offset=shift,
            instance=instance,
            lying=lying,
        )

    put(BOX, (1.86, 0.02, long + 0.15), 0, 0, 0.006, "asphalt", (0.3, 0.3, 0.32))
    put(BOX, (1.76, 0.42, long), 0, 0, 0.28, "metal", paint)
    put(BOX, (1.72, 0.24, long * 0.97), 0, 0, 0.66, "metal", paint)
    put(BOX, (1.52, tall * 0.5, long * 0.52), 0, -0.06 * long, 0.88, "glass", (1.0, 1.0, 1.0))
    put(BOX, (1.46, 0.09, long * 0.46), 0, -0.07 * long, 0.86 + tall * 0.5, "metal", paint)
    for ahead in (-0.31 * long, 0.31 * long):
        for right in (-0.8, 0.8):
            put(CYLINDER, (0.62, 0.22, 0.62), right, ahead, 0.01, "asphalt", (0.5, 0.5, 0.5), "metal", True)
    for right in (-0.66, 0.66):
        put(BOX, (0.36, 0.16, 0.06), right, 0.5 * long, 0.56, "white", (1.1, 1.1, 1.0))
        put(BOX, (0.34, 0.18, 0.06), right, -0.5 * long, 0.56, "white", (0.85, 0.08, 0.06))
    put(BOX, (0.5, 0.13, 0.05), 0, -0.5 * long, 0.42, "white", (1.0, 1.0, 0.9))


def _backdrop(builder: SceneBuilder, dice: Dice, line: _Line, ends: tuple[float, float]) -> None:
    """Wooded hills all around, far beyond the houses."""
    (mx, mz), _ = line.at(line.length / 2, 0)
    for k in range(16):
        angle = 2 * math.pi * (k + dice.uniform(-0.3, 0.3)) / 16
        far = 0.5 * line.length + dice.uniform(150, 210)
        size = dice.uniform(90, 150), dice.uniform(24, 56), dice.uniform(90, 150)
        x, z = mx + far * math.sin(angle), mz + far * math.cos(angle)
        builder.add(ELLIPSOID, size, x, z, -size[1] / 2, angle, "leaves", tint=dice.tint(0.2), period=40.0)
