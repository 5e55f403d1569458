"""Roads outside of town: their surface, the ground beside them, and what may stand there.

Lengths are metres: `start`, `end` and `s` along the road, `away` from its edge outwards, `half` from its middle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from trianflow.data.synthetic.roadside import Line, car, patch
from trianflow.data.synthetic.scene import BOX, CYLINDER, ELLIPSOID, Dice, Light, Mover, Scene, SceneBuilder
from trianflow.data.synthetic.street import BEFORE, BEYOND, backdrop, road_line
from trianflow.data.synthetic.textures import TextureBank

_PIECE = 5.0  # metres of road, at most, that are built as if it were straight
_TIGHTEST = 27.0  # radius of a bend, metres
_CLEAR = 1.7  # metres from the way of the camera to the nearer edge of the road
_FACADES = ("facade_plaster", "facade_brick", "facade_grey", "facade_stone", "facade_plaster")

Profile = tuple[tuple[float, float], ...]  # of the ground beside a road: metres away from its edge, metres up


@dataclass(frozen=True)
class Side:
    """One side of a road.

    Attributes:
        builder, dice, line: where things go.
        side: 1 right of the road, -1 left.
        edge: metres from the way of the camera to the edge of the road, to the right.
        end: of the built-up part, metres along the line.
        profile: of the ground.
    """

    builder: SceneBuilder
    dice: Dice
    line: Line
    side: int
    edge: float
    end: float
    profile: Profile

    def at(self, s: float, away: float) -> tuple[float, float, float]:
        """Position on the ground and heading, `s` metres along the road and `away` metres from its edge."""
        (x, z), yaw = self.line.at(s, self.edge + self.side * away)
        return x, z, yaw

    def pieces(self, start: float, end: float, away: float) -> Iterator[tuple[float, float]]:
        """The middles and the lengths of the pieces from `start` to `end` metres, up to `away` metres from the edge.

        They overlap, in bends as well.
        """
        count = math.ceil((end - start) / _PIECE)
        step = (end - start) / count
        for s in (start + (i + 0.5) * step for i in range(count)):
            apart = [math.dist(self.at(s, o)[:2], self.at(t, o)[:2]) for o in (0, away) for t in (s - step, s + step)]
            yield s, max(apart) + 0.3

    def ground(self, away: float, width: float = 0.0) -> float:
        """Metres up from the road to the lowest ground under something so wide with its middle so far from the edge."""
        low, high = away - width / 2, away + width / 2
        between = [height for out, height in self.profile if low < out < high]
        return min(self._height(low), self._height(high), *between)

    def _height(self, away: float) -> float:
        for (start, low), (stop, high) in pairwise(self.profile):
            if away < stop:
                return low + (high - low) * max(0.0, away - start) / (stop - start)
        return self.profile[-1][1]


def make_road(
    kind: str,
    seed: int,
    moving_objects: int,
    textures: TextureBank,
    length: float,
    roadside: Callable[[Side], None],
    profile: Callable[[Dice], Profile] | None = None,
) -> Scene:
    """A narrow road to drive along for `length` metres, with cars that come to meet the camera; see `make_scene`.

    Args:
        kind: of scene.
        seed, moving_objects, textures, length: as for `make_scene`.
        roadside: builds one side.
        profile: of the ground on one side; without it all is level.
    """
    dice = Dice(seed)
    builder = SceneBuilder(textures)
    route = road_line(dice, length)
    line = Line(route)
    half = dice.uniform(2.4, 4.2)
    middle = -dice.uniform(0.3, half - _CLEAR)  # of the road, to the right of the camera's way
    profiles = [profile(dice) if profile else ((0.0, 0.0),) for _ in range(2)]
    _road(builder, dice, line, middle, half, min(height for profile in profiles for _, height in profile))
    for side, ground in zip((-1, 1), profiles):
        roadside(Side(builder, dice, line, side, middle + side * half, line.length + 0.75 * BEYOND, ground))
    backdrop(builder, dice, line)
    speed = dice.uniform(4, 9)  # of all, as they come behind each other
    for k in range(moving_objects):
        builder.movers.append(Mover(route, dice.uniform(20, 38) + 25 * k, speed, middle - half + 1.0, True))
        car(builder, dice, 0.0, 0.0, 0.0, k + 1)
    turn = dice.uniform(-math.pi, math.pi)
    sun = (math.cos(turn), -dice.uniform(0.5, 1.1), math.sin(turn))
    light = Light(sun, dice.uniform(0.5, 1.0), dice.uniform(0.35, 0.65), haze=dice.uniform(150, 500))
    builder.vary_textures(dice)
    return builder.finish(kind, light, route, 0.7, 1.65)  # the cars come as near as that


def _road(builder: SceneBuilder, dice: Dice, line: Line, middle: float, half: float, lowest: float) -> None:
    """Asphalt with shadows, patches and, on wider roads, a line; grass all around, as low as the lowest ground."""
    (mx, mz), _ = line.at(line.length / 2, 0)
    reach = 2 * line.length + 500
    builder.add(BOX, (reach, 0.5, reach), mx, mz, lowest - 0.55, texture="grass", tint=dice.tint(0.4), period=7.0)
    surface, tint = ("asphalt", "asphalt", "concrete")[dice.choice(3)], dice.tint(0.3)
    marked, shady = half > 3 and dice.choice(2) == 1, dice.uniform(0, 0.6)
    i, s = 0, -BEFORE
    while s < line.length + BEYOND:
        lift = 0.004 * (i % 2)
        (x, z), yaw = line.at(s, middle)
        size = 2 * half, 0.3, _PIECE * (1 + (half - middle) / _TIGHTEST) + 0.3
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


def wall(side: Side, start: float, end: float, away: float) -> None:
    """A wall, or a fence with posts."""
    dice = side.dice
    texture = ("brick", "plaster", "concrete", "cobble", "planks", "planks", "metal")[dice.choice(7)]
    fence = texture in ("planks", "metal")
    height, thick, tint = dice.uniform(0.6, 2.2), 0.06 if fence else 0.3, dice.tint(0.5)
    for s, length in side.pieces(start, end, away + thick):
        x, z, yaw = side.at(s, away + thick)
        base = side.ground(away + thick, thick)
        side.builder.add(BOX, (thick, height, length), x, z, base, yaw, texture, tint=tint, offset=(0, s % 2.4))
        if fence:
            side.builder.add(BOX, (0.14, height + 0.15, 0.14), x, z, base, yaw, "planks", tint=(0.7, 0.7, 0.7))


def bushes(side: Side, start: float, end: float, away: float, large: float) -> None:
    """Bushes up to `large` metres high; those above three are trees with leaves down to the ground."""
    dice = side.dice
    for s, _ in side.pieces(start, end, away):
        for _ in range(2):
            high = large * dice.uniform(0.5, 1.0)
            wide = high * dice.uniform(0.7, 1.2)
            along, out = s + dice.uniform(-2.5, 2.5), away + wide / 2 + dice.uniform(0, 1.5)
            x, z, yaw = side.at(along, out)
            tint = darker(dice.tint(0.2), dice.uniform(0.35, 1.05))
            base = side.ground(out) - 0.2 * high  # round below, and so a part of it in the ground
            side.builder.add(ELLIPSOID, (wide, high * 1.2, wide), x, z, base, yaw, "leaves", tint=tint)


def cottage(side: Side, start: float, width: float, away: float) -> None:
    """One or two storeys with a roof, its gable to the road or along it."""
    dice = side.dice
    width = min(width - 1.5, dice.uniform(7, 14))
    depth, height, rise = dice.uniform(7, 11), dice.uniform(2.8, 6.2), dice.uniform(0.5, 3.0)
    x, z, yaw = side.at(start + width / 2 + 0.7, away + depth / 2)
    base = side.ground(away + depth / 2, depth)
    height += side.ground(away + depth / 2) - base
    tint = dice.tint(0.35)
    texture, shift = _FACADES[dice.choice(len(_FACADES))], (dice.uniform(0, 6), 0.0)
    side.builder.add(BOX, (depth, height, width), x, z, base, yaw, texture, tint=tint, offset=shift)
    turned = dice.choice(2) == 1
    long, across = (width, depth) if turned else (depth, width)
    size = (2 * rise, long + 0.6, across + 0.8)
    heading = yaw + math.pi / 2 if turned else yaw
    top, tint = base + height - rise, dice.tint(0.4)
    side.builder.add(CYLINDER, size, x, z, top, heading, "roof", tint=tint, roll=math.pi / 2)


def tree(side: Side, s: float, away: float) -> None:
    """A trunk and a crown above the camera, which may hang over the road."""
    dice, builder = side.dice, side.builder
    x, z, _ = side.at(s, away)
    base = side.ground(away, 0.3)
    low, crown = max(0.0, base) + dice.uniform(2.2, 4.5), dice.uniform(2.5, 6.5)
    builder.add(CYLINDER, (0.3, low - base + 1.5, 0.3), x, z, base, 0, "bark")
    for _ in range(3):
        size, spread = crown * dice.uniform(0.6, 1.0), 0.3 * crown
        right, ahead, up = dice.uniform(-spread, spread), dice.uniform(-spread, spread), dice.uniform(0, spread)
        tint = darker(dice.tint(), dice.uniform(0.45, 1.05))
        builder.add(ELLIPSOID, (size, size, size), x + right, z + ahead, low + up, 0, "leaves", tint=tint)


def scatter(side: Side, away: float, spacing: tuple[float, float]) -> None:
    """Trees, poles, signs, boxes and cars, up to `away` metres from the edge, the mean `spacing` of them drawn once."""
    dice, builder = side.dice, side.builder
    s = -BEFORE + dice.uniform(0, 15)
    apart = dice.uniform(*spacing)
    while s < side.end:
        kind, out = dice.uniform(0, 1), dice.uniform(0.5, max(1.0, away))
        x, z, yaw = side.at(s, out)
        base = side.ground(out, 0.9)
        if kind < 0.45:
            tree(side, s, out)
        elif kind < 0.6:
            material = ("planks", "metal")[dice.choice(2)]
            builder.add(CYLINDER, (0.2, 7.0, 0.2), x, z, base, 0, material, tint=dice.tint(0.5))
        elif kind < 0.7:
            builder.add(CYLINDER, (0.07, 2.6, 0.07), x, z, base, 0, "metal")
            builder.add(BOX, (0.6, 0.6, 0.04), x, z, base + 2.0, yaw, ("white", "stripes")[dice.choice(2)])
        elif kind < 0.8:
            size = dice.uniform(0.4, 0.9), dice.uniform(0.7, 1.3), dice.uniform(0.4, 1.2)
            material = ("concrete", "planks", "metal")[dice.choice(3)]
            builder.add(BOX, size, x, z, base, yaw, material, tint=dice.tint(0.5))
        else:
            x, z, yaw = side.at(s, 1.1)
            car(builder, dice, x, z, yaw + math.pi * (side.side < 0), 0)
        s += apart * dice.uniform(0.4, 1.6)


def darker(tint: tuple[float, float, float], level: float) -> tuple[float, float, float]:
    """A colour factor times `level`."""
    red, green, blue = tint
    return level * red, level * green, level * blue
