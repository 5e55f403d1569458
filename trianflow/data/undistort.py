"""Distorted images to those of a pinhole camera."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera

_SHRINK_STEP = (
    1.002  # focal length factor a step, until no pixel looks past the border of the distorted image
)
_MAX_STEPS = 100


class Undistorter:
    """Remaps images of a camera with radial-tangential distortion to a pinhole camera of the same size.

    The view is the largest in which every pixel has a source (OpenCV's alpha = 0). OpenCV finds it from a
    grid of 9 x 9 points, between which a strong distortion still leaves the image; the focal length is then
    raised by 0.2 % steps until nothing does. Each axis has its own scale, so pixels need not stay square
    (EuRoC: fx / fy = 0.85).

    Args:
        camera: with its image size; distortion as in `Camera.distortion`.

    Raises:
        ValueError: the image size is unknown.
        TrianflowError: coefficients that leave no usable picture (a wrong order, or another camera's).

    Example:
        >>> import numpy as np
        >>> undistorter = Undistorter(Camera(300, 300, 159.5, 119.5, 320, 240, (-0.2, 0.05, 0.0, 0.0)))
        >>> undistorter.image(np.zeros((240, 320, 3), np.uint8)).shape
        (240, 320, 3)
        >>> undistorter.camera.distortion
        ()
    """

    camera: Camera

    def __init__(self, camera: Camera) -> None:
        if not camera.width or not camera.height:
            raise ValueError("cannot undistort for a camera whose image size is unknown")
        self._size = (camera.width, camera.height)
        self._maps: tuple[np.ndarray, np.ndarray] | None = None
        if not any(camera.distortion):
            self.camera = replace(camera, distortion=())
            return
        K = camera.K().numpy()
        distortion = np.array(camera.distortion, np.float64)
        new, _ = cv2.getOptimalNewCameraMatrix(K, distortion, self._size, 0.0)
        new = np.ascontiguousarray(new, np.float64)
        usable = np.isfinite(new).all() and all(0.2 < new[i, i] / K[i, i] < 5 for i in range(2))
        for _ in range(_MAX_STEPS if usable else 0):
            x, y = cv2.initUndistortRectifyMap(K, distortion, None, new, self._size, cv2.CV_32FC1)
            if (
                min(x.min(), y.min()) >= -0.5
                and x.max() <= camera.width - 0.5
                and y.max() <= camera.height - 0.5
            ):
                break
            new[0, 0] *= _SHRINK_STEP
            new[1, 1] *= _SHRINK_STEP
        else:
            raise TrianflowError(
                f"the distortion {', '.join(f'{v:g}' for v in camera.distortion)} leaves no usable"
                f" {camera.width}x{camera.height} picture; expected is the order k1 k2 p1 p2 [k3 ...]"
            )
        fx, fy, cx, cy = (float(new[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
        self.camera = Camera(fx, fy, cx, cy, camera.width, camera.height)
        self._maps = cv2.convertMaps(x, y, cv2.CV_16SC2)
        nearest = np.rint(x).astype(np.int32), np.rint(y).astype(np.int32)
        self._nearest = nearest[1].clip(0, camera.height - 1), nearest[0].clip(0, camera.width - 1)

    def image(self, image: np.ndarray) -> np.ndarray:
        """Undistort `(H, W)` or `(H, W, 3)` uint8 or float32, bilinear; itself if nothing is to do."""
        self._check(image)
        if self._maps is None:
            return image
        return cv2.remap(image, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def depth(self, depth: np.ndarray) -> np.ndarray:
        """Undistort `(H, W)` depth with the nearest pixel, so that unknown (0) and known never mix."""
        self._check(depth)
        return depth if self._maps is None else depth[self._nearest]

    def _check(self, image: np.ndarray) -> None:
        if image.shape[1::-1] != self._size:
            size = "{}x{}".format(*self._size)
            raise ValueError(
                f"the camera is for {size} images, this one is {image.shape[1]}x{image.shape[0]}"
            )
