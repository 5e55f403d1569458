"""A village: a narrow road between hedges, walls, fences, bushes, woods and meadows, with small houses behind them."""

from __future__ import annotations

from trianflow.data.synthetic.scene import BOX, ELLIPSOID, Scene
from trianflow.data.synthetic.street import BEFORE
from trianflow.data.synthetic.textures import TextureBank
from trianflow.data.synthetic.verge import Side, bushes, cottage, darker, make_road, scatter, wall


def make_village(seed: int, moving_objects: int, textures: TextureBank, length: float) -> Scene:
    """A road through a village; see `make_road`."""
    return make_road("village", seed, moving_objects, textures, length, _roadside)


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
            wall(side, s, end, away)
        elif kind < 0.7:
            bushes(side, s, end, away, dice.uniform(0.8, 3.0))
        elif kind < 0.8:
            bushes(side, s, end, away + 2, dice.uniform(3.0, 7.0))
        if end - s > 11 and dice.uniform(0, 1) < 0.6:
            cottage(side, s, end - s, away + dice.uniform(1.8, 9))
        s = end + dice.uniform(0, 4)
    scatter(side, away, (5, 22))


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
        tint = darker(dice.tint(0.15), level)
        side.builder.add(BOX, (depth, height, length), x, z, 0, yaw, "leaves", tint=tint, offset=(0, s % 2.5))
        for _ in range(2 * wild):
            x, z, _ = side.at(s + dice.uniform(-2.2, 2.2), away + depth / 2)
            size = depth * dice.uniform(1.0, 1.5), dice.uniform(0.6, 1.6), dice.uniform(1.5, 3.5)
            side.builder.add(ELLIPSOID, size, x, z, height - size[1] / 2, yaw, "leaves", tint=tint)
