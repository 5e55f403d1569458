"""An office or a workshop: desks along the walls and in the middle, full of things, which the camera looks down at."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from trianflow.data.synthetic.room import closed_walk, shell
from trianflow.data.synthetic.scene import BOX, CYLINDER, ELLIPSOID, Dice, Light, Mover, Scene, SceneBuilder
from trianflow.data.synthetic.textures import TextureBank

_CLEAR = 0.7  # metres to each side of the way that are free
_TOPS = ("planks", "white", "planks", "concrete", "plaster", "metal")
_FRONTS = ("planks", "metal", "white", "plaster", "carpet")
_THINGS = ("noise0", "noise1", "noise2", "white", "metal", "carpet", "stripes", "planks", "plaster", "brick")
_PICTURES = ("noise0", "noise1", "wallpaper", "clouds", "tiles", "white")


@dataclass(frozen=True)
class Place:
    """A point on the floor or on a desk, and the axes there: `right` and `ahead` are metres from it.

    Attributes:
        x, z: of the origin, metres.
        yaw: heading of `ahead`.
    """

    x: float
    z: float
    yaw: float

    def at(self, right: float, ahead: float, turned: float = 0.0) -> Place:
        """The place so far from this one, its axes turned."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return Place(self.x + c * right + s * ahead, self.z - s * right + c * ahead, self.yaw + turned)


def make_office(seed: int, moving_objects: int, textures: TextureBank) -> Scene:
    """A room of 5 x 5 to 9 x 8 metres; see `make_scene`."""
    dice = Dice(seed)
    builder = SceneBuilder(textures)
    width, length, height = dice.uniform(5, 9), dice.uniform(5, 8), dice.uniform(2.5, 3.3)
    deep = dice.uniform(0.55, 0.8)  # what stands at the walls
    shell(builder, dice, width, length, height)
    half_x, half_z = width / 2 - deep - _CLEAR - 0.15, length / 2 - deep - _CLEAR - 0.15
    for wall in range(4):
        span, away = (width, length / 2) if wall % 2 == 0 else (length, width / 2)
        _wall(builder, dice, Place(0, 0, wall * math.pi / 2), span, away, deep, height)
    # an ellipse around a rectangle: what is a root of two narrower than it fits
    island_x, island_z = (half_x - _CLEAR) / math.sqrt(2), (half_z - _CLEAR) / math.sqrt(2)
    if min(island_x, island_z) > 0.25:
        _desk(builder, dice, Place(0, 0, 0), 2 * island_x, 2 * island_z)
    for k in range(moving_objects):
        way = closed_walk(width / 2 - deep - 0.3, length / 2 - deep - 0.3, 40)
        builder.movers.append(Mover(way, dice.uniform(0, 30), dice.uniform(0.1, 0.4)))
        size = dice.uniform(0.15, 0.25)
        builder.add(BOX, (size, size, 1.3 * size), 0, 0, 0.05, 0, f"noise{k % 3}", tint=dice.tint(0.2), instance=k + 1)
    light = Light(sun=(0.35, -0.9, -0.5), sun_strength=dice.uniform(0.2, 0.6), ambient=dice.uniform(0.6, 0.95),
                  haze=math.inf)  # fmt: skip
    builder.vary_textures(dice)
    scene = builder.finish("office", light, closed_walk(half_x, half_z), _CLEAR - 0.1, dice.uniform(1.15, 1.65))
    return replace(scene, gaze=0.75)


