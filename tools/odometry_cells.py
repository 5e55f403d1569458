"""The cells of `bench_odometry.py`: one sequence, one variant, one seed; each computed once and kept in a file."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import tempfile
from collections.abc import Sequence as Items
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

import trianflow
from trianflow.config import OdometryConfig, load_settings
from trianflow.data.calibration import read_depth_scale
from trianflow.data.synthetic import SyntheticSequence
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.files import replacing
from trianflow.odometry.loops import Closed
from trianflow.odometry.preparation import with_next
from trianflow.odometry.report import GUESSED
from trianflow.trajectory import Trajectory
from trianflow.weights import load_weights

Figures = dict[str, float | None]

ALIGNMENT = {"front": "sim3", "window": "sim3", "height": "se3", "speed": "se3", "depth": "se3", "fused": "se3"}
LEARNED = ("pwc", "pwc+dis")
ALIGNMENT |= dict.fromkeys(LEARNED, "sim3")
WORDS = {"front": ["window.frames=0"], "height": ["camera_height=1.65"], "fused": ["scale=depth"]}
WORDS |= {name: [f"flow={name}"] for name in LEARNED}
DRIVE = trianflow.Camera(256.0, 256.0, 255.5, 127.5, 512, 256)


@dataclass(frozen=True)
class Sequence:
    """A real sequence: folder, stride, lengths of the KITTI segments in metres, and the variants that make sense."""

    folder: str
    stride: int = 1
    lengths: tuple[int, ...] = ()
    variants: tuple[str, ...] = ("front", "window")


CAR = ("front", "window", "height", "speed")
INDOORS = ("front", "window", "depth", "fused")
SEQUENCES = {
    "07": Sequence("kitti_odom_07_000-159", 1, (20, 40, 60, 80), CAR),
    **{f"06/{n}": Sequence("kitti_odom_06_000-050", n, (20, 40), CAR) for n in (1, 2, 3)},
    **{f"01/{n}": Sequence("kitti_odom_01_000-050", n, (20, 40), CAR) for n in (1, 2, 3)},
    "7scenes": Sequence("sevenscenes_400-599", variants=INDOORS),
    "tum": Sequence("tum_fr1_rpy_200-239", variants=INDOORS),
    "euroc": Sequence("euroc_v101_static_12"),
}
DRIVES = {"open": ("front", "window"), "loop": ("window",)}
# Estimates of whole KITTI sequences: file, number of the sequence. S-PTAM and this ORB-SLAM used two cameras.
PUBLISHED = {
    "ORB-SLAM stereo, 00": ("evo_kitti00/KITTI_00_ORB.txt", "00"),
    "S-PTAM stereo, 00": ("evo_kitti00/KITTI_00_SPTAM.txt", "00"),
    **{
        f"kitti-odom-eval example {n}, {k}": (f"kitti_odom_eval_example_{n}/{k}.txt", k)
        for n in (0, 1)
        for k in ("09", "10")
    },
}
PIECE = 160  # frames, as 07 has


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        sequence: of `SEQUENCES` or `DRIVES`.
        variant: of `ALIGNMENT`.
        seed: of the odometry; of a drive that of the town, its way and its traffic.
        preset: of the configuration.
        frames: of a drive; 0 for a real sequence.
    """

    sequence: str
    variant: str
    seed: int
    preset: str = "accurate"
    frames: int = 0

    def config(self, speed: Path | None = None) -> OdometryConfig:
        """What the variant means; `speed` is the file of that variant."""
        words = [f"speed={speed}"] if speed is not None else WORDS.get(self.variant, [])
        drives = self.sequence in DRIVES
        loops = drives and self.variant != "front"
        base = OdometryConfig.preset(self.preset)
        return load_settings(base, None, [*words, f"seed={0 if drives else self.seed}", f"loops={loops}"])

    def file(self, out: Path) -> Path:
        """Where the figures are kept: under another name with other settings, other code or other libraries."""
        told = [dataclasses.asdict(self), self.config().model_dump(mode="json"), _code()]
        told += [np.__version__, torch.__version__, cv2.__version__]
        if self.variant in LEARNED:
            told.append(load_weights(self.config().weights).card["sha256"])
        mark = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
        return out / f"{self.sequence.replace('/', '-')}_{self.variant}_{self.seed}_{mark}.json"


