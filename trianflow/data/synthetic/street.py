"""A street: a curved road with kerbs, houses, trees, lamps, parked cars and traffic."""

from __future__ import annotations

import math

import torch

from trianflow.data.synthetic.roadside import HALF_ROAD, LANE, Line, car, furniture, house, parked_cars, patch, zebra
from trianflow.data.synthetic.scene import BOX, ELLIPSOID, Curve, Dice, Light, Mover, Scene, SceneBuilder
from trianflow.data.synthetic.textures import TextureBank

BEFORE, BEYOND = 15.0, 90.0  # metres of street before and after the drivable part


def make_street(seed: int, moving_objects: int, textures: TextureBank, length: float) -> Scene:
    """A street to drive along for `length` metres; see `make_scene`."""
    dice = Dice(seed)
    builder = SceneBuilder(textures)
    route = road_line(dice, length)
    line = Line(route)
    walk = dice.uniform(2.2, 3.6)
    _ground(builder, dice, line, walk)
    for side in (-1, 1):
        _houses(builder, dice, line, side, HALF_ROAD + walk)
        furniture(builder, dice, line, -BEFORE, line.length + BEYOND * 0.6, side, walk)
        parked_cars(builder, dice, line, -BEFORE, length + BEYOND * 0.5, side)
    backdrop(builder, dice, line)
    for k in range(moving_objects):
        oncoming = k % 2 == 1
        start = dice.uniform(30, 70) if oncoming else dice.uniform(8, 14)
        start += 14 * (k // 2)
        speed = dice.uniform(4, 9) if oncoming else dice.uniform(6, 10)
        builder.movers.append(Mover(route, start, speed, -LANE if oncoming else LANE, oncoming))
        car(builder, dice, 0.0, 0.0, 0.0, k + 1)
    turn = dice.uniform(-2.6, -0.4)
    sun = (math.cos(turn), -dice.uniform(0.7, 1.1), math.sin(turn))
    return builder.finish("street", Light(sun=sun), route, 0.5 * LANE, 1.6)


def road_line(dice: Dice, length: float) -> Curve:
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


def _ground(builder: SceneBuilder, dice: Dice, line: Line, walk: float) -> None:
    (mx, mz), _ = line.at(line.length / 2, 0)
    reach = 2 * line.length + 500
    builder.add(BOX, (reach, 0.5, reach), mx, mz, -0.5 - 0.05, texture="grass", period=7.0)
    piece = 7.5
    count = int((line.length + BEFORE + BEYOND) / piece)
    surface, pavement = "asphalt", ("paving", "cobble", "paving")[dice.choice(3)]
    tint = dice.tint()
    for i in range(count):
        s = -BEFORE + (i + 0.5) * piece
        lift = 0.004 * (i % 2)
        (x, z), yaw = line.at(s, 0)
        size = (2 * HALF_ROAD, 0.3, piece * 1.2)
        builder.add(BOX, size, x, z, -0.3 + lift, yaw, surface, tint=tint, offset=(0.3, s % 5.0))
        for side in (-1, 1):
            (x, z), yaw = line.at(s, side * (HALF_ROAD + walk / 2 + 0.1))
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
            (x, z), yaw = line.at(s, side * (HALF_ROAD + 0.1))
            builder.add(BOX, (0.2, 0.3, piece * 1.18), x, z, -0.15 + lift, yaw, "concrete", tint=(1.1, 1.1, 1.08))
            if i * piece < line.length + 0.7 * (BEFORE + BEYOND):
                (x, z), yaw = line.at(s, side * LANE / 2)
                builder.add(BOX, (0.16, 0.02, 3.0), x, z, lift, yaw, "white")
        if dice.uniform(0, 1) < 0.5:
            patch(builder, dice, line, s)
    s = dice.uniform(20, 40)
    while s < line.length + 30:
        zebra(builder, line, s)
        s += dice.uniform(50, 80)


def _houses(builder: SceneBuilder, dice: Dice, line: Line, side: int, face: float) -> None:
    s = -BEFORE
    while s < line.length + BEYOND * 0.75:
        width = dice.uniform(9, 17)
        house(builder, dice, line, s, width, side, face)
        s += width + (dice.uniform(2.5, 6) if dice.uniform(0, 1) < 0.3 else 0.06)


def backdrop(builder: SceneBuilder, dice: Dice, line: Line) -> None:
    """Wooded hills all around, far beyond the houses."""
    (mx, mz), _ = line.at(line.length / 2, 0)
    for k in range(16):
        angle = 2 * math.pi * (k + dice.uniform(-0.3, 0.3)) / 16
        far = 0.5 * line.length + dice.uniform(150, 210)
        size = dice.uniform(90, 150), dice.uniform(24, 56), dice.uniform(90, 150)
        x, z = mx + far * math.sin(angle), mz + far * math.cos(angle)
        builder.add(ELLIPSOID, size, x, z, -size[1] / 2, angle, "leaves", tint=dice.tint(0.2), period=40.0)
