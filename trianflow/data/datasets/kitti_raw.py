"""KITTI raw as it is downloaded: `2011_09_26/2011_09_26_drive_0001_sync/...` and the calibration of each date."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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
from trianflow.data.datasets.oxts import OXTS_FIELDS, read_oxts, speed_over_ground
from trianflow.data.datasets.scanning import content, not_unpacked, require_folder
from trianflow.data.images import natural_key
from trianflow.errors import TrianflowError, UsageError
from trianflow.trajectory import Trajectory

EARTH_RADIUS = 6378137.0  # metres, of the Mercator projection in KITTI's raw development kit
_DRIVE = re.compile(r"(\d{4}_\d\d_\d\d)_drive_\d{4}_(sync|extract)")
_DEPTH_OF_SEARCH = 3  # folders between the root and a drive, at most
_LOST_SCANS = {"2011_09_26_drive_0009_sync": range(177, 181)}  # that the official archive does not have


def open_kitti_raw(root: str | Path, cameras: Sequence[int] = (2, 3)) -> DatasetContent:
    """Open the drives of KITTI raw (`_sync`: synchronised and rectified).

    Poses come from OXTS, the GPS and inertial unit, as `imu_poses` has them, carried to the camera by the calibration;
    the world is the first camera. The speed is over ground, `hypot(vf, vl)`: forward alone would miss the sideways
    motion of the unit in turns. Depth is the laser scan; for scoring, as the figures on Eigen's split were computed.

    Args:
        root: the folder with the dates, one date or one drive. Drives that were unpacked a few folders deeper are
            found, too.
        cameras: of every drive, 0 to 3: 2 and 3 are left and right colour. Those that a drive has are taken.

    Returns:
        Sequences named `2011_09_26/2011_09_26_drive_0001_sync/image_02`, and what is wrong with others.

    Raises:
        UsageError: no such camera.
        TrianflowError: no such folder, or not one usable sequence.
    """
    root = Path(root)
    if not cameras or not set(cameras) <= {0, 1, 2, 3}:
        raise UsageError(f"KITTI raw has the cameras 0 to 3, not {', '.join(map(str, cameras)) or 'none'}")
    require_folder(root, "KITTI raw (2011_09_26/2011_09_26_drive_0001_sync)")
    root = root.absolute()
    problems: list[str] = []
    notes: list[str] = []
    found: dict[str, KittiSequence] = {}
    for folder in sorted(_drives(root, problems, notes), key=lambda path: natural_key(path.name)):
        present = [camera for camera in sorted(set(cameras)) if (folder / f"image_{camera:02d}").is_dir()]
        if folder.name.endswith("_extract"):
            problems.append(f"{folder}: neither synchronised nor rectified; download {_archive(folder)}")
        elif any(name.split("/")[1] == folder.name for name in found):
            problems.append(f"{folder}: this drive was found in another folder, too; remove one of them")
        elif not present:
            wanted = " or ".join(f"image_{camera:02d}" for camera in cameras)
            problems.append(f"{folder}: no {wanted} in it; {unpack_advice(folder, _archive(folder))}")
        else:
            drive = _Drive(folder, _calibration_of(folder, root))
            for camera in present:
                try:
                    sequence = drive.sequence(camera)
                except TrianflowError as error:
                    problems.append(str(error))
                else:
                    found[sequence.name] = sequence
    expected = "folders such as 2011_09_26/2011_09_26_drive_0001_sync in it"
    return content(root, found.values(), problems, expected, notes)


def imu_poses(oxts: np.ndarray) -> np.ndarray:
    """Poses of the GPS and inertial unit.

    Latitude and longitude become metres by a Mercator projection that is scaled to be true at the first latitude, as
    in KITTI's raw development kit; roll, pitch and yaw turn about x (forward), y (left) and z (up), in this order.

    Args:
        oxts: `(N, 6)` or more columns: latitude, longitude (degrees), altitude (m), roll, pitch, yaw (radians; yaw
            from east, counter-clockwise).

    Returns:
        `(N, 4, 4)` float64 `T_wi`, unit to world (x east, y north, z up), metres.
    """
    latitude, longitude = np.radians(oxts[:, 0]), np.radians(oxts[:, 1])
    scale = EARTH_RADIUS * np.cos(latitude[:1])
    T_wi = np.tile(np.eye(4), (len(oxts), 1, 1))
    T_wi[:, 0, 3] = scale * longitude
    T_wi[:, 1, 3] = scale * np.log(np.tan(np.pi / 4 + latitude / 2))
    T_wi[:, 2, 3] = oxts[:, 2]
    for axis, angle in ((2, oxts[:, 5]), (1, oxts[:, 4]), (0, oxts[:, 3])):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.tile(np.eye(3), (len(oxts), 1, 1))
        turn[:, i, i] = turn[:, j, j] = np.cos(angle)
        turn[:, j, i], turn[:, i, j] = np.sin(angle), -np.sin(angle)
        T_wi[:, :3, :3] = T_wi[:, :3, :3] @ turn
    return T_wi


def _drives(root: Path, problems: list[str], notes: list[str]) -> Iterator[Path]:
    """Folders of drives in and below a folder; archives on the way go to `problems`, odd places to `notes`."""
    if _DRIVE.fullmatch(root.name) and not _is_wrapper(root):
        yield root
        return
    level = [root]
    for depth in range(_DEPTH_OF_SEARCH):
        below = [entry for folder in level for entry in sorted(folder.iterdir())]
        level = []
        for entry in below:
            if entry.is_dir() and _DRIVE.fullmatch(entry.name) and not _is_wrapper(entry):
                if depth > 1:
                    notes.append(f"{entry}: nested deeper than usual, move it to {root / _usual(entry)}")
                yield entry
            elif entry.is_dir():
                level.append(entry)
            elif _DRIVE.match(entry.name) and entry.suffix == ".zip":
                target = entry.parent.parent if entry.parent.name == entry.name[:10] else entry.parent
                if not (target / _usual(entry)).is_dir():
                    problems.append(not_unpacked(entry, target))


def _usual(drive: Path) -> str:
    """Where the archive of a drive puts it."""
    return f"{drive.name[:10]}/{drive.name.removesuffix('.zip')}"


def _is_wrapper(folder: Path) -> bool:
    """Whether an archive was unpacked into a folder of its own name, so that the drive lies deeper."""
    return (folder / folder.name[:10]).is_dir()


def _archive(folder: Path) -> str:
    return f"{folder.name.replace('_extract', '_sync')}.zip"


def _calibration_of(drive: Path, root: Path) -> Path:
    """The folder with the calibration of a drive: above it, else where the archive was unpacked by itself."""
    date = drive.name[:10]
    places = (drive.parent, root / date, root / f"{date}_calib" / date)
    return next((place for place in places if (place / "calib_cam_to_cam.txt").is_file()), drive.parent)


class _Drive:
    """What the cameras of a drive share."""

    def __init__(self, folder: Path, calibration: Path) -> None:
        self.folder, self.calibration = folder, calibration
        self.calibration_archive = f"{folder.name[:10]}_calib.zip"
        self.scans: Path | None = folder / "velodyne_points" / "data"
        self.problems: list[str] = []
        if not self.scans.is_dir():
            self.problems.append(f"{self.scans}: not there, so no depth; {unpack_advice(folder, _archive(folder))}")
            self.scans = None
        self.T_velo_to_cam = self._rigid("calib_velo_to_cam.txt", "there are neither depth nor poses")
        self.T_imu_to_velo = self._rigid("calib_imu_to_velo.txt", "there are no poses")
        self.oxts = read_oxts(folder / "oxts" / "data")

    def _rigid(self, name: str, consequence: str) -> np.ndarray | None:
        try:
            values = read_matrices(self.calibration / name, {"R": (3, 3), "T": (3, 1)}, self.calibration_archive)
        except TrianflowError as error:
            self.problems.append(f"{error}; until then {consequence}")
            return None
        return rigid(values["R"], values["T"])

    def sequence(self, camera: int) -> KittiSequence:
        """The sequence of a camera; `TrianflowError` where its images or its calibration are not usable."""
        folder, images, key = self.folder, self.folder / f"image_{camera:02d}", f"P_rect_{camera:02d}"
        calibration = self.calibration / "calib_cam_to_cam.txt"
        values = read_matrices(calibration, {"R_rect_00": (3, 3), key: (3, 4)}, self.calibration_archive)
        frames = open_frames_of(
            images / "data", images / "timestamps.txt", calibration, key, folder.name, _archive(folder)
        )
        problems = [*self.problems, *frames.problems]
        if self.scans is not None:
            problems += missing_scans(self.scans, frames, _archive(folder), _LOST_SCANS.get(folder.name, ()))
        oxts, faults = self._oxts_of(frames)
        T_cv = poses = None
        if self.T_velo_to_cam is not None:
            T_cv = from_rectified(values[key]) @ rigid(values["R_rect_00"]) @ self.T_velo_to_cam
            if self.T_imu_to_velo is not None:
                poses = _camera_poses(oxts, T_cv @ self.T_imu_to_velo, frames)
        return KittiSequence(
            f"{folder.name[:10]}/{folder.name}/{images.name}",
            frames,
            poses,
            (*problems, *faults),
            scans=self.scans,
            T_cv=T_cv,
            eigen=True,
            speeds=speed_over_ground(oxts),
        )

    def _oxts_of(self, frames: KittiFrames) -> tuple[np.ndarray, list[str]]:
        """`(N, 30)` float64 of the frames, NaN in the rows of files that are missing or damaged, which lines name."""
        unknown = np.full(OXTS_FIELDS, np.nan)
        rows = np.array([self.oxts.get(number, unknown) for number in frames.numbers])
        missing = [n for n in frames.numbers if n not in self.oxts and n not in frames.absent]
        damaged = [number for number, row in zip(frames.numbers, rows) if number in self.oxts and np.isnan(row[0])]
        problems = []
        for numbers, what in ((missing, "are missing"), (damaged, f"do not hold {OXTS_FIELDS} numbers")):
            if numbers:
                problems.append(
                    f"{self.folder / 'oxts' / 'data'}: {len(numbers)} files {what} ({ranges(numbers)}): no pose nor"
                    f" speed for these frames; unpack {_archive(self.folder)} again"
                )
        return rows, problems


def _camera_poses(oxts: np.ndarray, T_ci: np.ndarray, frames: KittiFrames) -> Trajectory | None:
    known = ~np.isnan(oxts[:, 0])
    if not known.any():
        return None
    T_wc = imu_poses(oxts[known]) @ np.linalg.inv(T_ci)
    return Trajectory(np.array(frames.source.times)[known], T_wc).relative_to_first()
