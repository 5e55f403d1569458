"""A whole run: frames in, trajectory files, report and picture out; what is done survives an interruption."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch

from trianflow.config import OdometryConfig
from trianflow.data.frames import Frame, FrameSource
from trianflow.errors import TrianflowError
from trianflow.files import replacing
from trianflow.geometry.camera import Camera
from trianflow.odometry.estimators import Estimators
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.preparation import with_next
from trianflow.odometry.report import Remark, RunReport, run_facts
from trianflow.odometry.step import Step
from trianflow.trajectory import Trajectory, TrajectoryWriter

TUM, KITTI, REPORT, PICTURE = "trajectory.tum", "trajectory.kitti", "report.json", "trajectory.png"
PAGE, CLOUD = "report.html", "cloud.ply"
CLOSED = ("trajectory_loops.tum", "trajectory_loops.kitti")
_SAVE_EVERY = 10.0  # seconds between two writings of the report: what a killed run loses of it
_UNMARKED = ("first", "pnp", "duplicate")  # statuses that the picture shows as ok: their pose is as good

OnStep = Callable[[Frame, Step, Remark | None], None]


@dataclass
class OdometryRun:
    """The outcome of `run_odometry`.

    Attributes:
        out: the folder that holds the files.
        report: as written to `report.json`.
        trajectory: as written to `trajectory.tum`.
        files: names of the files that were written.
        problems: what could not be done beside the trajectory (metres, evaluation, picture), one line each.
    """

    out: Path
    report: RunReport
    trajectory: Trajectory
    files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def named(self, path: Path) -> str:
        """A file as a person finds it: by its name where it lies in the folder of the results, else by its path."""
        return path.name if path.resolve().parent == self.out.resolve() else str(path)


class Observer(Protocol):
    """Makes a result of its own from what the odometry sees: a point cloud, a page, a video."""

    def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
        """Called once a frame, after `track`; `odometry.seen` has the images, the flow and the points."""

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        """Called once, after the run's own files; also where it was interrupted or has failed after a frame.

        Returns:
            Names of the files that were written, as a person would find them.
        """

    def abandon(self) -> None:
        """Called once where one of the others raised, which is a line of the run's problems and does not end it.

        Also in place of `finish` where there is not one frame, or the run's own files cannot be written. Leaves
        nothing half done, and nothing of an earlier run that would pass for a result of this one.
        """


class Interrupted(KeyboardInterrupt):
    """A run was stopped by the user.

    Attributes:
        run: what was done.
    """

    def __init__(self, run: OdometryRun) -> None:
        super().__init__()
        self.run = run


def set_threads() -> None:
    """Give this process the threads that odometry is fastest with.

    One for torch, whose many small tensors only lose by more (networks take all cores by themselves); half of the
    cores for each of the two directions of OpenCV's flow, which run side by side.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(max(1, (os.cpu_count() or 1) // 2))


def prepare_output(out: str | Path) -> Path:
    """Make the folder of the results and make sure that files can be written to it.

    Raises:
        TrianflowError: it cannot be made, is a file, or is not writable.
    """
    out = Path(out).expanduser()
    probe = out / f".trianflow-{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as e:
        reason = "it is a file" if isinstance(e, FileExistsError) else e.strerror
        raise TrianflowError(f"{out}: cannot write the results there: {reason}") from e
    return out


