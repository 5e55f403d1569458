"""Prepared data: the frames of a dataset, small and without distortion, in folders that everything else can read."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import yaml

from trianflow.data.datasets.interface import DatasetSequence
from trianflow.data.datasets.scanning import readable
from trianflow.data.depth import read_depth, write_depth
from trianflow.data.pairs.prepare import Preparation
from trianflow.data.pairs.static import MotionMeter
from trianflow.errors import TrianflowError, UsageError
from trianflow.files import replacing
from trianflow.trajectory import Trajectory

DEPTH_SCALE = 256  # stored units per metre of the depth that is exported (KITTI)
SETTINGS, FACTS = "prepare.json", "prepared.json"
_PARTS, _LOCK = ".parts", ".lock"
_PART = 64  # frames that a process takes at once, and that an interruption loses at most
_COUNTS = ("static", "unreadable", "without_depth")
_NOT_READ_BACK = "what was written is not what can be read: a bad disk?"


@dataclass(frozen=True)
class PrepareSettings:
    """What is made of the frames.

    Attributes:
        size: width and height, pixels.
        fit: `stretch` to that size, or the smallest size of the frame's `crop` that covers it.
        min_motion: frames that moved less since the last one that was kept are left out: median flow, a share of the
            width. Of 64 frames the first is kept in any case.
        truth: also export the true depth at the size of the original frames, without their distortion, for scoring.
        reader: options that the dataset was opened with, where they are not the defaults.
    """

    size: tuple[int, int] = (832, 256)
    fit: Literal["stretch", "crop"] = "stretch"
    min_motion: float = 0.002
    truth: bool = False
    reader: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class PreparedSequence:
    """What became of a sequence.

    Attributes:
        name: of the sequence.
        kept: frames that were written.
        static: frames left out because nothing moved.
        unreadable: frames left out because their image could not be read.
        without_depth: frames that were written without their depth, because it could not be read.
        problems: of files, one line each.
    """

    name: str
    kept: int = 0
    static: int = 0
    unreadable: int = 0
    without_depth: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether all that the source has could be read."""
        return self.kept > 0 and not self.unreadable and not self.without_depth


def prepare_sequences(
    sequences: tuple[DatasetSequence, ...],
    out: str | Path,
    settings: PrepareSettings,
    chosen: Mapping[str, list[int]] | None = None,
    workers: int = 1,
    advance: Callable[[int], object] = lambda frames: None,
) -> list[PreparedSequence]:
    """Write the frames of sequences as pictures, in a folder for each: resumable, and the same however it went.

    A folder `OUT/NAME` gets `images/NUMBER.png`, `calib.yaml`, `times.txt` (seconds, one for each picture), where known
    `poses.tum`, `speeds.txt` (metres a second, one for each picture) and `depth/NUMBER.png` (metres times 256, of the
    pictures' size), with `truth` also `truth/NUMBER.png` (of the original size, without distortion as they are), and
    `prepared.json`, which says that it is complete. NUMBER is that of the source's file. What is there already is
    checked, and written again where it is damaged or its source was.

    Args:
        sequences: of one dataset.
        out: folder to write to; one that holds a part of the same preparation is completed.
        settings: what to make.
        chosen: sequence to the frames to take of it, in rising order; None takes all of all.
        workers: processes.
        advance: told after each part how many frames it had.

    Raises:
        UsageError: the folder holds other things, a preparation with other settings, of another source or of other
            frames, or is being written to by another process.
        TrianflowError: a file that cannot be written, a process that was killed.
    """
    out = Path(out).expanduser()
    wanted = [(s, list(range(len(s))) if chosen is None else list(chosen.get(s.name, ()))) for s in sequences]
    wanted = [(sequence, frames) for sequence, frames in wanted if frames]
    results = {}
    jobs: list[_Job] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _alone(out):
            _begin(out, settings)
            for sequence, frames in wanted:
                folder = out / sequence.name
                if out.resolve() not in folder.resolve().parents:
                    raise UsageError(f"the sequence {sequence.name!r} would not lie in {out}: name the source in full")
                try:
                    camera = sequence.camera
                    pictures = Preparation(camera, settings.size, settings.fit)
                    truth = Preparation(camera, (camera.width, camera.height), settings.fit)
                    jobs.append(_Job(sequence, frames, pictures, truth, folder, settings))
                except TrianflowError as error:
                    results[sequence.name] = PreparedSequence(sequence.name, problems=[str(error)])
                    advance(len(frames))
            for job, parts in _run(jobs, workers, advance):
                results[job.sequence.name] = _complete(job, parts)
    except OSError as error:
        place, room = error.filename or out, "; make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise TrianflowError(f"{place}: cannot be written: {error.strerror or error}{room}") from error
    except BrokenProcessPool as error:
        raise TrianflowError(
            "a process was killed, out of memory? the same command goes on, with fewer --workers"
        ) from error
    return [results[sequence.name] for sequence, _ in wanted]


