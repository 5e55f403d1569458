"""What `trianflow vo` can make beside the trajectory: a cloud, a mesh, COLMAP's files, a page, a video, a window."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from trianflow.errors import UsageError

if TYPE_CHECKING:
    from trianflow.data.frames import FrameSource
    from trianflow.odometry.run import Observer
    from trianflow.trajectory import Trajectory


def add_observer_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that ask for further results."""
    group = parser.add_argument_group("further results")
    group.add_argument(
        "--cloud", default=None, metavar="PLY", help="coloured point cloud in the unit of the trajectory"
    )
    group.add_argument(
        "--mesh", default=None, metavar="PLY", help="depth maps, measured, predicted or of the flow, fused into a mesh"
    )
    group.add_argument(
        "--colmap", default=None, metavar="DIR", help="key frames and points as COLMAP's text files, with pictures"
    )
    group.add_argument(
        "--report", action="store_true", help="report.html, a page to be opened in a browser, and cloud.ply"
    )
    group.add_argument("--overlay", default=None, metavar="VIDEO", help="video of matches, flow, depth and trajectory")
    group.add_argument("--live", action="store_true", help="show trajectory and points in a window while they come")


def make_observers(
    args: argparse.Namespace, out: Path, inputs: dict[str, Path], truth: Trajectory | None
) -> list[Observer]:
    """The observers that the options ask for.

    Args:
        args: with the attributes of `add_observer_arguments`.
        out: folder of the results.
        inputs: files that are read, by what they are called in messages.
        truth: to compare with.

    Raises:
        UsageError: a name that cannot be, a file that is read, or two results in one file.
        TrianflowError: a folder cannot be written, Open3D is missing, or there is no display.
    """
    from trianflow.odometry.run import CLOUD

    _check_outputs(args, out, inputs)
    observers: list[Observer] = []
    cloud = _file(args.cloud, "--cloud") if args.cloud is not None else out / CLOUD if args.report else None
    if cloud is not None:
        from trianflow.odometry.cloud import CloudWriter

        observers.append(CloudWriter(cloud, required=args.cloud is not None))
    if args.mesh is not None:
        from trianflow.odometry.mesh import MeshWriter

        observers.append(MeshWriter(_file(args.mesh, "--mesh")))
    if args.colmap is not None:
        from trianflow.odometry.colmap import ColmapWriter

        observers.append(ColmapWriter(Path(args.colmap).expanduser()))
    if args.overlay is not None:
        from trianflow.odometry.overlay import Overlay

        observers.append(Overlay(args.overlay))
    if args.live:
        from trianflow.odometry.live import open_live

        observers.append(open_live())
    if args.report:
        from trianflow.odometry.html_report import HtmlReport

        observers.append(HtmlReport(truth, cloud))
    return observers


def check_pictures(folder: str | None, frames: FrameSource) -> None:
    """Make sure that the pictures of `--colmap` do not take the place of frames.

    Raises:
        UsageError: they would.
    """
    from trianflow.odometry.colmap import PICTURES

    if folder is None:
        return
    files = [Path(file) for file in getattr(frames, "files", [])]
    taken = {file.parent for file in files} | {file.resolve().parent for file in files}
    if frames.depth is not None:
        taken.add(frames.depth.folder)
    pictures = Path(folder).expanduser() / PICTURES
    if pictures.resolve() in {path.resolve() for path in taken}:
        raise UsageError(f"--colmap {folder}: its pictures would replace the frames in {pictures}; name another folder")


def _check_outputs(args: argparse.Namespace, out: Path, inputs: dict[str, Path]) -> None:
    """Make sure that no result takes the place of what is read, or of another result."""
    from trianflow.data.colmap import CAMERAS, IMAGES, POINTS
    from trianflow.odometry.run import CLOSED, CLOUD, KITTI, PAGE, PICTURE, REPORT, TUM

    outputs = [("--out", out / name) for name in (TUM, KITTI, REPORT, PICTURE, PAGE, *CLOSED)]
    given = {"--cloud": args.cloud, "--mesh": args.mesh, "--overlay": args.overlay}
    if args.report and args.cloud is None:
        given["--report"] = out / CLOUD
    outputs += [(option, Path(path)) for option, path in given.items() if path is not None]
    if args.colmap is not None:
        outputs += [("--colmap", Path(args.colmap) / name) for name in (CAMERAS, IMAGES, POINTS)]
    taken = {path.expanduser().resolve(): f"is {name}" for name, path in inputs.items()}
    for option, output in outputs:
        path = output.expanduser().resolve()
        if path in taken:
            raise UsageError(f"{option} would write {output}, which {taken[path]}; name another file or folder")
        taken[path] = f"{option} writes too"


def _file(given: str, option: str) -> Path:
    """The path of a PLY file whose folder is there."""
    from trianflow.odometry.run import prepare_output

    path = Path(given).expanduser()
    if path.suffix.lower() != ".ply":
        raise UsageError(f"{option} {path}: the name must end in .ply")
    if path.is_dir():
        raise UsageError(f"{option} {path}: is a folder; name a file")
    prepare_output(path.parent)
    return path