def run_odometry(
    frames: Iterable[Frame],
    camera: Camera,
    config: OdometryConfig | None = None,
    out: str | Path = "out",
    *,
    estimators: Estimators | None = None,
    report: RunReport | None = None,
    truth: Trajectory | None = None,
    on_step: OnStep | None = None,
    observers: Sequence[Observer] = (),
) -> OdometryRun:
    """Track every frame and write the results as they come.

    `trajectory.tum` and `trajectory.kitti` get a row as soon as a frame is done, flushed: a killed run leaves
    what it did; at the end they are written anew, each pose as the key frames after it have corrected it, and all in
    metres where these have become known on the way (`scale_sigma` in the report tells from which frame on).
    `report.json` is written at the start, every ten seconds and at the end; its `state`
    says whether the run came to its end. `trajectory.png` is drawn at the end, also after an interruption.

    Args:
        frames: in order of time; a `FrameSource` or any other iterable.
        camera: of the frames, distortion included.
        config: the accurate preset by default.
        out: folder of the results, made where it is missing; files of an earlier run are replaced.
        estimators: flow and depth; by default what the configuration names.
        report: an empty report with the facts to begin with; by default those of the arguments.
        truth: trajectory to compare with: fills `report.evaluation` and is drawn beneath the estimate.
        on_step: called after a frame's rows are on disk, with the frame, its step and, the first time that
            something of its kind happens, a remark.
        observers: make further results.

    Returns:
        What was done. That the truth does not fit, or that the picture or an observer fails, is a line in its
        `problems`.

    Raises:
        TrianflowError: the networks cannot be loaded, the folder cannot be written, or there is not one frame.
        Interrupted: in place of a `KeyboardInterrupt`, after the files have been completed.
        Exception: whatever tracking, reading or `on_step` raised, after that too.
    """
    config = config or OdometryConfig()
    source = frames if isinstance(frames, FrameSource) else None
    estimators = estimators or Estimators.of(config, measured_depth=source is None or source.depth is not None)
    odometry = VisualOdometry(camera, config, estimators.flow, estimators.depth, estimators.pose)
    if report is None:
        report = RunReport(run_facts(camera, config, source))
    report.facts["networks"] = estimators.facts()
    out = prepare_output(out)
    run = OdometryRun(out, report, Trajectory(np.zeros(0), np.zeros((0, 4, 4))), [TUM, KITTI, REPORT])
    report.facts["files"] = run.files  # as they come
    given = report.notes
    _take_notes(report, given, source)
    stale = [PICTURE, PAGE, *CLOSED] + ([CLOUD] if (out / REPORT).exists() else [])  # other folders may have a cloud
    for name in stale:
        (out / name).unlink(missing_ok=True)  # of an earlier run
    report.save(out / REPORT)
    active = list(observers)
    try:
        with (
            TrajectoryWriter(out / TUM) as tum,
            TrajectoryWriter(out / KITTI) as kitti,
            _closing(frames) as stream,
        ):
            begin = saved = time.perf_counter()
            is_live = source is not None and source.kind == "webcam"  # a frame that waits for its next grows old
            for frame, upcoming in ((frame, None) for frame in stream) if is_live else with_next(stream):
                step = odometry.track(frame, upcoming)
                tum.write(step.time, step.T_wc)
                kitti.write(step.time, step.T_wc)
                remark = report.add(frame, step)
                now = time.perf_counter()
                report.seconds = now - begin
                if now - saved > _SAVE_EVERY:
                    report.save(out / REPORT)
                    saved = now
                for observer in active.copy():
                    try:
                        observer.observe(odometry, frame, step)
                    except Exception as e:
                        active.remove(observer)
                        _abandon(observer, run, e, f" at frame {step.index}")
                if on_step is not None:
                    on_step(frame, step, remark)
        if not report.rows:
            raise TrianflowError("the input has not one frame")
        report.state = "complete"
    except BaseException as e:
        interrupted = isinstance(e, KeyboardInterrupt)
        report.state = "interrupted" if interrupted else "failed"
        report.error = "" if interrupted else (str(e) or type(e).__name__).splitlines()[0]
        with contextlib.suppress(Exception):  # the disk may be what failed: the cause is worth more
            _take_notes(report, given, source)
            _finish(run, odometry, truth if interrupted else None, active)
        if interrupted:
            raise Interrupted(run) from e
        raise
    _take_notes(report, given, source)
    _finish(run, odometry, truth, active)
    return run


def _take_notes(report: RunReport, given: list[str], source: FrameSource | None) -> None:
    """The notes of the input, which change while it is read, and those that were given."""
    found = source.notes if source is not None else []
    report.notes = [*found, *(note for note in given if note not in found)]


def _finish(
    run: OdometryRun, odometry: VisualOdometry, truth: Trajectory | None, observers: Sequence[Observer]
) -> None:
    """The run's own files, then what the observers make: whoever does not come to that is abandoned."""
    waiting = list(observers)
    try:
        _write_results(run, odometry, truth)
        while waiting and run.report.rows:
            try:
                run.files += waiting[0].finish(run, odometry)
            except Exception as e:
                _abandon(waiting[0], run, e)
            del waiting[0]
        run.report.save(run.out / REPORT)
    finally:
        for observer in waiting:
            with contextlib.suppress(Exception):
                observer.abandon()


