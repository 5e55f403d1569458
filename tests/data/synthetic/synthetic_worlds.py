"""Small worlds for the tests, and a brute-force ray cast."""

from __future__ import annotations

import torch
from torch import Tensor

from trianflow.data.synthetic import RenderedPair, Scene, camera_path, make_scene, render_pairs
from trianflow.data.synthetic.raycast import entries
from trianflow.data.synthetic.scene import Curve, Light, SceneBuilder
from trianflow.data.synthetic.textures import make_textures
from trianflow.data.synthetic.views import Views
from trianflow.geometry.camera import Camera

CAMERA = Camera.from_fov(96, 64, 75.0)


def scene_of(build, sun=(0.4, -0.8, -0.4)) -> Scene:
    """A scene of the primitives that `build(builder)` adds; world y is down, 0 at the camera's height."""
    builder = SceneBuilder(make_textures())
    build(builder)
    route = Curve(1.0, torch.tensor([[0.0, 0.0], [0.0, 50.0]]).double(), torch.zeros(2).double())
    return builder.finish("street", Light(sun=sun), route, 1.0, 0.0)


def pair_of(scene: Scene, T_wc: Tensor, fps: float = 10.0, camera: Camera = CAMERA) -> RenderedPair:
    """The pair of the two poses."""
    times = torch.tensor([[0.0, 1 / fps]])
    return render_pairs([scene], T_wc[None], times, camera.K()[None], camera.height, camera.width)


def driving_pair(kind, seed: int, moving: int = 0, camera: Camera = CAMERA) -> RenderedPair:
    """Two neighbouring frames of a drive."""
    scene = make_scene(kind, seed, moving, length=40.0)
    return pair_of(scene, camera_path("driving", scene, 2, 10.0, seed), camera=camera)


def still_pair(path) -> RenderedPair:
    """Two frames of a camera that stays in one place."""
    scene = make_scene("street", 2, length=40.0)
    return pair_of(scene, camera_path(path, scene, 2, 10.0, 1))


def brute_force(views: Views, u: Tensor, v: Tensor, frame: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Nearest primitive (column) and depth of every ray, each tested against all primitives of its frame."""
    if frame is None:
        frame = torch.arange(views.frames).repeat_interleave(views.height * views.width)
    column, best = torch.full_like(frame, -1), torch.zeros_like(u)
    for f in range(views.frames):
        mine = (frame == f).nonzero()[:, 0]
        sky = (f + 1) * views.slots - 1
        column[mine] = sky
        for part in torch.arange(f * views.slots, sky).split(64):
            rays = [x[mine].repeat_interleave(len(part)) for x in (u, v)]
            w = entries(views, part.repeat(len(mine)), *rays)[0].view(len(mine), len(part))
            # padding primitives have negative extents
            w, which = (w * (views.table[12, part] >= 0)).max(1)
            closer = w > best[mine]
            column[mine] = torch.where(closer, part[which], column[mine])
            best[mine] = torch.maximum(w, best[mine])
    return column, 1 / best
