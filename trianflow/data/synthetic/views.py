"""Cameras in scenes, as tables of numbers a pixel's primitive or face looks up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.data.synthetic.scene import BOX, Scene
from trianflow.geometry.camera import invert_pose, pixel_grid

SKY = 3  # the shape code of the last, infinitely far "primitive" of every view
FACES = 3  # a box shows at most three: towards the camera along local x, y and z

# rows of `Views.table`: pixel -> local ray (row-major), camera centre, half extents, shape,
RAY, EYE, HALF, SHAPE = slice(0, 9), slice(9, 12), slice(12, 15), 15
# and for the round ones: the sun and the world's down axis in local axes, textures, periods, offset, tint
SUN, DOWN, TEXTURE, PERIOD = slice(16, 19), slice(19, 22), slice(22, 24), slice(24, 26)
OFFSET, TINT = slice(26, 28), slice(28, 31)
# rows of `Views.faces`: texture coordinates' numerators, lit colour, share of contact shadow, texture
FACE_S, FACE_T, FACE_COLOUR, FACE_UPRIGHT, FACE_TEXTURE = slice(0, 3), slice(3, 6), slice(6, 9), 9, 10
# rows of `Views.air`: 1 / haze, horizon, the camera's height and its rays' rise, sun, ambient, zenith
HAZE, HORIZON, RISE, SUN_STRENGTH, AMBIENT, ZENITH = 0, slice(1, 4), slice(4, 8), 8, 9, slice(10, 13)


@dataclass(frozen=True)
class Views:
    """F cameras in the scenes they look at, ready for casting.

    A plane seen by a pinhole has an inverse depth that is affine in the pixel, and so have all local
    coordinates over the depth; boxes therefore need three numbers a plane, and three a texture coordinate.

    Attributes:
        height, width: image size in pixels.
        slots: Q: the padded number of primitives, and the sky as the last.
        table: `(31, F * Q)` float32, a column a primitive of a frame.
        planes: `(9, 3, F * Q)` float32, a box's inverse depths: its three entries and its six exits.
        faces: `(11, F * Q * 3)` float32.
        air: `(13, F)` float32.
        T_cl: `(F, Q, 4, 4)` float64, primitive to camera; the sky's is the rotation alone.
        T_cw: `(F, 4, 4)` float64, world to camera.
        K: `(F, 3, 3)` float64.
        instance: `(F, Q)` int64.
    """

    height: int
    width: int
    slots: int
    table: Tensor
    planes: Tensor
    faces: Tensor
    air: Tensor
    T_cl: Tensor
    T_cw: Tensor
    K: Tensor
    instance: Tensor

    @property
    def frames(self) -> int:
        """Number of cameras F."""
        return len(self.K)

    def pixels(self) -> tuple[Tensor, Tensor]:
        """u and v of every pixel centre, frame after frame, each `(F * H * W,)` float32."""
        u, v = pixel_grid(self.height, self.width, device=self.table.device).flatten(1).repeat(1, self.frames)
        return u, v


def make_views(
    scenes: Sequence[Scene],
    T_wc: Sequence[Tensor],
    times: Sequence[Tensor],
    K: Tensor,
    height: int,
    width: int,
) -> Views:
    """Put cameras into scenes.

    Args:
        scenes: one or more, sharing a texture bank.
        T_wc: per scene `(f, 4, 4)` float64 camera poses; F is the sum of all f.
        times: per scene `(f,)` seconds.
        K: `(F, 3, 3)` intrinsics.
        height, width: image size in pixels.
    """
    slots = max(len(scene.shape) for scene in scenes) + 1
    frames_of = torch.tensor([len(poses) for poses in T_wc])
    static = torch.stack([_static(scene, slots) for scene in scenes]).repeat_interleave(frames_of, 0)
    instance = torch.stack([_padded(scene.instance[None], slots)[0] for scene in scenes])
    lights = torch.tensor(
        [[x.sun_strength, x.ambient, 1 / x.haze, *x.zenith, *x.horizon] for x in (scene.light for scene in scenes)],
        dtype=torch.float64,
    ).repeat_interleave(frames_of, 0)
    sun = torch.tensor([scene.light.sun for scene in scenes], dtype=torch.float64)
    sun = torch.nn.functional.normalize(sun, dim=1).repeat_interleave(frames_of, 0)
    T_wl = torch.eye(4, dtype=torch.float64).repeat(len(static), slots, 1, 1)
    start = 0
    for scene, stamps in zip(scenes, times, strict=True):
        T_wl[start : start + len(stamps), : len(scene.shape)] = scene.primitive_poses(stamps)
        start += len(stamps)
    pose = torch.cat(list(T_wc)).double()
    T_cw = invert_pose(pose)
    T_cl = T_cw[:, None] @ T_wl
    T_cl[:, -1, :3, 3] = 0.0
    K = K.double().cpu()
    K_inv = torch.linalg.inv(K)
    R_lc = T_cl[..., :3, :3].transpose(-1, -2)
    ray = R_lc @ K_inv[:, None]
    eye = -(R_lc @ T_cl[..., :3, 3:])[..., 0]
    down = T_wl[..., 1, :3]
    sun_l = (sun[:, None, None] @ T_wl[..., :3, :3])[..., 0, :]
    rise = torch.cat([-pose[:, 1, 3:], -(pose[:, 1:2, :3] @ K_inv)[:, 0]], 1)
    half, shape = static[:, :3].transpose(1, 2).double(), static[:, 3]
    planes, faces = _boxes(ray, eye, half, shape, sun_l, down, static[:, 4:].double(), lights)
    moving = torch.cat([ray.flatten(2), eye], -1).permute(2, 0, 1).float()
    light = torch.cat([sun_l, down], -1).permute(2, 0, 1).float()
    fixed = static.transpose(0, 1)
    table = torch.cat([moving, fixed[:4], light, fixed[4:]]).flatten(1)
    device = scenes[0].textures.texels.device
    air = torch.cat([lights[:, 2:3], lights[:, 6:9], rise, lights[:, :2], lights[:, 3:6]], 1).T.float()
    return Views(
        height,
        width,
        slots,
        table.to(device),
        planes.to(device),
        faces.to(device),
        air.contiguous().to(device),
        T_cl,
        T_cw,
        K,
        instance.repeat_interleave(frames_of, 0).to(device),
    )


def _padded(x: Tensor, slots: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, slots - x.shape[1]))


def _static(scene: Scene, slots: int) -> Tensor:
    """What does not change with the view: half extents, shape, textures, periods, offset, tint: `(13, Q)`."""
    parts = [scene.half.T, scene.shape[None], scene.texture.T, scene.period.T, scene.offset.T, scene.tint.T]
    static = _padded(torch.cat([part.float() for part in parts]), slots)
    static[:3, len(scene.shape) :] = -1.0  # an empty primitive
    static[3, -1], static[4:6, -1] = SKY, scene.textures.index("clouds")
    return static


def _boxes(
    ray: Tensor,
    eye: Tensor,
    half: Tensor,
    shape: Tensor,
    sun: Tensor,
    down: Tensor,
    skin: Tensor,
    lights: Tensor,
) -> tuple[Tensor, Tensor]:
    """`Views.planes` and `Views.faces`; `ray` is `(F, Q, 3, 3)`, `eye`, `half`, `sun`, `down` `(F, Q, 3)`."""
    side = torch.where(eye < 0, -1.0, 1.0)
    front = (eye.abs() > half) & (shape == BOX)[..., None]
    constant = torch.tensor([0.0, 0.0, 1e9], dtype=torch.float64)
    gap = side * half - eye
    entry = torch.where(front[..., None], ray / torch.where(front, gap, 1.0)[..., None], constant)
    back = ray / torch.where(half + eye.abs() == 0, 1.0, -side * half - eye)[..., None]
    # inside a slab both of its planes may be the exit
    fore = torch.where(front[..., None], back, ray / torch.where(gap == 0, 1e-9, gap)[..., None])
    planes = torch.cat([entry, back, fore], 2)

    texture, period, offset, tint = skin[:, :2], skin[:, 2:4], skin[:, 4:6], skin[:, 6:9]
    faces = []
    for axis, s_axis, t_axis in ((0, 2, 1), (1, 0, 2), (2, 0, 1)):
        top = int(axis == 1)
        scale = 1 / period[:, top].clamp(min=1e-3)
        s_shift = eye[..., s_axis] + offset[:, 0]
        t_shift = eye[..., t_axis] + offset[:, 1] - (0.0 if top else half[..., 1])
        s = (ray[..., s_axis, :] + s_shift[..., None] * entry[..., axis, :]) * scale[..., None]
        t = (ray[..., t_axis, :] + t_shift[..., None] * entry[..., axis, :]) * scale[..., None]
        facing = (sun[..., axis] * side[..., axis]).clamp(min=0)
        below = down[..., axis] * side[..., axis]
        bright = lights[:, :1] * facing + lights[:, 1:2] * (0.85 - 0.15 * below)
        lit = tint.transpose(1, 2) * bright[..., None]
        rest = torch.stack([0.4 * (1 - below.abs()), texture[:, top]], -1)
        faces.append(torch.cat([s, t, lit, rest], -1))
    table = torch.stack(faces, 2).float()
    return planes.flatten(0, 1).float().permute(1, 2, 0).contiguous(), table.permute(3, 0, 1, 2).flatten(1).contiguous()
