"""7-Scenes (Shotton et al., CVPR 2013): `chess/seq-01/frame-000000.color.png`, `.depth.png`, `.pose.txt`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trianflow.data.datasets.interface import DatasetContent, DatasetSequence
from trianflow.data.datasets.rgbd import DepthFiles
from trianflow.data.datasets.scanning import (
    content,
    find_folders,
    fitted,
    image_files,
    left_out,
    missing_files,
    packed,
    relative_name,
    require_folder,
)
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera
from trianflow.trajectory import Trajectory

_CAMERA = Camera(585.0, 585.0, 320.0, 240.0, 640, 480)  # nominal, given by the authors for colour and depth
_UNITS_PER_METRE = 1000.0
_FPS = 30.0
_NAME = re.compile(r"frame-(\d{6})\.(color|depth|pose)\.(png|jpg|txt)")
_ROTATION_TOLERANCE = 1e-2  # max |R'R - I| of a pose; the files have 8 digits
_EXPECTED = "scenes with sequences, as chess/seq-01/frame-000000.color.png, .depth.png and .pose.txt"


def open_seven_scenes(root: Path) -> DatasetContent:
    """Read sequences of 7-Scenes.

    Numbers that are missing between the first and the last frame stay frames without a picture. Times are numbers / 30
    s, the rate of the Kinect. Depth is that of the depth camera, which the dataset does not register onto the colour
    image: they are off by some pixels. Poses are those of the dataset (KinectFusion), turned into proper rotations.

    Args:
        root: all scenes, one scene, or one sequence.

    Raises:
        TrianflowError: no such folder, or not one usable sequence in it.
    """
    require_folder(root, "the scenes of 7-Scenes")
    problems = packed(root, levels=3)
    sequences = []
    for folder in find_folders(root, _is_sequence, levels=3):
        try:
            sequences.append(_sequence(folder, relative_name(folder, root)))
        except TrianflowError as error:
            problems.append(str(error))
    return content(root, sequences, problems, _EXPECTED)


def _is_sequence(folder: Path) -> bool:
    return any(_NAME.fullmatch(p.name) for p in folder.iterdir())


def _sequence(folder: Path, name: str) -> DatasetSequence:
    found: dict[str, dict[int, Path]] = {"color": {}, "depth": {}, "pose": {}}
    strays = []
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match:
            found[match[2]][int(match[1])] = path
        else:
            strays.append(path.name)
    if not found["color"]:
        raise TrianflowError(f"{folder}: no colour images (frame-*.color.png); unpack the sequence again")
    known = {n for files in found.values() for n in files}  # the first or last image may be what is missing
    numbers = range(min(known), max(known) + 1)
    suffix = next(iter(found["color"].values())).suffix
    files = [found["color"].get(n, folder / f"frame-{n:06d}.color{suffix}") for n in numbers]
    camera, notes = fitted(_CAMERA, files, folder)
    notes += left_out(folder, strays, "no files of a frame")
    problems = missing_files(files, str(folder))
    frames = image_files(folder, files, [n / _FPS for n in numbers], "the numbers of the frames / 30", name, camera)
    depth = {i: found["depth"].get(n, folder / f"frame-{n:06d}.depth.png") for i, n in enumerate(numbers)}
    problems += missing_files(list(depth.values()), str(folder))
    poses, pose_problems = _poses(folder, found["pose"], numbers)
    problems += pose_problems
    present = {i: path for i, path in depth.items() if numbers[i] in found["depth"]}
    sequence = DepthFiles(name, frames, camera, poses, tuple(problems), present, _UNITS_PER_METRE)
    sequence.numbers, sequence.notes = numbers, tuple(notes)
    return sequence


def _poses(folder: Path, files: Mapping[int, Path], numbers: range) -> tuple[Trajectory | None, list[str]]:
    times, T_wc, bad = [], [], []
    for number in numbers:
        path = files.get(number, folder / f"frame-{number:06d}.pose.txt")
        pose = _pose(path)
        if pose is None:
            bad.append(path)
        else:
            times.append(number / _FPS)
            T_wc.append(pose)
    problems = []
    if bad:
        problems.append(
            f"{bad[0]}: missing, or not a 4x4 camera pose ({len(bad)} of {len(numbers)} frames); these are used without"
            " a pose, unpack the sequence again"
        )
    return (Trajectory(np.array(times), np.array(T_wc)) if times else None), problems


def _pose(path: Path) -> np.ndarray | None:
    """Camera to world with the closest rotation, `(4, 4)`, or None where the file holds none."""
    try:
        values = [float(v) for v in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return None
    if len(values) != 16 or not np.isfinite(values).all():
        return None
    T = np.reshape(values, (4, 4))
    R = T[:3, :3]
    if np.abs(R.T @ R - np.eye(3)).max() > _ROTATION_TOLERANCE or np.linalg.det(R) < 0:
        return None
    U, _, Vt = np.linalg.svd(R)
    T[:3, :3], T[3] = U @ Vt, (0, 0, 0, 1)
    return T
