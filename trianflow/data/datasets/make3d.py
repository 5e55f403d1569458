"""Make3D (Saxena et al., PAMI 2009), the test set: 134 single images and the laser depth of each."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from trianflow.data.calibration import guess_camera
from trianflow.data.datasets.interface import DatasetContent, DatasetSequence
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
    require_folder,
)
from trianflow.data.images import natural_key
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera

LASER_SHAPE = (55, 305)  # rows and columns of the laser's grid, which covers the whole image
_IMAGE, _LASER = "img-", "depth_sph_corr-"
_DISTANCE = 3  # of the four layers of the grid
_EXPECTED = "Test134/img-*.jpg and Gridlaserdata/depth_sph_corr-*.mat (1704x2272 images)"
_NAME = "Test134"
_FOREIGN = "no files of Make3D's test set"


def open_make3d(root: Path, *, crop: bool = False) -> DatasetContent:
    """Read the test set of Make3D as one sequence, `Test134`, of single images: no pairs, no poses, times are numbers.

    The dataset has no calibration; the camera is a guess, which the sequence's `notes` say. Depth is the fourth
    layer of the laser's grid, the distance that the published protocol takes for depth.

    Args:
        root: with the unpacked folders of images and laser data, at most two levels above them.
        crop: only the central rows, half as many as columns (1704x852 of 1704x2272), on which the published figures
            are predicted and scored; the camera is that of the window.

    Raises:
        TrianflowError: no such folder, or no images in it.
    """
    require_folder(root, "Make3D's test set")
    folders = find_folders(root, lambda f: any(f.glob(f"{_IMAGE}*.jpg")))
    if not folders:
        return content(root, (), packed(root, levels=2), _EXPECTED)
    problems = []
    if len(folders) > 1:
        problems.append(f"{folders[1]}: left out, {folders[0]} is read; name the folder above the test images alone")
    files = sorted(folders[0].glob(f"{_IMAGE}*.jpg"), key=natural_key)
    laser_folders = find_folders(root, lambda f: any(f.glob(f"{_LASER}*.mat")))
    laser = {p.stem.removeprefix(_LASER): p for f in laser_folders for p in f.glob(f"{_LASER}*.mat")}
    if not laser:
        problems += packed(root, levels=2)
    notes = [line for f in dict.fromkeys([folders[0], *laser_folders]) for line in left_out(f, _strays(f), _FOREIGN)]
    return content(root, [_sequence(folders[0], files, laser, crop)], problems, _EXPECTED, notes)


class Make3DImages(DatasetSequence):
    """Images with the laser's depth."""

    consecutive = False

    frames: WindowedImages

    def __init__(
        self, name: str, frames: WindowedImages, camera: Camera, problems: tuple[str, ...], laser: dict[int, Path]
    ) -> None:
        super().__init__(name, frames, camera, None, problems)
        self.laser_files = laser

    def depth_file(self, index: int) -> Path | None:
        """As of `DatasetSequence`."""
        return self.laser_files.get(index)

    def laser(self, index: int) -> np.ndarray | None:
        """The laser's grid as the published evaluation uses it: `(55, 305)` float32 metres, 0 where unknown, or None.

        Raises:
            TrianflowError: its file cannot be read, or holds no such grid.
        """
        from scipy.io import loadmat

        path = self.depth_file(index)
        if path is None:
            return None
        try:
            grid = np.asarray(loadmat(path)["Position3DGrid"])
        except KeyError:
            raise TrianflowError(f"{path}: it has no Position3DGrid; download it again") from None
        except Exception as error:  # scipy raises a dozen kinds on a damaged file
            raise TrianflowError(
                f"{path}: not a readable MATLAB 5 file ({str(error)[:60]}); download it again"
            ) from None
        if grid.shape != (*LASER_SHAPE, 4):
            raise TrianflowError(f"{path}: a grid of shape {grid.shape}, not (55, 305, 4); take the test set's file")
        depth = grid[..., _DISTANCE].astype(np.float32)
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))

    def depth(self, index: int) -> np.ndarray | None:
        """As of `DatasetSequence`: every pixel has the value of the grid's cell it lies in."""
        grid = self.laser(index)
        if grid is None:
            return None
        return cut(cv2.resize(grid, self.frames.whole, interpolation=cv2.INTER_NEAREST_EXACT), self.frames.window)


def _strays(folder: Path) -> list[str]:
    """Names of files that are neither images nor laser data of the test set."""
    ours = {*folder.glob(f"{_IMAGE}*.jpg"), *folder.glob(f"{_LASER}*.mat")}
    return [p.name for p in folder.iterdir() if p.is_file() and p not in ours]


def _sequence(folder: Path, files: list[Path], laser: dict[str, Path], crop: bool) -> Make3DImages:
    width, height = image_size(files)
    camera, note = guess_camera(width, height, files[0])
    problems = missing_files(files, str(folder))
    keys = [file.stem.removeprefix(_IMAGE) for file in files]
    dark = [file for file, key in zip(files, keys) if key not in laser]
    if dark:
        problems.append(
            f"{dark[0]}: no {_LASER}{dark[0].stem.removeprefix(_IMAGE)}.mat, {len(dark)} of {len(files)} images have no"
            " depth; unpack the laser data of the test set into this folder's parent"
        )
    unseen = sorted(set(laser) - set(keys))
    if unseen:
        problems.append(
            f"{laser[unseen[0]]}: no {_IMAGE}{unseen[0]}.jpg ({len(unseen)} such files); unpack the test images again"
        )
    times = [float(i) for i in range(len(files))]
    window = (0, (height - width // 2) // 2, width, width // 2) if crop else None
    frames = image_files(folder, files, times, "the numbers of the images", _NAME, camera, window)
    camera = camera.cropped(*window) if window else camera
    depth = {i: laser[key] for i, key in enumerate(keys) if key in laser}
    sequence = Make3DImages(_NAME, frames, camera, tuple(problems), depth)
    sequence.notes = (f"{folder}: {note}",)
    return sequence
