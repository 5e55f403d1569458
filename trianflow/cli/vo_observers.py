"""What `trianflow vo` can make beside the trajectory: a cloud, a mesh, COLMAP's files, a page, a video, a window."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from trianflow.errors import UsageError

if TYPE_CHECKING:
    from trianflow.odometry.run import Observer
    from trianflow.trajectory import Trajectory

_CLOUD = "cloud.ply"  # of a report that is to show one


def add_observer_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that ask for further results."""
    group = parser.add_argument_group("further results")
    group.add_argument(
        "--cloud", default=None, metavar="PLY", help="coloured point cloud in the unit of the trajectory"
    )
    group.add_argument(
        "--mesh", default=None, metavar="PLY", help="depth maps fused into a mesh (with --depth, or --scale depth)"
    )
    group.add_argument(
        "--colmap", default=None, metavar="DIR", help="key frames and points as COLMAP's text files, with pictures"
    )
    group.add_argument(
        "--report", action="store_true", help=f"report.html, a page to be opened in a browser, and {_CLOUD}"
    )
    group.add_argument("--overlay", default=None, metavar="VIDEO", help="video of matches, flow, depth and trajectory")
    group.add_argument("--live", action="store_true", help="show trajectory and points in a window while they come")


def make_observers(args: argparse.Namespace, out: Path, truth: Trajectory | None, has_depth: bool) -> list[Observer]:
    """The observers that the options ask for.

    Args:
        args: with the attributes of `add_observer_arguments`.
        out: folder of the results.
        truth: to compare with.
        has_depth: whether frames carry depth, or the network predicts it.

    Raises:
        UsageError: a name that cannot be, or a mesh without depth.
        TrianflowError: a folder cannot be written, Open3D is missing, or there is no display.
    """
    observers: list[Observer] = []
    cloud = _file(args.cloud, "--cloud") if args.cloud is not None else out / _CLOUD if args.report else None
    if cloud is not None:
        from trianflow.odometry.cloud import CloudWriter

        observers.append(CloudWriter(cloud, required=args.cloud is not None))
    if args.mesh is not None:
        from trianflow.odometry.mesh import NEEDS_DEPTH, MeshWriter

        if not has_depth:
            raise UsageError(f"--mesh: {NEEDS_DEPTH}")
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
