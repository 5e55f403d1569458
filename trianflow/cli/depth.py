"""`trianflow depth`: the depth of every frame of a video or a folder, by the network."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from trianflow.errors import TrianflowError, UsageError

if TYPE_CHECKING:
    from trianflow.depth.learned import LearnedDepth

SCALE = 500  # stored units per unit of the network's depth, which ends at 100

_DESCRIPTION = """\
Predict the depth of every frame. Writes into the output folder:
  depth/NAME.png   16 bits, depth along z times the scale that depth.json names; or .npy, float32
  color/NAME.png   a picture: near is bright, with the scale on its margin
  depth.json       scale, unit, weights, frames that could not be read
Of what `trianflow prepare` wrote, all sequences are done, each into OUT/SEQUENCE.
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
    group.add_argument(
        "input", metavar="INPUT", help="video file, folder of images, image, quoted glob pattern or prepared dataset"
    )
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

    config = load_settings(NetworkConfig(), None, network_words(args))
    given = Path(args.input).expanduser()
    names = _prepared(given)
    opened = {name: _open(given / name if name else args.input, args) for name in names or [""]}
    for frames in opened.values():
        frames.first_image_size()
    network = learned_depth(config)
    out = _tree_folder(args.out, given) if names else output_folder(args.out, opened[""], "-depth")
    known = _notes(opened)
    for note in known if not args.quiet else []:
        warn(note, "note")
    facts: dict[str, dict[str, Any]] = {}
    with Progress(_total(opened), args.quiet) as progress:
        for name, frames in opened.items():
            facts[name] = _predict(frames, network, config.weights, out / name, args.format, progress)
    written, skipped = (sum(map(count, facts.values())) for count in (_written, _skipped))
    if args.json:
        told = {"sequences": facts} if names else facts[""]
        print(json.dumps({**told, "out": str(out)}, indent=2))
    elif not args.quiet:
        medians = [one["median"] for one in facts.values() if one["median"] is not None]
        if names:
            print(f"input   {len(names)} sequence{'s' * (len(names) != 1)}")
        print(f"frames  {written} written, {skipped} skipped")
        if medians:
            print(f"depth   median {np.median(medians):.4g} in the unit of the network, not metres")
        stored = f" ({SCALE} a unit)" if args.format == "png" else ""
        files = f"depth/*.{args.format}{stored}, color/*.png, depth.json"
        print(f"files   {out}: {f'SEQUENCE with {files}' if names else files}")
    for note in _notes(opened):
        if note not in known:
            warn(note)
    if skipped > written:
        warn(f"{skipped} of {skipped + written} frames could not be read")
        return 1
    return 0


def _open(path: str | Path, args: argparse.Namespace) -> FrameSource:
    return open_frames(path, start=args.start, end=args.end, stride=args.stride, fps=args.fps)


def _prepared(folder: Path) -> list[str]:
    """Names of the sequences of what `trianflow prepare` wrote; none where it is something else."""
    from trianflow.data.prepared import FACTS, SETTINGS

    if not (folder / SETTINGS).is_file():
        return []
    return sorted(file.parent.relative_to(folder).as_posix() for file in folder.rglob(FACTS))


def _tree_folder(given: str | None, source: Path) -> Path:
    """The folder for the results of a prepared dataset.

    Raises:
        UsageError: it lies in the dataset, whose own `depth` would be written over.
    """
    out = Path(given).expanduser() if given is not None else Path("out") / f"{source.absolute().name}-depth"
    if out.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"--out {out} lies in the prepared data, which has depth of its own: name another folder")
    return out


def _total(opened: Mapping[str, FrameSource]) -> int | None:
    lengths = [frames.length for frames in opened.values()]
    known = [length for length in lengths if length is not None]
    return sum(known) if len(known) == len(lengths) else None


def _notes(opened: Mapping[str, FrameSource]) -> list[str]:
    return [note for frames in opened.values() for note in frames.notes]


def _written(facts: Mapping[str, Any]) -> int:
    return int(facts["written"])


def _skipped(facts: Mapping[str, Any]) -> int:
    return len(facts["skipped"])


def _predict(
    frames: FrameSource, network: LearnedDepth, weights: str, out: Path, suffix: str, progress: Progress
) -> dict[str, Any]:
    """Write the depth of all frames of a source; what stands in its depth.json."""
    from trianflow.odometry.run import prepare_output
    from trianflow.visualization.overlay import depth_picture

    folders = [output_folder(str(out / name), frames) for name in ("depth", "color")]
    for folder in folders:
        prepare_output(folder)
    names: dict[str, str] = {}
    skipped: list[dict[str, Any]] = []
    medians: list[float] = []
    try:
        for frame in frames:
            if frame.image is None:
                skipped.append({"index": frame.index, "name": frame.name, "problem": frame.problem})
                progress.say(f"trianflow: warning: frame {frame.index} ({frame.name}) skipped: {frame.problem}")
                progress.advance("skipped")
                continue
            depth = network.depth(frame.image)
            name = _name(frame, frames, names)
            write_depth(folders[0] / f"{name}.{suffix}", depth, SCALE)
            write_picture(folders[1] / f"{name}.png", depth_picture(depth, "network units"))
            names[name] = frame.name
            medians.append(float(np.median(depth)))
            progress.advance("written")
    finally:
        facts = {
            "input": str(frames.path.absolute()),
            "unit": "network",
            "scale": SCALE if suffix == "png" else 1,
            "format": suffix,
            "weights": weights,
            "written": len(names),
            "median": float(np.median(medians)) if medians else None,
            "skipped": skipped,
        }
        _save(out / "depth.json", facts)
    return facts


def _name(frame: Frame, frames: FrameSource, taken: dict[str, str]) -> str:
    """Name of a frame's files: the image's own, so that depth finds its image, or the number in a video."""
    number = f"{frame.index:06d}"
    stem = Path(frame.name).stem if frames.kind == "folder" else number
    return stem if stem not in taken else f"{stem}_{number}"


def _save(path: Path, facts: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise TrianflowError(f"{path}: cannot write: {error.strerror}") from error
