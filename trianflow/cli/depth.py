"""`trianflow depth`: the depth of every frame of a video or a folder, by the network."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from trianflow.cli.common import (
    add_network_arguments,
    add_selection_arguments,
    network_words,
    output_folder,
    warn,
    write_picture,
)
from trianflow.cli.progress import Progress
from trianflow.config import NetworkConfig, load_settings
from trianflow.data.depth import write_depth
from trianflow.data.frames import Frame, FrameSource, open_frames
from trianflow.errors import TrianflowError

SCALE = 500  # stored units per unit of the network's depth, which ends at 100

_DESCRIPTION = """\
Predict the depth of every frame. Writes into the output folder:
  depth/NAME.png   16 bits, depth along z times the scale that depth.json names; or .npy, float32
  color/NAME.png   a picture: near is bright
  depth.json       scale, unit, weights, frames that could not be read
The unit is the network's own, not metres. Exit code 1 where most frames could not be read."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `depth` to the sub-commands."""
    parser = subparsers.add_parser(
        "depth",
        help="depth of the frames of a video or a folder by the network",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("input")
    group.add_argument("input", metavar="INPUT", help="video file, folder of images, image or quoted glob pattern")
    add_selection_arguments(group)
    add_network_arguments(parser.add_argument_group("method"))
    output = parser.add_argument_group("output")
    output.add_argument("--out", default=None, metavar="DIR", help="folder of the results (out/INPUT-depth)")
    output.add_argument("--format", choices=["png", "npy"], default="png", help="of the depth files (png)")
    output.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow depth`; 1 where most frames could not be read.

    Raises:
        UsageError: an argument that cannot be right.
        TrianflowError: input, weights or output that cannot be used.
    """
    from trianflow.odometry.estimators import learned_depth
    from trianflow.odometry.run import prepare_output
    from trianflow.visualization.colors import color_scalar

    config = load_settings(NetworkConfig(), None, network_words(args))
    frames = open_frames(args.input, start=args.start, end=args.end, stride=args.stride, fps=args.fps)
    frames.first_image_size()
    network = learned_depth(config)
    out = output_folder(args.out, frames, "-depth")
    folders = [output_folder(str(out / name), frames) for name in ("depth", "color")]
    for folder in folders:
        prepare_output(folder)
    names: dict[str, str] = {}
    skipped: list[dict[str, Any]] = []
    medians: list[float] = []
    try:
        with Progress(frames.length, args.quiet) as progress:
            for frame in frames:
                if frame.image is None:
                    skipped.append({"index": frame.index, "name": frame.name, "problem": frame.problem})
                    progress.say(f"trianflow: warning: frame {frame.index} ({frame.name}) skipped: {frame.problem}")
                    progress.advance("skipped")
                    continue
                depth = network.depth(frame.image)
                name = _name(frame, frames, names)
                write_depth(folders[0] / f"{name}.{args.format}", depth, SCALE)
                write_picture(folders[1] / f"{name}.png", color_scalar(1 / depth))
                names[name] = frame.name
                medians.append(float(np.median(depth)))
                progress.advance("written")
    finally:
        facts = {
            "input": str(frames.path.absolute()),
            "unit": "network",
            "scale": SCALE if args.format == "png" else 1,
            "format": args.format,
            "weights": config.weights,
            "written": len(names),
            "median": float(np.median(medians)) if medians else None,
            "skipped": skipped,
        }
        _save(out / "depth.json", facts)
    if args.json:
        print(json.dumps({**facts, "out": str(out)}, indent=2))
    elif not args.quiet:
        print(f"frames  {len(names)} written, {len(skipped)} skipped")
        print(f"depth   median {facts['median']:.4g} in the unit of the network, not metres")
        stored = f" ({SCALE} a unit)" if args.format == "png" else ""
        print(f"files   {out}: depth/*.{args.format}{stored}, color/*.png, depth.json")
    for note in frames.notes:
        warn(note)
    if len(skipped) > len(names):
        warn(f"{len(skipped)} of {len(skipped) + len(names)} frames could not be read")
        return 1
    return 0


def _name(frame: Frame, frames: FrameSource, taken: dict[str, str]) -> str:
    """Name of a frame's files: the image's own, so that depth finds its image, or the number in a video."""
    number = f"{frame.index:06d}"
    stem = Path(frame.name).stem if frames.kind == "folder" else number
    return stem if stem not in taken else f"{stem}_{number}"


def _save(path: Path, facts: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise TrianflowError(f"{path}: cannot write: {error.strerror}") from error
