"""What weights are measured by: flow against true motion and true flow, depth, and the scale of an odometry."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from trianflow.config import OdometryConfig
from trianflow.data.calibration import fit_to_image, read_calibration
from trianflow.data.flow_files import read_flow
from trianflow.data.frames import open_frames
from trianflow.data.pairs.config import SyntheticSource
from trianflow.data.pairs.rendered import RenderedPairs
from trianflow.depth.learned import LearnedDepth
from trianflow.evaluation.depth import depth_errors
from trianflow.evaluation.flow import error_maps, group_errors
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.evaluation.pose_errors import pair_errors
from trianflow.flow.interface import FlowEstimator
from trianflow.flow.refinement import Refiner, smoothed
from trianflow.geometry.camera import invert_pose
from trianflow.geometry.epipolar import fundamental_from_essential, skew
from trianflow.losses.geometry import epipolar_distance_map
from trianflow.odometry.estimators import Estimators
from trianflow.odometry.motion import compare_views
from trianflow.odometry.run import run_odometry
from trianflow.pose.two_view import TwoViewStatus
from trianflow.trajectory import Trajectory

Figures = dict[str, float]

_NEAR = 1.0  # pixels from the true epipolar line
_STANDS = 0.02  # metres: a pair that moves less has no direction, nor an epipolar line
_HELD_OUT = SyntheticSource(synthetic=40, seed=900)
_SYNTHETIC_SIZE = (384, 192)
_NEAREST, _FARTHEST = 1e-3, 80.0  # metres of true depth that counts
_LENGTHS = (20, 40, 60, 80)  # metres


@dataclass(frozen=True)
class Sequence:
    """Frames with true poses: folder of the data, frames between the images of a pair, every how manieth pair."""

    folder: str
    stride: int
    every: int = 1


def motion_figures(estimator: FlowEstimator, data: Path, sequence: Sequence) -> Figures:
    """Median errors of two-view geometry, as the odometry solves it, and how near the flow comes to the truth.

    Returns:
        `rot`, `dir`: median errors in degrees of matches as the flow gives them, a pair without a pose, or with that of
        a plane, counts as 90 in direction; `fine_rot`, `fine_dir`: the same of matches brought to a fraction of a
        pixel; `near`: share of all pixels that land within 1 px of their true epipolar line.
    """
    folder = data / sequence.folder
    frames = open_frames(folder)
    camera, _ = fit_to_image(read_calibration(folder / "calib.yaml"), *frames.first_image_size())
    K, config = camera.K(), OdometryConfig()
    T_wc = torch.from_numpy(Trajectory.load(folder / "poses.txt").T_wc)
    images = [frame.image for frame in frames]
    found: dict[str, list[float]] = {name: [] for name in ("rot", "dir", "fine_rot", "fine_dir", "near")}
    for a in range(0, len(images) - sequence.stride, sequence.every):
        b = a + sequence.stride
        first, second = images[a], images[b]
        assert first is not None
        assert second is not None
        flow = estimator.flow(estimator.encode(first), estimator.encode(second))
        T_ba = invert_pose(T_wc[b]) @ T_wc[a]
        for mark, refiner in (("", None), ("fine_", Refiner(smoothed(first), smoothed(second), flow.flow_ab))):
            pair = compare_views(flow, K, config, refiner)
            # pair_errors takes camera-to-world poses, here of a as the world
            true, estimated = (np.stack([np.eye(4), invert_pose(T).numpy()]) for T in (T_ba, pair.view.T_ba[0]))
            turned, off = pair_errors(true, estimated)
            found[f"{mark}rot"].append(turned[0])
            if len(off):
                found[f"{mark}dir"].append(off[0] if pair.status is TwoViewStatus.OK else 90.0)
        if len(off):
            F_ba = fundamental_from_essential(skew(T_ba[:3, 3]) @ T_ba[:3, :3], K, K)
            F_ba = (F_ba / F_ba.norm()).float()[None]
            found["near"].append(float((epipolar_distance_map(flow.flow_ab, F_ba, 1e-12) < _NEAR).float().mean()))
    return {name: float(np.mean(x) if name == "near" else np.median(x)) for name, x in found.items()}


def pair_figures(estimator: FlowEstimator, folder: Path) -> Figures:
    """Mean end-point error in pixels, and KITTI's outliers in percent, of a folder with two images and true flow."""
    truth = read_flow(next(folder.glob("flow_gt.*")))
    images = [frame.image for frame in open_frames(str(folder / "img*.png"))]
    assert images[0] is not None
    assert images[1] is not None
    flow = estimator.flow(estimator.encode(images[0]), estimator.encode(images[1])).flow_ab
    error = group_errors(error_maps(flow[0].permute(1, 2, 0).numpy(), truth))["all"]
    return {"epe": error.epe, "outliers": 100 * error.outliers}


