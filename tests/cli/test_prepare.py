"""`trianflow prepare` from the official layout to what training and scoring read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.conftest import Result
from tests.data.datasets.kitti_trees import DATE, DRIVE, projection, write_drive, write_odometry
from tests.data.datasets.test_nyuv2_raw import write_scene as write_nyuv2
from tests.data.in_process import work_here
from trianflow.data.calibration import read_calibration
from trianflow.data.datasets.splits import SPLITS
from trianflow.data.depth import read_depth
from trianflow.data.pairs.config import DataConfig, PathSource
from trianflow.data.pairs.dataset import open_dataset
from trianflow.trajectory import Trajectory

Program = Callable[..., Result]
SMALL = ("--size", 64, 32, "--workers", 1)


@pytest.mark.slow
def test_kitti_odometry_to_training_pairs(tmp_path: Path, trianflow: Program) -> None:
    T_w0 = write_odometry(tmp_path / "dataset", ("00", "03", "09"))
    (tmp_path / "dataset/sequences/03/image_2/000002.png").write_bytes(b"cut")
    done = trianflow("prepare", "kitti_odometry", tmp_path / "dataset", tmp_path / "out", *SMALL)
    assert done.code == 1, "named, and the rest is prepared"
    assert (
        "3 sequences, 17 frames written, 0 left out because nothing moved, 1 left out because they cannot" in done.out
    )
    assert "000002.png" in done.err

    camera = read_calibration(tmp_path / "out/00/calib.yaml")
    P, sx = projection(2), 64 / 96
    assert camera.fx == pytest.approx(P[0, 0] * sx)
    assert camera.cx == pytest.approx((P[0, 2] + 0.5) * sx - 0.5)
    poses = Trajectory.load(tmp_path / "out/00/poses.tum")
    offset = np.linalg.inv(P[:, :3]) @ P[:, 3]
    T_02 = np.eye(4)
    T_02[:3, 3] = -offset
    expected = [np.linalg.inv(T_w0[0] @ T_02) @ T @ T_02 for T in T_w0]
    found = [np.linalg.inv(poses.T_wc[0]) @ T for T in poses.T_wc]
    np.testing.assert_allclose(found, expected, atol=1e-6)

    source = PathSource(
        path=str(tmp_path / "out/00"), poses=str(tmp_path / "out/00/poses.tum"), depth=str(tmp_path / "out/00/depth")
    )
    pairs = open_dataset(DataConfig(size=(64, 32), train=(source,)), "train", 0, augment=False)
    truth = pairs[0, 1].truth
    assert truth is not None
    assert truth.T_ba is not None
    np.testing.assert_allclose(truth.T_ba[0], np.linalg.inv(expected[2]) @ expected[1], atol=1e-5)
    assert truth.depth_a is not None
    assert float(truth.depth_a.nan_to_num().max()) > 1


def test_the_test_frames_of_eigen_with_their_depth(tmp_path: Path, trianflow: Program) -> None:
    drive = "2011_09_26_drive_0002_sync"
    write_drive(tmp_path / "kitti", drive, count=6, numbers=tuple(range(69, 90)))
    words = ("prepare", "kitti_raw", tmp_path / "kitti", tmp_path / "out", "--split", "eigen_test", "--truth", *SMALL)
    done = trianflow(*words, "--json")
    assert done.code == 1, "named, and the rest is prepared"
    found = json.loads(done.out)
    [sequence] = [entry for entry in found["sequences"] if entry["kept"]]
    assert sequence["name"] == f"2011_09_26/{drive}/image_02"
    assert found["notes"] == []
    assert any("not there: 2011_09_26/2011_09_26_drive_0009_sync" in problem for problem in found["problems"])
    folder = tmp_path / "out" / sequence["name"]
    names = sorted(p.name for p in (folder / "images").iterdir())
    assert names == ["000069.png", "000072.png", "000075.png"]
    assert sorted(p.name for p in (folder / "truth").iterdir()) == names
    assert read_depth(folder / "truth" / names[0], 256).shape == (32, 96)
    assert cv2.imread(str(folder / "images" / names[0])).shape == (32, 64, 3)


def test_options_of_the_readers(tmp_path: Path, trianflow: Program) -> None:
    """Camera and stride of KITTI, the window of NYUv2, the scale of a folder's depth: seen in what is written."""
    write_drive(tmp_path / "kitti", count=6)
    done = trianflow(
        *("prepare", "kitti_raw", tmp_path / "kitti", tmp_path / "right", *SMALL),
        *("--cameras", 1, "--stride", 2, "--min-motion", 0),
    )
    assert (done.code, done.err) == (0, "")
    (folder,) = (tmp_path / "right" / DATE / DRIVE).iterdir()
    assert folder.name == "image_01"
    assert sorted(p.name for p in (folder / "images").iterdir()) == ["000000.png", "000002.png", "000004.png"]
    assert len((folder / "speeds.txt").read_text().split()) == 3

    write_nyuv2(tmp_path / "nyuv2" / "study_0001", [0.0, 0.1], [0.0, 0.1])
    words = ("prepare", "nyuv2_raw", tmp_path / "nyuv2", tmp_path / "window", "--crop", "--truth", "--min-motion", 0)
    done = trianflow(*words, *SMALL)
    assert (done.code, done.err) == (0, "")
    assert read_depth(tmp_path / "window/study_0001/truth/000000.png", 256).shape == (427, 561)

    images = tmp_path / "folder" / "scene" / "images"
    images.mkdir(parents=True)
    (images.parent / "depth").mkdir()
    for number in range(2):
        cv2.imwrite(str(images / f"{number}.png"), np.full((64, 64, 3), number, np.uint8))
        cv2.imwrite(str(images.parent / "depth" / f"{number}.png"), np.full((64, 64), 600, np.uint16))
    (images.parent / "cam.txt").write_text("60 0 32\n0 60 32\n0 0 1\n")
    words = ("prepare", "folder", tmp_path / "folder", tmp_path / "metres", "--depth-scale", 300, "--min-motion", 0)
    assert trianflow(*words, *SMALL).code == 0
    depth = read_depth(tmp_path / "metres/scene/depth/000001.png", 256)
    assert np.unique(depth).tolist() == [2]


