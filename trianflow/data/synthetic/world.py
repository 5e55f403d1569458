"""The synthetic world rendered: scenes to frames, to pairs with exact truth, and to random training pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor

from trianflow.data.synthetic.country import make_country
from trianflow.data.synthetic.culling import within_sight
from trianflow.data.synthetic.office import make_office
from trianflow.data.synthetic.paths import PathKind, camera_path
from trianflow.data.synthetic.photometry import Photometry
from trianflow.data.synthetic.raycast import Hits, cast, surface
from trianflow.data.synthetic.room import make_room
from trianflow.data.synthetic.scene import Scene
from trianflow.data.synthetic.shading import picture
from trianflow.data.synthetic.street import make_street
from trianflow.data.synthetic.textures import TextureBank, make_textures
from trianflow.data.synthetic.truth import flow_and_visibility
from trianflow.data.synthetic.views import Views, make_views
from trianflow.data.synthetic.village import make_village
from trianflow.geometry.camera import Camera, invert_pose

SceneKind = Literal["street", "village", "country", "room", "office"]


@dataclass(frozen=True)
class RenderedFrames:
    """F views with what is known about them.

    Attributes:
        image: `(F, 3, H, W)` float32 RGB in [0, 1].
        depth: `(F, 1, H, W)` float32 metres along z; inf for the sky.
        instance: `(F, H, W)` int64; 0 static, k the k-th moving object.
    """

    image: Tensor
    depth: Tensor
    instance: Tensor


@dataclass(frozen=True)
class RenderedPair:
    """B pairs of views with exact truth; masks are 1 where a pixel's surface point is seen in the other view.

    Attributes:
        image_a, image_b: `(B, 3, H, W)` float32 RGB in [0, 1].
        depth_a, depth_b: `(B, 1, H, W)` float32 metres along z; inf for the sky.
        flow_ab, flow_ba: `(B, 2, H, W)` float32 pixels, x first.
        visible_a, visible_b: `(B, 1, H, W)` float32, 0 where occluded in, or outside, the other image.
        instance_a, instance_b: `(B, H, W)` int64; 0 static, k the k-th moving object.
        T_ba: `(B, 4, 4)` float64, camera a to camera b, metres.
        K: `(B, 3, 3)` float64.
    """

    image_a: Tensor
    image_b: Tensor
    depth_a: Tensor
    depth_b: Tensor
    flow_ab: Tensor
    flow_ba: Tensor
    visible_a: Tensor
    visible_b: Tensor
    instance_a: Tensor
    instance_b: Tensor
    T_ba: Tensor
    K: Tensor


def make_scene(
    kind: SceneKind,
    seed: int,
    moving_objects: int = 0,
    textures: TextureBank | None = None,
    length: float = 160.0,
) -> Scene:
    """A random scene.

    Args:
        kind: `street` (curved, with houses, trees, lamps, cars), `village` (a narrow road between hedges, walls, trees
            and small houses), `country` (a narrow road between slopes, meadows, fields and woods), `room` (furnished,
            closed) or `office` (a room of desks full of things, which the camera looks down at, and in any direction).
        seed: of everything; the same seed gives the same scene.
        moving_objects: cars that drive, or things that slide about the room.
        textures: a bank of `make_textures`, with the user's pictures or on another device; where it lies, the
            scene is rendered. By default the procedural textures on the CPU.
        length: metres of the road's drivable part.

    Raises:
        ValueError: for an unknown kind.
    """
    bank = textures or make_textures()
    if kind == "street":
        return make_street(seed, moving_objects, bank, length)
    if kind == "village":
        return make_village(seed, moving_objects, bank, length)
    if kind == "country":
        return make_country(seed, moving_objects, bank, length)
    if kind == "room":
        return make_room(seed, moving_objects, bank)
    if kind == "office":
        return make_office(seed, moving_objects, bank)
    raise ValueError(f"no scene {kind!r} among street, village, country, room, office")


def render(scene: Scene, T_wc: Tensor, times: Tensor, camera: Camera) -> RenderedFrames:
    """Render views of one scene.

    Args:
        scene: what to see.
        T_wc: `(F, 4, 4)` float64 camera to world.
        times: `(F,)` seconds, for the moving objects.
        camera: intrinsics and size, without distortion.
    """
    scene = within_sight(scene, T_wc, times, camera.K(), camera.height, camera.width)
    K = camera.K().expand(len(T_wc), 3, 3)
    views = make_views([scene], [T_wc], [times], K, camera.height, camera.width)
    hits = _hits(views)
    return RenderedFrames(picture(views, hits, scene.textures), _depth(views, hits), _instances(views, hits))


def render_pairs(
    scenes: Sequence[Scene], T_wc: Tensor, times: Tensor, K: Tensor, height: int, width: int
) -> RenderedPair:
    """Render pairs of views, one of each scene, with the truth between them.

    Args:
        scenes: B scenes that share one texture bank.
        T_wc: `(B, 2, 4, 4)` float64 camera to world of a and b.
        times: `(B, 2)` seconds.
        K: `(B, 3, 3)` intrinsics of both views.
        height, width: image size in pixels.

    Raises:
        ValueError: where the numbers of scenes, poses, times and intrinsics differ, or the texture banks do.
    """
    B = len(scenes)
    if not len(T_wc) == len(times) == len(K) == B:
        counts = f"{B} scenes, {len(T_wc)} poses, {len(times)} times and {len(K)} intrinsics"
        raise ValueError(f"{counts} do not pair up")
    if any(scene.textures is not scenes[0].textures for scene in scenes):
        raise ValueError("the scenes of a batch must share one texture bank")
    if B > 1 and scenes[0].textures.texels.device.type == "cpu":
        # one at a time stays in the cache
        return _batched(
            [
                render_pairs(scenes[i : i + 1], T_wc[i : i + 1], times[i : i + 1], K[i : i + 1], height, width)
                for i in range(B)
            ]
        )
    scenes = [within_sight(s, T, t, k, height, width) for s, T, t, k in zip(scenes, T_wc, times, K)]
    views = make_views(scenes, list(T_wc), list(times), K.repeat_interleave(2, 0), height, width)
    hits = _hits(views)
    image = picture(views, hits, scenes[0].textures)
    partner = torch.arange(2 * B).view(B, 2).flip(1).flatten()
    flow, visible = flow_and_visibility(views, hits, partner)
    depth, instance = _depth(views, hits), _instances(views, hits)
    T_ba = invert_pose(T_wc[:, 1]) @ T_wc[:, 0]
    return RenderedPair(
        image[0::2],
        image[1::2],
        depth[0::2],
        depth[1::2],
        flow[0::2],
        flow[1::2],
        visible[0::2],
        visible[1::2],
        instance[0::2],
        instance[1::2],
        T_ba,
        K.double(),
    )


_STREETS = 0.65  # share of random scenes that are streets, if nothing else is asked for
_PAIR_PATHS: tuple[tuple[PathKind, float], ...] = (
    ("driving", 0.4),
    ("handheld", 0.25),
    ("fast", 0.2),
    ("rotation", 0.1),
    ("standing", 0.05),
)


def random_pairs(
    batch: int,
    height: int,
    width: int,
    seed: int,
    photometry: Photometry | None = None,
    scene: SceneKind | None = None,
    textures: TextureBank | None = None,
) -> RenderedPair:
    """Random pairs for training: new scenes, cameras, manners of moving and moving objects, from one seed.

    Args:
        batch: B.
        height, width: image size in pixels.
        seed: item i is drawn from `(seed, i)` alone, whatever the batch size.
        photometry: applied to the images, drawn anew for each; a moderate one by default.
        scene: kind of all scenes; by default about two thirds are streets, the others rooms.
        textures: as for `make_scene`.
    """
    photometry = photometry or Photometry(0.05, 0.01, 0.01)
    items = []
    for item in range(batch):
        g = torch.Generator().manual_seed(seed * 1_000_003 + item)
        draw = torch.rand(8, generator=g).tolist()
        number = int(torch.randint(2**31, (), generator=g))
        kind: SceneKind = scene or ("street" if draw[0] < _STREETS else "room")
        made = make_scene(kind, number, int(draw[1] * 4), textures, 50.0)
        weights = torch.tensor([w for _, w in _PAIR_PATHS])
        path = _PAIR_PATHS[int(torch.multinomial(weights, 1, generator=g))][0]
        fps = 6 + 14 * draw[2]
        shift = int(draw[3] * 5)
        T_wc = camera_path(path, made, shift + 2, fps, number)[None, -2:]
        camera = Camera.from_fov(width, height, 50 + 45 * draw[4])
        times = torch.tensor([[shift, shift + 1]], dtype=torch.float64) / fps
        pair = render_pairs([made], T_wc, times, camera.K()[None], height, width)
        image_a, image_b = photometry(torch.cat([pair.image_a, pair.image_b]), g).split(1)
        items.append(replace(pair, image_a=image_a, image_b=image_b))
    return _batched(items)


def _batched(pairs: Sequence[RenderedPair]) -> RenderedPair:
    return RenderedPair(*(torch.cat([getattr(pair, f.name) for pair in pairs]) for f in fields(RenderedPair)))


def _hits(views: Views) -> Hits:
    """What every pixel centre sees, in image order."""
    u, v = views.pixels()
    return surface(views, cast(views), u, v)


def _depth(views: Views, hits: Hits) -> Tensor:
    return hits.depth.view(views.frames, 1, views.height, views.width)


def _instances(views: Views, hits: Hits) -> Tensor:
    return views.instance.flatten()[hits.column].view(views.frames, views.height, views.width)
