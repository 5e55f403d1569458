"""What every sub-command that reads frames shares: its arguments, and opening the input with its camera."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trianflow.errors import TrianflowError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from trianflow.data.frames import FrameSource
    from trianflow.geometry.camera import Camera

_COMMON_FOLDERS = re.compile(r"image_?\d*|images|rgb|color|data|frames|left|cam\d", re.IGNORECASE)


def add_input_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the positional INPUT and the options that choose frames, calibration and depth.

    Args:
        parser: of the sub-command.
        required: whether INPUT must be given.
    """
    group = parser.add_argument_group("input")
    group.add_argument(
        "input",
        metavar="INPUT",
        nargs=None if required else "?",
        help="video file, folder of images, dataset sequence, quoted glob pattern, or the number of a webcam",
    )
    add_selection_arguments(group)
    camera = parser.add_argument_group("camera")
    choice = camera.add_mutually_exclusive_group()
    choice.add_argument(
        "--calib",
        default=None,
        metavar="FILE",
        help="calibration: KITTI, ROS, OpenCV, ORB-SLAM, EuRoC, COLMAP, 'fx fy cx cy ...' or a 3x3 matrix"
        " (default: calib.yaml, calib.txt, ... beside or above the input, else a guess)",
    )
    choice.add_argument(
        "--intrinsics",
        type=float,
        nargs=4,
        default=None,
        metavar=("FX", "FY", "CX", "CY"),
        help="pinhole camera in pixels of the input frames",
    )
    depth = parser.add_argument_group("measured depth")
    depth.add_argument("--depth", default=None, metavar="DIR", help="folder of depth images (16-bit PNG, .npy)")
    depth.add_argument(
        "--depth-scale",
        type=float,
        default=None,
        metavar="S",
        help="stored units per metre: KITTI 256, TUM 5000, millimetres 1000"
        " (default: depth_scale of the calibration file)",
    )


def add_selection_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that choose frames of the input."""
    group.add_argument("--start", type=int, default=0, metavar="N", help="first frame (default 0)")
    group.add_argument("--end", type=int, default=None, metavar="N", help="frame to stop before (default: all)")
    group.add_argument("--stride", type=int, default=1, metavar="N", help="take every N-th frame (default 1)")
    group.add_argument(
        "--fps",
        type=float,
        default=None,
        metavar="F",
        help="frames a second (default: time stamps of the video or of times.txt, else 10)",
    )


def add_network_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that choose the networks and where they run."""
    group.add_argument(
        "--weights",
        default=None,
        metavar="NAME|FILE",
        help="weights of the networks: bundled ones by name, or a .safetensors file (driving)",
    )
    group.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda", "mps"],
        default=None,
        help="where the networks run (auto: CUDA where there is one, else the CPU)",
    )
    group.add_argument(
        "--network-size",
        type=int,
        nargs=2,
        default=None,
        metavar=("W", "H"),
        help="size that images are brought to for the networks (default: about the area they were trained at)",
    )


def network_words(args: argparse.Namespace) -> list[str]:
    """The options of `add_network_arguments` as words `key=value` of a configuration."""
    given = {key: getattr(args, key) for key in ("weights", "device", "network_size")}
    return [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]


def output_folder(given: str | None, frames: FrameSource, ending: str = "") -> Path:
    """The folder of the results: as given, else `out/` and the name of the input, with an ending.

    Raises:
        UsageError: it is the folder of the input.
    """
    if given is not None:
        out = Path(given).expanduser()
    else:
        path = Path(frames.name)
        name = path.stem if frames.kind == "video" else path.name
        if frames.kind == "folder" and _COMMON_FOLDERS.fullmatch(name):  # the sequence has the telling name
            name = f"{frames.path.absolute().parent.name}_{name}"
        out = Path("out") / ((re.sub(r"[^\w.-]+", "_", name).strip("._") or "frames") + ending)
    if frames.kind == "folder" and out.resolve() == frames.path.resolve():
        raise UsageError(f"--out {out} is the folder of the input images: the results would become frames")
    return out


def write_picture(path: Path, rgb: np.ndarray) -> None:
    """Write a picture `(H, W, 3)` uint8 RGB as PNG.

    Raises:
        TrianflowError: the file cannot be written.
    """
    import cv2
    import numpy as np

    try:
        path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))[1].tobytes())
    except OSError as error:
        raise TrianflowError(f"{path}: cannot write the picture: {error.strerror}") from error


def warn(text: str, kind: str = "warning") -> None:
    """A line on stderr."""
    print(f"trianflow: {kind}: {text}", file=sys.stderr, flush=True)


def open_input(args: argparse.Namespace) -> tuple[FrameSource, Camera, str, list[str]]:
    """Open the frames and find their camera.

    The calibration is `--calib`, else `--intrinsics`, else a file of a usual name beside or above the input,
    else a guess. In a KITTI folder `image_2` projection P2 is taken, `image_0` P0 and so on.

    Args:
        args: with the attributes of `add_input_arguments`.

    Returns:
        frames: the source; at least one frame of it can be read.
        camera: for the size of the frames, with its distortion.
        calibration_source: the file, '--intrinsics' or 'guess'.
        notes: what the user should know, one line each.

    Raises:
        UsageError: arguments that cannot be right, such as a path where nothing is.
        TrianflowError: frames or calibration cannot be read, or do not fit together.
    """
    from trianflow.data.calibrated import camera_name, find_calibration
    from trianflow.data.calibration import fit_to_image, guess_camera, read_calibration, read_depth_scale
    from trianflow.data.frames import open_frames
    from trianflow.geometry.camera import Camera

    frames = open_frames(args.input, start=args.start, end=args.end, stride=args.stride, fps=args.fps)
    notes: list[str] = []
    path: Path | None = None
    origin = ""
    if args.calib is not None:
        path = Path(args.calib).expanduser()
        if not path.exists():
            raise UsageError(f"--calib {path}: no such file")
    elif args.intrinsics is None:
        path = find_calibration(frames)
        if path is not None:
            origin = " (found beside the input; --calib or --intrinsics override it)"
            notes.append(f"calibration {path}, found beside the input")

    depth = getattr(args, "depth", None)
    if depth is not None:
        scale = args.depth_scale
        if scale is None and path is not None:
            scale = read_depth_scale(path)
        frames.attach_depth(depth, scale)

    if path is not None:
        try:
            camera = read_calibration(path, camera_name(frames))
        except TrianflowError as error:
            raise type(error)(f"{error}{origin}") from None
        source = str(path)
    elif args.intrinsics is not None:
        try:
            camera = Camera(*args.intrinsics)
        except ValueError as error:
            raise UsageError(f"--intrinsics: {error}") from None
        source = "--intrinsics"
    else:
        files = getattr(frames, "files", None)
        camera, guess = guess_camera(*frames.first_image_size(), image_path=files[0] if files else None)
        source = "guess"
        notes.append(guess)
    try:
        camera, note = fit_to_image(camera, *frames.first_image_size())
    except TrianflowError as error:
        raise type(error)(f"{source}{origin}: {error}") from None
    if note:
        notes.append(f"{source}: {note}")
    return frames, camera, source, frames.notes + notes