def _wall(
    builder: SceneBuilder, dice: Dice, middle: Place, span: float, away: float, deep: float, height: float
) -> None:
    """Desks, cupboards and shelves along one wall, and what hangs above them."""
    place = -span / 2 + deep + 0.1
    while place < span / 2 - deep - 0.5:
        wide = min(dice.uniform(0.7, 2.2), span / 2 - deep - place)
        at = middle.at(place + wide / 2, away - deep / 2 - 0.02, math.pi)
        kind = dice.uniform(0, 1)
        top = 0.0
        if kind < 0.55:
            top = _desk(builder, dice, at, wide, deep)
        elif kind < 0.7:
            top = _cupboard(builder, dice, at, wide, deep)
        elif kind < 0.85:
            _shelves(builder, dice, at, wide, deep)
            top = height
        back = middle.at(place + wide / 2, away - 0.02)
        if top < 1.3 and dice.uniform(0, 1) < 0.7:
            high, low = dice.uniform(0.3, 1.0), dice.uniform(max(1.2, top + 0.2), 1.7)
            texture = _PICTURES[dice.choice(len(_PICTURES))]
            size = wide * dice.uniform(0.3, 0.9), high, 0.05
            builder.add(BOX, size, back.x, back.z, low, back.yaw, texture, tint=dice.tint(0.4), period=2.5 * high)
        place += wide + dice.uniform(0.0, 0.6)


def _desk(builder: SceneBuilder, dice: Dice, at: Place, wide: float, deep: float) -> float:
    """A table top on legs or drawers with things on it; its height."""
    high, texture, tint = dice.uniform(0.65, 0.85), _TOPS[dice.choice(len(_TOPS))], dice.tint(0.4)
    builder.add(BOX, (wide, 0.04, deep), at.x, at.z, high - 0.04, at.yaw, texture, tint=tint)
    for right in (-1.0, 1.0):
        if dice.choice(3) == 0:
            drawers = at.at(right * (wide / 2 - 0.22), 0)
            texture = _FRONTS[dice.choice(len(_FRONTS))]
            builder.add(BOX, (0.4, high - 0.05, 0.9 * deep), drawers.x, drawers.z, 0, at.yaw, texture, tint=tint)
        else:
            for ahead in (-1.0, 1.0):
                leg = at.at(right * (wide / 2 - 0.05), ahead * (deep / 2 - 0.05))
                builder.add(BOX, (0.05, high - 0.04, 0.05), leg.x, leg.z, 0, at.yaw, "metal")
    for _ in range(int(wide * deep * dice.uniform(4, 22))):
        right, ahead = dice.uniform(-0.5, 0.5) * (wide - 0.6), dice.uniform(-0.5, 0.5) * (deep - 0.45)
        _thing(builder, dice, at.at(right, ahead, dice.uniform(-0.6, 0.6)), high)
    return high


def _cupboard(builder: SceneBuilder, dice: Dice, at: Place, wide: float, deep: float) -> float:
    high, texture = dice.uniform(0.8, 2.1), _FRONTS[dice.choice(len(_FRONTS))]
    builder.add(BOX, (wide, high, 0.9 * deep), at.x, at.z, 0, at.yaw, texture, tint=_colour(dice))
    for _ in range(dice.choice(5)):
        _thing(builder, dice, at.at(dice.uniform(-0.5, 0.5) * max(0.0, wide - 0.6), 0, dice.uniform(-0.4, 0.4)), high)
    return high


def _shelves(builder: SceneBuilder, dice: Dice, at: Place, wide: float, deep: float) -> None:
    """Boards one above the other, with rows of books."""
    shelf = 0.5 * deep
    for end in (-wide / 2, wide / 2):
        side = at.at(end, -0.25 * deep)
        builder.add(BOX, (0.03, 2.0, shelf), side.x, side.z, 0, at.yaw, "planks")
    for k in range(6):
        board = at.at(0, -0.25 * deep)
        builder.add(BOX, (wide, 0.03, shelf), board.x, board.z, 0.1 + 0.36 * k, at.yaw, "planks")
        along = -wide / 2 + 0.03
        while along < wide / 2 - 0.33 and k < 5:
            thick, high = dice.uniform(0.03, 0.3), dice.uniform(0.18, 0.31)
            if dice.uniform(0, 1) < 0.75:
                book = at.at(along + thick / 2, -0.25 * deep + dice.uniform(-0.04, 0.04))
                texture = _THINGS[dice.choice(len(_THINGS))]
                size = thick, high, 0.7 * shelf
                builder.add(BOX, size, book.x, book.z, 0.13 + 0.36 * k, at.yaw, texture, tint=_colour(dice))
            along += thick + 0.005


