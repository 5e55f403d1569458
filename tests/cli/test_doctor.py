"""The doctor's verdicts, and how every sub-command finds the calibration of its input."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.cli import doctor
from trianflow.cli.common import add_input_arguments, open_input
from trianflow.errors import TrianflowError, UsageError

WIDTH, HEIGHT = 160, 120
CALIBRATION = "fx: 150\nfy: 150\ncx: 80\ncy: 60\nwidth: 160\nheight: 120\n"
KITTI = "".join(f"P{i}: {150 + i} 0 80 0 0 {150 + i} 60 0 0 0 1 0\n" for i in range(4))


def write_sequence(folder: Path, number: int = 8, step: int = 5) -> Path:
    noise = np.random.default_rng(0).normal(0, 1, (HEIGHT, WIDTH + number * step)).astype(np.float32)
    wall = cv2.GaussianBlur(noise, (0, 0), 2)
    wall = (128 + wall / wall.std() * 40).clip(0, 255).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        cv2.imwrite(str(folder / f"{i:04d}.png"), wall[:, i * step : i * step + WIDTH])
    return folder


def parse(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_input_arguments(parser)
    return parser.parse_args([str(a) for a in arguments])


def examine(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    parser = argparse.ArgumentParser()
    doctor.add_parser(parser.add_subparsers())
    args = parser.parse_args(["doctor", *(str(a) for a in arguments)])
    code = args.run(args)
    return code, capsys.readouterr().out


# --- doctor -------------------------------------------------------------------------------------------------


def test_without_input(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = examine(capsys)
    assert code == 0
    for word in ("trianflow", "torch", "opencv", "numpy", "devices", "threads"):
        assert word in text
    assert json.loads(examine(capsys, "--json")[1])["ok"] is True


def test_good_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sequence(tmp_path / "seq" / "images")
    (tmp_path / "seq" / "calib.yaml").write_text(CALIBRATION)
    code, text = examine(capsys, folder.parent)
    assert code == 0
    assert "8 frames of 160x120" in text
    assert "WARN" not in text
    assert "FAIL" not in text
    report = json.loads(examine(capsys, folder, "--json")[1])
    assert report["ok"] is True
    assert report["frames"]["flow"] == pytest.approx(5 / 160 * 100, rel=0.15)
    assert report["camera"]["fx"] == 150
    assert report["calibration"].endswith("calib.yaml")


def test_slow_input_gets_a_stride(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sequence(tmp_path, 60, 1)
    code, text = examine(capsys, folder, "--intrinsics", 150, 150, 80, 60)
    assert code == 0
    assert "use --stride 4" in text


def test_warnings_do_not_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sequence(tmp_path)
    (folder / "0003.png").write_bytes(b"")
    code, text = examine(capsys, folder, "--intrinsics", 150, 250, 20, 60)
    assert code == 0
    assert "1 of 8 frames looked at cannot be used, the first: 0003.png: the file is empty" in text
    assert "fx / fy is 0.600" in text
    assert "cx = 20" in text


def test_a_guessed_camera_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = examine(capsys, write_sequence(tmp_path))
    assert code == 0
    (line,) = [line for line in text.splitlines() if "fx" in line]
    assert line.startswith("[ WARN ] note: no calibration: guessed as a field of view of 65 degrees")


@pytest.mark.parametrize(
    "case", ["one frame", "mostly broken", "other aspect", "nonsense distortion", "no images"]
)
def test_what_makes_vo_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    folder = write_sequence(tmp_path / "images", 1 if case == "one frame" else 8)
    calibration = CALIBRATION
    if case == "mostly broken":
        for i in range(3, 8):
            (folder / f"{i:04d}.png").write_bytes(b"")
    elif case == "other aspect":
        calibration = CALIBRATION.replace("160", "320")
    elif case == "nonsense distortion":
        calibration += "distortion: [60, 500, 0, 0]\n"
    elif case == "no images":
        for file in folder.iterdir():
            file.unlink()
    (tmp_path / "calib.yaml").write_text(calibration)
    code, text = examine(capsys, folder)
    assert code == 1
    assert "FAIL" in text
    code, text = examine(capsys, folder, "--json")
    assert code == 1
    assert json.loads(text)["ok"] is False


def test_wrong_use_is_not_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError):
        examine(capsys, tmp_path / "none")


# --- open_input ---------------------------------------------------------------------------------------------


def test_calibration_by_argument(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "a" / "images")
    (tmp_path / "a" / "calib.yaml").write_text(CALIBRATION)
    other = tmp_path / "other.txt"
    other.write_text("99 99 80 60")
    frames, camera, source, notes = open_input(parse(folder, "--calib", other))
    assert (camera.fx, camera.width, source, notes) == (99, WIDTH, str(other), [])
    assert len(frames) == 8
    _, camera, source, _ = open_input(parse(folder, "--intrinsics", 98, 98, 80, 60))
    assert (camera.fx, source) == (98, "--intrinsics")
    with pytest.raises(UsageError, match="--intrinsics"):
        open_input(parse(folder, "--intrinsics", -98, 98, 80, 60))
    with pytest.raises(UsageError, match=r"--calib .*none\.yaml: no such file"):
        open_input(parse(folder, "--calib", tmp_path / "none.yaml"))
    with pytest.raises(SystemExit):
        parse(folder, "--calib", other, "--intrinsics", 1, 1, 1, 1)


@pytest.mark.parametrize(
    "name", ["calib.yaml", "calib.txt", "calibration.yaml", "camera.yaml", "intrinsics.txt", "cam.txt"]
)
@pytest.mark.parametrize("level", [0, 1, 2])
def test_calibration_found_beside_or_above(tmp_path: Path, name: str, level: int) -> None:
    folder = write_sequence(tmp_path / "a" / "images", 2)
    place = [folder, folder.parent, folder.parent.parent][level]
    (place / name).write_text(CALIBRATION)
    _, camera, source, notes = open_input(parse(folder))
    assert camera.fx == 150
    assert source == str(place / name)
    assert any(name in note for note in notes)


@pytest.mark.parametrize(
    ("folder", "fx"), [("image_0", 150), ("image_2", 152), ("image_3", 153), ("images", 150)]
)
def test_kitti_folder_takes_its_projection(tmp_path: Path, folder: str, fx: float) -> None:
    write_sequence(tmp_path / "00" / folder, 2)
    (tmp_path / "00" / "calib.txt").write_text(KITTI + "Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n")
    assert open_input(parse(tmp_path / "00"))[1].fx == fx
    assert open_input(parse(tmp_path / "00" / folder))[1].fx == fx


def test_kitti_raw_folder(tmp_path: Path) -> None:
    drive = tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync"
    write_sequence(drive / "image_02" / "data", 2)
    text = "P_rect_00: 150 0 80 0 0 150 60 0 0 0 1 0\nP_rect_02: 152 0 80 0 0 152 60 0 0 0 1 0\n"
    (tmp_path / "2011_09_26" / "calib_cam_to_cam.txt").write_text(text + "S_rect_02: 160 120\n")
    _, camera, _, _ = open_input(parse(drive))
    assert (camera.fx, camera.width) == (152, 160)


@pytest.mark.parametrize("name", ["drive_calib.yaml", "drive.yaml", "drive.mp4.yaml", "calib.yaml"])
def test_video_with_its_calibration(tmp_path: Path, name: str) -> None:
    writer = cv2.VideoWriter(
        str(tmp_path / "drive.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 20, (WIDTH, HEIGHT)
    )
    for i in range(4):
        writer.write(np.full((HEIGHT, WIDTH, 3), 50 * i, np.uint8))
    writer.release()
    (tmp_path / name).write_text(CALIBRATION)
    frames, camera, source, _ = open_input(parse(tmp_path / "drive.mp4"))
    assert (frames.kind, camera.fx, source) == ("video", 150, str(tmp_path / name))


def test_guess_is_stated(tmp_path: Path) -> None:
    _, camera, source, notes = open_input(parse(write_sequence(tmp_path / "a" / "b" / "c")))
    assert source == "guess"
    assert camera.width == WIDTH
    assert any("no calibration" in note and "65 degrees" in note for note in notes)


def test_calibration_of_another_size(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "images")
    calibration = tmp_path / "calib.yaml"
    calibration.write_text("fx: 300\nfy: 300\ncx: 160\ncy: 120\nwidth: 320\nheight: 240\n")
    _, camera, _, notes = open_input(parse(folder))
    assert camera.fx == 150
    assert any("scaled" in note for note in notes)
    calibration.write_text("fx: 300\nfy: 300\ncx: 160\ncy: 120\nwidth: 320\nheight: 120\n")
    with pytest.raises(
        TrianflowError, match=r"calib.yaml .*found beside.*320x120 images but the frames are 160x120"
    ):
        open_input(parse(folder))
    calibration.write_text("something: else\n")
    with pytest.raises(TrianflowError, match=r"calib.yaml: .*found beside the input"):
        open_input(parse(folder))


def test_depth_scale_from_the_calibration(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "images", 2)
    (tmp_path / "depth").mkdir()
    for i in range(2):
        cv2.imwrite(str(tmp_path / "depth" / f"{i}.png"), np.full((HEIGHT, WIDTH), 2000, np.uint16))
    (tmp_path / "calib.yaml").write_text(CALIBRATION + "depth_scale: 1000\n")
    frames, *_ = open_input(parse(folder, "--depth", tmp_path / "depth"))
    assert [f.depth[0, 0] for f in frames if f.depth is not None] == [2, 2]
    frames, *_ = open_input(parse(folder, "--depth", tmp_path / "depth", "--depth-scale", 500))
    assert [f.depth[0, 0] for f in frames if f.depth is not None] == [4, 4]
    with pytest.raises(UsageError, match="--depth-scale"):
        open_input(parse(folder, "--depth", tmp_path / "depth", "--intrinsics", 150, 150, 80, 60))


@pytest.mark.data
def test_real_sequences(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = examine(capsys, shared_data / "kitti_odom_07_000-159", "--end", 40)
    assert code == 0
    assert "WARN" not in text
    code, text = examine(capsys, shared_data / "euroc_v101_static_12")
    assert code == 0
    assert "stands still" in text
    video = shared_data / "video_malaga_120.mp4"
    code, text = examine(capsys, video, "--intrinsics", 621.18428, 621.18428, 404.0076, 309.05989)
    assert code == 0
    assert "120 frames of 800x600" in text
