"""The parts of a prepared sequence: what one process writes at once, what it was made of, whether it is still whole."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trianflow.data.datasets.interface import DatasetSequence
from trianflow.data.decoding import file_damage
from trianflow.data.depth import depth_png
from trianflow.data.pairs.prepare import Preparation
from trianflow.data.pairs.static import MotionMeter
from trianflow.errors import TrianflowError
from trianflow.files import replacing

DEPTH_SCALE = 256  # stored units per metre of the depth that is exported (KITTI)
FACTS, PARTS = "prepared.json", ".parts"
COUNTS = ("static", "unreadable", "without_depth")
_FRAMES = 64  # that a process takes at once, and that an interruption loses at most
# Not compressed: half as large again, written in a tenth of the time and read, in every epoch, in a third of it.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 0, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)


@dataclass(frozen=True)
class Job:
    """A sequence that is to be prepared.

    Attributes:
        sequence: the frames.
        frames: indices of those to take, rising.
        pictures: makes pictures of the frames.
        truth: makes depth of their original size; None where that is not wanted.
        min_motion: frames that moved less since the last one that was kept are left out, a share of the width.
        folder: to write to.
    """

    sequence: DatasetSequence
    frames: list[int]
    pictures: Preparation
    truth: Preparation | None
    min_motion: float
    folder: Path

    def parts(self) -> range:
        """Where in `frames` the parts begin."""
        return range(0, len(self.frames), _FRAMES)

    def of_part(self, begin: int) -> list[int]:
        """The frames of a part."""
        return self.frames[begin : begin + _FRAMES]

    def part_file(self, begin: int) -> Path:
        """What says that a part is done."""
        return self.folder / PARTS / f"{begin:06d}.json"

    def source(self) -> str:
        """The folder of the frames."""
        return str(self.sequence.frames.path.absolute().resolve())

    def origin(self, begin: int) -> dict[str, Any]:
        """What a part is made of: source, camera, settings of depth, and of each frame its index, number and files."""
        sequence, camera = self.sequence, self.sequence.camera
        intrinsics = [camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height, *camera.distortion]
        frames = [
            [i, sequence.number(i), _stamp(sequence.listed(i)[0]), _stamp(sequence.depth_file(i))]
            for i in self.of_part(begin)
        ]
        settings = {"camera": intrinsics, "depth_settings": [*sequence.depth_settings]}
        return {"source": self.source(), **settings, "frames": frames}

    def is_of(self, part: dict[str, Any], begin: int) -> bool:
        """Whether what is recorded of a part was made of what it would be made of now."""
        return all(part.get(key) == value for key, value in self.origin(begin).items())

    def finished(self, begin: int) -> dict[str, Any] | None:
        """A part that needs nothing: made of the same, without problems, all files whole, no depth that came since."""
        part = read_mapping(self.part_file(begin))
        if part is None or not self.is_of(part, begin) or part["problems"]:
            return None
        whole = all(_is_whole(self.folder / name, size) for name, size in part["bytes"].items())
        return None if not whole or any(map(self._has_depth, part["no_depth"])) else part

    def _has_depth(self, index: int) -> bool:
        try:
            return self.sequence.depth(index) is not None
        except TrianflowError:  # a file there is, and will be named
            return True


_jobs: list[Job] = []  # of a worker process


def start_worker(jobs: list[Job]) -> None:
    """Make a process ready for `do_part`; it ends with the one that started it."""
    global _jobs
    _jobs = jobs
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that leads
    parent = parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def do_part(number: int, begin: int) -> dict[str, Any]:
    """Write the pictures of a part of a job, and then the file that says so, unless both are there."""
    job = _jobs[number]
    return job.finished(begin) or write_part(job, begin)


def write_part(job: Job, begin: int) -> dict[str, Any]:
    """Write the pictures and the depth of a part, and what it is made of; each file is read back.

    Raises:
        TrianflowError: what can be read is not what was written.
        OSError: a file cannot be written.
    """
    (job.folder / FACTS).unlink(missing_ok=True)
    sequence = job.sequence
    part: dict[str, Any] = {"kept": [], **dict.fromkeys(COUNTS, 0), "problems": [], "no_depth": [], "bytes": {}}
    part |= job.origin(begin)
    meter, last = MotionMeter(), None
    for frame in sequence.frames.select(job.of_part(begin)):
        if frame.image is None:
            file = sequence.listed(frame.index)[0]
            part["problems"].append(f"{file}: {frame.problem}; left out: unpack or download it again")
            part["unreadable"] += 1
            continue
        picture = job.pictures.image(frame.image)
        if job.min_motion > 0:
            small = meter.small(picture)
            if last is not None and meter.motion(last, small) < job.min_motion:
                part["static"] += 1
                continue
            last = small
        name = f"{sequence.number(frame.index):06d}.png"
        part["bytes"][f"images/{name}"] = _write_picture(job.folder / "images" / name, picture, frame.image.ndim == 2)
        part["kept"].append(frame.index)
        try:
            depth = sequence.depth(frame.index)
            truth = sequence.scoring_depth(frame.index) if job.truth is not None else None
        except TrianflowError as error:
            part["problems"].append(f"{error}; no depth for this frame")
            part["without_depth"] += 1
            continue
        if depth is None:
            part["no_depth"].append(frame.index)
        else:
            part["bytes"][f"depth/{name}"] = _write_depth(job.folder / "depth" / name, job.pictures.depth(depth))
        if truth is not None and job.truth is not None:
            part["bytes"][f"truth/{name}"] = _write_depth(job.folder / "truth" / name, job.truth.depth(truth))
    with replacing(job.part_file(begin)) as path:
        path.write_text(json.dumps(part))
    return part


def read_mapping(path: Path) -> dict[str, Any] | None:
    """A JSON mapping; None where there is none, or only a part of one."""
    try:
        values = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _write_picture(path: Path, picture: np.ndarray, grey: bool) -> int:
    """Write a picture `(h, w, 3)` RGB uint8, with one channel where it is grey; the size of the file."""
    stored = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY if grey else cv2.COLOR_RGB2BGR)
    return _write(path, cv2.imencode(".png", stored, _PNG)[1].tobytes())


def _write_depth(path: Path, depth: np.ndarray) -> int:
    """Write depth, not positive or NaN where unknown; the size of the file."""
    return _write(path, depth_png(depth, DEPTH_SCALE))


def _write(path: Path, data: bytes) -> int:
    """Write a file and read it back; its size."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    if path.read_bytes() != data:
        raise TrianflowError(f"{path}: what is read back is not what was written; check the disk, or name another DST")
    return len(data)


def _stamp(path: Path | None) -> list[str | int]:
    """Name, size and time of a file, by which another one is told from it; no more than the name of one not there."""
    if path is None:
        return []
    try:
        status = path.stat()
    except OSError:
        return [path.name]
    return [path.name, status.st_size, status.st_mtime_ns]


def _is_whole(path: Path, size: int) -> bool:
    """Whether a PNG is there in full size, with its signature and the right checksums."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return len(data) == size and data.startswith(b"\x89PNG\r\n\x1a\n") and not file_damage(data)
