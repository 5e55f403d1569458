"""Prepared data: the frames of a dataset, small and without distortion, in folders that everything else can read."""

from __future__ import annotations

import errno
import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from trianflow.data.datasets.interface import DatasetSequence
from trianflow.data.pairs.prepare import Preparation
from trianflow.data.prepared_parts import COUNTS, DEPTH_SCALE, FACTS, PARTS, Job, do_part, read_mapping, start_worker
from trianflow.errors import TrianflowError, UsageError
from trianflow.files import replacing
from trianflow.trajectory import Trajectory

SETTINGS = "prepare.json"
_LOCK = ".lock"


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
        split, stride: by which the frames were chosen, as `splits.choose_frames` does.
    """

    size: tuple[int, int] = (832, 256)
    fit: Literal["stretch", "crop"] = "stretch"
    min_motion: float = 0.002
    truth: bool = False
    reader: Mapping[str, Any] = field(default_factory=dict)
    split: str | None = None
    stride: int = 1


@dataclass
class PreparedSequence:
    """What became of a sequence.

    Attributes:
        name: of the sequence.
        kept: frames that were written.
        static: frames left out because nothing moved.
        unreadable: frames left out because their image could not be read.
        without_depth: frames that were written without their depth, because it could not be read.
        problems: what is wrong with the source or missing in it, one line each.
        notes: what else should be known, one line each.
    """

    name: str
    kept: int = 0
    static: int = 0
    unreadable: int = 0
    without_depth: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the source had all that belongs to it, and all of that could be read."""
        return self.kept > 0 and not self.problems


def prepare_sequences(
    sequences: tuple[DatasetSequence, ...],
    out: str | Path,
    settings: PrepareSettings,
    chosen: Mapping[str, list[int]] | None = None,
    workers: int = 1,
    advance: Callable[[int], object] = lambda frames: None,
) -> list[PreparedSequence]:
    """Write the frames of sequences as pictures, in a folder for each: resumable, and the same however it went.

    A folder `OUT/NAME` gets `images/NUMBER.png` (grey where the frames are), `calib.yaml`, `times.txt` (seconds, one
    for each picture), where known `poses.tum`, `speeds.txt` (metres a second, one for each picture) and
    `depth/NUMBER.png` (metres times 256, of the pictures' size), with `truth` also `truth/NUMBER.png` (of the original
    size, without distortion as they are), and `prepared.json`, which says that it is complete. NUMBER is that of the
    source's file. What is there already is checked, and written again where it is damaged or its source has changed:
    an image or depth file of another size or time (so also one that was only copied or touched), or another camera,
    scale of depth or place of the laser scanner.

    Args:
        sequences: of one dataset.
        out: folder to write to; one that holds a part of the same preparation is completed.
        settings: what to make.
        chosen: sequence to the frames to take of it, in rising order; None takes all of all.
        workers: processes.
        advance: told after each part how many frames it had.

    Raises:
        UsageError: the folder holds other things, a preparation with other settings or of another source, or is being
            written to by another process.
        TrianflowError: a file that cannot be written, a process that was killed.
    """
    out = Path(out).expanduser()
    wanted = [(s, list(range(len(s))) if chosen is None else list(chosen.get(s.name, ()))) for s in sequences]
    wanted = [(sequence, frames) for sequence, frames in wanted if frames]
    results = {}
    jobs: list[Job] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _alone(out):
            _begin(out, settings)
            for sequence, frames in wanted:
                try:
                    jobs.append(_job(sequence, frames, out, settings))
                except UsageError:
                    raise
                except TrianflowError as error:
                    results[sequence.name] = PreparedSequence(sequence.name, problems=[str(error)])
                    advance(len(frames))
            changed = [_take_up(job) for job in jobs]
            for number, parts in _run(jobs, workers, advance):
                results[jobs[number].sequence.name] = _complete(jobs[number], parts, changed[number])
    except OSError as error:
        place, room = error.filename or out, "; make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise TrianflowError(f"{place}: cannot be written: {error.strerror or error}{room}") from error
    except BrokenProcessPool as error:
        raise TrianflowError(
            "a process was killed, out of memory? the same command goes on, with fewer --workers"
        ) from error
    return [results[sequence.name] for sequence, _ in wanted]


def _job(sequence: DatasetSequence, frames: list[int], out: Path, settings: PrepareSettings) -> Job:
    folder, camera = out / sequence.name, sequence.camera
    if out.resolve() not in folder.resolve().parents:
        raise UsageError(f"the sequence {sequence.name!r} would not lie in {out}: name the source in full")
    pictures = Preparation(camera, settings.size, settings.fit)
    truth = Preparation(camera, (camera.width, camera.height), settings.fit) if settings.truth else None
    return Job(sequence, frames, pictures, truth, settings.min_motion if sequence.consecutive else 0.0, folder)


