"""EuRoC MAV (Burri et al., IJRR 2016): `MH_01_easy/mav0/cam0` with images and calibration, and the true motion."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trianflow.data.calibration import read_calibration
from trianflow.data.calibration_formats import BadCalibration, load_yaml
from trianflow.data.datasets.interface import DatasetContent, DatasetSequence
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
from trianflow.data.datasets.timed import poses_of_images, read_listing
from trianflow.errors import TrianflowError
from trianflow.trajectory import Trajectory

_NANOSECONDS = 1e9
_TRUTH = "state_groundtruth_estimate0/data.csv"
_EXPECTED = "sequences with mav0/cam0/data.csv, sensor.yaml and data (MH_01_easy/mav0/cam0/...)"


def open_euroc(root: Path) -> DatasetContent:
    """Read EuRoC sequences: the left camera, `cam0`.

    The frames are all images of `cam0/data.csv`; a listed image that is missing stays a frame without a picture. The
    camera is that of `cam0/sensor.yaml`, with its distortion. Poses are of this camera: those of the body from
    `state_groundtruth_estimate0`, interpolated at the image times and moved by `T_BS` of `sensor.yaml`; images outside
    of the measured time have none.

    Args:
        root: one sequence, or a folder of sequences, at most two levels above them.

    Raises:
        TrianflowError: no such folder, or not one usable sequence in it.
    """
    require_folder(root, "the EuRoC sequences")
    problems = packed(root, levels=3)
    sequences = []
    for folder in find_folders(root, lambda f: (f / "mav0").is_dir() or (f / "cam0").is_dir()):
        mav = folder / "mav0" if (folder / "mav0").is_dir() else folder
        try:
            sequences.append(_sequence(mav, relative_name(folder, root)))
        except TrianflowError as error:
            problems.append(str(error))
    return content(root, sequences, problems, _EXPECTED)


def _sequence(mav: Path, name: str) -> DatasetSequence:
    camera_folder = mav / "cam0"
    stamps, names, problems = read_listing(camera_folder / "data.csv", ",")
    times = stamps / _NANOSECONDS
    files = [camera_folder / "data" / n for n in names]
    sensor = camera_folder / "sensor.yaml"
    try:
        camera = read_calibration(sensor)
    except TrianflowError as error:
        raise TrianflowError(f"{error}; unpack or download the sequence again") from None
    camera, notes = fitted(camera, files, camera_folder)
    problems += missing_files(files, str(camera_folder / "data.csv"))
    unlisted = {p.name for p in (camera_folder / "data").glob("*")} - set(names)
    notes += left_out(camera_folder / "data", unlisted, "not in data.csv")
    frames = image_files(camera_folder / "data", files, times.tolist(), str(camera_folder / "data.csv"), name, camera)
    poses = _poses(mav / _TRUTH, sensor, times, problems, notes)
    sequence = DatasetSequence(name, frames, camera, poses, tuple(problems))
    sequence.notes = tuple(notes)
    return sequence


def _poses(path: Path, sensor: Path, times: np.ndarray, problems: list[str], notes: list[str]) -> Trajectory | None:
    if not path.is_file():
        problems.append(f"{path}: missing; the sequence is used without poses, unpack it again")
        return None
    try:
        body = _read_truth(path)
        T_bc = _body_from_camera(sensor)
    except TrianflowError as error:
        problems.append(f"{error}; the sequence is used without poses")
        return None
    poses = poses_of_images(body, times, path, problems, notes)
    return None if poses is None else Trajectory(poses.times, poses.T_wc @ T_bc)


def _read_truth(path: Path) -> Trajectory:
    """Poses of the body in the world; rows are nanoseconds, x y z, qw qx qy qz, and states that are not read."""
    from scipy.spatial.transform import Rotation

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        rows = [[float(v) for v in line.split(",")[:8]] for line in lines if line.strip() and not line.startswith("#")]
        table = np.array(rows, dtype=np.float64).reshape(len(rows), 8)
    except (OSError, ValueError):
        raise TrianflowError(f"{path}: not a table of time, position and quaternion; download it again") from None
    lengths = np.linalg.norm(table[:, 4:8], axis=1)
    if not len(table) or not np.isfinite(table).all() or (np.abs(lengths - 1) > 1e-2).any():
        raise TrianflowError(f"{path}: without finite positions and unit quaternions; download it again")
    T_wb = np.tile(np.eye(4), (len(table), 1, 1))
    T_wb[:, :3, :3] = Rotation.from_quat(table[:, [5, 6, 7, 4]]).as_matrix()
    T_wb[:, :3, 3] = table[:, 1:4]
    return Trajectory(table[:, 0] / _NANOSECONDS, T_wb)


def _body_from_camera(sensor: Path) -> np.ndarray:
    """`T_BS` of `sensor.yaml`: from the camera to the body, `(4, 4)`."""
    try:
        data = load_yaml(sensor.read_text(encoding="utf-8-sig"))["T_BS"]["data"]
        T_bc = np.array(data, dtype=np.float64).reshape(4, 4)
    except (OSError, ValueError, KeyError, TypeError, BadCalibration):
        raise TrianflowError(f"{sensor}: no T_BS with 16 numbers; take the file of the archive") from None
    if not np.isfinite(T_bc).all():
        raise TrianflowError(f"{sensor}: T_BS is not finite; take the file of the archive")
    return T_bc
