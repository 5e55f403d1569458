"""A country road: banks and slopes beside it, meadows and fields, bushes and woods near and far, few houses."""

from __future__ import annotations

import math
from itertools import pairwise

from trianflow.data.synthetic.scene import BOX, CYLINDER, Dice, Scene
from trianflow.data.synthetic.street import BEFORE
from trianflow.data.synthetic.textures import TextureBank
from trianflow.data.synthetic.verge import Profile, Side, bushes, cottage, make_road, scatter, tree, wall

_OUTSIDE = 40.0  # metres of land beyond a bank
_THICK = 0.4  # of the ground
_BANDS = ((1.5, 5.0), (5.0, 14.0), (14.0, 40.0))  # metres from the edge


def make_country(seed: int, moving_objects: int, textures: TextureBank, length: float) -> Scene:
    """A road through the country; see `make_road`."""
    return make_road("country", seed, moving_objects, textures, length, _roadside, _profile)


def _profile(dice: Dice) -> Profile:
    """A level verge, a bank that rises or falls, and land that slopes gently."""
    verge, bank = dice.uniform(2.1, 4.0), dice.uniform(2.0, 14.0)
    rise = dice.uniform(-2.5, 4.5) if dice.uniform(0, 1) < 0.7 else 0.0
    rise = max(-0.5 * bank, min(rise, 0.6 * bank))
    end = verge + bank
    return (0.0, 0.0), (verge, 0.0), (end, rise), (end + _OUTSIDE, rise + _OUTSIDE * dice.uniform(-0.03, 0.1))


def _roadside(side: Side) -> None:
    dice = side.dice
    ground(side)
    _posts(side)
    scatter(side, dice.uniform(1.0, 6.0), (15, 60))
    for start, end in _BANDS:
        _band(side, start, end)


def ground(side: Side) -> None:
    """What `side.profile` tells of the height: grass, and beyond the bank grass or a field."""
    dice = side.dice
    grass = dice.tint(0.4)
    field = ("grass", "grass", "bark", "leaves")[dice.choice(4)]
    tints = (1.5 * grass[0], 1.15 * grass[1], grass[2]), dice.tint(0.4), grass  # ripe, another green, the same
    land = tints[dice.choice(3)]
    for i, ((start, low), (end, high)) in enumerate(pairwise(side.profile)):
        slope = math.atan2(high - low, end - start)
        width = (end - start) / math.cos(slope) + 0.1
        out = (start + end) / 2 + math.sin(slope) * _THICK / 2
        top = (low + high) / 2 - math.cos(slope) * _THICK / 2  # of the middle of the slab
        base = top - (width * abs(math.sin(slope)) + _THICK * math.cos(slope)) / 2
        texture, tint = (field, land) if i == 2 else ("grass", grass)
        for k, (s, length) in enumerate(side.pieces(-BEFORE, side.end + 20, end)):
            x, z, yaw = side.at(s, out)
            size, lift = (width, _THICK, length), 0.004 * (k % 2) - 0.008  # the road lies on it
            roll = -side.side * slope
            side.builder.add(BOX, size, x, z, base + lift, yaw, texture, tint=tint, offset=(0, s % 4.0), roll=roll)


def _posts(side: Side) -> None:
    """Delineators, a guard rail, both or neither, along a part of the road."""
    dice, builder = side.dice, side.builder
    if dice.choice(2):
        apart, s = dice.uniform(12, 50), -BEFORE + dice.uniform(0, 12)
        while s < side.end:
            x, z, yaw = side.at(s, 0.6)
            builder.add(BOX, (0.12, 0.75, 0.12), x, z, -0.03, yaw, "white")
            builder.add(BOX, (0.13, 0.2, 0.13), x, z, 0.72, yaw, "asphalt", tint=(0.3, 0.3, 0.3))
            s += apart
    if dice.choice(4) == 0:
        start = dice.uniform(-BEFORE, side.end)
        for s, length in side.pieces(start, start + dice.uniform(20, 60), 1.0):
            x, z, yaw = side.at(s, 1.0)
            builder.add(BOX, (0.08, 0.3, length), x, z, 0.45, yaw, "metal")
            builder.add(BOX, (0.1, 0.75, 0.1), x, z, -0.05, yaw, "metal", tint=(0.7, 0.7, 0.7))


def _band(side: Side, near: float, far: float) -> None:
    """What stands between `near` and `far` metres from the edge, stretch by stretch; much of it is empty."""
    dice = side.dice
    tall = 1.0 + far / 4
    s = -BEFORE - dice.uniform(0, 20)
    while s < side.end:
        end = s + dice.uniform(6, 30)
        away, kind = dice.uniform(near, 0.5 * (near + far)), dice.uniform(0, 1)
        if kind < 0.15:
            bushes(side, s, end, away, dice.uniform(0.8, 3.0))
        elif kind < 0.35:  # a wood, or the edge of one
            for row in range(1 + dice.choice(2)):
                bushes(side, s, end, away + row * dice.uniform(1.5, 4), dice.uniform(2.0, tall + 1.5))
        elif kind < 0.45:
            for _ in range(1 + dice.choice(4)):
                tree(side, dice.uniform(s, end), dice.uniform(away, far))
        elif kind < 0.53:
            wall(side, s, end, away)
        elif kind < 0.58 and near > 4:
            cottage(side, s, end - s + 8, away)
        elif kind < 0.62 and near > 4:
            bales(side, s, end, away)
        s = end + dice.uniform(0, 15)


def bales(side: Side, start: float, end: float, away: float) -> None:
    """Round bales of straw."""
    dice = side.dice
    s = start
    while s < end:
        out = away + dice.uniform(0, 5)
        x, z, _ = side.at(s, out)
        tint = 1.9, 1.5, 0.9
        size, base, heading = (1.4, 1.3, 1.4), side.ground(out, 1.0) - 0.05, dice.uniform(0, math.pi)
        side.builder.add(CYLINDER, size, x, z, base, heading, "bark", tint=tint, roll=math.pi / 2)
        s += dice.uniform(4, 12)
