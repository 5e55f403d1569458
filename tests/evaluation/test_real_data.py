"""Real estimates of real sequences through the command line, against evo's own functions and plain loops.

Flow of real pairs is in tests/cli/test_eval_flow.py, published trajectories in test_odometry_references.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.evaluation.test_snippets import published_definition
from tests.evaluation.trajectories import naive_segments
from trianflow.cli import main

pytestmark = pytest.mark.data
Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """What `trianflow eval WORDS --json` prints."""

    def call(*words: object) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["eval", *map(str, words), "--json", "--quiet"]) == 0
        return dict(json.loads(capsys.readouterr().out))

    return call


def of_evo(truth: Path, estimate: Path, alignment: str = "sim3", stride: int = 1) -> tuple[Any, Any, dict[str, float]]:
    """Truth and aligned estimate as evo reads and aligns them, and evo's figures."""
    metrics = pytest.importorskip("evo.core.metrics")
    from evo.core import sync
    from evo.core.trajectory import PosePath3D
    from evo.tools import file_interface

    if estimate.suffix == ".tum":
        both = (file_interface.read_tum_trajectory_file(str(file)) for file in (truth, estimate))
        gt, est = sync.associate_trajectories(*both, max_diff=0.02)
    else:  # quaternions make rotations of what has seven digits in the file
        both = (file_interface.read_kitti_poses_file(str(file)) for file in (truth, estimate))
        gt, est = (PosePath3D(path.positions_xyz, path.orientations_quat_wxyz) for path in both)
        gt.reduce_to_ids(list(range(0, gt.num_poses, stride)))
    assert gt.num_poses == est.num_poses
    if alignment == "none":
        est.align_origin(gt)
    else:
        est.align(gt, correct_scale=alignment == "sim3")
    position, angle = metrics.PoseRelation.translation_part, metrics.PoseRelation.rotation_angle_deg
    measures = {
        "ate": metrics.APE(position),
        "rpe_translation": metrics.RPE(position),
        "rpe_rotation": metrics.RPE(angle),
    }
    for measure in measures.values():
        measure.process_data((gt, est))
    return gt, est, {key: m.get_statistic(metrics.StatisticsType.rmse) for key, m in measures.items()}


def figures(result: dict[str, Any], *keys: str) -> dict[str, float]:
    """Some figures of the only row."""
    (row,) = result["table"]
    return {key: row[key] for key in keys}


EVO = ("ate", "rpe_translation", "rpe_rotation")


@pytest.mark.slow
def test_a_drive(shared_data: Path, tmp_path: Path, evaluate: Evaluate) -> None:
    """KITTI 07, on which README has 0.64 % and 0.10 m: every figure of one estimate, under every alignment of evo."""
    sequence, out = shared_data / "kitti_odom_07_000-159", tmp_path / "07"
    truth, lengths = sequence / "poses.txt", [20, 40, 60, 80]
    words = ("odometry", truth, out, "--lengths", *lengths)
    found = evaluate(*words, "--predict", sequence)
    row = found["table"][0]
    gt, est, expected = of_evo(truth, out / "trajectory.kitti")
    assert figures(found, *EVO) == pytest.approx(expected, rel=1e-4)
    segments = np.array(naive_segments(np.array(gt.poses_se3), np.array(est.poses_se3), lengths, 10))
    assert found["estimates"]["07"]["segments"] == len(segments)
    assert row["t_err"] == pytest.approx(100 * segments[:, 3].mean(), rel=1e-4)
    assert row["r_err"] == pytest.approx(100 * np.rad2deg(segments[:, 4].mean()), rel=2e-2)
    assert row["t_err"] < 1.3
    assert row["r_err"] < 1.2
    assert row["ate"] < 0.25
    for alignment in ("se3", "none"):
        expected = of_evo(truth, out / "trajectory.kitti", alignment)[2]
        assert figures(evaluate(*words, "--alignment", alignment), *EVO) == pytest.approx(expected, rel=1e-4)
    for length in (3, 5):
        snippets = published_definition(np.array(gt.poses_se3), np.array(est.poses_se3), length)
        row = evaluate("pose", truth, out, "--length", length)["table"][0]
        assert row["snippets"] == len(snippets) == 161 - length
        assert (row["ate"], row["ate_std"]) == pytest.approx((np.mean(snippets), np.std(snippets)), rel=1e-3)
        assert row["ate"] < 0.02


def test_every_third_frame(shared_data: Path, tmp_path: Path, evaluate: Evaluate) -> None:
    """KITTI 06: the video is predicted with a stride, and the truth re-sampled like it."""
    sequence, out = shared_data / "kitti_odom_06_000-050", tmp_path / "06"
    words = ("odometry", sequence / "poses.txt", out, "--stride", 3, "--lengths", 20, 40, "--step", 2)
    found = evaluate(*words, "--predict", sequence)
    gt, est, expected = of_evo(sequence / "poses.txt", out / "trajectory.kitti", stride=3)
    assert found["table"][0]["poses"] == gt.num_poses == 17
    assert figures(found, *EVO) == pytest.approx(expected, rel=1e-4)
    segments = np.array(naive_segments(np.array(gt.poses_se3), np.array(est.poses_se3), [20, 40], 2))
    assert found["table"][0]["t_err"] == pytest.approx(100 * segments[:, 3].mean(), rel=1e-4)
    assert found["table"][0]["t_err"] < 2.5
    assert evaluate(*words)["table"] == found["table"], "the files alone give the same figures"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "truth", "estimate", "rotation"),
    [
        ("tum_fr1_rpy_200-239", "groundtruth.txt", "trajectory.tum", 0.5),
        ("sevenscenes_400-599", "poses.txt", "trajectory.kitti", 0.4),
    ],
)
def test_hand_held(
    shared_data: Path, tmp_path: Path, evaluate: Evaluate, name: str, truth: str, estimate: str, rotation: float
) -> None:
    """Motion capture at another rate goes by time stamps; the truth of 7-Scenes by frames."""
    sequence, out = shared_data / name, tmp_path / "out"
    found = evaluate("odometry", sequence / truth, out, "--predict", sequence, "--lengths", 0.05)
    gt, _, expected = of_evo(sequence / truth, out / estimate)
    row = found["table"][0]
    assert row["poses"] == gt.num_poses == len(list((sequence / "images").iterdir()))
    assert figures(found, *EVO) == pytest.approx(expected, rel=1e-4)
    spread = np.sqrt(gt.positions_xyz.var(axis=0).sum())  # the error of an estimate that stands still
    assert row["ate"] < 0.8 * spread
    assert row["pair_rotation"] < rotation