@functools.cache
def _code() -> str:
    """Of all that the figures depend on."""
    package = Path(trianflow.__file__).parent
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for part in ("odometry", "pose", "geometry", "flow", "data", "evaluation", "config.py", "trajectory.py"):
        files = [package / part] if part.endswith(".py") else sorted((package / part).rglob("*.py"))
        for file in files:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def figures_of(cell: Cell, data: Path, out: Path, threads: int) -> Figures:
    """The figures of a cell, from its file where there is one.

    Args:
        cell: to compute.
        data: folder of the real sequences.
        out: folder of the files.
        threads: for each direction of the optical flow.
    """
    file = cell.file(out)
    if not file.exists():
        torch.set_num_threads(1)
        cv2.setNumThreads(threads)
        found = run_drive(cell) if cell.sequence in DRIVES else run_real(cell, data)
        with replacing(file) as beside:
            beside.write_text(json.dumps(dataclasses.asdict(cell) | {"threads": threads, "figures": found}, indent=1))
    figures: Figures = json.loads(file.read_text())["figures"]
    return figures


def run_real(cell: Cell, data: Path) -> Figures:
    """One variant on a real sequence."""
    sequence = SEQUENCES[cell.sequence]
    root, with_depth = data / sequence.folder, cell.variant in ("depth", "fused")
    source = trianflow.open_frames(
        root / "images",
        stride=sequence.stride,
        depth=root / "depth" if with_depth else None,
        depth_scale=read_depth_scale(root / "calib.yaml") if with_depth else None,
    )
    with tempfile.TemporaryDirectory() as folder:
        speed = Path(folder) / "speed.txt" if cell.variant == "speed" else None
        if speed is not None:
            write_speeds(root, speed)
        odometry = trianflow.VisualOdometry(trianflow.Camera.from_file(root / "calib.yaml"), cell.config(speed))
    steps = list(odometry.stream(source))
    estimate, truth = odometry.trajectory, true_trajectory(root)
    figures: Figures = {
        "ms": float(np.median([step.milliseconds for step in steps])),
        "lost": sum(step.status in GUESSED for step in steps),
        "radial": odometry.radial,
        "path": estimate.path_length,
    }
    if truth is None:
        return figures
    if truth.times_are_indices:
        truth = Trajectory(truth.times[:: sequence.stride], truth.T_wc[:: sequence.stride])
        estimate = Trajectory(truth.times, estimate.T_wc)
    figures |= errors(truth, estimate, ALIGNMENT[cell.variant], sequence.lengths)
    if odometry.metric.wants_metres and not odometry.metric.known:
        figures |= {"t_err": None, "ate": None}
    return figures


def true_trajectory(root: Path) -> Trajectory | None:
    """The truth of a sequence, where it has one."""
    for name in ("poses.txt", "groundtruth.txt"):
        if (root / name).exists():
            return Trajectory.load(root / name)
    return None


def write_speeds(root: Path, path: Path) -> None:
    """A car's speeds by the true poses of its sequence: they stand in for its own sensors."""
    truth = Trajectory.load(root / "poses.txt")
    times = np.arange(len(truth)) / 10
    if (root / "times.txt").exists():
        times = np.loadtxt(root / "times.txt")[: len(truth)]
    np.savetxt(path, np.stack([times, np.gradient(truth.distances, times)], 1))