def _write_results(run: OdometryRun, odometry: VisualOdometry, truth: Trajectory | None) -> None:
    """Report first, then what may fail: loops, evaluation and picture."""
    report, out, trajectory = run.report, run.out, odometry.trajectory
    done = len(report.rows)  # an exception can come between a pose and its row
    run.trajectory = Trajectory(trajectory.times[:done], trajectory.T_wc[:done])
    report.path_length = run.trajectory.path_length
    report.back_end["radial"] = odometry.radial
    if report.rows:
        short = odometry.metric.shortcomings(*run.trajectory.times[[0, -1]].tolist())
        if odometry.metric.known:
            report.notes += short
        elif report.unit != "metres":  # by depth alone
            run.problems += [f"not in metres; {line}" for line in short]
    report.save(out / REPORT)
    if not report.rows:
        return
    for name in (TUM, KITTI):
        with replacing(out / name) as beside:
            run.trajectory.save(beside, name.rpartition(".")[2])
    if odometry.config.loops:
        try:
            _close_loops(run, odometry)
        except Exception as e:
            run.problems.append(_problem("closing loops", e))
        report.save(out / REPORT)
    alignment = "se3" if report.unit == "metres" else "sim3"
    if truth is not None:
        try:
            report.evaluation = _evaluate(truth, comparable(run, truth), alignment)
        except TrianflowError as e:
            run.problems.append(f"cannot compare with the truth: {e}")
            truth = None
        report.save(out / REPORT)
    try:
        _draw(run, truth, alignment)
        run.files.append(PICTURE)
    except Exception as e:
        run.problems.append(_problem(PICTURE, e))


def _close_loops(run: OdometryRun, odometry: VisualOdometry) -> None:
    """Write the trajectory with its loops closed, where one was kept."""
    closed = odometry.closed()
    found = 0 if closed is None else len(closed.kept)
    kept = [] if closed is None else closed.rows[closed.kept].tolist()
    run.report.back_end["loops"] = {"found": found, "kept": kept}
    if closed is None or not kept:
        run.report.notes.append(f"no loop was kept of {found} that were found" if found else "no loop was found")
        return
    for name in CLOSED:
        with replacing(run.out / name) as beside:
            closed.trajectory.save(beside, name.rpartition(".")[2])
        run.files.append(name)


def _abandon(observer: Observer, run: OdometryRun, error: Exception, when: str = "") -> None:
    """Do without an observer, and say why."""
    run.problems.append(_problem(type(observer).__name__ + when, error))
    with contextlib.suppress(Exception):
        observer.abandon()


def _problem(what: str, error: Exception) -> str:
    """One line: our own errors say it all, of others it takes what has failed and the kind."""
    reason = (str(error) or "no reason given").splitlines()[0]
    return reason if isinstance(error, TrianflowError) else f"{what} has failed: {type(error).__name__}: {reason}"


def comparable(run: OdometryRun, truth: Trajectory) -> Trajectory:
    """The estimate with frame numbers for times where the truth has those: strides find their rows."""
    if not truth.times_are_indices:
        return run.trajectory
    numbers = np.array([row["index"] for row in run.report.rows])
    return Trajectory(numbers, run.trajectory.T_wc, times_are_indices=True)


def _evaluate(truth: Trajectory, estimate: Trajectory, alignment: str) -> dict[str, object]:
    from trianflow.evaluation.odometry import evaluate_odometry

    return evaluate_odometry(truth, estimate, alignment).to_dict()


def _draw(run: OdometryRun, truth: Trajectory | None, alignment: str) -> None:
    from trianflow.visualization.html_words import title
    from trianflow.visualization.trajectory_plot import plot_trajectory

    words = [row["status"] for row in run.report.rows]
    status = ["ok" if word in _UNMARKED else word for word in words]
    unit = "m" if run.report.unit == "metres" else None
    estimate = run.trajectory if truth is None else comparable(run, truth)
    plot_trajectory(run.out / PICTURE, estimate, truth, status, title(run.report.facts), alignment, unit)


@contextlib.contextmanager
def _closing(frames: Iterable[Frame]) -> Iterator[Iterator[Frame]]:
    """An iterator that is closed at the end, so that its reading thread ends too."""
    stream = iter(frames)
    try:
        yield stream
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()
