"""The pinhole camera, and the pixel maths that depends on nothing but its intrinsics."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with its image size: what has to change when the image is resized, cropped or flipped.

    Pixel (0, 0) is the centre of the top-left pixel; axes are x right, y down, z forward (OpenCV).

    Attributes:
        fx, fy: focal lengths in pixels, positive.
        cx, cy: principal point in pixels.
        width, height: image size in pixels, or 0 where a calibration file does not say.
        distortion: OpenCV radial-tangential coefficients (k1, k2, p1, p2[, k3[, ...]]); empty for a rectified image.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int = 0
    height: int = 0
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not all(math.isfinite(v) for v in values) or self.fx <= 0 or self.fy <= 0:
            raise ValueError(
                f"not a camera: fx={self.fx:g} fy={self.fy:g} cx={self.cx:g} cy={self.cy:g}"
                " (focal lengths must be positive, every number finite)"
            )
        if self.width < 0 or self.height < 0:
            raise ValueError(f"not an image size: {self.width}x{self.height}")

    @classmethod
    def from_file(cls, path: str | Path, name: str | None = None) -> Camera:
        """Read a calibration file of any supported format; see `trianflow.data.calibration.read_calibration`."""
        from trianflow.data.calibration import read_calibration

        return read_calibration(path, name)

    @classmethod
    def from_fov(cls, width: int, height: int, horizontal_fov: float) -> Camera:
        """A camera with square pixels, centred principal point and a horizontal field of view in degrees (0, 180)."""
        if not 0 < horizontal_fov < 180:
            raise ValueError(f"a field of view lies between 0 and 180 degrees, not {horizontal_fov:g}")
        f = width / (2 * math.tan(math.radians(horizontal_fov) / 2))
        return cls(f, f, (width - 1) / 2, (height - 1) / 2, width, height)

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the same view resampled to `width` x `height`: u' = (u + 0.5) s - 0.5 on each axis."""
        if not self.width or not self.height:
            raise ValueError("cannot resize a camera whose image size is unknown")
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
            width=width,
            height=height,
        )

    def cropped(self, left: int, top: int, width: int, height: int) -> Camera:
        """The camera of the `width` x `height` window whose top-left pixel is (`left`, `top`)."""
        return replace(self, cx=self.cx - left, cy=self.cy - top, width=width, height=height)

    def flipped(self) -> Camera:
        """The camera of the image mirrored left to right."""
        return replace(self, cx=self.width - 1 - self.cx)

    def K(self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        """The intrinsic matrix, `(3, 3)`."""
        rows = [[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]]
        return torch.tensor(rows, dtype=dtype, device=device)


def homogeneous(points: Tensor) -> Tensor:
    """Append a coordinate of one: `(..., D)` to `(..., D + 1)`."""
    return torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)


def pixel_grid(
    height: int,
    width: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    stride: int = 1,
) -> Tensor:
    """Coordinates of the pixel centres of every stride-th row and column, x first: `(2, ceil(H / s), ceil(W / s))`."""
    y = torch.arange(0, height, stride, dtype=dtype, device=device)
    x = torch.arange(0, width, stride, dtype=dtype, device=device)
    gy, gx = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([gx, gy])


def normalize_pixels(points: Tensor, K: Tensor) -> Tensor:
    """Pixels to normalised image coordinates (the ray's x/z and y/z; skew is zero).

    Args:
        points: `(..., N, 2)` pixels.
        K: `(..., 3, 3)` intrinsics, or `(3, 3)` for all.

    Returns:
        `(..., N, 2)`, unit-free.
    """
    focal = torch.stack([K[..., 0, 0], K[..., 1, 1]], dim=-1)[..., None, :]
    return (points - K[..., None, :2, 2]) / focal


def pixel_rays(points: Tensor, K: Tensor) -> Tensor:
    """Unit rays through pixels in the camera frame: `(..., N, 2)` pixels to `(..., N, 3)`."""
    return torch.nn.functional.normalize(homogeneous(normalize_pixels(points, K)), dim=-1)


def backproject(points: Tensor, depth: Tensor, K: Tensor) -> Tensor:
    """Pixels `(..., N, 2)` with depth along z `(..., N)` to points in the camera frame `(..., N, 3)`."""
    return homogeneous(normalize_pixels(points, K)) * depth[..., None]


def project(X: Tensor, K: Tensor, eps: float = 1e-6) -> Tensor:
    """Points in the camera frame `(..., N, 3)` to pixels `(..., N, 2)`.

    The depth is kept at least `eps` away from zero, so a point in the camera plane gives a far, finite pixel;
    whether a point lies in front is for the caller to ask of `X[..., 2]`.
    """
    z = X[..., 2:]
    z = torch.where(z.abs() < eps, torch.where(z < 0, -eps, eps).to(z), z)
    focal = torch.stack([K[..., 0, 0], K[..., 1, 1]], dim=-1)[..., None, :]
    return X[..., :2] / z * focal + K[..., None, :2, 2]


def transform(T_ba: Tensor, X_a: Tensor) -> Tensor:
    """Points `(..., N, 3)` from frame a to frame b by the rigid transform `T_ba`, `(..., 4, 4)` or `(..., 3, 4)`."""
    return X_a @ T_ba[..., :3, :3].transpose(-1, -2) + T_ba[..., None, :3, 3]


def pose_matrix(R: Tensor, t: Tensor) -> Tensor:
    """Rotation `(..., 3, 3)` and translation `(..., 3)` to a `(..., 4, 4)` rigid transform."""
    T = torch.zeros(*R.shape[:-2], 4, 4, dtype=R.dtype, device=R.device)
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = R, t, 1.0
    return T


def invert_pose(T_ba: Tensor) -> Tensor:
    """The inverse `T_ab` of a rigid transform `(..., 4, 4)`."""
    R = T_ba[..., :3, :3].transpose(-1, -2)
    return pose_matrix(R, -(R @ T_ba[..., :3, 3:])[..., 0])
