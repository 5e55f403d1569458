"""Sequences whose depth lies in one file a frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trianflow.data.datasets.interface import DatasetSequence
from trianflow.data.datasets.scanning import readable
from trianflow.data.depth import read_depth
from trianflow.data.frames import FrameSource
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera
from trianflow.trajectory import Trajectory


class DepthFiles(DatasetSequence):
    """A sequence with depth images of the size of its frames, pixel on pixel.

    Args:
        name, frames, camera, poses, problems: as of `DatasetSequence`.
        depth_files: by frame; a frame that is not in it has no depth.
        depth_scale: stored units per metre; None for files that hold metres.
    """

    def __init__(
        self,
        name: str,
        frames: FrameSource,
        camera: Camera,
        poses: Trajectory | None,
        problems: tuple[str, ...],
        depth_files: Mapping[int, Path],
        depth_scale: float | None,
    ) -> None:
        super().__init__(name, frames, camera, poses, problems)
        self.depth_files, self.depth_scale = dict(depth_files), depth_scale
        self.depth_settings = () if depth_scale is None else (depth_scale,)

    def depth_file(self, index: int) -> Path | None:
        """As of `DatasetSequence`."""
        return self.depth_files.get(index)

    def depth(self, index: int) -> np.ndarray | None:
        """As of `DatasetSequence`."""
        path = self.depth_file(index)
        if path is None:
            return None
        with readable(path):
            depth = read_depth(path, self.depth_scale)
        if depth.shape != (self.camera.height, self.camera.width):
            size = f"{depth.shape[1]}x{depth.shape[0]}"
            wanted = f"{self.camera.width}x{self.camera.height}"
            raise TrianflowError(f"{path}: {size}, but the images are {wanted}; take the file as downloaded")
        return depth
