"""The report of a run: what it was given, what it did with every frame, and the sum of it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from trianflow.config import OdometryConfig
from trianflow.data.frames import Frame, FrameSource
from trianflow.errors import TrianflowError
from trianflow.files import replacing
from trianflow.geometry.camera import Camera
from trianflow.odometry.step import Step, StepStatus

GUESSED = (StepStatus.LOST, StepStatus.BRIDGED)  # poses that no image stands for


@dataclass
class Remark:
    """Something that happened to one frame or to many: the first of them, and how many.

    Attributes:
        text: in one line, as said of the first frame.
        first: number and name of that frame.
        status: of that frame.
        count: of frames with a remark of this kind.
    """

    text: str
    first: str
    status: StepStatus
    count: int = 1


@dataclass
class RunReport:
    """Grows by a row a frame, and can be written at any time.

    Attributes:
        facts: what is known before the first frame, as `run_facts` gives it.
        rows: one dict a frame, in order.
        statuses: how many frames had each status.
        remarks: of the frames, by kind.
        seconds: wall time of the run so far.
        path_length: sum of the steps, in the trajectory's unit.
        notes: what the user should know of the input, one line each.
        back_end: what is known of it at the end: `radial`, the distortion that the calibration has left, and `loops`,
            how many were `found` and the rows of the two frames of each that was `kept`; None where not looked for.
        evaluation: the metrics against the truth, where there is one.
        state: `running`, `complete`, `interrupted` or `failed`.
        error: why it failed, in one line.

    Example:
        >>> report = RunReport()
        >>> _ = report.add(Frame(0, 0.0, None), Step(0, 0.0, np.eye(4), StepStatus.BRIDGED, note="no image"))
        >>> report.guessed, report.summary()["frames"]
        (1, 1)
    """

    facts: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    remarks: dict[str, Remark] = field(default_factory=dict)
    seconds: float = 0.0
    path_length: float = 0.0
    notes: list[str] = field(default_factory=list)
    back_end: dict[str, Any] = field(default_factory=lambda: {"radial": None, "loops": None})
    evaluation: dict[str, Any] | None = None
    state: str = "running"
    error: str = ""
    _last: np.ndarray | None = None

    def add(self, frame: Frame, step: Step) -> Remark | None:
        """Take one frame's row; the remark if it is the first of its kind."""
        if self._last is not None:
            self.path_length += float(np.linalg.norm(step.T_wc[:3, 3] - self._last))
        self._last = step.T_wc[:3, 3].copy()
        self.rows.append(frame_row(frame, step))
        self.statuses[step.status.value] += 1
        if not step.note:
            return None
        kind = f"{step.status}: " + re.sub(r"\d+", "#", step.note)
        known = self.remarks.get(kind)
        if known is not None:
            known.count += 1
            return None
        first = f"{step.index} ({frame.name})" if frame.name else str(step.index)
        self.remarks[kind] = Remark(step.note, first, step.status)
        return self.remarks[kind]

    @property
    def guessed(self) -> int:
        """Number of frames whose pose is a guess: lost or bridged."""
        return sum(self.statuses[status.value] for status in GUESSED)

    @property
    def fps(self) -> float:
        """Frames a second of wall time, reading and writing included."""
        return len(self.rows) / self.seconds if self.seconds > 0 else 0.0

    @property
    def unit(self) -> str:
        """Of the trajectory: `metres` by depth, camera height or speed, `network` its depth's, else `arbitrary`."""
        sources = {row["scale_source"] for row in self.rows}
        if any(row["scale_sigma"] is not None for row in self.rows):
            return "network" if any("network" in row["scale_shares"] for row in self.rows) else "metres"
        if "unit" in sources:
            return "arbitrary"
        if "depth" in sources:
            return "metres"
        return "network" if "network" in sources else "arbitrary"

    def summary(self) -> dict[str, Any]:
        """The run in a dozen numbers."""
        times = [row["ms"] for row in self.rows]
        return {
            "frames": len(self.rows),
            "statuses": dict(self.statuses.most_common()),
            "guessed": self.guessed,
            "key_frames": len({row["key_frame"] for row in self.rows} - {None}),
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 2),
            "ms_median": round(float(np.median(times)), 1) if times else None,
            "path_length": _number(self.path_length, 6),
            "unit": self.unit,
        }

    def to_dict(self, frames: bool = True) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for strict JSON.

        Args:
            frames: whether to give the rows of the frames.
        """
        out: dict[str, Any] = {"state": self.state, "error": self.error, **self.facts}
        out["summary"] = self.summary()
        out["back_end"] = self.back_end
        out["evaluation"] = self.evaluation
        out["notes"] = list(self.notes)
        out["remarks"] = [dataclasses.asdict(r) | {"status": r.status.value} for r in self.remarks.values()]
        if frames:
            out["frames"] = self.rows
        return out

    def save(self, path: str | Path) -> None:
        """Write JSON, the rows of the frames one a line; an older file is replaced at once, never half.

        Raises:
            TrianflowError: the file cannot be written.
        """
        path = Path(path)
        head = json.dumps(self.to_dict(frames=False), indent=1, allow_nan=False)
        rows = ",\n".join("  " + json.dumps(row, allow_nan=False) for row in self.rows)
        text = head.removesuffix("\n}") + ',\n "frames": [\n' + rows + "\n ]\n}\n"
        try:
            with replacing(path) as beside:
                beside.write_text(text, encoding="utf-8")
        except OSError as e:
            raise TrianflowError(f"{path}: cannot write the report: {e.strerror}") from e


def frame_row(frame: Frame, step: Step) -> dict[str, Any]:
    """One frame of the report; the pose stands in the trajectory, in the same row.

    Returns:
        index, time (seconds), name, status, matches, inlier_ratio (0 to 1), parallax (pixels), scale (of the step, in
        the unit of the pose in this row when it was first written), scale_source, scale_shares (by
        source, summing to 1), scale_sigma (of the scale, as a share; None where it is not known), tracks (points in
        the window), window (why it adjusted nothing), key_frame (None for the first and for bridged frames), ms, note.
    """
    return {
        "index": step.index,
        "time": _number(step.time, 12),
        "name": frame.name,
        "status": step.status.value,
        "matches": step.matches,
        "inlier_ratio": _number(step.inlier_ratio, 4),
        "parallax": _number(step.parallax, 5),
        "scale": _number(step.scale, 7),
        "scale_source": step.scale_source,
        "scale_shares": {source: _number(share, 4) for source, share in step.shares.items()},
        "scale_sigma": _number(step.scale_sigma, 3),
        "tracks": step.tracks,
        "window": step.window,
        "key_frame": step.key_frame if step.key_frame >= 0 else None,
        "ms": _number(step.milliseconds, 4),
        "note": step.note,
    }


def run_facts(
    camera: Camera,
    config: OdometryConfig,
    frames: FrameSource | None = None,
    calibration: str = "",
    preset: str = "",
) -> dict[str, Any]:
    """What is known of a run before its first frame.

    Args:
        camera: of the input frames, distortion included.
        config: as resolved.
        frames: the input, where it is a file or a folder.
        calibration: where the camera comes from: a file, `--intrinsics`, `guess`.
        preset: that the configuration began with.
    """
    from trianflow import __version__

    facts: dict[str, Any] = {}
    if frames is not None:
        facts["input"] = {
            "name": frames.name,
            "kind": frames.kind,
            "path": str(frames.path.absolute()),
            "total": frames.total,
            "start": frames.start,
            "end": frames.end,
            "stride": frames.stride,
            "times": str(getattr(frames, "times_source", "")),
            "stray": len(frames.stray),
            "depth": str(frames.depth.folder.absolute()) if frames.depth is not None else None,
            "depth_scale": frames.depth.scale if frames.depth is not None else None,
        }
    facts["calibration"] = {"source": calibration, **dataclasses.asdict(camera)}
    facts["preset"] = preset
    facts["config"] = config.model_dump(mode="json")
    facts["seed"] = config.seed
    facts["threads"] = {
        "torch": torch.get_num_threads(),
        "opencv": cv2.getNumThreads(),
        "cores": os.cpu_count(),
    }
    facts["versions"] = {
        "trianflow": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
    }
    return facts


def _number(value: float, digits: int) -> float | None:
    """Rounded to significant digits; None where JSON has no word for it."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
