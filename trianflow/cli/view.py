"""`trianflow view`: a trajectory, a point cloud or a mesh in space."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trianflow.errors import TrianflowError, UsageError

if TYPE_CHECKING:
    from trianflow.visualization.viewer import Scene

_TRAJECTORY, _REPORT = "trajectory.tum", "report.json"
_EPILOG = """\
examples:
  trianflow vo drive.mp4 --calib calib.yaml --out out/drive --cloud out/drive/cloud.ply
  trianflow view out/drive
  trianflow view out/drive/trajectory.tum --cloud cloud.ply --screenshot drive.png"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `view` to the sub-commands."""
    parser = subparsers.add_parser(
        "view",
        help="trajectory, point cloud or mesh in a window or a picture",
        description="Show a trajectory with its cameras, a point cloud or a mesh in a window of Open3D"
        " (pip install 'trianflow[view]'), or draw a picture of it, which needs no display.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "input",
        metavar="RUN|PLY|TRAJECTORY",
        help="folder of a run (its trajectory, with the clouds and meshes it made), a PLY file, or a trajectory file",
    )
    parser.add_argument(
        "--cloud",
        action="append",
        default=[],
        metavar="PLY",
        help="point cloud or mesh to show beside; may be repeated",
    )
    parser.add_argument("--screenshot", default=None, metavar="FILE", help="write a picture instead (.png or .jpg)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow view`; 0 where it was shown.

    Raises:
        UsageError: there is no such input.
        TrianflowError: it cannot be read, or not be drawn here.
    """
    path = Path(args.input).expanduser()
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    from trianflow.visualization.viewer import save_screenshot, show

    scene = _scene(path, [Path(cloud).expanduser() for cloud in args.cloud])
    if args.screenshot is None:
        show(scene)
        return 0
    save_screenshot(Path(args.screenshot).expanduser(), scene)
    if not args.quiet:
        print(f"picture {args.screenshot}")
    return 0


def _scene(path: Path, clouds: list[Path]) -> Scene:
    """What is asked for as one scene: of several clouds all points, of several meshes the last."""
    from trianflow.trajectory import Trajectory
    from trianflow.visualization.viewer import Scene

    if path.is_dir():
        trajectory: Path | None = path / _TRAJECTORY
        if not (path / _TRAJECTORY).is_file():
            raise TrianflowError(f"{path}: not the folder of a run: no {_TRAJECTORY} in it")
        clouds = clouds or _of_the_run(path)
    elif path.suffix.lower() == ".ply":
        trajectory, clouds = None, [path, *clouds]
    else:
        trajectory = path
    scene = Scene() if trajectory is None else Scene(T_wc=Trajectory.load(trajectory).T_wc)
    for cloud in clouds:
        scene = _with(scene, cloud)
    return scene


def _of_the_run(folder: Path) -> list[Path]:
    """The clouds and meshes in a folder that its run has made; all where there is no report that names its files."""
    found = [path for path in sorted(folder.glob("*.ply")) if not path.name.startswith(".")]  # those are half written
    try:
        made = json.loads((folder / _REPORT).read_text(encoding="utf-8"))["files"]
        return [path for path in found if path.name in made]
    except (OSError, ValueError, KeyError, TypeError):
        return found


def _with(scene: Scene, path: Path) -> Scene:
    import numpy as np

    from trianflow.visualization.viewer import read_ply

    found = read_ply(path)
    if len(found.faces):
        return replace(scene, vertices=found.vertices, faces=found.faces, vertex_colors=found.vertex_colors)
    points, colors = ([getattr(part, name) for part in (scene, found)] for name in ("points", "colors"))
    return replace(scene, points=np.concatenate(points), colors=np.concatenate(colors))
