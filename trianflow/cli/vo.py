"""`trianflow vo`: the camera trajectory of a video or a folder of images."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trianflow.cli.common import (
    add_input_arguments,
    add_network_arguments,
    network_words,
    open_input,
    output_folder,
    warn,
)
from trianflow.cli.progress import Progress
from trianflow.cli.vo_observers import add_observer_arguments, check_pictures, make_observers
from trianflow.config import OdometryConfig, load_settings
from trianflow.errors import TrianflowError
from trianflow.evaluation.segments import fitting_lengths
from trianflow.trajectory import Trajectory

if TYPE_CHECKING:
    from trianflow.data.frames import Frame, FrameSource
    from trianflow.geometry.camera import Camera
    from trianflow.odometry.estimators import Estimators
    from trianflow.odometry.report import Remark, RunReport
    from trianflow.odometry.run import Observer, OdometryRun
    from trianflow.odometry.step import Step

_DESCRIPTION = """\
Estimate the camera's trajectory. Writes into the output folder, row by row while it works:
  trajectory.tum    t x y z qx qy qz qw, seconds, camera to world; one row a frame
  trajectory.kitti  12 numbers a row, the same poses
  report.json       what was done with each frame and why, the configuration, versions, speed
  trajectory.png    seen from above, and the height
Ctrl-C stops after the frame at hand and leaves these files. Exit code 1 where most poses are guesses, and where metres
were asked for (--camera-height, --speed) that the frames do not give."""
_EPILOG = """\
examples:
  trianflow vo drive.mp4 --calib calib.yaml
  trianflow vo kitti/07 --preset fast --gt kitti/07/poses.txt
  trianflow vo room/rgb --depth room/depth --depth-scale 5000 --out out/room
  trianflow vo room/rgb --depth room/depth --depth-scale 5000 --cloud room.ply --mesh room_mesh.ply
  trianflow vo drive.mp4 --calib calib.yaml --report --overlay drive_seen.mp4
  trianflow vo 0 --live
  trianflow vo drive.mp4 --flow pwc+dis --scale depth
  trianflow vo drive.mp4 --flow pwc --weights my.safetensors
  trianflow vo drive.mp4 --intrinsics 620 620 404 309 --stride 2 matches.count=4000 two_view.threshold=1"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `vo` to the sub-commands."""
    parser = subparsers.add_parser(
        "vo",
        help="camera trajectory of a video or a folder of images",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vo` to a parser."""
    add_input_arguments(parser)
    method = parser.add_argument_group("method")
    method.add_argument(
        "--preset", choices=["accurate", "fast"], default="accurate", help="settings to begin with (accurate)"
    )
    method.add_argument(
        "--flow",
        default=None,
        metavar="NAME",
        help="optical flow: dis (OpenCV, the default), pwc (the network) or pwc+dis (the network, carried on by DIS)",
    )
    add_network_arguments(method)
    method.add_argument(
        "--pose",
        choices=["geometry", "direct", "posenet"],
        default=None,
        help="two-view geometry (the default); direct: alignment of the images, with depth; posenet: the pose network"
        " of the weights",
    )
    method.add_argument(
        "--scale",
        choices=["auto", "depth", "structure", "unit"],
        default=None,
        help="where the length of a step comes from: depth (measured with --depth, else that of the network), the"
        " structure carried along, or one unit a step (auto: depth alone with --depth, else"
        " structure; depth: fused over time with the structure of the window)",
    )
    method.add_argument(
        "--camera-height",
        type=float,
        default=None,
        metavar="M",
        help="height of a car's camera over the road, metres: makes a trajectory in metres (KITTI: 1.65)",
    )
    method.add_argument(
        "--speed",
        default=None,
        metavar="FILE",
        help="the car's speed: rows of seconds and metres a second, speeds.txt of a prepared sequence, or a KITTI OXTS"
        " folder: a trajectory in metres",
    )
    method.add_argument(
        "--loops",
        action="store_true",
        default=None,
        help="recognise places and close loops: trajectory_loops.tum and .kitti, beside the others",
    )
    method.add_argument("--seed", type=int, default=None, metavar="N", help="of all that is random (default 0)")
    method.add_argument("--config", default=None, metavar="FILE", help="YAML with settings")
    method.add_argument("overrides", nargs="*", metavar="key=value", help="single settings, as in a --config file")
    output = parser.add_argument_group("output")
    output.add_argument("--out", default=None, metavar="DIR", help="folder of the results (out/NAME-OF-THE-INPUT)")
    output.add_argument(
        "--gt", default=None, metavar="FILE", help="true trajectory (TUM, KITTI or COLMAP) to compare with"
    )
    output.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_observer_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow vo`; 0 where the work was done, 1 where most poses are guesses or a result is missing.

    Raises:
        UsageError: an argument that cannot be right.
        TrianflowError: input, calibration or output that cannot be used.
        KeyboardInterrupt: stopped by the user, after the results of the frames so far were written.
    """
    return execute(args)[0]


def execute(args: argparse.Namespace) -> tuple[int, OdometryRun]:
    """`run`, with the outcome beside the exit code."""
    # before torch is imported, so that what is wrong is told at once
    config = _configuration(args)
    if config.speed is not None:
        from trianflow.odometry.speed import SpeedFile

        SpeedFile.load(config.speed)
    truth = _truth(args.gt) if args.gt is not None else None

    from trianflow.odometry.estimators import Estimators
    from trianflow.odometry.report import RunReport, run_facts
    from trianflow.odometry.run import Interrupted, prepare_output, set_threads

    set_threads()
    frames, camera, calibration, notes = open_input(args)
    if frames.depth is not None and config.scale not in ("auto", "depth"):
        notes.append(f"--depth is not used with --scale {config.scale}")
    metres = config.camera_height is not None or config.speed is not None
    fuses = config.scale == "depth" and config.window.frames > 0
    if frames.depth is not None and config.scale in ("auto", "depth") and metres and not fuses:
        notes.append("height and speed are not used beside --depth, but by --scale depth with a window: it weighs all")
    if frames.depth is None and config.scale == "depth" and metres and config.window.frames:
        notes.append("the network's depth has a unit of its own: it is not used beside a height or speed in metres")
    estimators = Estimators.of(config, measured_depth=frames.depth is not None)
    out = prepare_output(output_folder(args.out, frames))
    check_pictures(args.colmap, frames)
    read = {"the input": frames.path, "the calibration": calibration, "the truth": args.gt, "the speed": config.speed}
    inputs = {name: Path(path) for name, path in read.items() if path is not None}
    observers = make_observers(args, out, inputs, truth)
    report = RunReport(run_facts(camera, config, frames, calibration, args.preset), notes=notes)
    quiet = getattr(args, "quiet", False)
    if not quiet:
        for note in notes:
            warn(note, "note")
    try:
        outcome = _track(frames, camera, config, out, estimators, report, truth, observers, args)
    except Interrupted as stop:
        if report.rows and not quiet:
            files = ", ".join(stop.run.files)
            print(f"stopped after {len(report.rows)} frames; results so far in {out}: {files}", file=sys.stderr)
            for line in [*(note for note in report.notes if note not in notes), *stop.run.problems]:
                warn(line)
        raise
    failed = _judge(outcome, notes)
    if args.json:
        summary = report.to_dict(frames=False)
        print(json.dumps({**summary, "out": str(out), "files": outcome.files}, indent=2, allow_nan=False))
    elif not quiet:
        print("\n".join(summary_lines(outcome, args.gt)))
    return int(failed), outcome


def summary_lines(outcome: OdometryRun, gt: str | None) -> list[str]:
    """The run, and the file `gt` that it was compared with, in a few lines for a person."""
    report = outcome.report
    summary = report.summary()
    counts = ", ".join(f"{count} {status}" for status, count in summary["statuses"].items())
    units = {
        "metres": "m",
        "network": "in the unit of the depth network",
        "arbitrary": "in an arbitrary unit (one camera does not tell the scale)",
    }
    lines = [
        f"frames  {summary['frames']}: {counts}",
        f"speed   {summary['fps']:.1f} frames a second, median {summary['ms_median']:.0f} ms a frame",
        f"path    {report.path_length:.4g} {units[report.unit]}",
    ]
    truth = report.evaluation
    if truth is not None:
        ate, length = truth["ate"]["rmse"], truth["path_length"]
        label = {"se3": "6-DoF", "sim3": "7-DoF"}[truth["alignment"]]
        share = f" = {100 * ate / length:.2f} % of {length:.1f} m" if length > 0 else ""
        lines.append(f"truth   ATE {ate:.3f} m rmse{share}, {label} alignment, {truth['compared']} poses")
        if truth["t_err"] is not None:
            errors = f"t_err {truth['t_err']:.2f} %, r_err {truth['r_err']:.3f} deg/100 m"
            lines.append(f"        {errors} over 100 ... 800 m (KITTI)")
        else:
            lengths = [f"{x:g}" for x in fitting_lengths(length)]
            score = ["trianflow", "eval", "odometry", str(gt), str(outcome.out), "--alignment", truth["alignment"]]
            remedy = f"; for t_err: {shlex.join([*score, '--lengths', *lengths])}" if lengths else ""
            lines.append(f"        no segment of 100 m{remedy}")
    return [*lines, f"files   {outcome.out}: {', '.join(outcome.files)}"]


def _track(
    frames: FrameSource,
    camera: Camera,
    config: OdometryConfig,
    out: Path,
    estimators: Estimators,
    report: RunReport,
    truth: Trajectory | None,
    observers: list[Observer],
    args: argparse.Namespace,
) -> OdometryRun:
    """Run with progress on stderr; the first Ctrl-C ends it between two frames, the second at once."""
    from trianflow.odometry.report import GUESSED
    from trianflow.odometry.run import run_odometry

    verbose = getattr(args, "verbose", 0)
    with _interruption() as stopped, Progress(frames.length, getattr(args, "quiet", False)) as progress:

        def on_step(frame: Frame, step: Step, remark: Remark | None) -> None:
            progress.advance(step.status.value)
            if verbose and step.note:
                progress.say(f"frame {step.index} ({frame.name}): {step.status}: {step.note}")
            elif remark is not None and step.status in GUESSED:
                progress.say(f"trianflow: warning: frame {remark.first} {step.status}: {remark.text}")
            if stopped.is_set():
                raise KeyboardInterrupt

        return run_odometry(
            frames,
            camera,
            config,
            out,
            estimators=estimators,
            report=report,
            truth=truth,
            on_step=on_step,
            observers=observers,
        )


def _judge(outcome: OdometryRun, told: list[str]) -> bool:
    """Say what went wrong, and whether it means failure."""
    from trianflow.odometry.report import GUESSED

    report = outcome.report
    for remark in report.remarks.values():
        if remark.count > 1 and remark.status in GUESSED:
            warn(f"{remark.count} frames {remark.status}, the first {remark.first}: {remark.text}")
    for note in report.notes:
        if note not in told:
            warn(note)
    for problem in outcome.problems:
        warn(problem)
    number = len(report.rows)
    if number == 1:
        warn("a single frame: its pose is the origin, there is no motion to estimate; two or more are needed")
        return True
    if report.guessed * 2 > number:
        warn(f"{report.guessed} of {number} poses are guesses (lost or bridged): this is not a trajectory")
        return True
    return bool(outcome.problems)


def _configuration(args: argparse.Namespace) -> OdometryConfig:
    """The preset, the file, the options, and last the words `key=value`."""
    given = {key: getattr(args, key) for key in ("flow", "pose", "scale", "camera_height", "speed", "loops", "seed")}
    options = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    options += network_words(args)
    return load_settings(OdometryConfig.preset(args.preset), args.config, [*options, *args.overrides])


def _truth(path: str) -> Trajectory:
    if importlib.util.find_spec("evo") is None:
        raise TrianflowError("--gt: the comparison is computed by evo: pip install 'trianflow[eval]'")
    return Trajectory.load(Path(path).expanduser())


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second raises KeyboardInterrupt as ever."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before: Any = signal.getsignal(signal.SIGINT)

    def on_signal(number: int, stack: Any) -> None:
        signal.signal(signal.SIGINT, before)
        stopped.set()

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