@dataclass(frozen=True)
class _Job:
    """A sequence that is to be prepared."""

    sequence: DatasetSequence
    frames: list[int]
    pictures: Preparation
    truth: Preparation
    folder: Path
    settings: PrepareSettings

    def parts(self) -> range:
        """Where in `frames` the parts begin."""
        return range(0, len(self.frames), _PART)

    def part_file(self, begin: int) -> Path:
        """What says that a part is done."""
        return self.folder / _PARTS / f"{begin:06d}.json"

    def origin(self, begin: int) -> dict[str, Any]:
        """What a part is made of."""
        source = str(self.sequence.frames.path.absolute().resolve())
        return {"source": source, "frames": self.frames[begin : begin + _PART]}

    def finished(self, begin: int) -> dict[str, Any] | None:
        """A part that is done, whole, and without problems; one with some is tried again.

        Raises:
            UsageError: it is of another source, or of other frames.
        """
        part = _read(self.part_file(begin))
        if part is None:
            return None
        for key, what in (("source", "another source"), ("frames", "other frames")):
            if part[key] != self.origin(begin)[key]:
                raise UsageError(f"{self.folder} was prepared from {what}: name another folder")
        return part if not part["problems"] and _is_whole(self.folder, part) else None


def _run(
    jobs: list[_Job], workers: int, advance: Callable[[int], object]
) -> Iterator[tuple[_Job, list[dict[str, Any]]]]:
    """Do what is left of the jobs; each with its parts, in order, as soon as they are there."""
    parts: list[dict[int, dict[str, Any]]] = [{} for _ in jobs]
    todo: list[tuple[int, int]] = []
    for number, job in enumerate(jobs):
        (job.folder / _PARTS).mkdir(parents=True, exist_ok=True)
        for begin in job.parts():
            part = job.finished(begin)
            if part is not None:
                parts[number][begin] = part
                advance(min(_PART, len(job.frames) - begin))
            else:
                todo.append((number, begin))

    def finished(number: int) -> bool:
        return len(parts[number]) == len(jobs[number].parts())

    for number in range(len(jobs)):
        if finished(number):
            yield jobs[number], [parts[number][begin] for begin in jobs[number].parts()]
    if not todo:
        return
    # Processes of their own from the start: one forked from a program with threads may hang.
    with ProcessPoolExecutor(max(1, workers), get_context("spawn"), _start_worker, (jobs,)) as pool:
        try:
            running = {pool.submit(_do_part, number, begin): (number, begin) for number, begin in todo}
            for future in as_completed(running):
                number, begin = running[future]
                parts[number][begin] = future.result()
                advance(min(_PART, len(jobs[number].frames) - begin))
                if finished(number):
                    yield jobs[number], [parts[number][begin] for begin in jobs[number].parts()]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


_jobs: list[_Job] = []  # of a worker process


def _start_worker(jobs: list[_Job]) -> None:
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


def _do_part(number: int, begin: int) -> dict[str, Any]:
    """Write the pictures of a part, and then the file that says so."""
    job = _jobs[number]
    sequence, settings = job.sequence, job.settings
    threshold = settings.min_motion if sequence.consecutive else 0.0
    part: dict[str, Any] = {"kept": [], **dict.fromkeys(_COUNTS, 0), "problems": [], "bytes": {}} | job.origin(begin)
    meter, last = MotionMeter(), None
    for frame in sequence.frames.select(part["frames"]):
        if frame.image is None:
            file = sequence.frames.path / frame.name
            part["problems"].append(f"{file}: {frame.problem}; left out: unpack or download it again")
            part["unreadable"] += 1
            continue
        picture = job.pictures.image(frame.image)
        if threshold > 0:
            small = meter.small(picture)
            if last is not None and meter.motion(last, small) < threshold:
                part["static"] += 1
                continue
            last = small
        name = f"{sequence.number(frame.index):06d}.png"
        encoded = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
        part["bytes"][f"images/{name}"] = _write(job.folder / "images" / name, encoded)
        part["kept"].append([frame.index, frame.time])
        try:
            depth = sequence.depth(frame.index)
            truth = sequence.scoring_depth(frame.index) if settings.truth else None
        except TrianflowError as error:
            part["problems"].append(f"{error}; no depth for this frame")
            part["without_depth"] += 1
            continue
        if depth is not None:
            part["bytes"][f"depth/{name}"] = _write_depth(job.folder / "depth" / name, job.pictures.depth(depth))
        if truth is not None:
            part["bytes"][f"truth/{name}"] = _write_depth(job.folder / "truth" / name, job.truth.depth(truth))
    with replacing(job.part_file(begin)) as path:
        path.write_text(json.dumps(part))
    return part