def eigen_pixels(truth: np.ndarray, cap: float) -> np.ndarray:
    """Which pixels of a frame the protocol of Eigen et al. scores, with the crop of Garg et al."""
    H, W = truth.shape
    y, x = np.mgrid[:H, :W]
    inside = (y >= int(0.40810811 * H)) & (y < int(0.99189189 * H))
    inside &= (x >= int(0.03594771 * W)) & (x < int(0.96405229 * W))
    return np.asarray(inside & (truth > 1e-3) & (truth < cap))


@pytest.fixture
def true_depths(shared_data: Path) -> dict[str, np.ndarray]:
    """Depth of the lidar in metres by `SEQUENCE/IMAGE`, 0 where unknown."""
    return {
        f"{file.parents[1].name}/{file.stem}": cv2.imread(str(file), cv2.IMREAD_UNCHANGED) / 256
        for file in sorted(shared_data.glob("kitti_mini_depth/*/depth/*.png"))
    }


def write_depths(folder: Path, depths: dict[str, np.ndarray]) -> Path:
    """As `SEQUENCE/depth/IMAGE.npy`."""
    for name, depth in depths.items():
        sequence, image = name.split("/")
        (folder / sequence / "depth").mkdir(parents=True, exist_ok=True)
        np.save(folder / sequence / "depth" / f"{image}.npy", depth.astype(np.float32))
    return folder


@pytest.mark.parametrize(("protocol", "cap"), [("eigen", 80.0), ("eigen50", 50.0)])
def test_constant_depth(
    shared_data: Path, tmp_path: Path, evaluate: Evaluate, true_depths: dict, protocol: str, cap: float
) -> None:
    """A constant, scaled by the medians, is the median of the truth."""
    flat = write_depths(tmp_path / "flat", {name: np.full((16, 52), 7) for name in true_depths})
    words = ("depth", shared_data / "kitti_mini_depth", flat, "--gt-scale", 256, "--protocol", protocol)
    (row,) = evaluate(*words)["table"]
    by_image = []
    for depth in true_depths.values():
        t = depth[eigen_pixels(depth, cap)]
        d = np.median(t)
        squares = [np.mean((t - d) ** 2 / t), np.mean((t - d) ** 2), np.mean(np.log(t / d) ** 2)]
        near = [np.mean((t / d < 1.25**n) & (d / t < 1.25**n)) for n in (1, 2, 3)]
        by_image.append([np.mean(abs(t - d) / t), squares[0], *np.sqrt(squares[1:]), *near])
    expected = np.mean(by_image, axis=0)
    keys = ("abs_rel", "sq_rel", "rmse", "rmse_log")
    assert [row[key] for key in keys] == pytest.approx(expected[:4].tolist(), rel=1e-5)
    # a truth of 256ths of a metre lies on the threshold of a ratio now and then
    assert [row[key] for key in ("d1", "d2", "d3")] == pytest.approx(expected[4:].tolist(), abs=1e-3)
    assert len(by_image) == 40
    assert 0.3 < row["abs_rel"] < 0.9, "a street is not flat"


def test_truth_with_a_known_error(
    shared_data: Path, tmp_path: Path, evaluate: Evaluate, true_depths: dict[str, np.ndarray]
) -> None:
    """Every other column a tenth too far, the rest a tenth too near: AbsRel is 0.1 whatever is in the image."""
    wrong, metres = {}, []
    for name, depth in true_depths.items():
        sign = np.where(np.arange(depth.shape[1]) % 2, 1, -1)
        wrong[name] = np.where(depth > 0, depth * (1 + 0.1 * sign), 7)
        metres.append([depth[depth > 0].mean(), np.sqrt((depth[depth > 0] ** 2).mean())])
    pred = write_depths(tmp_path / "wrong", wrong)
    words = ("depth", shared_data / "kitti_mini_depth", pred, "--gt-scale", 256, "--protocol", "plain")
    (row,) = evaluate(*words, "--scaling", "none")["table"]
    mean, root = np.mean(metres, axis=0)
    found = [row[key] for key in ("abs_rel", "sq_rel", "rmse", "d1")]
    assert found == pytest.approx([0.1, 0.01 * mean, 0.1 * root, 1], rel=1e-5)
    shutil.rmtree(pred)
    write_depths(pred, {name: 3 * depth for name, depth in true_depths.items()})
    (scaled,), (raw,) = (evaluate(*words, "--scaling", scaling)["table"] for scaling in ("median", "none"))
    assert (scaled["abs_rel"], scaled["scale"]) == pytest.approx((0, 1 / 3), abs=1e-6)
    assert (raw["abs_rel"], raw["d3"]) == pytest.approx((2, 0), rel=1e-5)