def _thing(builder: SceneBuilder, dice: Dice, at: Place, on: float) -> None:
    """Something that lies or stands on a desk, `on` metres high."""
    kind, tint, texture = dice.uniform(0, 1), _colour(dice), _THINGS[dice.choice(len(_THINGS))]
    shift = dice.uniform(0, 2), dice.uniform(0, 2)
    if kind < 0.25:  # papers, magazines
        size = dice.uniform(0.15, 0.32), dice.uniform(0.004, 0.015), dice.uniform(0.2, 0.32)
        texture, tint = (texture, tint) if dice.choice(3) == 0 else ("white", dice.tint(0.15))
        builder.add(BOX, size, at.x, at.z, on, at.yaw, texture, tint=tint, period=0.4, offset=shift)
    elif kind < 0.45:  # books, boxes
        size = dice.uniform(0.1, 0.35), dice.uniform(0.02, 0.22), dice.uniform(0.1, 0.3)
        builder.add(BOX, size, at.x, at.z, on, at.yaw, texture, tint=tint, offset=shift)
    elif kind < 0.55:  # a screen, its back or its front to the camera
        size, foot = (dice.uniform(0.4, 0.65), dice.uniform(0.28, 0.42), 0.05), dice.uniform(0.04, 0.15)
        dark = dice.uniform(0.1, 0.9)
        builder.add(CYLINDER, (0.22, 0.02, 0.22), at.x, at.z, on, 0, "metal", tint=(dark,) * 3)
        builder.add(BOX, (0.06, foot + 0.1, 0.03), at.x, at.z, on, at.yaw, "metal", tint=(dark,) * 3)
        builder.add(BOX, size, at.x, at.z, on + foot, at.yaw, "metal", tint=(dark,) * 3)
        face = at.at(0, (0.01 if dice.choice(2) else -0.01))
        picture = ("glass", "glass", "clouds", "noise0")[dice.choice(4)]
        builder.add(BOX, (size[0] - 0.05, size[1] - 0.05, 0.04), face.x, face.z, on + foot + 0.025, at.yaw, picture)
    elif kind < 0.65:  # a keyboard, a tray
        size = dice.uniform(0.25, 0.46), 0.025, dice.uniform(0.1, 0.17)
        texture = ("tiles", "metal", "asphalt")[dice.choice(3)]
        builder.add(BOX, size, at.x, at.z, on, at.yaw, texture, tint=(dice.uniform(0.2, 1.0),) * 3, period=0.3)
    elif kind < 0.85:  # cups, tins, bottles
        thick, high = dice.uniform(0.06, 0.12), dice.uniform(0.07, 0.28)
        builder.add(CYLINDER, (thick, high, thick), at.x, at.z, on, at.yaw, texture, tint=tint)
    elif kind < 0.93:  # balls, toys, bags
        size = dice.uniform(0.08, 0.3), dice.uniform(0.06, 0.25), dice.uniform(0.08, 0.3)
        builder.add(ELLIPSOID, size, at.x, at.z, on - 0.1 * size[1], at.yaw, texture, tint=tint)
    else:  # a plant, a lamp
        high, wide = dice.uniform(0.15, 0.5), dice.uniform(0.1, 0.35)
        builder.add(CYLINDER, (0.13, 0.12, 0.13), at.x, at.z, on, 0, "brick", tint=tint)
        builder.add(CYLINDER, (0.02, high, 0.02), at.x, at.z, on, 0, "metal")
        top = ("leaves", "white")[dice.choice(2)]
        builder.add(ELLIPSOID, (wide, 0.8 * wide, wide), at.x, at.z, on + high - 0.1, at.yaw, top)


def _colour(dice: Dice) -> tuple[float, float, float]:
    """A factor of any hue, dark or bright."""
    level = dice.uniform(0.25, 1.1)
    return level * dice.uniform(0.4, 1.1), level * dice.uniform(0.4, 1.1), level * dice.uniform(0.4, 1.1)
