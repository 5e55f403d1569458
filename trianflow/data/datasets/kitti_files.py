"""What KITTI odometry and raw have in common: numbered files, times, matrices by key, scans beside the images."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trianflow.data.calibration import read_calibration
from trianflow.data.datasets.interface import DatasetSequence
from trianflow.data.datasets.scanning import fitted, image_files, left_out, some
from trianflow.data.datasets.timed import rising
from trianflow.data.datasets.velodyne import project_scan, read_scan
from trianflow.data.images import DEFAULT_FPS, ImageFolder, find_images
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera
from trianflow.trajectory import Trajectory

_LARGEST_NUMBER = 99_999  # the longest drive has some 5,000 frames; names with more are dates and the like


@dataclass(frozen=True)
class KittiFrames:
    """The images of a sequence.

    Attributes:
        source: the frames from the first to the last that is there, with their times.
        camera: of these images.
        numbers: of the frames, as their file names say: each one more than that before.
        absent: those without a file, which stay frames without a picture, so that no others become neighbours.
        problems: missing files, times that could not be used.
        notes: stray files, a camera that had to be scaled.
    """

    source: ImageFolder
    camera: Camera
    numbers: tuple[int, ...]
    absent: frozenset[int]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


class KittiSequence(DatasetSequence):
    """A sequence with laser scans.

    Args:
        name, poses, problems: as those of `DatasetSequence`.
        frames: of the sequence.
        scans: folder of the `.bin` files, named as the images; None without scans.
        T_cv: `(4, 4)` scanner to camera.
        eigen: whether depth is scored as Eigen's split does it, see `velodyne.project_scan`.
        speeds: `(N,)` metres a second, NaN where unknown; None without.
    """

    numbers: tuple[int, ...]

    def __init__(
        self,
        name: str,
        frames: KittiFrames,
        poses: Trajectory | None,
        problems: tuple[str, ...],
        *,
        scans: Path | None,
        T_cv: np.ndarray | None,
        eigen: bool,
        speeds: np.ndarray | None = None,
    ) -> None:
        super().__init__(name, frames.source, frames.camera, poses, problems)
        self.numbers, self.absent, self.notes = frames.numbers, frames.absent, frames.notes
        self._files = frames.source.files
        self._scans, self._T_cv, self._eigen, self._speeds = scans, T_cv, eigen, speeds
        self.depth_settings = [] if T_cv is None else T_cv.ravel().tolist()

    def depth_file(self, index: int) -> Path | None:
        """As `DatasetSequence.depth_file`: the scan taken with the frame, also where KITTI dropped it."""
        return None if self._scans is None else self._scans / f"{self._files[index].stem}.bin"

    def depth(self, index: int) -> np.ndarray | None:
        """As `DatasetSequence.depth`: the scan taken with the frame, projected; None where KITTI dropped it."""
        return self._projected(index, False)

    def scoring_depth(self, index: int) -> np.ndarray | None:
        """As `DatasetSequence.scoring_depth`: for KITTI raw, that of Eigen's split."""
        return self._projected(index, self._eigen)

    def _projected(self, index: int, eigen: bool) -> np.ndarray | None:
        path = self.depth_file(index)
        if path is None or self._T_cv is None or not path.is_file():
            return None
        return project_scan(read_scan(path), self.camera, self._T_cv, eigen)

    def speed(self, index: int) -> float | None:
        """As `DatasetSequence.speed`."""
        if self._speeds is None or math.isnan(self._speeds[index]):
            return None
        return float(self._speeds[index])


def open_frames_of(folder: Path, times_file: Path, calibration: Path, key: str, name: str, archive: str) -> KittiFrames:
    """The numbered images of a folder.

    Args:
        folder: with `000000.png` or `0000000000.png` and so on.
        times_file: a line a frame number, in seconds or as a date with time.
        calibration: file with the camera.
        key: of the camera in it.
        name: of the sequence.
        archive: that the files come from, for messages.

    Raises:
        TrianflowError: no folder or no numbered image in it, no image that can be read, or a camera that does not
            belong to them.
    """
    if not folder.is_dir():
        raise TrianflowError(f"{folder}: no such folder; {unpack_advice(folder.parent, archive)}")
    images, stray = find_images(path for path in folder.iterdir() if path.is_file())
    by_number: dict[int, Path] = {}
    for image in images:
        if image.stem.isdecimal() and int(image.stem) <= _LARGEST_NUMBER and int(image.stem) not in by_number:
            by_number[int(image.stem)] = image
        else:
            stray.append(image.name)
    if not by_number:
        raise TrianflowError(f"{folder}: no numbered images in it; {unpack_advice(folder, archive)}")
    numbers = range(min(by_number), max(by_number) + 1)
    files = list(by_number.values())
    camera, notes = fitted(read_calibration(calibration, key), files, calibration)
    notes += left_out(folder, stray, "not numbered images")
    problems = []
    stamps, problem = _read_stamps(times_file)
    expected = max(len(stamps), numbers[-1] + 1)
    missing = sorted(set(range(expected)) - by_number.keys())
    if missing:
        problems.append(
            f"{folder}: {len(missing)} of {expected} frames are missing ({ranges(missing)}); unpack {archive} again"
        )
    times, timeless = _times_of(np.array(numbers), stamps)
    times_source = str(times_file)
    if problem:
        times_source = f"{DEFAULT_FPS:g} frames a second"
        problems.append(f"{times_file}: {problem}; frames are taken as {times_source}, unpack {archive} again")
    elif timeless:
        problems.append(
            f"{times_file}:{timeless[0] + 1}: no time between its neighbours'; the times of the frames"
            f" {ranges(timeless)} are made of the others', unpack {archive} again"
        )
    digits = len(files[0].stem)
    placed = [by_number.get(n, folder / f"{n:0{digits}d}{files[0].suffix}") for n in numbers]
    source = image_files(folder, placed, times, times_source, name, camera)
    absent = frozenset(numbers) - by_number.keys()
    return KittiFrames(source, camera, tuple(numbers), absent, tuple(problems), tuple(notes))