def _write(path: Path, data: bytes) -> int:
    """Write a file and read it back; its size."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    if path.read_bytes() != data:
        raise TrianflowError(f"{path}: {_NOT_READ_BACK}")
    return len(data)


def _write_depth(path: Path, depth: np.ndarray) -> int:
    """Write depth, not positive or NaN where unknown, and read it back; the size of the file."""
    path.parent.mkdir(exist_ok=True)
    write_depth(path, depth, DEPTH_SCALE)
    with readable(path):
        same = np.array_equal(read_depth(path, DEPTH_SCALE) > 0, depth > 0)
    if not same:
        raise TrianflowError(f"{path}: {_NOT_READ_BACK}")
    return path.stat().st_size


def _complete(job: _Job, parts: list[dict[str, Any]]) -> PreparedSequence:
    """What stands once in a folder: calibration, times, poses, and the file that says that it is complete.

    A folder without a single picture is removed.
    """
    folder, sequence = job.folder, job.sequence
    kept = [entry for part in parts for entry in part["kept"]]
    counts = {key: sum(part[key] for part in parts) for key in _COUNTS}
    problems = [*sequence.problems, *(problem for part in parts for problem in part["problems"])]
    result = PreparedSequence(sequence.name, len(kept), **counts, problems=problems)
    if not kept:
        shutil.rmtree(folder)
        return result
    written = {name for part in parts for name in part["bytes"]}
    for path in [*folder.glob("*/*.png"), *folder.rglob(".*.part")]:  # of a part that was done again, or was killed
        if path.relative_to(folder).as_posix() not in written:
            path.unlink()
    if not all(_is_whole(folder, part) for part in parts):
        raise TrianflowError(f"{folder}: files that were written are gone or cut short; run the command again")
    camera = job.pictures.camera
    calibration: dict[str, Any] = {key: float(getattr(camera, key)) for key in ("fx", "fy", "cx", "cy")}
    calibration |= {"width": camera.width, "height": camera.height, "depth_scale": DEPTH_SCALE}
    (folder / "calib.yaml").write_text(yaml.safe_dump(calibration, sort_keys=False))
    (folder / "times.txt").write_text("".join(f"{time:.9f}\n" for _, time in kept))
    poses = _poses(sequence, np.array([time for _, time in kept]))
    if poses is not None:
        poses.save(folder / "poses.tum")
    speeds = [sequence.speed(index) for index, _ in kept]
    if any(speed is not None for speed in speeds):
        rows = ("nan" if speed is None else f"{speed:.6f}" for speed in speeds)
        (folder / "speeds.txt").write_text("".join(f"{row}\n" for row in rows))
    facts = {"source": job.origin(0)["source"], "frames": len(job.frames), "kept": len(kept), **counts}
    with replacing(folder / FACTS) as path:
        path.write_text(json.dumps(facts | {"problems": problems}, indent=1) + "\n")
    return result


def _poses(sequence: DatasetSequence, times: np.ndarray) -> Trajectory | None:
    """The poses of the frames of some times; None where there are none."""
    known = sequence.poses
    if known is None or not len(known):
        return None
    place = np.searchsorted(known.times, times).clip(max=len(known) - 1)
    found = known.times[place] == times
    return Trajectory(times[found], known.T_wc[place[found]]) if found.any() else None


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Where this process alone writes to the folder."""
    with open(out / _LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{out}: another process is at work there") from None
        yield


def _begin(out: Path, settings: PrepareSettings) -> None:
    """Check that a folder holds the same preparation, or begin one."""
    now = json.loads(json.dumps(asdict(settings)))
    before = _read(out / SETTINGS)
    if before is None:
        if any(not path.name.startswith(".") for path in out.iterdir()):
            raise UsageError(f"{out} holds other things: name a new folder")
        with replacing(out / SETTINGS) as path:
            path.write_text(json.dumps(now, indent=1) + "\n")
    elif before != now:
        changed = ", ".join(key for key in now if before.get(key) != now[key])
        raise UsageError(f"{out} holds data prepared with other settings ({changed}): name another folder")
    (out / f".{SETTINGS}.part").unlink(missing_ok=True)  # of a run that was killed here


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON mapping; None where there is none, or only a part of one."""
    try:
        values = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _is_whole(folder: Path, part: dict[str, Any]) -> bool:
    """Whether all files of a part are there in full size."""
    sizes = part["bytes"].items()
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes)
