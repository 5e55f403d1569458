"""A plain folder of scenes: `scene/cam.txt` and images, where there are any with poses and depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trianflow.data.calibrated import CALIBRATION_NAMES, camera_name
from trianflow.data.calibration import read_calibration, read_depth_scale
from trianflow.data.datasets.interface import DatasetContent, DatasetSequence
from trianflow.data.datasets.rgbd import DepthFiles
from trianflow.data.datasets.scanning import (
    content,
    find_folders,
    fitted,
    left_out,
    missing_files,
    packed,
    relative_name,
    require_folder,
    sub_folders,
)
from trianflow.data.datasets.timed import poses_of_images
from trianflow.data.depth import DepthFolder
from trianflow.data.images import ImageFolder, find_images
from trianflow.errors import TrianflowError
from trianflow.trajectory import Trajectory

_IMAGE_FOLDERS = ("images", "image", "rgb", "color", "image_2", "image_0", "frames", "left")
_DEPTH = "depth"
_POSES = ("poses.txt", "poses.tum", "groundtruth.txt")
_OWN_FILES = frozenset(
    {*CALIBRATION_NAMES, *_POSES, "times.txt", "timestamps.txt", "rgb.txt", "SOURCE.md", "README.md"}
)
_EXPECTED = "a folder a scene with cam.txt (3x3 matrix) and images, and if there are any poses.txt and depth/"


def open_scenes_folder(root: Path, *, depth_scale: float | None = None) -> DatasetContent:
    """Read a folder of scenes, as the SfMLearner family keeps its data.

    A scene is a folder with images, in itself or in its `images`, `rgb` or `color`, in natural order. Its camera is
    read from `cam.txt` (three rows) or any other calibration file, in the scene, beside the images, or for all scenes
    in the root. Poses: `poses.txt`, rows of KITTI for every image, or TUM rows with times (also `poses.tum` and
    `groundtruth.txt`), which are interpolated at the images' times. Depth: files in `depth`, matched as
    `data.depth.DepthFolder` does. What `trianflow prepare` writes is such a folder.

    Args:
        root: one scene, or a folder of scenes, at most three levels above them.
        depth_scale: stored units per metre of integer depth files; None takes `depth_scale` of the calibration file.

    Raises:
        TrianflowError: no such folder, or not one usable scene in it.
    """
    require_folder(root, "the scenes")
    problems = packed(root, levels=2)
    sequences = []
    for folder in find_folders(root, _is_scene, levels=3):
        try:
            sequences.append(_scene(folder, root, depth_scale))
        except TrianflowError as error:
            problems.append(str(error))
    return content(root, sequences, problems, _EXPECTED)


def _is_scene(folder: Path) -> bool:
    if folder.name == _DEPTH:
        return False
    below = [sub for sub in sub_folders(folder) if sub.name != _DEPTH]
    has_scenes = any(_has_images(sub) for sub in below if sub.name not in _IMAGE_FOLDERS)
    return _has_images(folder) or (_calibration_in(folder) is not None and not has_scenes)


def _has_images(folder: Path) -> bool:
    places = [folder, *(folder / name for name in _IMAGE_FOLDERS)]
    return any(find_images(p for p in place.iterdir() if p.is_file())[0] for place in places if place.is_dir())


def _calibration_in(folder: Path) -> Path | None:
    names = ("cam.txt", *CALIBRATION_NAMES)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _scene(folder: Path, root: Path, depth_scale: float | None) -> DatasetSequence:
    name = relative_name(folder, root)
    frames = ImageFolder.from_folder(folder, start=0, end=None, stride=1, fps=None)
    path = next((p for p in map(_calibration_in, (folder, frames.path, root)) if p is not None), None)
    if path is None:
        raise TrianflowError(
            f"{folder}: no cam.txt; write the camera matrix of its images into it, three rows of three"
        )
    camera, notes = fitted(read_calibration(path, camera_name(frames)), frames.files, path)
    timeless = [line for line in frames.notes if ": took the images in its folder" not in line]
    problems = [f"{line}; write one time in seconds for every image into it, rising" for line in timeless]
    problems += missing_files(frames.files, str(frames.path))
    notes += left_out(frames.path, set(frames.stray) - _OWN_FILES, "no images")
    poses = _poses(folder, frames, problems, notes)
    depth_files, scale = _depth(folder, frames, path, depth_scale, problems)
    sequence = DepthFiles(name, frames, camera, poses, tuple(problems), depth_files, scale)
    sequence.notes = tuple(notes)
    return sequence


def _poses(folder: Path, frames: ImageFolder, problems: list[str], notes: list[str]) -> Trajectory | None:
    path = next((folder / name for name in _POSES if (folder / name).is_file()), None)
    if path is None:
        return None
    count, times = len(frames), np.array(frames.times)
    try:
        poses = Trajectory.load(path)
    except TrianflowError as error:
        problems.append(f"{error}; the scene is used without poses")
        return None
    if not poses.times_are_indices:
        return poses_of_images(poses, times, path, problems, notes)
    numbers = poses.times.astype(int)
    if len(poses) != count:
        problems.append(
            f"{path}: {len(poses)} poses for {count} images; write one row for every image; the scene is used without"
            " poses"
        )
        return None
    keep = numbers < count
    return Trajectory(times[numbers[keep]], poses.T_wc[keep])


def _depth(
    folder: Path, frames: ImageFolder, calibration: Path, scale: float | None, problems: list[str]
) -> tuple[dict[int, Path], float | None]:
    """Depth files by frame, and stored units per metre."""
    if not (folder / _DEPTH).is_dir():
        return {}, None
    try:
        scale = scale if scale is not None else read_depth_scale(calibration)
        matched = DepthFolder(folder / _DEPTH, frames, scale)
    except TrianflowError as error:
        problems.append(f"{error}; the scene is used without depth")
        return {}, None
    problems += [f"{line}; put the missing files there, named as the images" for line in matched.notes]
    return matched._files, scale
