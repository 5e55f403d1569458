"""A scene: convex primitives with textures, some of them moving, and the light they stand in."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from trianflow.data.synthetic.textures import TextureBank

BOX, CYLINDER, ELLIPSOID = 0, 1, 2
_RESIZED = 0.6  # largest logarithm of the factor by which a texture is larger or smaller than usual


@dataclass(frozen=True)
class Curve:
    """A ground path sampled densely by arc length.

    Attributes:
        step: metres between samples.
        points: `(N, 2)` float64, world x and z in metres.
        headings: `(N,)` float64, radians, unwrapped; 0 looks along +z, positive turns towards +x.
    """

    step: float
    points: Tensor
    headings: Tensor

    @property
    def length(self) -> float:
        """Metres from the first sample to the last."""
        return self.step * (len(self.points) - 1)

    def at(self, s: Tensor, offset: float | Tensor = 0.0) -> tuple[Tensor, Tensor]:
        """Position `(..., 2)` and heading `(...)` at arc length `s`, `offset` metres to the right.

        Beyond its ends the curve goes straight on.
        """
        where = s.double() / self.step
        i = where.floor().clamp(0, len(self.points) - 2).long()
        f = where - i
        inside = f.clamp(0, 1)
        heading = self.headings[i] + inside * (self.headings[i + 1] - self.headings[i])
        position = self.points[i] + f[..., None] * (self.points[i + 1] - self.points[i])
        right = torch.stack([heading.cos(), -heading.sin()], -1)
        return position + torch.as_tensor(offset, dtype=torch.float64)[..., None] * right, heading


@dataclass(frozen=True)
class Mover:
    """A rigid object on a curve, at constant speed: `start` and `offset` in metres, `speed` in m/s."""

    curve: Curve
    start: float
    speed: float
    offset: float = 0.0
    backwards: bool = False

    def poses(self, times: Tensor) -> Tensor:
        """Object to world at `times` `(F,)` seconds: `(F, 4, 4)` float64; its origin is on the ground."""
        direction = -1.0 if self.backwards else 1.0
        position, heading = self.curve.at(self.start + direction * self.speed * times.double(), self.offset)
        return upright_pose(position[:, 0], torch.zeros(len(times)), position[:, 1], heading + math.pi * self.backwards)


@dataclass(frozen=True)
class Light:
    """Sun, sky and air: `sun` points to the sun in world axes; `haze` metres of air hide 63 %."""

    sun: tuple[float, float, float] = (0.5, -0.75, -0.4)
    sun_strength: float = 0.72
    ambient: float = 0.58
    zenith: tuple[float, float, float] = (0.28, 0.47, 0.78)
    horizon: tuple[float, float, float] = (0.78, 0.85, 0.92)
    haze: float = 260.0


@dataclass(frozen=True)
class Scene:
    """Everything that can be seen. World axes: x right, y down, z forward; the ground is y = 0; metres.

    Attributes:
        kind: `street`, `village`, `country`, `room` or `office`.
        shape: `(P,)` int64: BOX, CYLINDER (axis along local y) or ELLIPSOID.
        half: `(P, 3)` float32 half extents.
        T_ol: `(P, 4, 4)` float64, primitive to its object's frame (to the world for static primitives).
        instance: `(P,)` int64, 0 static, k the k-th of `movers`.
        texture: `(P, 2)` int64, numbers of the side's and of the top's texture.
        period: `(P, 2)` float32, metres a texture tile covers on the sides and on the top.
        offset: `(P, 2)` float32, shift of the texture in metres.
        tint: `(P, 3)` float32 RGB factor.
        movers: the moving objects, in the order of their instance numbers.
        textures: what `texture` refers to.
        light: sun and sky.
        route: the way the camera may take: the lane's centre of a street, a closed loop in a room.
        clearance: metres to each side of the route that are free of primitives.
        eye_height: metres of a usual camera above the ground.
        reach: metres beyond which a primitive that fits a sphere of radius 1 m is not drawn; of radius r, the root
            of r times as far.
        gaze: radians by which a camera may look down, in any direction then; 0 looks along the way.
    """

    kind: str
    shape: Tensor
    half: Tensor
    T_ol: Tensor
    instance: Tensor
    texture: Tensor
    period: Tensor
    offset: Tensor
    tint: Tensor
    movers: tuple[Mover, ...]
    textures: TextureBank
    light: Light
    route: Curve
    clearance: float
    eye_height: float
    reach: float = math.inf
    gaze: float = 0.0

    def object_poses(self, times: Tensor) -> Tensor:
        """The world, then every mover, to world at `times` `(F,)` seconds: `(F, M + 1, 4, 4)` float64."""
        objects = [torch.eye(4, dtype=torch.float64).expand(len(times), 4, 4)]
        objects += [mover.poses(times) for mover in self.movers]
        return torch.stack(objects, 1)

    def primitive_poses(self, times: Tensor) -> Tensor:
        """Primitive to world at `times` `(F,)` seconds: `(F, P, 4, 4)` float64."""
        return self.object_poses(times)[:, self.instance] @ self.T_ol

    def without_motion(self) -> Scene:
        """The same scene with every object frozen where it is at time 0."""
        return replace(self, movers=tuple(replace(m, speed=0.0) for m in self.movers))


def upright_pose(x: Tensor, y: Tensor, z: Tensor, yaw: Tensor) -> Tensor:
    """`(..., 4, 4)` float64 poses of upright bodies; yaw turns local z towards world x."""
    c, s = yaw.double().cos(), yaw.double().sin()
    o, one = torch.zeros_like(c), torch.ones_like(c)
    rows = [c, o, s, x.double(), o, one, o, y.double(), -s, o, c, z.double(), o, o, o, one]
    return torch.stack(rows, -1).unflatten(-1, (4, 4))


class Dice:
    """Random numbers for building scenes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def uniform(self, low: float, high: float) -> float:
        """Between `low` and `high`."""
        return self._random.uniform(low, high)

    def choice(self, options: int) -> int:
        """One of 0, ..., `options` - 1."""
        return self._random.randrange(options)

    def tint(self, spread: float = 0.12) -> tuple[float, float, float]:
        """A nearly grey colour factor, darker than white by up to `spread`."""
        level = self.uniform(1 - spread, 1.04)
        return (level * self.uniform(0.96, 1.04), level, level * self.uniform(0.94, 1.04))


