"""A whole synthetic clip: frame by frame, pair by pair, or as the frames that odometry tracks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from trianflow.data.frames import Frame
from trianflow.data.synthetic.drive import DriveKind, make_drive
from trianflow.data.synthetic.paths import PathKind, camera_path
from trianflow.data.synthetic.photometry import Photometry
from trianflow.data.synthetic.scene import Scene
from trianflow.data.synthetic.world import (
    RenderedFrames,
    RenderedPair,
    SceneKind,
    make_scene,
    render,
    render_pairs,
)
from trianflow.geometry.camera import Camera, invert_pose


@dataclass(frozen=True)
class SyntheticSequence:
    """A clip, rendered in constant memory as it is iterated.

    Iterating gives N - 1 `RenderedPair`s of batch size one: frame i and frame i + 1.

    Attributes:
        scene: what to see.
        T_wc: `(N, 4, 4)` float64 camera to world.
        fps: frames a second.
        camera: intrinsics and size.
        photometry: what the sensor does to the images; nothing by default.
        seed: of the photometry.
    """

    scene: Scene
    T_wc: Tensor
    fps: float
    camera: Camera
    photometry: Photometry = field(default_factory=Photometry)
    seed: int = 0

    @classmethod
    def make(
        cls,
        kind: SceneKind,
        path: PathKind,
        frames: int,
        camera: Camera,
        fps: float = 10.0,
        seed: int = 0,
        moving_objects: int = 0,
        photometry: Photometry | None = None,
    ) -> SyntheticSequence:
        """A random scene with a random path through it, long enough for the path; all drawn from one seed."""
        length = 40.0 + 20.0 * frames / fps  # of a road
        scene = make_scene(kind, seed, moving_objects, length=length)
        T_wc = camera_path(path, scene, frames, fps, seed)
        return cls(scene, T_wc, fps, camera, photometry or Photometry(), seed)

    @classmethod
    def drive(
        cls,
        kind: DriveKind,
        camera: Camera,
        seed: int = 0,
        frames: int = 2000,
        fps: float = 10.0,
        movers: int = 8,
        photometry: Photometry | None = None,
    ) -> SyntheticSequence:
        """A long drive through a town, at about 7.5 m/s: 9 to 10 m/s on straight streets, 4 to 5 in the turns.

        Half way the car stops at a crossing for three seconds; its poses are the same meanwhile, and a car passes.

        Args:
            kind: `open` never comes near its own way again; `loop` returns to its start and goes on over its first
                60 m, within a lane.
            camera: intrinsics and size; it looks ahead from 1.65 m above the ground.
            seed: of the town, the way, the traffic and the photometry.
            frames: how many; a loop takes some 75 s at least.
            fps: frames a second.
            movers: cars that drive: one ahead for a while, the others come to meet the camera.
            photometry: as in the class.

        Raises:
            ValueError: for an unknown kind, fewer than two frames, or too few for a loop.
        """
        scene, T_wc = make_drive(kind, seed, frames, fps, movers)
        return cls(scene, T_wc, fps, camera, photometry or Photometry(), seed)

    def __len__(self) -> int:
        return len(self.T_wc) - 1

    @property
    def T_0c(self) -> Tensor:
        """The trajectory with the first pose as the world: `(N, 4, 4)` float64."""
        return invert_pose(self.T_wc[0]) @ self.T_wc

    def frames(self) -> Iterator[RenderedFrames]:
        """The N frames one by one, without flow."""
        for i in range(len(self.T_wc)):
            frame = render(
                self.scene, self.T_wc[i : i + 1], torch.tensor([i / self.fps], dtype=torch.float64), self.camera
            )
            yield replace(frame, image=self._film(frame.image, i))

    def stream(self, depth: bool = False) -> Iterator[Frame]:
        """The N frames as odometry takes them, 8-bit.

        Args:
            depth: give them their depth as well, 0 for the sky, as a depth camera would.
        """
        for i, frame in enumerate(self.frames()):
            image = (frame.image[0].permute(1, 2, 0) * 255).round().byte().contiguous().cpu().numpy()
            metres = frame.depth[0, 0].nan_to_num(posinf=0.0).cpu().numpy() if depth else None
            yield Frame(i, i / self.fps, image, f"{self.scene.kind}#{i}", metres)

    def __iter__(self) -> Iterator[RenderedPair]:
        for i in range(len(self)):
            times = torch.tensor([[i, i + 1]], dtype=torch.float64) / self.fps
            size = self.camera.height, self.camera.width
            pair = render_pairs([self.scene], self.T_wc[None, i : i + 2], times, self.camera.K()[None], *size)
            yield replace(pair, image_a=self._film(pair.image_a, i), image_b=self._film(pair.image_b, i + 1))

    def _film(self, image: Tensor, number: int) -> Tensor:
        return self.photometry.film(image, [number], self.fps, self.seed)