def _take_up(job: Job) -> int:
    """Begin the folder of a sequence, or look at what is there.

    Returns:
        The number of frames in parts that are there and were made of something else than the source has by now.

    Raises:
        UsageError: another source, which is still there.
    """
    (job.folder / PARTS).mkdir(parents=True, exist_ok=True)
    changed, whole = 0, True
    for begin in job.parts():
        part = read_mapping(job.part_file(begin))
        if part is None:
            whole = False
            continue
        if part["source"] != job.source() and Path(part["source"]).exists():  # else it was moved
            raise UsageError(f"{job.folder} was prepared from another source, {part['source']}: name another folder")
        if not job.is_of(part, begin):
            changed += len(job.of_part(begin))
        whole = whole and not part["problems"]
    if changed or not whole:
        (job.folder / FACTS).unlink(missing_ok=True)
    return changed


def _run(jobs: list[Job], workers: int, advance: Callable[[int], object]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Do what is left of the jobs; the number of each with its parts, in order, as soon as they are there."""
    parts: list[dict[int, dict[str, Any]]] = [{} for _ in jobs]
    todo = [(number, begin) for number, job in enumerate(jobs) for begin in job.parts()]
    # Processes of their own from the start: one forked from a program with threads may hang.
    processes = max(1, min(workers, len(todo)))
    with ProcessPoolExecutor(processes, get_context("spawn"), start_worker, (jobs,)) as pool:
        try:
            running = {pool.submit(do_part, number, begin): (number, begin) for number, begin in todo}
            for future in as_completed(running):
                number, begin = running[future]
                parts[number][begin] = future.result()
                advance(len(jobs[number].of_part(begin)))
                if len(parts[number]) == len(jobs[number].parts()):
                    yield number, [parts[number][begin] for begin in jobs[number].parts()]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _complete(job: Job, parts: list[dict[str, Any]], changed: int) -> PreparedSequence:
    """What stands once in a folder: calibration, times, poses, and the file that says that it is complete.

    A folder without a single picture is removed.
    """
    folder, sequence = job.folder, job.sequence
    kept = [index for part in parts for index in part["kept"]]
    counts = {key: sum(part[key] for part in parts) for key in COUNTS}
    problems = [*sequence.problems, *(problem for part in parts for problem in part["problems"])]
    result = PreparedSequence(sequence.name, len(kept), **counts, problems=problems, notes=[*sequence.notes])
    if changed:
        what = f"{changed} of {len(job.frames)} frames were prepared again"
        result.notes.append(f"{folder}: {what}, as the source has changed since they were")
    if not kept:
        shutil.rmtree(folder)
        return result
    written = {folder / name for part in parts for name in part["bytes"]} | {*map(job.part_file, job.parts())}
    for path in {*folder.glob("*/*.png"), *folder.glob(f"{PARTS}/*"), *folder.rglob(".*.part")}:
        if path not in written:  # of a part that was done again, or of a process that was killed
            path.unlink()
    camera, times = job.pictures.camera, np.array([sequence.listed(index)[1] for index in kept])
    calibration: dict[str, Any] = {key: float(getattr(camera, key)) for key in ("fx", "fy", "cx", "cy")}
    calibration |= {"width": camera.width, "height": camera.height, "depth_scale": DEPTH_SCALE}
    (folder / "calib.yaml").write_text(yaml.safe_dump(calibration, sort_keys=False))
    (folder / "times.txt").write_text("".join(f"{time:.9f}\n" for time in times))
    for name in ("poses.tum", "speeds.txt"):
        (folder / name).unlink(missing_ok=True)
    poses = _poses(sequence, times)
    if poses is not None:
        poses.save(folder / "poses.tum")
    speeds = [sequence.speed(index) for index in kept]
    if any(speed is not None for speed in speeds):
        rows = ("nan" if speed is None else f"{speed:.6f}" for speed in speeds)
        (folder / "speeds.txt").write_text("".join(f"{row}\n" for row in rows))
    facts = {"source": job.source(), "frames": len(job.frames), "kept": len(kept), **counts}
    with replacing(folder / FACTS) as path:
        path.write_text(json.dumps(facts | {"problems": problems, "notes": sequence.notes}, indent=1) + "\n")
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
    before = read_mapping(out / SETTINGS)
    if before is None:
        if any(not path.name.startswith(".") for path in out.iterdir()):
            raise UsageError(f"{out} holds other things: name a new folder")
        with replacing(out / SETTINGS) as path:
            path.write_text(json.dumps(now, indent=1) + "\n")
    elif before != now:
        changed = ", ".join(key for key in now if before.get(key) != now[key])
        raise UsageError(f"{out} holds data prepared with other settings ({changed}): name another folder")
    (out / f".{SETTINGS}.part").unlink(missing_ok=True)  # of a run that was killed here
