"""The TUM RGB-D benchmark: folders `rgbd_dataset_freiburg?_*` with colour, depth and motion capture."""

from __future__ import annotations

import re
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
from trianflow.data.datasets.timed import associate, poses_of_images, read_listing
from trianflow.data.depth import LARGEST_TIME_OFFSET
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera
from trianflow.trajectory import Trajectory

# Published calibrations of the colour cameras; the images of freiburg3 are rectified. The published file format has
# 5000 units a metre for all of them.
_CAMERAS = {
    "1": Camera(
        *(517.306408, 516.469215, 318.643040, 255.313989, 640, 480),
        (0.262383, -0.953104, -0.005358, 0.002628, 1.163314),
    ),
    "2": Camera(
        *(520.908620, 521.007327, 325.141442, 249.701764, 640, 480),
        (0.231222, -0.784899, -0.003257, -0.000105, 0.917205),
    ),
    "3": Camera(535.4, 539.2, 320.1, 247.6, 640, 480),
}
_ROS_DEFAULT = Camera(525.0, 525.0, 319.5, 239.5, 640, 480)
_UNITS_PER_METRE = 5000.0
_EXPECTED = "folders rgbd_dataset_freiburg*, each with rgb.txt, depth.txt, groundtruth.txt, rgb and depth"


def open_tum(root: Path) -> DatasetContent:
    """Read TUM RGB-D sequences.

    The frames are all images of `rgb.txt`; a listed image that is missing stays a frame without a picture. A frame has
    the depth image that the benchmark's association gives it (closer than 0.02 s, closest pairs first, each in one
    pair), or none. Poses are of the colour camera, interpolated between the motion-capture poses around the image's
    time, which must be at most 0.1 s apart; other frames have none. The camera goes by `freiburg1` to `freiburg3`
    (also `fr1`) in the name of the folder, else it is the default of ROS, which `problems` says.

    Args:
        root: one sequence, or a folder of sequences, at most two levels above them.

    Raises:
        TrianflowError: no such folder, or not one usable sequence in it.
    """
    require_folder(root, "the TUM RGB-D sequences")
    problems = packed(root, levels=2)
    sequences = []
    for folder in find_folders(root, lambda f: (f / "rgb.txt").is_file() or (f / "rgb").is_dir()):
        try:
            sequences.append(_sequence(folder, relative_name(folder, root)))
        except TrianflowError as error:
            problems.append(str(error))
    return content(root, sequences, problems, _EXPECTED)


def _sequence(folder: Path, name: str) -> DatasetSequence:
    times, names, problems = read_listing(folder / "rgb.txt")
    files = [folder / n for n in names]
    camera, unknown = _camera(folder)
    camera, notes = fitted(camera, files, folder)
    problems += [*unknown, *missing_files(files, str(folder / "rgb.txt"))]
    unlisted = {p.name for p in (folder / "rgb").glob("*")} - {f.name for f in files}
    notes += left_out(folder / "rgb", unlisted, "not in rgb.txt")
    frames = image_files(folder / "rgb", files, times.tolist(), str(folder / "rgb.txt"), name, camera)
    depth = _depth(folder, times, problems, notes)
    poses = _poses(folder, times, problems, notes)
    sequence = DepthFiles(name, frames, camera, poses, tuple(problems), depth, _UNITS_PER_METRE)
    sequence.notes = tuple(notes)
    return sequence


def _camera(folder: Path) -> tuple[Camera, list[str]]:
    found = re.search(r"(?:freiburg|fr)([123])(?![0-9])", folder.absolute().name, re.IGNORECASE)
    if found:
        return _CAMERAS[found[1]], []
    text = f"{folder}: the name has no freiburg1, freiburg2 or freiburg3, so the camera is the default of ROS"
    return _ROS_DEFAULT, [f"{text} (fx = fy = 525); give the folder its original name"]


def _depth(folder: Path, times: np.ndarray, problems: list[str], notes: list[str]) -> dict[int, Path]:
    """Depth files by frame."""
    try:
        depth_times, names, faults = read_listing(folder / "depth.txt")
    except TrianflowError as error:
        problems.append(f"{error}; the sequence is used without depth")
        return {}
    partner = associate(times, depth_times, LARGEST_TIME_OFFSET)
    files = {a: folder / names[b] for a, b in partner.items()}
    lonely = [i for i in range(len(times)) if i not in partner]
    if not partner:
        problems.append(
            f"{folder / 'depth.txt'}: no time within {LARGEST_TIME_OFFSET:g} s of one in rgb.txt; take both files from"
            " the archive of this sequence"
        )
    elif lonely:
        notes.append(
            f"{folder / 'depth.txt'}: nothing within {LARGEST_TIME_OFFSET:g} s of {len(lonely)} of {len(times)} images,"
            f" the first at {times[lonely[0]]:.6f}; these have no depth, as in the benchmark"
        )
    problems += [*faults, *missing_files(list(files.values()), str(folder / "depth.txt"))]
    return files


def _poses(folder: Path, times: np.ndarray, problems: list[str], notes: list[str]) -> Trajectory | None:
    path = folder / "groundtruth.txt"
    if path.is_file():
        try:
            return poses_of_images(Trajectory.load(path, "tum"), times, path, problems, notes)
        except TrianflowError as error:
            problems.append(f"{error}; download it again, the sequence is used without poses")
    elif "validation" in folder.absolute().name:
        notes.append(f"{path}: not published for validation sequences; the sequence is used without poses")
    else:
        problems.append(f"{path}: missing; unpack it again, the sequence is used without poses")
    return None
