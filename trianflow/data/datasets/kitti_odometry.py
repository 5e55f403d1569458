"""KITTI odometry as it is downloaded: `dataset/sequences/00/...` and `dataset/poses/00.txt`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trianflow.data.datasets.interface import DatasetContent
from trianflow.data.datasets.kitti_files import (
    KittiFrames,
    KittiSequence,
    from_rectified,
    missing_scans,
    open_frames_of,
    ranges,
    read_matrices,
    rigid,
    unpack_advice,
)
from trianflow.data.datasets.scanning import content, not_unpacked, require_folder
from trianflow.data.images import natural_key
from trianflow.errors import TrianflowError, UsageError
from trianflow.trajectory import Trajectory

_LAST_WITH_POSES = 10
_ARCHIVES = {0: "data_odometry_gray.zip", 1: "data_odometry_gray.zip"}
_ARCHIVES |= {2: "data_odometry_color.zip", 3: "data_odometry_color.zip"}
_CALIBRATION, _POSES, _SCANS = "data_odometry_calib.zip", "data_odometry_poses.zip", "data_odometry_velodyne.zip"


def open_kitti_odometry(root: str | Path, cameras: Sequence[int] = ()) -> DatasetContent:
    """Open the sequences of KITTI odometry.

    Poses are those of the chosen camera: the files hold those of camera 0, from which the others are displaced by the
    fourth column of their projection matrix. The first pose is the one in the file, the identity. Depth is the laser
    scan.

    Args:
        root: `dataset`, the folder above it, or `sequences`.
        cameras: one of 0 to 3: 0 and 1 are grey, 2 and 3 colour, 0 and 2 left; none takes 2 where a sequence has it,
            else 0.

    Returns:
        Sequences named `00` to `21`, and what is wrong with others.

    Raises:
        UsageError: no such camera, or several.
        TrianflowError: no such folder, or not one usable sequence.
    """
    root = Path(root)
    if len(cameras) > 1 or not set(cameras) <= {0, 1, 2, 3}:
        raise UsageError(f"KITTI odometry is read for one of the cameras 0 to 3, not {', '.join(map(str, cameras))}")
    folder, notes = _find_sequences(root)
    problems: list[str] = []
    found = []
    for entry in sorted(folder.iterdir(), key=natural_key):
        if entry.is_dir() and len(entry.name) == 2 and entry.name.isdecimal():
            try:
                found.append(_open(entry, next(iter(cameras), None)))
            except TrianflowError as error:
                problems.append(str(error))
        elif entry.suffix.lower() in (".zip", ".tar"):
            problems.append(not_unpacked(entry, folder.parent.parent))
    return content(folder, found, problems, "folders 00 to 21 in it", notes)


def _find_sequences(root: Path) -> tuple[Path, list[str]]:
    require_folder(root, "KITTI odometry (dataset/sequences)")
    usual = [root / "sequences", root / "dataset" / "sequences"]
    usual += [root] if root.name == "sequences" else []
    for folder in usual:
        if folder.is_dir():
            return folder, []
    nested = sorted([*root.glob("*/sequences"), *root.glob("*/*/sequences")], key=lambda path: len(path.parts))
    if nested:
        return nested[0], [f"{nested[0]}: nested deeper than usual; name {nested[0].parent} itself to be sure"]
    raise TrianflowError(
        f"{root}: no folder sequences in it, nor dataset/sequences; {unpack_advice(root, 'data_odometry_*.zip')}"
    )


def _open(folder: Path, camera: int | None) -> KittiSequence:
    if camera is None:
        has_colour = (folder / "image_2").is_dir() and any((folder / "image_2").iterdir())
        camera = 2 if has_colour or not (folder / "image_0").is_dir() else 0
    key, calibration, images = f"P{camera}", folder / "calib.txt", folder / f"image_{camera}"
    P = read_matrices(calibration, {key: (3, 4)}, _CALIBRATION)[key]
    frames = open_frames_of(images, folder / "times.txt", calibration, key, folder.name, _ARCHIVES[camera])
    problems = list(frames.problems)
    T_c0 = from_rectified(P)
    poses = None
    try:
        poses, problem = _read_poses(folder, frames, T_c0)
        problems += [problem] if problem else []
    except TrianflowError as error:
        problems.append(f"{error}; the sequence has no poses, unpack {_POSES} again")
    scans, T_cv = folder / "velodyne", None
    if scans.is_dir():
        problems += missing_scans(scans, frames, _SCANS)
        try:
            T_cv = T_c0 @ np.vstack([read_matrices(calibration, {"Tr": (3, 4)}, _CALIBRATION)["Tr"], [0, 0, 0, 1]])
        except TrianflowError as error:
            problems.append(f"{error}; until then the scans give no depth")
    return KittiSequence(
        folder.name,
        frames,
        poses,
        tuple(problems),
        scans=scans if T_cv is not None else None,
        T_cv=T_cv,
        eigen=False,
    )


def _read_poses(folder: Path, frames: KittiFrames, T_c0: np.ndarray) -> tuple[Trajectory | None, str]:
    path = folder.parent.parent / "poses" / f"{folder.name}.txt"
    if not path.is_file():
        known = int(folder.name) <= _LAST_WITH_POSES
        return None, f"{path}: no such file; {unpack_advice(path.parent, _POSES)}" if known else ""
    T_w0 = Trajectory.load(path, "kitti").T_wc
    kept = [i for i, number in enumerate(frames.numbers) if number < len(T_w0)]
    problem = ""
    if len(kept) < len(frames.numbers):
        problem = (
            f"{path}: {len(T_w0)} poses, none for the frames {ranges(frames.numbers[len(kept) :])};"
            f" unpack {_POSES} again"
        )
    T_wc = T_w0 @ np.linalg.inv(T_c0)
    T_wc = rigid(t=T_w0[0, :3, 3] - T_wc[0, :3, 3]) @ T_wc  # the world moves, so that the first pose stays
    times = np.array(frames.source.times)
    return Trajectory(times[kept], T_wc[[frames.numbers[i] for i in kept]]), problem
