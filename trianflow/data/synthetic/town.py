"""A town: straight streets between crossings on a grid, and dead ends where the grid goes no further."""

from __future__ import annotations

import math

from trianflow.data.synthetic.roadside import HALF_ROAD, LANE, Line, furniture, house, parked_cars, patch, zebra
from trianflow.data.synthetic.scene import BOX, Dice, SceneBuilder

Crossings = dict[tuple[int, int], tuple[float, float]]  # column and row of a grid to x and z in metres

_DEAD_END = 45.0  # metres from a crossing to where a street without another crossing ends
_DEEP = 14.8  # metres that houses take behind the building line
_NARROWEST = 9.0  # metres of a house, but where less is left


def build_town(builder: SceneBuilder, dice: Dice, crossings: Crossings) -> None:
    """Build streets from every crossing to its neighbours, dead ends where it has none, and what stands there.

    Args:
        builder, dice: where it goes.
        crossings: neighbours at least 88 m apart.
    """
    walk, pavement = dice.uniform(2.2, 3.6), ("paving", "cobble")[dice.choice(2)]
    xs, zs = zip(*crossings.values())
    reach = max(max(xs) - min(xs), max(zs) - min(zs)) + 1500
    middle = (max(xs) + min(xs)) / 2, (max(zs) + min(zs)) / 2
    builder.add(BOX, (reach, 0.5, reach), *middle, -0.5 - 0.05, texture="grass", period=7.0)
    for (column, row), (x, z) in crossings.items():
        builder.add(BOX, (2 * HALF_ROAD, 0.3, 2 * HALF_ROAD), x, z, -0.3 + 0.004, 0, "asphalt", tint=dice.tint())
        for quarter, (right, up) in enumerate(((0, 1), (1, 0), (0, -1), (-1, 0))):
            other = crossings.get((column + right, row + up))
            if other is None:
                _street(builder, dice, x, z, quarter, _DEAD_END, True, walk, pavement)
            elif quarter < 2:  # else built from its other end
                _street(builder, dice, x, z, quarter, math.dist((x, z), other), False, walk, pavement)


def _street(
    builder: SceneBuilder,
    dice: Dice,
    x: float,
    z: float,
    quarter: int,
    length: float,
    dead_end: bool,
    walk: float,
    pavement: str,
) -> None:
    """The street that leaves the crossing at (x, z) `quarter` right angles to the right of +z."""
    line = Line.straight(x, z, quarter * math.pi / 2, length)
    face, sideways = HALF_ROAD + walk, quarter % 2
    end = length if dead_end else length - HALF_ROAD
    _surface(builder, dice, line, end, 0.004 * sideways, walk, pavement)
    zebras = [HALF_ROAD + 3.2] if dead_end else [HALF_ROAD + 3.2, end - 3.2]
    for s in zebras:
        if dice.choice(2):
            zebra(builder, line, s)
    # the houses at the corners belong to the streets along z
    inset = face + _DEEP * sideways
    for side in (-1, 1):
        _row(builder, dice, line, inset, length if dead_end else length - inset, side, face)
        furniture(builder, dice, line, HALF_ROAD + 6, end - 10, side, walk)
        parked_cars(builder, dice, line, HALF_ROAD + 8, end - 8, side)
    if dead_end:
        (x, z), heading = line.at(length, -face - 8)
        across = Line.straight(x, z, heading + math.pi / 2, 2 * face + 16)
        _row(builder, dice, across, 0, across.length, -1, 0.3)


def _surface(
    builder: SceneBuilder, dice: Dice, line: Line, end: float, lift: float, walk: float, pavement: str
) -> None:
    """Asphalt, kerbs, pavements and lane marks from a crossing up to `end` metres."""

    def strip(offset: float, width: float, top: float, texture: str, tint: tuple[float, float, float]) -> None:
        (x, z), yaw = line.at((HALF_ROAD + end) / 2, offset)
        size = width, 0.3, end - HALF_ROAD + 0.02
        builder.add(BOX, size, x, z, top - 0.3, yaw, "concrete", texture, tint)

    strip(0, 2 * HALF_ROAD, 0, "asphalt", dice.tint())
    for side in (-1, 1):
        strip(side * (HALF_ROAD + walk / 2 + 0.1), walk - 0.2, 0.12 + lift, pavement, (1.0, 1.0, 1.0))
        strip(side * (HALF_ROAD + 0.1), 0.2, 0.15 + lift, "concrete", (1.1, 1.1, 1.08))
    s = HALF_ROAD + 7.5
    while s < end - 6:
        for side in (-1, 1):
            (x, z), yaw = line.at(s, side * LANE / 2)
            builder.add(BOX, (0.16, 0.02, 3.0), x, z, 0, yaw, "white")
        if dice.choice(2):
            patch(builder, dice, line, s)
        s += 7.5


def _row(builder: SceneBuilder, dice: Dice, line: Line, start: float, end: float, side: int, face: float) -> None:
    """Houses from `start` to `end` metres, with a gap here and there."""
    s = start
    while end - s > 4:
        left, width = end - s, dice.uniform(_NARROWEST, 17)
        gap = dice.uniform(2.5, 6) if dice.uniform(0, 1) < 0.2 else 0.06
        if left < width + gap + _NARROWEST:
            width = left if left < 2 * _NARROWEST else left / 2
            gap = 0.06
        house(builder, dice, line, s, width, side, face)
        s += width + gap