def read_matrices(path: Path, shapes: dict[str, tuple[int, int]], archive: str) -> dict[str, np.ndarray]:
    """Matrices of a `KEY: numbers` file.

    Args:
        path: the file; lines of other keys are not looked at.
        shapes: rows and columns of the keys that are wanted.
        archive: that the file comes from, for messages.

    Returns:
        float64 matrices by key.

    Raises:
        TrianflowError: the file or a key is missing, or its numbers are not what they should be.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise TrianflowError(f"{path}: {error.strerror}; {unpack_advice(path.parent, archive)}") from None
    values = {key.strip(): text.split() for key, colon, text in (line.partition(":") for line in lines) if colon}
    matrices = {}
    for key, shape in shapes.items():
        if key not in values:
            raise TrianflowError(f"{path}: no line {key}: in it; {unpack_advice(path.parent, archive)}")
        try:
            matrix = np.array([float(value) for value in values[key]])
        except ValueError:
            matrix = np.zeros(0)
        if matrix.size != shape[0] * shape[1] or not np.isfinite(matrix).all():
            raise TrianflowError(f"{path}: {key} must have {shape[0] * shape[1]} numbers; unpack {archive} again")
        matrices[key] = matrix.reshape(shape)
    return matrices


def rigid(R: np.ndarray | None = None, t: np.ndarray | None = None) -> np.ndarray:
    """`(4, 4)` transform of a rotation `(3, 3)` and a translation of 3 numbers; the identity where not given."""
    T = np.eye(4)
    T[:3, :3] = T[:3, :3] if R is None else R
    T[:3, 3] = 0 if t is None else np.ravel(t)
    return T


def from_rectified(P: np.ndarray) -> np.ndarray:
    """`(4, 4)` transform from the rectified frame of camera 0 to the camera of the projection matrix `P` `(3, 4)`."""
    return rigid(t=np.linalg.solve(P[:, :3], P[:, 3]))


def missing_scans(scans: Path, frames: KittiFrames, archive: str, lost: Collection[int] = ()) -> list[str]:
    """A line on frames without a scan; nothing where there is none missing but those `lost` by KITTI itself."""
    present = {path.stem for path in scans.glob("*.bin")}
    needed = [(n, file.stem) for n, file in zip(frames.numbers, frames.source.files) if n not in frames.absent]
    missing = [number for number, stem in needed if stem not in present and number not in lost]
    if not missing:
        return []
    return [
        f"{scans}: no scan for {len(missing)} of {len(needed)} frames ({ranges(missing)}), which have no depth;"
        f" unpack {archive} again"
    ]


def unpack_advice(folder: Path, archive: str) -> str:
    """What to do where files are missing: unpack an archive that lies about, or else the one that has them.

    Args:
        folder: where files should be; may be missing itself.
        archive: name of the official one, `*` for any text.
    """
    for place in [folder, *folder.parents][:4]:
        found = sorted(place.glob(archive)) if place.is_dir() else []
        if found:
            return f"unpack {found[0]}, which lies there as it was downloaded"
    others = [p.name for p in sorted(folder.glob("*")) if p.suffix.lower() in (".zip", ".tar", ".tgz", ".gz", ".7z")]
    return f"unpack {some(others)}, found in {folder}" if others else f"unpack {archive} so that it is there"


def ranges(numbers: Iterable[int]) -> str:
    """Rising numbers in words: `3, 7-12, 15, ...`, at most six parts."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    parts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    return ", ".join(parts[:6]) + (", ..." if len(parts) > 6 else "")


def _read_stamps(path: Path) -> tuple[np.ndarray, str]:
    """Seconds by line, NaN in lines that hold none or one out of order; and why there are none at all."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    except OSError as error:
        return np.zeros(0), error.strerror or str(error)
    stamps = np.array([_seconds(line) for line in lines], np.float64)
    good = rising(stamps)
    stamps[np.setdiff1d(np.arange(len(stamps)), good)] = np.nan
    return stamps, "" if len(good) else "no time in it"


def _seconds(line: str) -> float:
    """Of a number, or of a date with time (UTC, since 1970); NaN for anything else."""
    try:
        if line[4:5] == "-":
            return int(np.datetime64(line.strip(), "ns").astype(np.int64)) / 1e9
        return float(line)
    except ValueError:
        return math.nan


def _times_of(numbers: np.ndarray, stamps: np.ndarray) -> tuple[list[float], list[int]]:
    """Seconds of the frames of some numbers, and the numbers that have no stamp.

    Those get a time in between of those around them, beyond the last ones at the usual distance, and where there are no
    stamps at all at that of `DEFAULT_FPS`.
    """
    good = np.flatnonzero(np.isfinite(stamps))
    if not len(good):
        return (numbers / DEFAULT_FPS).tolist(), numbers.tolist()
    step = np.median(np.diff(stamps[good]) / np.diff(good)) if len(good) > 1 else 1 / DEFAULT_FPS
    beyond = np.minimum(numbers - good[0], 0) + np.maximum(numbers - good[-1], 0)
    times = np.interp(numbers, good, stamps[good]) + step * beyond
    return times.tolist(), np.setdiff1d(numbers, good).tolist()
