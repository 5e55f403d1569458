"""A corridor whose depth is known from everywhere, and its exact flow: what is tested is the odometry."""

from dataclasses import replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from trianflow.config import MatchConfig, OdometryConfig
from trianflow.data.frames import Frame
from trianflow.flow.interface import FlowPair
from trianflow.geometry.camera import Camera, homogeneous, normalize_pixels, pixel_grid
from trianflow.geometry.radial import straighten

CAMERA = Camera(160.0, 160.0, 119.5, 59.5, 240, 120)
GRID = normalize_pixels(pixel_grid(CAMERA.height, CAMERA.width, torch.float64).permute(1, 2, 0), CAMERA.K())
CONFIG = OdometryConfig(matches=MatchConfig(count=2000, stride=2, cell=16), points=800)


class Corridor:
    """A long box-shaped corridor with pillars, whose depth is known from everywhere; and its exact flow.

    An image's first pixels spell its frame number, which is all that `encode` reads. The images may have a radial
    distortion that the camera does not know of.
    """

    def __init__(self, T_wc, radial=0.0, bays=1.3):
        self.T_wc, self.radial, self.bays = np.asarray(T_wc), radial, bays

    def depth(self, i):
        T = self.T_wc[i]
        x = straighten(GRID, self.radial).numpy()
        rays = np.concatenate([x, np.ones_like(x[..., :1])], -1)
        direction, origin = rays @ T[:3, :3].T, T[:3, 3]
        depth = np.full(rays.shape[:2], 400.0)
        for axis, low, high in ((0, -6.0, 7.0), (1, -5.0, 1.6)):
            step = direction[..., axis]
            with np.errstate(divide="ignore"):
                hit = np.where(step > 0, (high - origin[axis]) / step, (low - origin[axis]) / step)
            depth = np.minimum(depth, np.where(hit > 0, hit, np.inf))
        # Walls that stand back in bays of ten metres give the corridor relief along its length.
        along = origin[2] + direction[..., 2] * depth
        depth = np.where(np.floor(along / 10) % 2 == 1, depth * self.bays, depth)
        return np.minimum(depth, 400.0).astype(np.float32)

    def frame(self, i, with_depth=False, time=None):
        image = np.zeros((CAMERA.height, CAMERA.width), np.uint8)
        image[0, 0], image[0, 1] = i // 250, i % 250
        return Frame(i, 0.1 * i if time is None else time, image, depth=self.depth(i) if with_depth else None)

    def frames(self, with_depth=False):
        return [self.frame(i, with_depth) for i in range(len(self.T_wc))]

    def encode(self, image):
        return int(image[0, 0]) * 250 + int(image[0, 1])

    def flow(self, a, b):
        return FlowPair(self._towards(a, b), self._towards(b, a))

    def _towards(self, a, b):
        T_ba = torch.from_numpy(np.linalg.inv(self.T_wc[b]) @ self.T_wc[a])
        X = homogeneous(straighten(GRID, self.radial)) * torch.from_numpy(self.depth(a))[..., None].double()
        X = X @ T_ba[:3, :3].mT + T_ba[:3, 3]
        moved = bent(X[..., :2] / X[..., 2:].clamp_min(1e-6), self.radial) - GRID
        return (moved * CAMERA.K().diagonal()[:2]).permute(2, 0, 1)[None].float()


class Painted(Corridor):
    """Walls that can be told from each other, so that matches can be refined; the flow is a little wrong, both ways."""

    def __init__(self, T_wc, wrong=0.2, **kwargs):
        super().__init__(T_wc, **kwargs)
        self.wrong = wrong

    def frame(self, i, with_depth=False, time=None):
        rng, depth, T = np.random.default_rng(0), self.depth(i).astype(np.float64), self.T_wc[i]
        rays = homogeneous(straighten(GRID, self.radial)).numpy() @ T[:3, :3].T
        X, grey = T[:3, 3] + rays * depth[..., None], np.full(depth.shape, 128.0)
        for length in np.geomspace(0.05, 2, 60):
            wave = rng.normal(size=3)
            wave *= 2 * np.pi / length / np.linalg.norm(wave)
            seen = np.exp(-0.5 * np.square(6 * depth / CAMERA.fx / length))  # too fine for a pixel
            grey += 12 * seen * np.sin(X @ wave + rng.uniform(0, 2 * np.pi))
        frame = super().frame(i, with_depth, time)
        image = grey.clip(0, 255).round().astype(np.uint8)
        image[0, :2] = frame.image[0, :2]
        return replace(frame, image=image)

    def flow(self, a, b):
        flow = super().flow(a, b)
        generator = torch.Generator().manual_seed(a * 1000 + b)
        coarse = self.wrong * torch.randn(1, 2, CAMERA.height // 16, CAMERA.width // 16, generator=generator)
        error = torch.nn.functional.interpolate(coarse, (CAMERA.height, CAMERA.width), mode="bicubic")
        return FlowPair(flow.flow_ab + error, flow.flow_ba - error)


class Blind(Corridor):
    """The flow of some frames is noise."""

    def __init__(self, T_wc, blind, **kwargs):
        super().__init__(T_wc, **kwargs)
        self.blind = blind

    def flow(self, a, b):
        if not self.blind & {a, b}:
            return super().flow(a, b)
        generator = torch.Generator().manual_seed(a * 1000 + b)
        noise = 40 * torch.rand(2, 2, CAMERA.height, CAMERA.width, generator=generator) - 20
        return FlowPair(noise[:1], noise[1:])


def bent(x, radial):
    """The coordinates that `straighten` takes to x."""
    y = x.clone()
    for _ in range(50 if radial else 0):
        y = x / (1 + radial * y.square().sum(-1, keepdim=True))
    return y


def drive(frames, speed=0.5, turn=0.4):
    poses, T = [], np.eye(4)
    for i in range(frames):
        poses.append(T.copy())
        step = np.eye(4)
        step[:3, :3] = Rotation.from_euler("y", turn * np.sin(i / 8), degrees=True).as_matrix()
        step[:3, 3] = [0.01, 0.0, speed * (1 + 0.3 * np.sin(i / 5))]
        T = T @ step
    return np.stack(poses)


def lengths(T_wc):
    """Of every step."""
    return np.linalg.norm(np.diff(T_wc[:, :3, 3], axis=0), axis=1)


def log_scales(world, odometry):
    """Logarithm of every step's length over the truth."""
    return np.log(lengths(odometry.trajectory.T_wc) / lengths(world.T_wc))
