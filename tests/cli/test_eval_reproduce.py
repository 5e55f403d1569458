"""`trianflow eval reproduce`, to the figures, on miniature datasets in the official layouts."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.datasets.kitti_trees import text_of, write_drive
from tests.data.datasets.test_nyuv2_labelled import depth as true_depth
from tests.data.datasets.test_nyuv2_labelled import write as write_labelled
from tests.data.datasets.test_nyuv2_raw import write_scene
from trianflow.cli import _parse
from trianflow.config import load_settings
from trianflow.data.depth import read_depth
from trianflow.data.flow_files import read_flow, write_flow
from trianflow.data.pairs.dataset import open_dataset
from trianflow.data.synthetic import SyntheticSequence
from trianflow.evaluation.reproduce import TABLES, Place, steps_of
from trianflow.evaluation.reproduce_steps import status_of
from trianflow.geometry.camera import Camera
from trianflow.training.config import TrainConfig
from trianflow.trajectory import Trajectory
from trianflow.weights import load_weights

CAMERA = Camera.from_fov(160, 64, 80.0)
FRAMES = 14
METRES = 12.0  # how much larger the world of the miniature is told to be, so that 14 frames are more than 100 m


def write_sequence(dataset: Path, name: str, seed: int) -> None:
    """A rendered sequence of KITTI odometry: colour images, calibration, times, poses of camera 0."""
    folder = dataset / "sequences" / name
    (folder / "image_2").mkdir(parents=True)
    (dataset / "poses").mkdir(exist_ok=True)
    sequence = SyntheticSequence.make("street", "driving", FRAMES, CAMERA, 10.0, seed=seed)
    for i, frame in enumerate(sequence.frames()):
        rgb = (frame.image[0].permute(1, 2, 0) * 255).byte().numpy()
        cv2.imwrite(str(folder / "image_2" / f"{i:06d}.png"), np.ascontiguousarray(rgb[..., ::-1]))
    P = np.hstack([CAMERA.K().numpy(), np.zeros((3, 1))])
    (folder / "calib.txt").write_text("".join(f"P{camera}: {text_of(P)}\n" for camera in range(4)))
    (folder / "times.txt").write_text("".join(f"{0.1 * i:.6e}\n" for i in range(FRAMES)))
    poses = sequence.T_0c.numpy().copy()
    poses[:, :3, 3] *= METRES
    (dataset / "poses" / f"{name}.txt").write_text("".join(f"{text_of(T[:3])}\n" for T in poses))


@pytest.fixture
def reproduce(trianflow, tmp_path: Path) -> Callable:
    """The command with the folders of the test."""

    def call(*words: object):
        return trianflow("eval", "reproduce", *words, "--data", tmp_path / "data", "--work", tmp_path / "work")

    return call


def states(out: str) -> list[str]:
    """The state of each step of a list."""
    lines = [line for line in out.splitlines() if line[:1].isdigit()]
    return [line.split(": ")[1].split(" ")[0].rstrip(":") for line in lines]


def test_without_a_table_the_tables_are_listed(trianflow) -> None:
    result = trianflow("eval", "reproduce")
    assert result.code == 0
    names = [line.partition(":")[0] for line in result.out.splitlines() if not line.startswith(" ")]
    assert names == list(TABLES)
    assert "kitti_odometry_stride3_10: t_err 11.43, r_err 2.57; TrianFlow, Zhao et al." in result.out
    assert "snippet_ate_5: ate_09 0.01, ate_09_std 0.013, ate_10 0.011, ate_10_std 0.008; Insta-DM, Lee" in result.out


def test_an_empty_disk(reproduce, tmp_path: Path) -> None:
    result = reproduce("depth_eigen")
    assert (result.code, result.err) == (0, "")
    assert states(result.out) == ["missing", "waiting", "missing", "waiting", "waiting"]
    assert (
        f"KITTI raw: no folder {tmp_path / 'data' / 'kitti_raw'}; unpack 2011_09_26_drive_0001_sync.zip" in result.out
    )
    assert "3. prepare the test data: missing: see 1\n" in result.out
    assert "published  depth_eigen: abs_rel 0.113, sq_rel 0.704, rmse 4.581, rmse_log 0.184, d1 0.871" in result.out
    result = reproduce("depth_eigen", "--run")
    assert (result.code, result.out) == (1, "")
    assert "stopped before step 1, prepare the training data: missing KITTI raw: no folder" in result.err
    assert not (tmp_path / "work").exists()


def test_a_method_without_a_system(reproduce, tmp_path: Path) -> None:
    write_drive(tmp_path / "data" / "kitti_raw", "2011_09_26_drive_0001_sync")
    result = reproduce("instadm_depth_eigen")
    assert states(result.out)[:2] == ["ready", "missing"]
    assert "2. train the networks: missing: trianflow has no system that trains Insta-DM yet; --weights" in result.out
    assert len([line for line in result.out.splitlines() if line.startswith("   trianflow")]) == 2  # to prepare
    result = reproduce("instadm_odometry", "--run")
    assert (result.code, result.out) == (1, "")
    assert "stopped before step 1, prepare the training data: missing KITTI odometry" in result.err
    result = reproduce("instadm_odometry", "--run", "--weights", "driving")
    assert (result.code, result.out) == (1, "")
    assert "stopped before step 1, trajectories of 09 and 10: missing `trianflow vo` runs no Ego-PoseNet" in result.err


def test_wrong_use(reproduce, weights: Path) -> None:
    for words, said in (
        (["depth_kitti"], "no table is called 'depth_kitti'; there are depth_eigen, kitti2015_flow"),
        (["--run"], "--run needs a table"),
        (["odometry", "--weights", weights, "batch_size=2"], "batch_size=2: a setting of the training"),
        (["odometry", "batchsize=2"], "batchsize"),
    ):
        result = reproduce(*words)
        assert (result.code, result.out) == (2, "")
        assert said in result.errors[0]
    result = reproduce("odometry", "--weights", "nowhere.safetensors", "--run")
    assert result.code == 1
    assert "missing KITTI odometry: no folder" in result.err


def test_depth_with_weights(reproduce, weights: Path, tmp_path: Path) -> None:
    """Eigen's frames of a drive become figures; all of it is done once, and again where weights are new."""
    drive = "2011_09_26_drive_0002_sync"
    write_drive(tmp_path / "data" / "kitti_raw", drive, numbers=(69, 70, 54, 42))
    result = reproduce("depth_eigen", "--weights", weights)
    assert states(result.out) == ["ready", "waiting", "waiting"]
    assert "not there: 2011_09_26/2011_09_26_drive_0002_sync/image_02: " in result.out
    result = reproduce("depth_eigen", "--weights", weights, "--run")
    assert result.errors == []
    assert result.code == 0
    work, name = tmp_path / "work", f"2011_09_26/{drive}/image_02"
    frames = sorted(file.name for file in (work / "eigen_test" / name / "truth").iterdir())
    out = work / "depth_eigen" / f"{weights.parent.name}_random"
    assert len(frames) == 3  # 42, 54, 69: 70 is not of the split
    assert sorted(file.name for file in (out / "depth" / name / "depth").iterdir()) == frames
    facts = json.loads((out / "depth" / name / "depth.json").read_text())
    assert (facts["written"], facts["weights"], facts["scale"]) == (3, str(weights), 500)
    with (out / "depth.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert row["images"] == "3"
    figure = format(float(row["abs_rel"]), ".4g")
    assert f"here       depth_eigen: abs_rel {figure}, sq_rel" in result.out
    result = reproduce("depth_eigen", "--weights", weights)
    assert states(result.out) == ["done", "done", "done"]
    assert f"here       depth_eigen: abs_rel {figure}, sq_rel" in result.out
    assert reproduce("depth_eigen", "--weights", weights, "--run", "-q").err.count(": done\n") == 3
    later = (out / "depth.csv").stat().st_mtime + 10
    os.utime(out / "depth" / name / "depth.json", (later, later))
    result = reproduce("depth_eigen", "--weights", weights)
    assert states(result.out) == ["done", "done", "ready"]
    assert "here       " not in result.out


def test_flow_with_weights(reproduce, weights: Path, tmp_path: Path) -> None:
    training = tmp_path / "data" / "kitti_2015" / "training"
    for name in ("image_2", "flow_occ", "flow_noc", "calib_cam_to_cam"):
        (training / name).mkdir(parents=True)
    truth = np.full((64, 128, 2), (3.0, 1.0), np.float32)
    for number in range(2):
        image = cv2.GaussianBlur(np.random.default_rng(number).integers(0, 255, (64, 128, 3), np.uint8), (0, 0), 2)
        cv2.imwrite(str(training / "image_2" / f"{number:06d}_10.png"), image)
        cv2.imwrite(str(training / "image_2" / f"{number:06d}_11.png"), np.roll(image, (1, 3), (0, 1)))
        for kind in ("occ", "noc"):
            write_flow(training / f"flow_{kind}" / f"{number:06d}_10.png", truth)
        text = "P_rect_02: 90 0 64 0 0 90 32 0 0 0 1 0\nS_rect_02: 128 64\n"
        (training / "calib_cam_to_cam" / f"{number:06d}.txt").write_text(text)
    assert states(reproduce("kitti2015_flow", "--weights", weights).out) == ["ready"]
    result = reproduce("kitti2015_flow", "--weights", weights, "--run", "-q")
    assert (result.code, result.errors) == (0, [])
    out = tmp_path / "work" / "kitti2015_flow" / f"{weights.parent.name}_random"
    flows = [read_flow(out / "flow" / f"{number:06d}_10.png") for number in range(2)]
    expected = np.mean([np.linalg.norm(flow - truth, axis=-1).mean() for flow in flows])
    result = reproduce("kitti2015_flow", "--weights", weights)
    assert states(result.out) == ["done"]
    assert f"here       kitti2015_flow: epe_noc {expected:.4g}, epe_all {expected:.4g}, fl_all" in result.out


def test_indoor_depth_with_weights(reproduce, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "nyuv2").mkdir(parents=True)
    write_labelled(tmp_path / "data" / "nyuv2")
    result = reproduce("depth_nyuv2", "--weights", weights, "--run")
    assert (result.code, result.errors) == (0, [])
    out = tmp_path / "work" / "depth_nyuv2" / f"{weights.parent.name}_random"
    factors = []
    files = sorted((tmp_path / "work" / "nyuv2_test" / "test" / "truth").iterdir())
    for number, file in zip((0, 2, 4), files, strict=True):
        truth = read_depth(file, 256)
        np.testing.assert_allclose(truth, true_depth(number)[44:471, 40:601], atol=0.51 / 256)
        picture = cv2.imread(str(file.parent.parent / "images" / file.name))
        assert picture[0, 0].tolist() == [number, 40, 44]  # the network sees the crop as well
        depth = read_depth(out / "depth" / "test" / "depth" / file.name, 500)
        assert depth.shape == (448, 576)
        factors.append(np.median(truth) / np.median(depth))
    with (out / "depth.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["images"]) == 3
    assert float(row["scale"]) == pytest.approx(np.median(factors), rel=0.05)
    assert "here       depth_nyuv2: abs_rel " in result.out


@pytest.mark.parametrize("table", ["depth_eigen", "depth_nyuv2"])
def test_the_training_opens_what_was_prepared(table: str, tmp_path: Path, trianflow) -> None:
    data = tmp_path / "data"
    if table == "depth_eigen":
        for drive in ("0001", "0005", "0002"):  # trained on, watched, of the test set
            write_drive(data / "kitti_raw", f"2011_09_26_drive_{drive}_sync")
        pairs, watched, width = 2 * 5, 5, 96
    else:
        (data / "nyuv2").mkdir(parents=True)
        write_labelled(data / "nyuv2")  # its test images are of kitchen_0000 and others
        for scene in ("kitchen_0000", "home_kitchen_0000", "cafe_0001"):
            times = [0.1 * i for i in range(12)]
            write_scene(data / "nyuv2_raw" / scene, times, times)
        pairs, watched, width = 2 * 2, 0, 561
    steps = steps_of(table, Place(data, tmp_path / "work", None, ("data.size=[128,64]", "data.min_motion=0")))
    assert [status_of(step).state for step in steps[:2]] == ["ready", "waiting"]
    assert trianflow(*steps[0].words, "--workers", 1, "-q").code == 0
    assert [status_of(step).state for step in steps[:2]] == ["done", "ready"]
    args = _parse(list(steps[1].words))
    config = load_settings(TrainConfig(), args.config, args.overrides).data
    trained = open_dataset(config, "train", seed=0, augment=False)
    assert len(trained) == pairs
    assert trained[0].image_a.shape == (1, 3, 64, 128)
    prepared = {file.parent.parent.name for file in (tmp_path / "work").rglob("images/000000.png")}
    assert "kitchen_0000" not in prepared
    assert not any("drive_0002" in note or "/kitchen" in note for note in trained.notes)
    focal = 70.0 if width == 96 else 518.86
    assert float(trained[0].K[0, 0, 0]) == pytest.approx(focal * 128 / width, rel=1e-3 if width == 96 else 0.1)
    if watched:
        assert len(open_dataset(config, "val", seed=0, augment=False)) == watched


@pytest.mark.slow
def test_odometry_from_the_archives_to_the_figures(reproduce, tmp_path: Path) -> None:
    dataset = tmp_path / "data" / "kitti_odometry" / "dataset"
    for seed, name in enumerate(("00", "09", "10")):
        write_sequence(dataset, name, seed + 3)
    short = [f"stages.{stage}.steps=1" for stage in ("flow", "depth", "joint")]
    short += ["data.size=[128,64]", "batch_size=2", "workers=0", "val_pairs=4", "init=driving", "system.deepest=256"]
    short += ["system.geometry.min_points=20", "system.geometry.matches=500"]
    before = reproduce("odometry", *short)
    assert states(before.out) == ["ready", "waiting", "waiting", "waiting", "waiting", "waiting"]
    assert "not there: 00: 4527 of 4541 frames (14-4540) (and 8 more)" in before.out
    result = reproduce("odometry", "--run", *short)
    assert result.errors == []
    assert result.code == 0
    work = tmp_path / "work"
    assert json.loads((work / "odometry_train" / "00" / "prepared.json").read_text())["frames"] == FRAMES
    assert cv2.imread(str(work / "odometry_train" / "00" / "images" / "000001.png")).shape == (64, 128, 3)
    trained = load_weights(work / "runs" / "kitti_odometry" / "joint.safetensors")
    assert trained.depth is not None
    assert (trained.card["steps"], trained.card["size"]) == (3, [128, 64])
    for name in ("09", "10"):
        folder = work / "odometry" / "trained" / name
        report = json.loads((folder / "report.json").read_text())
        assert report["config"]["weights"] == str(work / "runs" / "kitti_odometry" / "joint.safetensors")
        assert (report["config"]["flow"], report["config"]["scale"]) == ("pwc", "depth")
        assert len(Trajectory.load(folder / "trajectory.kitti")) == FRAMES
        with folder.with_suffix(".csv").open(newline="") as file:
            row = next(csv.DictReader(file))
        assert f"here       kitti_odometry_{name}: t_err {float(row['t_err']):.4g}, r_err" in result.out
    assert states(reproduce("odometry", *short).out) == ["done"] * 6
    # the same training serves the table with stride 3
    strided = reproduce("odometry_stride3", *short)
    assert states(strided.out) == ["done", "done", "ready", "waiting", "ready", "waiting"]
    result = reproduce("odometry_stride3", *short, "--run", "-q")
    assert (result.code, result.errors) == (0, [])
    assert len(Trajectory.load(work / "odometry_stride3" / "trained" / "10" / "trajectory.kitti")) == len(
        range(0, FRAMES, 3)
    )
    # other settings are another run
    other = reproduce("odometry", *short, "seed=1")
    assert states(other.out)[1] == "missing"
    assert "holds a run with other settings (seed)" in other.out
    assert f"--weights {work / 'runs' / 'kitti_odometry' / 'joint.safetensors'}" in other.out
