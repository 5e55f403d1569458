"""`trianflow flow`: dense optical flow of two images, or between the frames of a video or a folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trianflow.cli.common import (
    add_network_arguments,
    add_selection_arguments,
    network_words,
    output_folder,
    warn,
    write_picture,
)
from trianflow.cli.progress import Progress
from trianflow.config import MatchConfig, OdometryConfig, load_settings
from trianflow.data.flow_files import FLOW_SUFFIXES, write_flow
from trianflow.data.frames import Frame, open_frames
from trianflow.errors import TrianflowError, UsageError

if TYPE_CHECKING:
    from trianflow.flow.interface import FlowEstimator, FlowPair

_DESCRIPTION = """\
Dense optical flow from A to B; or, of one video or folder, from every frame to the next.
Writes a flow file (.flo, or the 16-bit .png of KITTI) and a picture beside it in Middlebury's colours: the hue is the
direction and the saturation the length of the motion, as the wheel on its margin shows. Exit code 1 where most frames
could not be read."""
_EPILOG = """\
examples:
  trianflow flow 000000_10.png 000000_11.png --out flow.flo
  trianflow flow drive.mp4 --stride 2 --format png --out out/flow
  trianflow flow a.png b.png --method dis"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `flow` to the sub-commands."""
    parser = subparsers.add_parser(
        "flow",
        help="optical flow of two images, or of a video or a folder",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("input")
    group.add_argument("input", metavar="A", help="image; or a video file or folder of images, without B")
    group.add_argument("second", metavar="B", nargs="?", default=None, help="image of the same size")
    add_selection_arguments(group)
    method = parser.add_argument_group("method")
    method.add_argument(
        "--method",
        choices=["pwc", "dis", "pwc+dis"],
        default="pwc",
        help="the network (pwc), OpenCV's DIS, or the network's flow carried on by DIS",
    )
    add_network_arguments(method)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", default=None, metavar="DIR|FILE", help="folder, or for two images a .flo or .png (out/A-flow)"
    )
    output.add_argument("--format", choices=["flo", "png"], default="flo", help="of flow files in a folder (flo)")
    output.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow flow`; 1 where most frames could not be read.

    Raises:
        UsageError: an argument that cannot be right.
        TrianflowError: input, weights or output that cannot be used.
    """
    if args.second is not None:
        return _pair(args)
    return _sequence(args)


def _pair(args: argparse.Namespace) -> int:
    from trianflow.odometry.run import prepare_output

    unused = {"start": 0, "end": None, "stride": 1, "fps": None}
    for option, default in unused.items():
        if getattr(args, option) != default:
            raise UsageError(f"--{option} chooses frames of a video or folder: leave it out with two images")
    images = [_image(path).image for path in (args.input, args.second)]
    assert images[0] is not None
    assert images[1] is not None
    sizes = ["{}x{}".format(*image.shape[1::-1]) for image in images if image is not None]
    if sizes[0] != sizes[1]:
        raise UsageError(f"the images must have one size: {args.input} has {sizes[0]}, {args.second} {sizes[1]}")
    out = Path(args.out).expanduser() if args.out else Path("out") / f"{Path(args.input).stem}-flow"
    file = out if out.suffix.lower() in FLOW_SUFFIXES else out / f"flow.{args.format}"
    picture = file.with_name(f"{file.stem}_color.png")
    for path in (args.input, args.second):
        if Path(path).expanduser().resolve() in (file.resolve(), picture.resolve()):
            raise UsageError(f"--out would overwrite the input {path}")
    method = _method(args)
    prepare_output(file.parent)
    pair = method.flow(method.encode(images[0]), method.encode(images[1]))
    _write(file, picture, pair)
    facts = {"size": sizes[0], "method": args.method, **_measured(pair), "files": [str(file), str(picture)]}
    if args.json:
        print(json.dumps(facts, indent=2))
    elif not args.quiet:
        print(f"flow    {facts['size']} pixels, by {args.method}")
        print("motion  median {median:.2f}, mean {mean:.2f}, largest {largest:.1f} pixels".format(**facts))
        print(f"check   {100 * facts['consistent']:.1f} % of the pixels agree with the flow back")
        print(f"files   {file}, {picture}")
    return 0


def _sequence(args: argparse.Namespace) -> int:
    from trianflow.odometry.run import prepare_output

    frames = open_frames(args.input, start=args.start, end=args.end, stride=args.stride, fps=args.fps)
    if frames.length == 1:
        raise UsageError(f"{args.input}: flow needs two images, this is one: trianflow flow A B")
    frames.first_image_size()
    if args.out is not None and Path(args.out).suffix.lower() in FLOW_SUFFIXES:
        raise UsageError(f"--out {args.out}: of a video or folder there are many flows: give a folder")
    method = _method(args)
    out = output_folder(args.out, frames, "-flow")
    folders = [output_folder(str(out / name), frames) for name in ("flow", "color")]
    for folder in folders:
        prepare_output(folder)
    known = frames.notes
    for note in known if not args.quiet else []:
        warn(note, "note")
    written: list[dict[str, Any]] = []
    skipped = number = 0
    before: tuple[Frame, Any] | None = None
    with Progress(frames.length, args.quiet) as progress:
        for frame in frames:
            number += 1
            if frame.image is None:
                skipped += 1
                progress.say(f"trianflow: warning: frame {frame.index} ({frame.name}) skipped: {frame.problem}")
                progress.advance("skipped")
                before = None
                continue
            encoded = method.encode(frame.image)
            if before is not None:
                pair = method.flow(before[1], encoded)
                name = f"{before[0].index:06d}"
                _write(folders[0] / f"{name}.{args.format}", folders[1] / f"{name}.png", pair)
                written.append({"from": before[0].index, "to": frame.index, **_measured(pair)})
            before = frame, encoded
            progress.advance("done")
    for note in frames.notes:
        if note not in known:
            warn(note)
    if args.json:
        print(json.dumps({"method": args.method, "skipped": skipped, "flows": written, "out": str(out)}, indent=2))
    elif not args.quiet:
        print(f"frames  {number}, {skipped} skipped; {len(written)} flows")
        if written:
            median = sum(row["median"] for row in written) / len(written)
            consistent = sum(row["consistent"] for row in written) / len(written)
            print(f"motion  {median:.2f} pixels from frame to frame (mean of the medians)")
            print(f"check   {100 * consistent:.1f} % of the pixels agree with the flow back")
        print(f"files   {out}: flow/*.{args.format}, color/*.png")
    if not written or 2 * skipped > number:
        warn(f"{skipped} of {number} frames could not be read, {len(written)} flows")
        return 1
    return 0


def _method(args: argparse.Namespace) -> FlowEstimator:
    from trianflow.odometry.estimators import Estimators

    config = load_settings(OdometryConfig(), None, [f"flow={args.method}", *network_words(args)])
    return Estimators.of(config).flow


def _image(path: str) -> Frame:
    """A single image file.

    Raises:
        UsageError: it is something else.
        TrianflowError: it cannot be read.
    """
    source = open_frames(path)
    if source.kind != "folder" or source.total != 1 or Path(path).expanduser().is_dir():
        raise UsageError(f"{path}: with two inputs, both must be image files")
    frame = next(source.select([0]))
    if frame.image is None:
        raise TrianflowError(f"{path}: {frame.problem}")
    return frame


def _write(file: Path, picture: Path, pair: FlowPair) -> None:
    from trianflow.visualization.overlay import flow_picture

    flow = pair.flow_ab[0].permute(1, 2, 0).numpy()
    write_flow(file, flow)
    write_picture(picture, flow_picture(flow))


def _measured(pair: FlowPair) -> dict[str, float]:
    """Lengths of the flow in pixels, and the share of the pixels whose way back agrees."""
    from trianflow.flow.occlusion import flow_quality

    length = pair.flow_ab.norm(dim=1)
    settings = MatchConfig()
    consistent = flow_quality(pair, settings.alpha, settings.beta).consistent
    return {
        "median": float(length.median()),
        "mean": float(length.mean()),
        "largest": float(length.max()),
        "consistent": float(consistent.float().mean()),
    }
