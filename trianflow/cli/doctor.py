"""`trianflow doctor`: what is installed, and whether an input and its calibration will do."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
from importlib import metadata
from typing import Any

from trianflow.cli.common import add_input_arguments, open_input
from trianflow.errors import TrianflowError, UsageError

_MARKS = {"ok": "  ok  ", "note": " note ", "warn": " WARN ", "fail": " FAIL "}
_FEWEST_FRAMES = 2
_DARK, _BRIGHT = 25.0, 230.0  # grey levels
_BLURRED = 15.0  # variance of the Laplacian at 320 pixels


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report: level 'ok', 'note', 'warn' or 'fail' (which would make `vo` fail)."""

    level: str
    topic: str
    text: str


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `doctor` to the sub-commands."""
    parser = subparsers.add_parser(
        "doctor",
        help="check the installation, and an input with its calibration",
        description="Check the installation, and, with INPUT, whether visual odometry can work on it."
        " Exit code 1 if something would make it fail.",
    )
    add_input_arguments(parser, required=False)
    parser.add_argument("--json", action="store_true", help="machine-readable report on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the report; 0 when all is fine, 1 when something would make `vo` fail."""
    report: dict[str, Any] = {"environment": environment()}
    findings: list[Finding] = []
    if args.input is not None:
        details, findings = examine(args)
        report.update(details)
    failed = any(f.level == "fail" for f in findings)
    if args.json:
        report["findings"] = [dataclasses.asdict(f) for f in findings]
        report["ok"] = not failed
        print(json.dumps(report, indent=2))
        return int(failed)
    for topic, text in report["environment"].items():
        print(f"{topic:>12}  {text}")
    for finding in findings:
        print(f"[{_MARKS[finding.level]}] {finding.topic}: {finding.text}")
    if args.input is not None:
        print("visual odometry would fail on this input" if failed else "ready: trianflow vo will run on this input")
    return int(failed)


def environment() -> dict[str, Any]:
    """Versions, devices and threads, for the report."""
    import cv2
    import numpy as np
    import torch

    from trianflow.inference import THREADS, choose_device, choose_precision
    from trianflow.weights import list_weights

    device = choose_device("auto")
    precision = str(choose_precision(device)).removeprefix("torch.")
    devices = ["cpu"]
    devices += [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return {
        "trianflow": _version("trianflow"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "evo": _version("evo"),
        "devices": ", ".join(devices),
        "networks": f"{precision} on {device}" + (f", {THREADS} threads" if device.type == "cpu" else ""),
        "weights": ", ".join(w.name for w in list_weights()) or "none bundled",
        "threads": f"{torch.get_num_threads()} torch, {cv2.getNumThreads()} opencv, {os.cpu_count()} cores",
    }


def examine(args: argparse.Namespace) -> tuple[dict[str, Any], list[Finding]]:
    """Open the input, measure it and judge; the numbers for `--json`, and the findings.

    Raises:
        UsageError: wrong arguments; every other error of the input is a finding.
    """
    from trianflow.data.inspection import implausible, inspect_frames
    from trianflow.data.undistort import Undistorter

    findings: list[Finding] = []

    def add(level: str, topic: str, text: str) -> None:
        findings.append(Finding(level, topic, text))

    try:
        frames, camera, source, notes = open_input(args)
    except UsageError:
        raise
    except TrianflowError as error:
        add("fail", "input", str(error))
        return {}, findings
    statistics = inspect_frames(frames)
    details: dict[str, Any] = {
        "input": {"name": frames.name, "kind": frames.kind, "path": str(frames.path), "stray": frames.stray},
        "frames": dataclasses.asdict(statistics),
        "camera": dataclasses.asdict(camera),
        "calibration": source,
    }
    _judge_frames(frames, statistics, add)

    fov = math.degrees(2 * math.atan(camera.width / (2 * camera.fx)))
    text = f"fx {camera.fx:.1f} fy {camera.fy:.1f} cx {camera.cx:.1f} cy {camera.cy:.1f}, {fov:.0f} degrees wide"
    if camera.distortion:
        text += f", distortion {' '.join(f'{v:.4g}' for v in camera.distortion)} (will be removed)"
    if source != "guess":  # of which there is a note
        add("ok", "camera", f"{text}, from {source}")
    for line in implausible(camera):
        add("warn", "camera", line)
    try:
        Undistorter(camera)
    except TrianflowError as error:
        add("fail", "camera", str(error))
    known = set(frames.notes)
    for line in [*frames.notes, *(n for n in notes if n not in known)]:
        serious = any(word in line for word in ("promises", "no calibration", "no depth", "is not used"))
        add("warn" if serious else "note", "note", line)
    return details, findings


def _judge_frames(frames: Any, statistics: Any, add: Any) -> None:
    """Findings about the pictures and the motion between them."""
    from trianflow.data.inspection import FLOW_RANGE, STATIC_FLOW

    s = statistics
    number = "an unknown number of" if s.frames is None else s.frames
    size = "{}x{}".format(*s.size) if s.size else "unknown size"
    rate = f", {s.fps:.4g} frames a second ({frames.times_source})" if s.fps else ""
    add("ok", "frames", f"{number} frames of {size} in {frames.name}{rate}")
    if frames.stray:
        shown = ", ".join(frames.stray[:3]) + (", ..." if len(frames.stray) > 3 else "")
        add("note", "frames", f"{len(frames.stray)} other files left out: {shown}")
    if s.problems:
        name, problem = s.problems[0]
        bad = f"{len(s.problems)} of {s.scanned} frames looked at cannot be used, the first: {name}: {problem}"
        add("fail" if len(s.problems) * 2 > s.scanned else "warn", "frames", bad)
    else:
        add("ok", "frames", f"all {s.scanned} frames looked at can be read")
    if s.readable < _FEWEST_FRAMES:
        add("fail", "frames", f"{s.readable} readable frame(s): odometry needs at least {_FEWEST_FRAMES}")
        return
    if s.duplicates:
        level = "warn" if s.duplicates * 5 > s.pairs else "note"
        add(level, "motion", f"{s.duplicates} of {s.pairs} frames looked at repeat the one before")
    light = f"brightness {s.brightness:.0f} of 255, sharpness {s.sharpness:.0f}"
    if not _DARK <= s.brightness <= _BRIGHT:
        add(
            "warn",
            "picture",
            f"{light}: too {'dark' if s.brightness < _DARK else 'bright'} for reliable matches",
        )
    elif s.sharpness < _BLURRED:
        add("warn", "picture", f"{light}: blurred or without texture")
    else:
        add("ok", "picture", light)
    if s.flow is None:
        return
    motion = f"pictures move by {s.flow:.2g} % of the width from frame to frame (good: 1-6 %)"
    if s.flow < STATIC_FLOW:
        add("warn", "motion", f"{motion}: the camera stands still")
    elif s.stride is not None:
        better = "slow" if s.flow < FLOW_RANGE[0] else "fast"
        add("note", "motion", f"{motion}: {better}; use --stride {s.stride}")
    elif s.flow > FLOW_RANGE[1]:
        add("warn", "motion", f"{motion}: fast; a higher frame rate would help")
    else:
        add("ok", "motion", motion)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