def synthetic_figures(estimator: FlowEstimator, cache: Path, count: int) -> Figures:
    """Mean end-point error over held-out synthetic pairs, of all pixels and of visible ones, and of no flow at all."""
    pairs = RenderedPairs(_HELD_OUT, _SYNTHETIC_SIZE, cache)
    found = []
    for number in np.linspace(0, len(pairs) - 1, count).round().astype(int).tolist():
        pair = pairs.read(number)
        assert pair.flow_ab is not None
        assert pair.visible_a is not None
        flow = estimator.flow(*(estimator.encode(np.ascontiguousarray(image)) for image in pair.images)).flow_ab
        error = np.linalg.norm(flow[0].numpy() - pair.flow_ab, axis=0)
        found.append((error.mean(), error[pair.visible_a[0] > 0.5].mean(), np.linalg.norm(pair.flow_ab, axis=0).mean()))
    epe, visible, zero = np.mean(found, 0).tolist()
    return {"epe": epe, "visible": visible, "zero": zero}


def depth_figures(network: LearnedDepth, folder: Path, scale: float) -> Figures:
    """Mean AbsRel and share within 1.25 after median scaling by image, and the spread of that scale, all as shares.

    Args:
        network: of depth.
        folder: images, and `depth` with 16-bit PNG files.
        scale: their units a metre.
    """
    frames = open_frames(folder)
    frames.attach_depth(folder / "depth", scale)
    errors, scales = [], []
    for frame in frames:
        if frame.image is None or frame.depth is None:
            continue
        depth, truth = network.depth(frame.image), frame.depth
        valid = (truth > _NEAREST) & (truth < _FARTHEST)
        d, t = depth[valid].astype(np.float64), truth[valid].astype(np.float64)
        scales.append(float(np.median(t) / np.median(d)))
        errors.append(depth_errors(np.clip(d * scales[-1], _NEAREST, _FARTHEST), t))
    return {
        "abs_rel": float(np.mean([e.abs_rel for e in errors])),
        "d1": float(np.mean([e.d1 for e in errors])),
        "spread": float(np.std(scales) / np.median(scales)),
    }


def scale_figures(weights: str, data: Path) -> Figures:
    """t_err in percent over 20 to 80 m on 07, 7-DoF: by carried structure, the network's depth alone, and both."""
    folder = data / "kitti_odom_07_000-159"
    truth = Trajectory.load(folder / "poses.txt")
    figures = {}
    for name, changes in (
        ("structure", {"scale": "structure"}),
        ("alone", {"scale": "depth", "window": {"frames": 0}}),
        ("both", {"scale": "depth"}),
    ):
        config = OdometryConfig.model_validate({"weights": weights, **changes})
        frames = open_frames(folder)
        camera, _ = fit_to_image(read_calibration(folder / "calib.yaml"), *frames.first_image_size())
        with tempfile.TemporaryDirectory() as out:
            run = run_odometry(frames, camera, config, out, estimators=Estimators.of(config))
        error = evaluate_odometry(truth, run.trajectory, "sim3", _LENGTHS, with_evo=False).t_err
        figures[name] = float("nan") if error is None else error
    return figures


def flow_parts(estimator: FlowEstimator, data: Path, cache: Path, quick: bool) -> dict[str, Callable[[], Figures]]:
    """What is measured of a flow, by name, each as something to be called."""
    parts: dict[str, Callable[[], Figures]] = {}
    for name, folder, strides in (
        ("07", "kitti_odom_07_000-159", (1,)),
        ("06", "kitti_odom_06_000-050", (1, 2, 3)),
        ("01", "kitti_odom_01_000-050", (1, 2, 3)),
    ):
        for stride in strides:
            every = (16 if name == "07" else 12) if quick else 1
            parts[f"{name}/{stride}"] = partial(motion_figures, estimator, data, Sequence(folder, stride, every))
    parts["kitti2015"] = partial(pair_figures, estimator, data / "flow_kitti2015_pair")
    parts["rubberwhale"] = partial(pair_figures, estimator, data / "flow_middlebury_rubberwhale")
    parts["synthetic"] = partial(synthetic_figures, estimator, cache, 10 if quick else 40)
    return parts


def depth_parts(network: LearnedDepth, weights: str, data: Path, quick: bool) -> dict[str, Callable[[], Figures]]:
    """What is measured of a depth network, by name."""
    units = {f"kitti_mini_depth/{n}": 256.0 for n in ("10", "04", "05", "06")}
    units |= {f"tum_fr1_{name}": 5000.0 for name in ("rpy_200-239", "desk_9frames")}
    parts: dict[str, Callable[[], Figures]] = {
        name: partial(depth_figures, network, data / name, unit) for name, unit in units.items()
    }
    if not quick:
        parts["scale"] = partial(scale_figures, weights, data)
    return parts
