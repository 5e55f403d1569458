"""NYU Depth V2, the raw distribution: a folder a scene with the dumps of a Kinect, neither synchronised nor registered.

Depth is brought onto the colour image here, as the toolbox does it, but the colour image keeps its lens distortion,
which is part of the camera: both are undistorted together later.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from trianflow.data.datasets.interface import DatasetContent, DatasetSequence
from trianflow.data.datasets.nyuv2 import (
    COLOUR,
    CROP_HEIGHT,
    CROP_LEFT,
    CROP_TOP,
    CROP_WIDTH,
    DEPTH,
    LARGEST_DEPTH,
)
from trianflow.data.datasets.scanning import (
    WindowedImages,
    content,
    cut,
    find_folders,
    image_files,
    image_size,
    left_out,
    missing_files,
    packed,
    readable,
    relative_name,
    require_folder,
)
from trianflow.data.decoding import decode_raw, read_bytes
from trianflow.errors import TrianflowError

LARGEST_OFFSET = 0.1  # seconds between a depth image and its colour image; both cameras give 20 to 30 a second
_NAME = re.compile(r"([rd])-(\d+\.\d+)-\d+\.(?:ppm|pgm)")
_KNOWN = re.compile(r"a-.*\.dump|INDEX\.txt|\..*")
_EXPECTED = "a folder a scene with r-*.ppm and d-*.pgm (bedroom_0001/r-1294886362.238178-3118787619.ppm)"
# camera_params.m of the toolbox: metres = 351.3 / (1092.5 - raw); a point X of the depth camera lies at R X - t of the
# colour camera (the toolbox has -R X + t, the same point on the image, seen from behind)
_NUMERATOR, _OFFSET = 351.3, 1092.5
_LEAST = 600  # 0.713 m, the least depth of the labelled set: what is stored below is nearer than the sensor measures
_R = np.array(
    [
        [9.9997798940829263e-01, 5.0518419386157446e-03, 4.3011152014118693e-03],
        [-5.0359919480810989e-03, 9.9998051861143999e-01, -3.6879781309514218e-03],
        [-4.3196624923060242e-03, 3.6662365748484798e-03, 9.9998394948385538e-01],
    ]
).T
_t = np.array([2.5031875059141302e-02, -2.9342312935846411e-04, 6.6238747008330102e-04])
_WINDOW = CROP_LEFT, CROP_TOP, CROP_WIDTH, CROP_HEIGHT


def open_nyuv2_raw(root: Path, *, crop: bool = False) -> DatasetContent:
    """Read scenes of the raw distribution of NYUv2.

    As in the toolbox every depth image goes with the colour image nearest in time; a colour image that is the nearest
    to several is one frame, with the closest of them, and one without depth is none. Depth images with no colour image
    within 0.1 s are left out, which the sequence's `notes` say. Depth is metres along z of the colour camera,
    projected onto the pixels of the colour image with the nearest surface kept; beyond 10 m it is unknown. There are no
    poses. `splits.nyuv2_raw_train` tells which scenes are for training.

    Args:
        root: one scene, or a folder of scenes, at most two levels above them.
        crop: only rows 45 to 471 and columns 41 to 601 (from 1), where the toolbox has depth everywhere, 561 x 427
            pixels; the camera is that of the window.

    Raises:
        TrianflowError: no such folder, or not one usable scene in it.
    """
    require_folder(root, "the scenes of NYUv2's raw distribution")
    problems = packed(root, levels=2, prefix=lambda stem: re.sub(r"s?(_part\d+[a-z]?)?$", "", stem))
    sequences = []
    for folder in find_folders(root, _is_scene):
        try:
            sequences.append(_scene(folder, relative_name(folder, root), crop))
        except TrianflowError as error:
            problems.append(str(error))
    return content(root, sequences, problems, _EXPECTED)


def raw_depth(values: np.ndarray) -> np.ndarray:
    """Raw Kinect values to metres along z of the depth camera.

    Args:
        values: `(H, W)` uint16 as the PGM has them: 11 bits, bytes swapped against the standard.

    Returns:
        `(H, W)` float64 metres from 0.713 to 10; 0 where unknown: stored as 2047, below 600 or beyond 10 m.
    """
    raw = values.byteswap().astype(np.float64)
    depth = _NUMERATOR / np.where((raw >= _LEAST) & (raw < _OFFSET), _OFFSET - raw, np.inf)
    return np.where(depth <= LARGEST_DEPTH, depth, 0.0)


def register_depth(depth: np.ndarray) -> np.ndarray:
    """Bring the depth camera's image onto the pixels of the colour camera, both with their distortion.

    Args:
        depth: `(480, 640)` metres along z of the depth camera, 0 where unknown.

    Returns:
        `(480, 640)` float32 metres along z of the colour camera; 0 where no point falls on a pixel. Of several the
        nearest stays.
    """
    known = depth > 0
    if not known.any():
        return np.zeros((COLOUR.height, COLOUR.width), np.float32)
    X = _depth_rays()[known] * depth[known][:, None] @ _R.T - _t
    pixels, _ = cv2.projectPoints(X, np.zeros(3), np.zeros(3), COLOUR.K().numpy(), np.array(COLOUR.distortion))
    x, y = np.rint(pixels[:, 0]).astype(int).T
    inside = (x >= 0) & (x < COLOUR.width) & (y >= 0) & (y < COLOUR.height)
    x, y, z = x[inside], y[inside], X[inside, 2]
    order = np.argsort(-z, kind="stable")  # the nearest is written last
    registered = np.zeros((COLOUR.height, COLOUR.width), np.float32)
    registered[y[order], x[order]] = z[order]
    return registered


class RawScene(DatasetSequence):
    """A scene with the depth image of every frame."""

    frames: WindowedImages

    def __init__(self, name: str, frames: WindowedImages, depth_files: list[Path], problems: tuple[str, ...]) -> None:
        camera = COLOUR.cropped(*frames.window) if frames.window else COLOUR
        super().__init__(name, frames, camera, None, problems)
        self.depth_files = depth_files

    def depth_file(self, index: int) -> Path:
        """As of `DatasetSequence`."""
        return self.depth_files[index]

    def depth(self, index: int) -> np.ndarray | None:
        """As of `DatasetSequence`."""
        path = self.depth_file(index)
        with readable(path):
            values = decode_raw(read_bytes(path))
        if values.shape != (DEPTH.height, DEPTH.width) or values.dtype != np.uint16:
            size = "x".join(map(str, values.shape[1::-1]))
            raise TrianflowError(
                f"{path}: {size} pixels of {values.dtype}, not 640x480 of 16 bits; take the file as downloaded"
            )
        return cut(register_depth(raw_depth(values)), self.frames.window)


def _is_scene(folder: Path) -> bool:
    return any(_NAME.fullmatch(p.name) for p in folder.iterdir())


def _scene(folder: Path, name: str, crop: bool) -> RawScene:
    dumps: dict[str, list[tuple[float, Path]]] = {"r": [], "d": []}
    strays = []
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match:
            dumps[match[1]].append((float(match[2]), path))
        elif not _KNOWN.fullmatch(path.name):
            strays.append(path.name)
    colour, depth = sorted(dumps["r"]), sorted(dumps["d"])
    if not colour or not depth:
        what = "colour images (r-*.ppm)" if not colour else "depth images (d-*.pgm)"
        raise TrianflowError(f"{folder}: no {what}; unpack the scene again")
    problems = [*missing_files([path for _, path in colour + depth], str(folder)), *_gone(folder / "INDEX.txt")]
    notes = left_out(folder, strays, "no files of this dataset")
    pairs, apart = _synchronised(np.array([t for t, _ in colour]), np.array([t for t, _ in depth]))
    if apart:
        notes.append(
            f"{depth[apart[0]][1]}: no colour image within {LARGEST_OFFSET:g} s, left out ({len(apart)} of {len(depth)}"
            " depth images); unpack the scene again if this is most of them"
        )
    if not pairs:
        raise TrianflowError(f"{folder}: no colour and depth image belong together in time; unpack the scene again")
    files = [colour[r][1] for r in pairs]
    size = image_size(files)
    if size != (COLOUR.width, COLOUR.height):
        raise TrianflowError(f"{files[0]}: {size[0]}x{size[1]}, not 640x480; take the scene as downloaded")
    times = [colour[r][0] for r in pairs]
    window = _WINDOW if crop else None
    frames = image_files(folder, files, times, "the names of the files", name, COLOUR, window)
    scene = RawScene(name, frames, [depth[d][1] for d in pairs.values()], tuple(problems))
    scene.notes = tuple(notes)
    return scene


def _gone(index: Path) -> list[str]:
    """A line on images that the list of a scene names and that are not there, or nothing."""
    listed = index.read_text(encoding="utf-8", errors="replace").split() if index.is_file() else []
    gone = [name for name in listed if _NAME.fullmatch(name) and not (index.parent / name).exists()]
    if not gone:
        return []
    first = index.parent / gone[0]
    return [f"{first}: listed in {index.name}, but not there ({len(gone)} such images); unpack the scene again"]


def _synchronised(colour: np.ndarray, depth: np.ndarray) -> tuple[dict[int, int], list[int]]:
    """The depth image of each colour image that is the nearest to one, and the depth images far from any."""
    after = np.searchsorted(colour, depth).clip(1, max(len(colour) - 1, 1))
    after = after.clip(0, len(colour) - 1)
    before = (after - 1).clip(0)
    nearest = np.where(depth - colour[before] <= colour[after] - depth, before, after)
    offset = np.abs(colour[nearest] - depth)
    pairs: dict[int, int] = {}
    for d in np.flatnonzero(offset <= LARGEST_OFFSET).tolist():
        r = int(nearest[d])
        if r not in pairs or offset[d] < offset[pairs[r]]:
            pairs[r] = d
    return dict(sorted(pairs.items())), np.flatnonzero(offset > LARGEST_OFFSET).tolist()


@lru_cache(maxsize=1)
def _depth_rays() -> np.ndarray:
    """`(480, 640, 3)` points at z = 1 that the pixels of the depth camera see, without its distortion."""
    rows, columns = np.indices((DEPTH.height, DEPTH.width), dtype=np.float64)
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-10)
    plane = cv2.undistortPoints(pixels, DEPTH.K().numpy(), np.array(DEPTH.distortion), criteria=criteria)
    return np.concatenate([plane[:, 0], np.ones((len(plane), 1))], axis=1).reshape(DEPTH.height, DEPTH.width, 3)