@dataclass
class SceneBuilder:
    """Collects primitives in plain lists; `finish` makes the tensors."""

    textures: TextureBank
    rows: list[tuple[float, ...]] = field(default_factory=list)
    movers: list[Mover] = field(default_factory=list)
    sizes: Tensor | None = None  # of this scene's textures, in units of their usual periods

    def vary_textures(self, dice: Dice) -> None:
        """Give each texture another size in this scene, so that how fine it looks does not tell how far it is."""
        self.sizes = torch.tensor([math.exp(dice.uniform(-_RESIZED, _RESIZED)) for _ in self.textures.names])

    def add(
        self,
        shape: int,
        size: Sequence[float],
        x: float,
        z: float,
        base: float = 0.0,
        yaw: float = 0.0,
        texture: str = "concrete",
        top: str | None = None,
        tint: Sequence[float] = (1.0, 1.0, 1.0),
        period: float = 0.0,
        offset: tuple[float, float] = (0.0, 0.0),
        instance: int = 0,
        roll: float = 0.0,
    ) -> None:
        """Add one primitive.

        Args:
            shape: BOX, CYLINDER or ELLIPSOID.
            size: full extents along local x, y (height) and z.
            x, z, base: centre on the ground plane and height of the lowest point above it.
            yaw: radians about the vertical.
            texture, top: names; `top` (also the bottom) defaults to `texture`.
            tint: RGB factor.
            period: metres of a tile of the side's texture; 0 takes the texture's own.
            offset: shift of the texture in metres.
            instance: 0 static, else the object whose frame the position refers to.
            roll: radians about local z, before `yaw`: lowers the right end, and lays a cylinder on its side where it is
                pi / 2; `base` is the lowest point of the body's box still.
        """
        side, other = self.textures.index(texture), self.textures.index(top or texture)
        height = abs(size[0] * math.sin(roll)) + abs(size[1] * math.cos(roll))
        extents = (size[0] / 2, size[1] / 2, size[2] / 2)
        y = -(base + height / 2)
        self.rows.append((shape, *extents, x, y, z, yaw, roll, instance, side, other, period, *offset, *tint))

    def finish(self, kind: str, light: Light, route: Curve, clearance: float, eye_height: float) -> Scene:
        """The finished scene."""
        table = torch.tensor(self.rows, dtype=torch.float64)
        pose = upright_pose(table[:, 4], table[:, 5], table[:, 6], table[:, 7])
        c, s = table[:, 8].cos(), table[:, 8].sin()
        roll = torch.eye(4, dtype=torch.float64).repeat(len(table), 1, 1)
        roll[:, 0, 0], roll[:, 0, 1], roll[:, 1, 0], roll[:, 1, 1] = c, -s, s, c
        pose = pose @ roll
        texture = table[:, 10:12].long()
        usual = self.textures.periods[texture]
        if self.sizes is not None:
            usual = usual * self.sizes[texture]
        period = torch.where(table[:, 12:13] > 0, table[:, 12:13].float(), usual)
        period = torch.where(texture == texture[:, :1], period[:, :1], usual)
        shape, half = table[:, 0].long(), table[:, 1:4].float()
        # around a round primitive the tiles must close
        turns = (2 * math.pi * half[:, 0] / period[:, 0]).round().clamp(min=1)
        around = 2 * math.pi * half[:, 0] / turns
        period[:, 0] = torch.where(shape == BOX, period[:, 0], around)
        return Scene(
            kind,
            shape,
            half,
            pose,
            table[:, 9].long(),
            texture,
            period,
            table[:, 13:15].float(),
            table[:, 15:18].float(),
            tuple(self.movers),
            self.textures,
            light,
            route,
            clearance,
            eye_height,
        )