def test_exit_code_1_where_a_part_is_missing(
    tmp_path: Path, trianflow: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_here(monkeypatch)
    write_odometry(tmp_path / "dataset", ("09", "10"), count=3, scans=False)
    begin = ("prepare", "kitti_odometry", tmp_path / "dataset")
    done = trianflow(*begin, tmp_path / "all", *SMALL)
    assert (done.code, done.err) == (0, "")
    done = trianflow(*begin, tmp_path / "test", "--split", "odometry_test", *SMALL)
    assert done.code == 1
    assert "not there: 09: 1588 of 1591 frames (3-1590)" in done.err
    assert "2 sequences, 6 frames written" in done.out
    poses = tmp_path / "dataset" / "poses" / "10.txt"
    truth = poses.read_text()
    poses.unlink()
    done = trianflow(*begin, tmp_path / "all", *SMALL)
    assert done.code == 1
    assert done.err.count(f"10: {poses}: no such file; unpack data_odometry_poses.zip so that it is there") == 1
    assert "2 sequences, 6 frames written" in done.out
    poses.write_text(truth)
    last = tmp_path / "dataset" / "sequences" / "09" / "image_2" / "000002.png"
    picture = last.read_bytes()
    last.unlink()
    done = trianflow(*begin, tmp_path / "all", *SMALL)
    assert done.code == 1
    assert f"09: {last.parent}: 1 of 3 frames are missing (2); unpack data_odometry_color.zip again" in done.err
    assert "2 sequences, 5 frames written" in done.out
    last.write_bytes(picture)
    (last.parent / "plot.png").write_bytes(b"")
    done = trianflow(*begin, tmp_path / "all", *SMALL)
    assert done.code == 0, "nothing is missing"
    assert f"{last.parent}: left out plot.png" in done.err
    assert f"09: {tmp_path / 'all/09'}: 3 of 3 frames were prepared again, as the source has changed since" in done.err
    assert "2 sequences, 6 frames written" in done.out
    scan = tmp_path / "dataset" / "sequences" / "10" / "velodyne" / "000001.bin"
    scan.parent.mkdir()
    scan.write_bytes(b"cut")
    done = trianflow(*begin, tmp_path / "depth", *SMALL)
    assert done.code == 1
    assert "000001.bin: truncated laser scan" in done.err
    assert "6 frames written, 0 left out because nothing moved, 1 without their depth" in done.out


def test_of_many_problems_the_first_are_told(
    tmp_path: Path, trianflow: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_here(monkeypatch)
    scene = tmp_path / "folder" / "scene"
    scene.mkdir(parents=True)
    cv2.imwrite(str(scene / "0.png"), np.zeros((64, 64, 3), np.uint8))
    for number in range(1, 24):
        (scene / f"{number}.png").write_bytes(b"cut")
    (scene / "cam.txt").write_text("60 0 32\n0 60 32\n0 0 1\n")
    done = trianflow("prepare", "folder", tmp_path / "folder", tmp_path / "out", *SMALL)
    assert done.code == 1
    assert "out: 1 sequence, 1 frame written, 0 left out" in done.out
    assert "more: --json lists them all" in done.err


def test_the_help_names_all_splits(trianflow: Program) -> None:
    told = trianflow("prepare", "--help").out
    assert [name for name in SPLITS if name not in told] == []


def test_refusals(tmp_path: Path, trianflow: Program) -> None:
    write_odometry(tmp_path / "dataset", ("00",), count=3, scans=False)
    begin = ("prepare", "kitti_odometry", tmp_path / "dataset")
    for words, reason in (
        ((*begin, tmp_path / "dataset/small"), "the dataset is not to be changed"),
        ((*begin, tmp_path / "out", "--size", 8, 8), "--size must be at least 32x32"),
        ((*begin, tmp_path / "out", "--stride", 0), "--workers and --stride at least 1"),
        ((*begin, tmp_path / "out", "--crop"), "--crop is for cityscapes, make3d, nyuv2_labelled, nyuv2_raw, not"),
        ((*begin, tmp_path / "out", "--cameras", 2, 3), "one of the cameras 0 to 3, not 2, 3"),
        ((*begin, tmp_path / "out", "--depth-scale", 5), "--depth-scale is for folder, not for kitti_odometry"),
        (("prepare", "folder", tmp_path, tmp_path / "out", "--depth-scale", -1), "--depth-scale must be positive"),
        ((*begin, tmp_path / "out", "--split", "eigen"), "no split is called 'eigen'; there are"),
        ((*begin, tmp_path / "out", "--split", "odometry_test"), "holds nothing of the split odometry_test"),
        (("prepare", "kitti_raw", tmp_path / "dataset", tmp_path / "out"), str(tmp_path / "dataset")),
    ):
        done = trianflow(*words)
        assert done.code in (1, 2)
        assert len(done.errors) == 1
        assert reason in done.errors[0]
    assert not (tmp_path / "out").exists()
