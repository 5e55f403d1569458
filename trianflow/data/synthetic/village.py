"""A village: a narrow road between hedges, walls, fences, bushes, woods and meadows, with small houses behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from trianflow.data.synthetic.roadside import Line, car, patch
from trianflow.data.synthetic.scene import BOX, CYLINDER, ELLIPSOID, Dice, Light, Mover, Scene, SceneBuilder
from trianflow.data.synthetic.street import BEFORE, BEYOND, backdrop, road_line
from trianflow.data.synthetic.textures import TextureBank

_PIECE = 5.0  # metres of road, at most, that are built as if it were straight
_TIGHTEST = 27.0  # radius of a bend, metres
_CLEAR = 1.7  # metres from the way of the camera to the nearer edge of the road
_FACADES = ("facade_plaster", "facade_brick", "facade_grey", "facade_stone", "facade_plaster")


def make_village(seed: int, moving_objects: int, textures: TextureBank, length: float) -> Scene:
    """A road through a village to drive along for `length` metres; see `make_scene`."""
    dice = Dice(seed)
    builder = SceneBuilder(textures)
    route = road_line(dice, length)
    line = Line(route)
    half = dice.uniform(2.4, 4.2)
    middle = -dice.uniform(0.3, half - _CLEAR)  # of the road, to the right of the camera's way
    _road(builder, dice, line, middle, half)
    for side in (-1, 1):
        _roadside(Side(builder, dice, line, side, middle + side * half, line.length + 0.75 * BEYOND))
    backdrop(builder, dice, line)
    speed = dice.uniform(4, 9)  # of all, as they come behind each other
    for k in range(moving_objects):
        builder.movers.append(Mover(route, dice.uniform(20, 38) + 25 * k, speed, middle - half + 1.0, True))
        car(builder, dice, 0.0, 0.0, 0.0, k + 1)
    turn = dice.uniform(-math.pi, math.pi)
    sun = (math.cos(turn), -dice.uniform(0.5, 1.1), math.sin(turn))
    light = Light(sun, dice.uniform(0.5, 1.0), dice.uniform(0.35, 0.65), haze=dice.uniform(150, 500))
    return builder.finish("village", light, route, 0.7, 1.65)  # the cars come as near as that


@dataclass(frozen=True)
class Side:
    """One side of a road.

    Attributes:
        builder, dice, line: where things go.
        side: 1 right of the road, -1 left.
        edge: metres from the way of the camera to the edge of the road, to the right.
        end: of the built-up part, metres along the line.
    """

    builder: SceneBuilder
    dice: Dice
    line: Line
    side: int
    edge: float
    end: float

    def at(self, s: float, away: float) -> tuple[float, float, float]:
        """Position on the ground and heading, `s` metres along the road and `away` metres from its edge."""
        (x, z), yaw = self.line.at(s, self.edge + self.side * away)
        return x, z, yaw

    def pieces(self, start: float, end: float, away: float) -> Iterator[tuple[float, float]]:
        """The middles and the lengths of the pieces from `start` to `end` metres, `away` metres from the edge.

        They overlap, and in bends touch at least.
        """
        count = math.ceil((end - start) / _PIECE)
        length = _lapped((end - start) / count, abs(self.edge) + away)
        return ((start + (i + 0.5) * (end - start) / count, length) for i in range(count))


def _lapped(spacing: float, outside: float) -> float:
    """The length of pieces so far apart on a line, that they touch `outside` metres from it in the tightest bend."""
    return spacing * (1 + outside / _TIGHTEST) + 0.3


def _road(builder: SceneBuilder, dice: Dice, line: Line, middle: float, half: float) -> None:
    """Asphalt with shadows, patches and, on wider roads, a line; grass all around."""
    (mx, mz), _ = line.at(line.length / 2, 0)
    reach = 2 * line.length + 500
    builder.add(BOX, (reach, 0.5, reach), mx, mz, -0.55, texture="grass", tint=dice.tint(0.4), period=7.0)
    surface, tint = ("asphalt", "asphalt", "concrete")[dice.choice(3)], dice.tint(0.3)
    marked, shady = half > 3 and dice.choice(2) == 1, dice.uniform(0, 0.6)
    i, s = 0, -BEFORE
    while s < line.length + BEYOND:
        lift = 0.004 * (i % 2)
        (x, z), yaw = line.at(s, middle)
        size = 2 * half, 0.3, _lapped(_PIECE, half - middle)
        builder.add(BOX, size, x, z, -0.3 + lift, yaw, surface, tint=tint, offset=(0.3, s % 5.0))
        if marked and i % 2:
            builder.add(BOX, (0.12, 0.02, 3.0), x, z, lift, yaw, "white")
        if dice.uniform(0, 1) < 0.2:
            patch(builder, dice, line, s, (middle - half + 1.2, middle + half - 1.2))
        if dice.uniform(0, 1) < shady:
            width, dark = dice.uniform(0.3, 0.95) * 2 * half, dice.uniform(0.2, 0.5)
            (x, z), yaw = line.at(s, middle + dice.uniform(-1, 1) * (half - width / 2))
            builder.add(BOX, (width, 0.02, dice.uniform(0.8, 6)), x, z, 0.002, yaw, surface, tint=(dark,) * 3)
        i, s = i + 1, s + _PIECE


def _roadside(side: Side) -> None:
    """What accompanies the road, stretch by stretch, and what stands in between and behind."""
    dice = side.dice
    pavement = dice.uniform(1.0, 2.2) if dice.choice(2) else 0.0
    if pavement:
        _pavement(side, pavement)
    away = pavement + dice.uniform(0.1, 2.0)
    s = -BEFORE
    while s < side.end:
        end = s + dice.uniform(6, 35)
        kind = dice.uniform(0, 1)
        if kind < 0.3:
            _hedge(side, s, end, away)
        elif kind < 0.5:
            _wall(side, s, end, away)
        elif kind < 0.7:
            _bushes(side, s, end, away, dice.uniform(0.8, 3.0))
        elif kind < 0.8:
            _bushes(side, s, end, away + 2, dice.uniform(3.0, 7.0))
        if end - s > 11 and dice.uniform(0, 1) < 0.6:
            _house(side, s, end - s, away + dice.uniform(1.8, 9))
        s = end + dice.uniform(0, 4)
    _along(side, away)


def _pavement(side: Side, width: float) -> None:
    texture = ("paving", "cobble", "concrete")[side.dice.choice(3)]
    for i, (s, length) in enumerate(side.pieces(-BEFORE, side.end, width)):
        x, z, yaw = side.at(s, width / 2)
        base = -0.18 + 0.004 * (i % 2)
        side.builder.add(BOX, (width, 0.3, length), x, z, base, yaw, "concrete", texture, offset=(0, s % 4.0))


def _hedge(side: Side, start: float, end: float, away: float) -> None:
    """Clipped, or grown out of shape at its top."""
    dice = side.dice
    height, depth, level = dice.uniform(0.7, 2.8), dice.uniform(0.6, 1.6), dice.uniform(0.3, 1.0)
    wild = dice.choice(2)
    for s, length in side.pieces(start, end, away + depth):
        x, z, yaw = side.at(s, away + depth / 2)
        tint = _darker(dice.tint(0.15), level)
        side.builder.add(BOX, (depth, height, length), x, z, 0, yaw, "leaves", tint=tint, offset=(0, s % 2.5))
        for _ in range(2 * wild):
            x, z, _ = side.at(s + dice.uniform(-2.2, 2.2), away + depth / 2)
            size = depth * dice.uniform(1.0, 1.5), dice.uniform(0.6, 1.6), dice.uniform(1.5, 3.5)
            side.builder.add(ELLIPSOID, size, x, z, height - size[1] / 2, yaw, "leaves", tint=tint)


def _wall(side: Side, start: float, end: float, away: float) -> None:
    """A wall, or a fence with posts."""
    dice = side.dice
    texture = ("brick", "plaster", "concrete", "cobble", "planks", "planks", "metal")[dice.choice(7)]
    fence = texture in ("planks", "metal")
    height, thick, tint = dice.uniform(0.6, 2.2), 0.06 if fence else 0.3, dice.tint(0.5)
    for s, length in side.pieces(start, end, away + thick):
        x, z, yaw = side.at(s, away + thick)
        side.builder.add(BOX, (thick, height, length), x, z, 0, yaw, texture, tint=tint, offset=(0, s % 2.4))
        if fence:
            side.builder.add(BOX, (0.14, height + 0.15, 0.14), x, z, 0, yaw, "planks", tint=(0.7, 0.7, 0.7))


def _bushes(side: Side, start: float, end: float, away: float, large: float) -> None:
    """Bushes up to `large` metres high; those above three are trees with leaves down to the ground."""
    dice = side.dice
    for s, _ in side.pieces(start, end, away):
        for _ in range(2):
            high = large * dice.uniform(0.5, 1.0)
            wide = high * dice.uniform(0.7, 1.2)
            x, z, yaw = side.at(s + dice.uniform(-2.5, 2.5), away + wide / 2 + dice.uniform(0, 1.5))
            tint = _darker(dice.tint(0.2), dice.uniform(0.35, 1.05))
            side.builder.add(ELLIPSOID, (wide, high * 1.2, wide), x, z, -0.2 * high, yaw, "leaves", tint=tint)


def _house(side: Side, start: float, width: float, away: float) -> None:
    """One or two storeys with a roof, its gable to the road or along it."""
    dice = side.dice
    width = min(width - 1.5, dice.uniform(7, 14))
    depth, height, rise = dice.uniform(7, 11), dice.uniform(2.8, 6.2), dice.uniform(0.5, 3.0)
    x, z, yaw = side.at(start + width / 2 + 0.7, away + depth / 2)
    tint = dice.tint(0.35)
    texture = _FACADES[dice.choice(len(_FACADES))]
    side.builder.add(BOX, (depth, height, width), x, z, 0, yaw, texture, tint=tint, offset=(dice.uniform(0, 6), 0))
    turned = dice.choice(2) == 1
    long, across = (width, depth) if turned else (depth, width)
    size = (2 * rise, long + 0.6, across + 0.8)
    heading = yaw + math.pi / 2 if turned else yaw
    side.builder.add(CYLINDER, size, x, z, height - rise, heading, "roof", tint=dice.tint(0.4), lying=True)


def _along(side: Side, away: float) -> None:
    """Trees, poles, signs, boxes and cars between the road and what lies behind."""
    dice, builder = side.dice, side.builder
    s = -BEFORE + dice.uniform(0, 15)
    density = dice.uniform(5, 22)
    while s < side.end:
        kind = dice.uniform(0, 1)
        x, z, yaw = side.at(s, dice.uniform(0.5, max(1.0, away)))
        if kind < 0.45:
            _tree(side, x, z)
        elif kind < 0.6:
            builder.add(CYLINDER, (0.2, 7.0, 0.2), x, z, 0, 0, ("planks", "metal")[dice.choice(2)], tint=dice.tint(0.5))
        elif kind < 0.7:
            builder.add(CYLINDER, (0.07, 2.6, 0.07), x, z, 0, 0, "metal")
            builder.add(BOX, (0.6, 0.6, 0.04), x, z, 2.0, yaw, ("white", "stripes")[dice.choice(2)])
        elif kind < 0.8:
            size = dice.uniform(0.4, 0.9), dice.uniform(0.7, 1.3), dice.uniform(0.4, 1.2)
            builder.add(BOX, size, x, z, 0, yaw, ("concrete", "planks", "metal")[dice.choice(3)], tint=dice.tint(0.5))
        else:
            x, z, yaw = side.at(s, 1.1)
            car(builder, dice, x, z, yaw + math.pi * (side.side < 0), 0)
        s += density * dice.uniform(0.4, 1.6)


def _tree(side: Side, x: float, z: float) -> None:
    """A trunk and a crown above the camera, which may hang over the road."""
    dice, builder = side.dice, side.builder
    low, crown = dice.uniform(2.2, 4.5), dice.uniform(2.5, 6.5)
    builder.add(CYLINDER, (0.3, low + 1.5, 0.3), x, z, 0, 0, "bark")
    for _ in range(3):
        size, spread = crown * dice.uniform(0.6, 1.0), 0.3 * crown
        right, ahead, up = dice.uniform(-spread, spread), dice.uniform(-spread, spread), dice.uniform(0, spread)
        tint = _darker(dice.tint(), dice.uniform(0.45, 1.05))
        builder.add(ELLIPSOID, (size, size, size), x + right, z + ahead, low + up, 0, "leaves", tint=tint)


def _darker(tint: tuple[float, float, float], level: float) -> tuple[float, float, float]:
    red, green, blue = tint
    return level * red, level * green, level * blue
