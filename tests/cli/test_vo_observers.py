"""What `trianflow vo` makes beside the trajectory, by its options."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest

from tests.cli.conftest import CAMERA, FPS
from tests.cli.vo_results import FILES, FRAMES, report_of
from trianflow.data.depth import write_depth
from trianflow.data.synthetic import SyntheticSequence
from trianflow.odometry.video_file import VideoFileWriter


def test_all_at_once(drive: Path, tmp_path: Path, trianflow) -> None:
    pytest.importorskip("open3d")
    (drive / "depth").mkdir()
    sequence = SyntheticSequence.make("street", "driving", FRAMES, CAMERA, FPS, seed=3)  # as `drive` has it
    for i, frame in enumerate(sequence.frames()):
        write_depth(drive / "depth" / f"{i:04d}.png", frame.depth[0, 0].numpy(), 256)
    out, other = tmp_path / "out", tmp_path / "other"
    words = ["--cloud", other / "cloud.ply", "--mesh", other / "mesh.ply", "--colmap", other / "model", "--report"]
    words += ["--overlay", other / "seen.mp4", "--depth", drive / "depth", "--depth-scale", 256, "--out", out]
    result = trianflow("vo", drive / "images", "--preset", "fast", *words, "--json", "key_overlap=0.9")
    assert (result.code, result.errors) == (0, [])
    files = set(json.loads(result.out)["files"])
    assert FILES | {"report.html", str(other / "cloud.ply"), str(other / "mesh.ply"), f"{other / 'model'}/"} <= files
    made = {"cloud.ply", "mesh.ply", "model", "seen.mp4"}
    assert {path.name for path in other.iterdir()} == made
    assert {path.name for path in out.iterdir()} == {*FILES, "report.html"}
    assert (other / "model" / "points3D.txt").is_file()


def test_a_report_has_a_cloud_beside_it(drive: Path, tmp_path: Path, trianflow) -> None:
    assert trianflow("vo", drive / "images", "--preset", "fast", "--report", "--out", tmp_path / "out").code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*FILES, "report.html", "cloud.ply"}
    assert report_of(tmp_path / "out")["state"] == "complete"


def test_a_mesh_without_depth(drive: Path, tmp_path: Path, trianflow) -> None:
    pytest.importorskip("open3d")
    words = ["--mesh", tmp_path / "mesh.ply", "--out", tmp_path / "out"]
    assert trianflow("vo", drive / "images", "--preset", "fast", *words).code == 0
    assert (tmp_path / "mesh.ply").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--mesh", "a.pcd"], 2, "--mesh a.pcd: the name must end in .ply"),
        (["--cloud", "a.pcd"], 2, "--cloud a.pcd: the name must end in .ply"),
        (["--cloud", "folder.ply"], 2, "is a folder; name a file"),
        (["--cloud", "calib.yaml/a.ply"], 1, "cannot write the results there"),
        (["--live"], 1, "--live: "),
        (["--colmap", "calib.yaml"], 1, "cannot write the results there: it is a file"),
    ],
)
def test_refused_before_any_work(
    drive: Path, monkeypatch: pytest.MonkeyPatch, trianflow, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(drive)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    (drive / "folder.ply").mkdir()
    result = trianflow("vo", "images", *words)
    assert result.code == code
    assert len(result.errors) == 1
    assert said in result.errors[0]
    assert not list((drive / "out").rglob("*.tum"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["drive.mp4", "--overlay", "drive.mp4"], "--overlay would write drive.mp4, which is the input"),
        (["drive.mp4", "--overlay", "link.mp4"], "--overlay would write link.mp4, which is the input"),
        (["images", "--cloud", "a.ply", "--mesh", "out/../a.ply"], "which --cloud writes too"),
        (["images", "--report", "--mesh", "o/cloud.ply", "--out", "o"], "which --mesh writes too"),
        (["images", "--gt", "o/trajectory.tum", "--out", "o"], "o/trajectory.tum, which is the truth"),
        (["images", "--speed", "m/images.txt", "--colmap", "m"], "m/images.txt, which is the speed"),
        (["images", "--calib", "m/cameras.txt", "--colmap", "m"], "m/cameras.txt, which is the calibration"),
        (["images", "--colmap", "."], "--colmap .: its pictures would replace the frames in images"),
        (["linked", "--colmap", "."], "--colmap .: its pictures would replace the frames in images"),
    ],
)
def test_no_result_replaces_what_is_read_or_another_result(
    drive: Path, monkeypatch: pytest.MonkeyPatch, trianflow, words: list[str], said: str
) -> None:
    pytest.importorskip("evo")
    monkeypatch.chdir(drive)
    video = VideoFileWriter(drive / "drive.mp4")
    for i, file in enumerate(sorted((drive / "images").iterdir())):
        video.write(cv2.imread(str(file)), i / FPS)
    video.close()
    for folder in ("linked", "m", "o"):
        (drive / folder).mkdir()
    for file in (drive / "images").iterdir():
        (drive / "linked" / file.name).symlink_to(file)
    (drive / "link.mp4").symlink_to("drive.mp4")
    (drive / "m" / "cameras.txt").write_text("1 PINHOLE 160 96 99 99 80 48\n")
    (drive / "m" / "images.txt").write_text("0 5\n0.5 5\n")
    shutil.copy(drive / "truth.tum", drive / "o" / "trajectory.tum")
    before = {path: path.read_bytes() for path in drive.rglob("*") if path.is_file()}
    result = trianflow("vo", *words)
    assert (result.code, len(result.errors)) == (2, 1)
    assert said in result.errors[0]
    assert {path: path.read_bytes() for path in drive.rglob("*") if path.is_file()} == before