def errors(truth: Trajectory, estimate: Trajectory, alignment: str, lengths: Items[int]) -> Figures:
    """The figures of an estimate; t_err and r_err over `lengths`, where there are some."""
    m = evaluate_odometry(truth, estimate, alignment, lengths=lengths or (1,), step=10)
    found: Figures = {"ate": m.ate.rmse if m.ate else None, "rot": m.pair_rotation_median}
    found["dir"] = m.pair_direction_median
    return found | ({"t_err": m.t_err, "r_err": m.r_err} if lengths else {})


def published_pieces(name: str, folder: Path) -> list[Figures]:
    """A published trajectory, piece by piece."""
    file, number = PUBLISHED[name]
    truth, estimate = Trajectory.load(folder / "gt" / f"{number}.txt"), Trajectory.load(folder / file)
    found = []
    for start in range(0, len(truth) - PIECE + 1, PIECE):
        parts = []
        for whole in (truth, estimate):
            here = (whole.times >= start) & (whole.times < start + PIECE)
            parts.append(Trajectory(whole.times[here], whole.T_wc[here], times_are_indices=True))
        found.append(errors(parts[0], parts[1], "sim3", SEQUENCES["07"].lengths))
    return found


def run_drive(cell: Cell) -> Figures:
    """A synthetic drive: how the scale drifts, and what loops make of it."""
    kind, frames = cell.sequence, cell.frames
    drive = SyntheticSequence.drive(kind, DRIVE, seed=cell.seed, frames=frames)  # type: ignore[arg-type]
    odometry = trianflow.VisualOdometry(DRIVE, cell.config())
    steps = [odometry.track(*both) for both in with_next(drive.stream())]
    ms = np.array([step.milliseconds for step in steps])
    truth = Trajectory(np.arange(frames), drive.T_0c.numpy())
    fifths = [float(np.median(part)) for part in np.array_split(ms, 5)]
    values = errors(truth, Trajectory(truth.times, odometry.trajectory.T_wc), ALIGNMENT[cell.variant], ())
    values["lost"] = sum(step.status in GUESSED for step in steps)
    values |= {"ms": float(np.median(ms)), "ms_first": fifths[0], "ms_last": fifths[-1], "way": truth.path_length}
    values |= drift(truth, odometry.trajectory)
    return values | (what_loops_did(truth, odometry.closed()) if odometry.config.loops else {})


def what_loops_did(truth: Trajectory, closed: Closed | None) -> Figures:
    """How many were found, how many of them kept, how many false; and the drift that is left."""
    if closed is None:
        return {"loops": 0, "kept": 0, "false": 0}
    wrong = [far_apart(truth.T_wc[a], truth.T_wc[b]) for a, b in closed.rows]
    left = {f"closed_{key}": value for key, value in drift(truth, closed.trajectory).items()}
    return left | {"loops": len(wrong), "kept": int(closed.kept.sum()), "false": sum(wrong)}


def drift(truth: Trajectory, estimate: Trajectory) -> Figures:
    """`ratio`, scale of the last 100 m by that of the first 100 m, and `end`, metres that the last pose is off.

    Both begin with the same pose; the first 100 m give the estimate its metres. None for less than 200 m.
    """
    way, ours = truth.distances, estimate.distances
    if way[-1] < 200:
        return {"ratio": None, "end": None}
    first, last = np.searchsorted(way, [100, way[-1] - 100])
    scale = way[first] / ours[first]
    ratio = scale * (ours[-1] - ours[last]) / (way[-1] - way[last])
    end = scale * estimate.relative_to_first().positions[-1] - truth.positions[-1]
    return {"ratio": float(ratio), "end": float(np.linalg.norm(end))}


def far_apart(T_wa: np.ndarray, T_wb: np.ndarray) -> bool:
    """Whether two poses, `(4, 4)` in metres, cannot be a loop: over 15 m or 20 degrees apart."""
    T_ba = np.linalg.inv(T_wb) @ T_wa
    cosine = (np.trace(T_ba[:3, :3]) - 1) / 2
    return bool(np.linalg.norm(T_ba[:3, 3]) > 15 or cosine < np.cos(np.radians(20)))
