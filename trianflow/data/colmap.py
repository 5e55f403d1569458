"""A reconstruction as COLMAP's text files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from trianflow.errors import TrianflowError
from trianflow.files import replacing
from trianflow.geometry.camera import Camera

CAMERAS, IMAGES, POINTS = "cameras.txt", "images.txt", "points3D.txt"
# How our images.txt begins; COLMAP's own has other comments.
IMAGES_HEADER = (
    "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME (world to camera)",
    "# POINTS2D[] as (X, Y, POINT3D_ID)",
)
_SHIFT = 0.5  # COLMAP calls the centre of the top-left pixel (0.5, 0.5), we call it (0, 0)


@dataclass(frozen=True)
class Reconstruction:
    """Images of one camera and the points that they have seen.

    Attributes:
        camera: of all images, without distortion, its size known.
        names: of the N images.
        T_wc: `(N, 4, 4)` camera to world.
        X: `(M, 3)` points in the world.
        color: `(M, 3)` uint8 RGB.
        error: `(M,)` mean reprojection error, pixels.
        image, point: `(O,)` int numbers, from 0, of the image and the point of each observation.
        p: `(O, 2)` its pixel; the centre of the top-left one is (0, 0).
    """

    camera: Camera
    names: list[str]
    T_wc: np.ndarray
    X: np.ndarray
    color: np.ndarray
    error: np.ndarray
    image: np.ndarray
    point: np.ndarray
    p: np.ndarray


def write_colmap(folder: Path, model: Reconstruction) -> list[str]:
    """Write `cameras.txt`, `images.txt` and `points3D.txt`: world to camera, qw first, numbers from 1.

    Returns:
        The names of the files.

    Raises:
        TrianflowError: a file cannot be written.
    """
    order = np.lexsort([model.point, model.image])  # an image's observations have numbers in this order
    image, point, p = model.image[order], model.point[order], model.p[order]
    begin = np.searchsorted(image, np.arange(len(model.names) + 1))
    texts = {
        CAMERAS: _camera(model.camera),
        IMAGES: _images(model, begin, point, p),
        POINTS: _points(model, image, point),
    }
    for name, lines in texts.items():
        try:
            with replacing(folder / name) as beside, open(beside, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
        except OSError as e:
            raise TrianflowError(f"{folder / name}: cannot write the reconstruction: {e.strerror}") from e
    return list(texts)


def _camera(camera: Camera) -> Iterator[str]:
    yield "# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n"
    values = (camera.fx, camera.fy, camera.cx + _SHIFT, camera.cy + _SHIFT)
    yield f"1 PINHOLE {camera.width} {camera.height} {_numbers(values)}\n"


def _images(model: Reconstruction, begin: np.ndarray, point: np.ndarray, p: np.ndarray) -> Iterator[str]:
    yield from (f"{line}\n" for line in IMAGES_HEADER)
    T_cw = np.linalg.inv(model.T_wc)
    q = Rotation.from_matrix(T_cw[:, :3, :3]).as_quat(canonical=True)[:, [3, 0, 1, 2]]
    for i, name in enumerate(model.names):
        yield f"{i + 1} {_numbers([*q[i], *T_cw[i, :3, 3]])} 1 {name}\n"
        seen = slice(begin[i], begin[i + 1])
        yield " ".join(f"{x:.3f} {y:.3f} {n + 1}" for (x, y), n in zip(p[seen] + _SHIFT, point[seen])) + "\n"


def _points(model: Reconstruction, image: np.ndarray, point: np.ndarray) -> Iterator[str]:
    yield "# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n"
    number = np.arange(len(image)) - np.searchsorted(image, image)  # of an observation in its image
    order = np.argsort(point, kind="stable")
    begin = np.searchsorted(point[order], np.arange(len(model.X) + 1))
    for i, (X, color, error) in enumerate(zip(model.X.tolist(), model.color.tolist(), model.error.tolist())):
        track = order[begin[i] : begin[i + 1]]
        seen = " ".join(f"{a + 1} {b}" for a, b in zip(image[track], number[track]))
        yield f"{i + 1} {_numbers(X)} {color[0]} {color[1]} {color[2]} {error:.4f} {seen}\n"


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{float(v) + 0.0:.12g}" for v in values)
