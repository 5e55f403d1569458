"""What stands along a road: houses, lamps, trees, bins and cars, and what is painted on it."""

from __future__ import annotations

import math

import torch

from trianflow.data.synthetic.scene import BOX, CYLINDER, ELLIPSOID, Curve, Dice, SceneBuilder

LANE = 3.4  # metres; the camera has the middle of three lanes
HALF_ROAD = 1.5 * LANE + 2.3  # metres from the middle of the road to its kerb
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


class Line:
    """The middle of a road in plain floats, for placing things beside it."""

    def __init__(self, route: Curve) -> None:
        self.step, self.length = route.step, route.length
        self.points, self.headings = route.points.tolist(), route.headings.tolist()

    @classmethod
    def straight(cls, x: float, z: float, heading: float, length: float) -> Line:
        """A straight road of `length` metres from (x, z), with a heading as in `Curve`."""
        ends = [[x, z], [x + length * math.sin(heading), z + length * math.cos(heading)]]
        return cls(Curve(length, torch.tensor(ends, dtype=torch.float64), torch.full((2,), heading).double()))

    def at(self, s: float, offset: float) -> tuple[tuple[float, float], float]:
        """As `Curve.at`: position on the ground and heading, `offset` metres right of arc length `s`."""
        where = s / self.step
        i = min(max(int(where), 0), len(self.points) - 2)
        f = where - i
        heading = self.headings[i] + min(max(f, 0.0), 1.0) * (self.headings[i + 1] - self.headings[i])
        (x0, z0), (x1, z1) = self.points[i], self.points[i + 1]
        x, z = x0 + f * (x1 - x0), z0 + f * (z1 - z0)
        return (x + offset * math.cos(heading), z - offset * math.sin(heading)), heading


def patch(builder: SceneBuilder, dice: Dice, line: Line, s: float, across: tuple[float, float] = (-3.5, 3.5)) -> None:
    """Mended asphalt or the cover of a manhole, about `s` metres along the road, `across` metres from its line."""
    (x, z), yaw = line.at(s + dice.uniform(-2, 2), dice.uniform(*across))
    if dice.uniform(0, 1) < 0.5:
        size = dice.uniform(0.8, 2.2), 0.02, dice.uniform(1, 4)
        builder.add(BOX, size, x, z, -0.009, yaw, "asphalt", tint=(0.72,) * 3)
    else:
        builder.add(CYLINDER, (0.7, 0.02, 0.7), x, z, -0.008, 0, "metal", "cobble", tint=(0.8,) * 3)


def zebra(builder: SceneBuilder, line: Line, s: float) -> None:
    """A zebra crossing, `s` metres along the road."""
    for k in range(-7, 8):
        (x, z), yaw = line.at(s, k * 0.95)
        builder.add(BOX, (0.5, 0.02, 3.0), x, z, 0.004, yaw, "white", tint=(0.95,) * 3)


def house(builder: SceneBuilder, dice: Dice, line: Line, s: float, width: float, side: int, face: float) -> None:
    """A house from `s` to `s + width` metres along the road.

    Args:
        builder, dice, line: where it goes.
        s, width: metres.
        side: 1 right of the road, -1 left.
        face: metres from the middle of the road to the building line; the house takes up to 14.6 m behind it.
    """
    depth = dice.uniform(8, 13)
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


def furniture(builder: SceneBuilder, dice: Dice, line: Line, start: float, end: float, side: int, walk: float) -> None:
    """Lamps, trees and bins on a pavement `walk` metres wide, from `start` to `end` metres (a bin: 8 more)."""
    s = start + dice.uniform(0, 12)
    lamp = True
    while s < end:
        if lamp:
            _lamp(builder, line, s, side)
        else:
            _tree(builder, dice, line, s, side)
        lamp = dice.uniform(0, 1) < 0.4
        s += dice.uniform(6, 11)
        if dice.uniform(0, 1) < 0.5:
            (x, z), yaw = line.at(s - 3, side * (HALF_ROAD + walk - 0.6))
            material = ("planks", "brick", "metal")[dice.choice(3)]
            builder.add(BOX, (0.5, 0.95, 0.7), x, z, 0.1, yaw, material, tint=dice.tint(0.4))


def _lamp(builder: SceneBuilder, line: Line, s: float, side: int) -> None:
    (x, z), yaw = line.at(s, side * (HALF_ROAD + 0.75))
    builder.add(CYLINDER, (0.16, 6.0, 0.16), x, z, 0.1, 0, "metal", tint=(0.42, 0.46, 0.45))
    builder.add(CYLINDER, (0.34, 0.9, 0.34), x, z, 0.1, 0, "metal", tint=(0.36, 0.40, 0.39))
    (ax, az), _ = line.at(s, side * (HALF_ROAD + 0.05))
    builder.add(BOX, (1.5, 0.1, 0.1), ax, az, 6.0, yaw, "metal", tint=(0.42, 0.46, 0.45))
    (ax, az), _ = line.at(s, side * (HALF_ROAD - 0.6))
    builder.add(BOX, (0.7, 0.16, 0.3), ax, az, 5.9, yaw, "white")


def _tree(builder: SceneBuilder, dice: Dice, line: Line, s: float, side: int) -> None:
    (x, z), yaw = line.at(s, side * (HALF_ROAD + 0.75))
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


def parked_cars(builder: SceneBuilder, dice: Dice, line: Line, start: float, end: float, side: int) -> None:
    """Cars along the kerb, from `start` to `end` metres."""
    s = start + dice.uniform(0, 10)
    while s < end:
        at, heading = line.at(s, side * (HALF_ROAD - 1.15))
        if dice.uniform(0, 1) < 0.6:
            car(builder, dice, at[0], at[1], heading + math.pi * (side < 0), 0)
        s += dice.uniform(6, 12)


def car(builder: SceneBuilder, dice: Dice, x: float, z: float, yaw: float, instance: int) -> None:
    """A car, standing or (`instance` above 0) in the frame of the mover of that number."""
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
        roll: float = 0.0,
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
            roll=roll,
        )

    put(BOX, (1.86, 0.02, long + 0.15), 0, 0, 0.006, "asphalt", (0.3, 0.3, 0.32))
    put(BOX, (1.76, 0.42, long), 0, 0, 0.28, "metal", paint)
    put(BOX, (1.72, 0.24, long * 0.97), 0, 0, 0.66, "metal", paint)
    put(BOX, (1.52, tall * 0.5, long * 0.52), 0, -0.06 * long, 0.88, "glass", (1.0, 1.0, 1.0))
    put(BOX, (1.46, 0.09, long * 0.46), 0, -0.07 * long, 0.86 + tall * 0.5, "metal", paint)
    for ahead in (-0.31 * long, 0.31 * long):
        for right in (-0.8, 0.8):
            put(CYLINDER, (0.62, 0.22, 0.62), right, ahead, 0.01, "asphalt", (0.5, 0.5, 0.5), "metal", math.pi / 2)
    for right in (-0.66, 0.66):
        put(BOX, (0.36, 0.16, 0.06), right, 0.5 * long, 0.56, "white", (1.1, 1.1, 1.0))
        put(BOX, (0.34, 0.18, 0.06), right, -0.5 * long, 0.56, "white", (0.85, 0.08, 0.06))
    put(BOX, (0.5, 0.13, 0.05), 0, -0.5 * long, 0.42, "white", (1.0, 1.0, 0.9))
