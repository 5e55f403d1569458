"""Recorded frames to the pictures that pairs are made of: RGB, without distortion, of the right size."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from trianflow.data.undistort import Undistorter
from trianflow.geometry.camera import Camera


class Preparation:
    """Undistorts and resizes frames, and keeps the camera in step.

    Args:
        camera: of the frames, with their size and distortion.
        size: width and height of the pairs, pixels.
        fit: `stretch` gives that size; `crop` the smallest of the frame's aspect ratio that covers it.

    Attributes:
        source_camera: of the frames.
        camera: of the pictures, without distortion; has their width and height.

    Raises:
        TrianflowError: a distortion that leaves no usable picture.
    """

    source_camera: Camera
    camera: Camera

    def __init__(self, camera: Camera, size: tuple[int, int], fit: Literal["stretch", "crop"]) -> None:
        self.source_camera = camera
        self._undistorter = Undistorter(camera)
        width, height = size
        if fit == "crop":
            scale = max(width / camera.width, height / camera.height)
            width = max(width, round(camera.width * scale))
            height = max(height, round(camera.height * scale))
        self.camera = self._undistorter.camera.resized(width, height)

    def image(self, image: np.ndarray) -> np.ndarray:
        """A frame, `(H, W)` grey or `(H, W, 3)` RGB uint8, as a picture `(h, w, 3)` uint8."""
        image = self._undistorter.image(image)
        height, width = image.shape[:2]
        # area averages are for shrinking only, and each axis may go its own way
        small = (min(width, self.camera.width), min(height, self.camera.height))
        if small != (width, height):
            image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        full = (self.camera.width, self.camera.height)
        if small != full:
            image = cv2.resize(image, full, interpolation=cv2.INTER_LINEAR)
        if image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        return np.ascontiguousarray(image)

    def depth(self, depth: np.ndarray) -> np.ndarray:
        """Depth `(H, W)` float32 metres, 0 unknown, by the nearest pixel: `(h, w)`, NaN where unknown."""
        depth = self._undistorter.depth(depth)
        rows, columns = (
            ((np.arange(new) + 0.5) * (old / new)).astype(np.int64)
            for new, old in zip((self.camera.height, self.camera.width), depth.shape)
        )
        depth = depth[rows[:, None], columns]
        return np.where(depth > 0, depth, np.float32(np.nan))
