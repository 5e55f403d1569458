"""Every calibration format with planted values, and the files that are none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.data.calibration import read_calibration, read_depth_scale
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera

P = "{} 0 {} {} 0 {} {} 0 0 0 1 0"  # fx cx baseline fy cy
KITTI = "\n".join(f"P{i}: " + P.format(700 + i, 600 + i, -380.5 * i, 701 + i, 180 + i) for i in range(4))
KITTI_RAW = """calib_time: 09-Jan-2012 13:57:47
corner_dist: 9.950000e-02
S_00: 1.392000e+03 5.120000e+02
K_00: 9.842439e+02 0.000000e+00 6.900000e+02 0.000000e+00 9.808141e+02 2.331966e+02 0 0 1
D_00: -3.728755e-01 2.037299e-01 2.219027e-03 1.383707e-03 -7.233722e-02
S_rect_00: 1.242000e+03 3.750000e+02
P_rect_00: 7.215377e+02 0 6.095593e+02 0 0 7.215377e+02 1.728540e+02 0 0 0 1 0
S_rect_02: 1.242000e+03 3.750000e+02
P_rect_02: 7.3e+02 0 6.1e+02 4.485728e+01 0 7.3e+02 1.8e+02 2.163791e-01 0 0 1 2.745884e-03
"""
ROS = """image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [500.5, 0.0, 320.25, 0.0, 501.5, 240.75, 0.0, 0.0, 1.0]
distortion_model: {model}
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.2, 0.05, 0.001, -0.002, 0.0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [400.0, 0, 300.0, 0, 0, 400.0, 200.0, 0, 0, 0, 1, 0]
"""
OPENCV = """%YAML:1.0
---
calibration_time: "Mon 01 Jan"
image_width: 640
image_height: 480
flags: 0
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 5.005e+02, 0., 3.2025e+02, 0., 5.015e+02,
       2.4075e+02, 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 5
   cols: 1
   dt: d
   data: [ -2.0e-01, 5.0e-02, 1e-3, -2.0e-03, 0. ]
avg_reprojection_error: 2.5e-01
"""
ORBSLAM2 = """%YAML:1.0

#----------------
# Camera Parameters
#----------------
Camera.fx: 500.5
Camera.fy: 501.5
Camera.cx: 320.25
Camera.cy: 240.75

Camera.k1: -0.2
Camera.k2: 0.05
Camera.p1: 0.001
Camera.p2: -0.002
Camera.width: 640
Camera.height: 480
Camera.fps: 30.0
Camera.RGB: 1
DepthMapFactor: 5000.0
ORBextractor.nFeatures: 1000
"""
ORBSLAM3 = """%YAML:1.0
File.version: "1.0"
Camera.type: "{type}"
Camera1.fx: 500.5
Camera1.fy: 501.5
Camera1.cx: 320.25
Camera1.cy: 240.75
Camera1.k1: -0.2
Camera1.k2: 0.05
Camera1.p1: 0.001
Camera1.p2: -0.002
Camera.width: 640
Camera.height: 480
RGBD.DepthMapFactor: 1000.0
"""
EUROC = """# General sensor definitions.
sensor_type: camera
comment: VI-Sensor cam0
T_BS:
  cols: 4
  rows: 4
  data: [0.0148, -0.9998, 0.0041, -0.0216, 0.9995, 0.0149, 0.0257, -0.0646, 0, 0, 1, 0, 0, 0, 0, 1]
rate_hz: 20
resolution: [640, 480]
camera_model: pinhole
intrinsics: [500.5, 501.5, 320.25, 240.75] #fu, fv, cu, cv
distortion_model: radial-tangential
distortion_coefficients: [-0.2, 0.05, 0.001, -0.002]
"""
KALIBR = """cam0:
  camera_model: pinhole
  distortion_coeffs: [-0.2, 0.05, 0.001, -0.002]
  distortion_model: radtan
  intrinsics: [500.5, 501.5, 320.25, 240.75]
  resolution: [640, 480]
cam1:
  camera_model: pinhole
  distortion_coeffs: [0.1, 0.0, 0.0, 0.0]
  distortion_model: equidistant
  intrinsics: [400, 400, 320, 240]
  resolution: [640, 480]
"""
PLAIN = """fx: 500.5
fy: 501.5
cx: 320.25
cy: 240.75
width: 640
height: 480
distortion: [-0.2, 5e-2, 0.001, -0.002]  # k1 k2 p1 p2
depth_scale: 5000
"""
K = (500.5, 501.5, 320.25, 240.75)
DISTORTION = (-0.2, 0.05, 0.001, -0.002)
FULL = Camera(*K, 640, 480, DISTORTION)


def write(folder: Path, text: str | bytes, name: str = "calib.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        ROS.format(model="plumb_bob"),
        OPENCV,
        ORBSLAM2,
        ORBSLAM3.format(type="PinHole"),
        EUROC,
        KALIBR,
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        "\ufeff" + PLAIN,
        '{"fx": 500.5, "fy": 501.5, "cx": 320.25, "cy": 240.75, "width": 640, "height": 480,'
        ' "distortion": [-0.2, 0.05, 0.001, -0.002]}',
        "# Camera list\n# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n# Number of cameras: 1\n"
        "7 OPENCV 640 480 500.5 501.5 320.75 241.25 -0.2 0.05 0.001 -0.002\n",
        "height: 480\nwidth: 640\ndistortion_model: plumb_bob\nd: [-0.2, 0.05, 0.001, -0.002, 0.0]\n"
        "k: [500.5, 0.0, 320.25, 0.0, 501.5, 240.75, 0.0, 0.0, 1.0]\n",
    ],
    ids=[
        *(
            "ros",
            "opencv",
            "orbslam2",
            "orbslam3",
            "euroc",
            "kalibr",
            "plain",
            "windows line ends",
            "byte order mark",
        ),
        *("json", "colmap opencv", "ros message"),
    ],
)
def test_formats_with_size_and_distortion(tmp_path: Path, text: str) -> None:
    assert read_calibration(write(tmp_path, text)) == FULL


@pytest.mark.parametrize(
    ("text", "distortion"),
    [
        ("500.5 501.5 320.25 240.75", ()),
        ("500.5, 501.5, 320.25, 240.75\n\n", ()),
        ("500.5 501.5 320.25 240.75 0 0 0 0 0", ()),
        ("# fx fy cx cy k1 k2 p1 p2\n500.5 501.5 320.25 240.75 -0.2 0.05 0.001 -0.002\n", DISTORTION),
        ("500.5 501.5 320.25 240.75 -0.2 0.05 0.001 -0.002 1.1", (*DISTORTION, 1.1)),
        ("500.5 501.5 320.25 240.75 -0.2", (-0.2, 0.0, 0.0, 0.0)),
        ("500.5 501.5 320.25 240.75 -0.2 0.05", (-0.2, 0.05, 0.0, 0.0)),
        ("500.5 501.5 320.25 240.75 1 2 3 4 5 6 7 8", (1, 2, 3, 4, 5, 6, 7, 8)),
        ("500.5 0 320.25\n0 501.5 240.75\n0 0 1\n", ()),
        ("500.5,0,320.25\n0,501.5,240.75\n0,0,1\n", ()),
        ("[[500.5, 0, 320.25],\n [0, 501.5, 240.75],\n [0, 0, 1]]", ()),
        ("5.005e+02 0.0e+00 3.2025e+02 0 5.015e+02 2.4075e+02 0 0 1.0", ()),
        ("500.5 0 320.25 0\n0 501.5 240.75 0\n0 0 1 0\n0 0 0 1\n", ()),
        ("500.5 0 0\n0 501.5 0\n320.25 240.75 1\n", ()),
    ],
)
def test_numbers_alone(tmp_path: Path, text: str, distortion: tuple[float, ...]) -> None:
    assert read_calibration(write(tmp_path, text)) == Camera(*K, distortion=distortion)


def test_six_numbers_are_a_size_or_two_coefficients(tmp_path: Path) -> None:
    assert read_calibration(write(tmp_path, "500 500 320 240 640 480")) == Camera(500, 500, 320, 240, 640, 480)


@pytest.mark.parametrize(
    "text",
    [
        KITTI,
        KITTI + "\nTr: 1 0 0 0 0 1 0 0 0 0 1 0\n",
        "Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n" + KITTI + "\n\n\n",
        "\n".join(reversed(KITTI.splitlines())) + "\nTr_velo_to_cam: 1 0 0 0 0 1 0 0 0 0 1 0\n\n",
    ],
    ids=["plain", "Tr last", "Tr first, blank lines", "reversed"],
)
def test_kitti_reads_by_key(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    assert read_calibration(path) == Camera(700, 701, 600, 180)
    assert read_calibration(path, "P2") == Camera(702, 703, 602, 182)
    assert read_calibration(path, "cam0") == Camera(700, 701, 600, 180)  # a name of another format is not for it


def test_kitti_without_the_wanted_camera(tmp_path: Path) -> None:
    path = write(tmp_path, KITTI.splitlines()[0])
    with pytest.raises(TrianflowError, match=r"no P2 .* only P0"):
        read_calibration(path, "P2")


def test_kitti_raw(tmp_path: Path) -> None:
    path = write(tmp_path, KITTI_RAW, "calib_cam_to_cam.txt")
    assert read_calibration(path) == Camera(721.5377, 721.5377, 609.5593, 172.854, 1242, 375)
    assert read_calibration(path, "P2") == Camera(730, 730, 610, 180, 1242, 375)


@pytest.mark.parametrize(
    ("line", "camera"),
    [
        ("1 SIMPLE_PINHOLE 640 480 500 320 240", Camera(500, 500, 319.5, 239.5, 640, 480)),
        ("1 PINHOLE 640 480 500 510 320 240", Camera(500, 510, 319.5, 239.5, 640, 480)),
        ("1 SIMPLE_RADIAL 640 480 500 320 240 0.1", Camera(500, 500, 319.5, 239.5, 640, 480, (0.1, 0, 0, 0))),
        ("1 RADIAL 640 480 500 320 240 0.1 0.2", Camera(500, 500, 319.5, 239.5, 640, 480, (0.1, 0.2, 0, 0))),
        (
            "1 FULL_OPENCV 640 480 500 510 320 240 1 2 3 4 5 6 7 8",
            Camera(500, 510, 319.5, 239.5, 640, 480, (1, 2, 3, 4, 5, 6, 7, 8)),
        ),
    ],
)
def test_colmap_models(tmp_path: Path, line: str, camera: Camera) -> None:
    assert read_calibration(write(tmp_path, f"# comment\n{line}\n")) == camera


def test_colmap_camera_by_number(tmp_path: Path) -> None:
    path = write(tmp_path, "1 PINHOLE 64 48 50 50 32 24\n2 PINHOLE 64 48 60 60 32 24\n")
    assert read_calibration(path, "2").fx == 60
    with pytest.raises(TrianflowError, match="2 different cameras"):
        read_calibration(path)
    with pytest.raises(TrianflowError, match="no camera 3"):
        read_calibration(path, "3")


def test_opencv_reads_what_opencv_writes(tmp_path: Path) -> None:
    path = tmp_path / "written.yml"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", 640)
    storage.write("image_height", 480)
    storage.write("camera_matrix", np.array([[K[0], 0, K[2]], [0, K[1], K[3]], [0, 0, 1]]))
    storage.write("distortion_coefficients", np.array([DISTORTION]))
    storage.release()
    assert read_calibration(path) == FULL


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROS.format(model="equidistant"), "equidistant"),
        (ORBSLAM3.format(type="KannalaBrandt8"), "KannalaBrandt8"),
        (EUROC.replace("radial-tangential", "equidistant"), "equidistant"),
        (EUROC.replace("pinhole", "omni"), "omni"),
        (OPENCV.replace("flags: 0", "fisheye_model: 1"), "fisheye"),
        ("1 OPENCV_FISHEYE 640 480 500 500 320 240 0 0 0 0\n", "OPENCV_FISHEYE"),
        ("1 FOV 640 480 500 500 320 240 0.9\n", "FOV"),
    ],
)
def test_fisheye_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TrianflowError, match=f"{message} is not supported"):
        read_calibration(write(tmp_path, text))


def test_fisheye_second_camera_of_a_chain(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match="not supported"):
        read_calibration(write(tmp_path, KALIBR), "cam1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"# only comments\n", "nothing but comments"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "binary"),
        (bytes(range(256)), "binary"),
        (b"hello world\n", "supported: KITTI"),
        (b"a: b: c\n\t- d", "neither numbers nor YAML"),
        (b"- 1\n- 2\n", "no format that is known"),
        (b"name: x\nyear: 2012\n", "name, year"),
        (b"fx: 500\nfy: 500\n", "cx, cy missing"),
        (b"fx: 500\nfy: wide\ncx: 1\ncy: 2\n", "not numbers"),
        (b"1 2 3", "1x3 numbers"),
        (b"1 2\n3 4\n5 6\n", "3x2 numbers"),
        (b"0 500 320 240", "positive"),
        (b"500 -500 320 240", "positive"),
        (b"fx: .nan\nfy: 1\ncx: 1\ncy: 1", "finite"),
        (b"500 20 320\n0 500 240\n0 0 1", "skew"),
        (b"1 0 0\n9 1 0\n0 0 1", "not a camera matrix"),
        (b"P0: 1 2 3", "12"),
        (b"P0: 700 0 600 0 0 700 180 0 0 0 one 0", "not numbers"),
        (b"1 PINHOLE 640 480 500 500 320\n", "4 parameters"),
        (b"1" * 60 + b"x", "supported: KITTI"),
        (b"camera_matrix: !!opencv-matrix [1, 2]\n", "supported: KITTI"),
        (b"camera_matrix: {rows: 3}\n", "not a list of numbers"),
        (b"%YAML:1.0\n---\nK: !!python/object:os.system {}\n", "supported: KITTI"),
        (b"500 500 320 240" + b" 0.1" * 15, "distortion coefficients"),
    ],
)
def test_unreadable_files_are_one_line_with_the_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path, content, "odd.txt")
    with pytest.raises(TrianflowError) as caught:
        read_calibration(path)
    text = str(caught.value)
    assert message in text
    assert str(path) in text
    assert "\n" not in text


def test_no_file_a_folder_and_a_large_file(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match="no such file"):
        read_calibration(tmp_path / "none.yaml")
    with pytest.raises(TrianflowError, match="folder"):
        read_calibration(tmp_path)
    with pytest.raises(TrianflowError, match="MB"):
        read_calibration(write(tmp_path, b"1 " * (3 << 20)))


def test_depth_scale(tmp_path: Path) -> None:
    assert read_depth_scale(write(tmp_path, PLAIN)) == 5000
    assert read_depth_scale(write(tmp_path, ORBSLAM2)) == 5000
    assert read_depth_scale(write(tmp_path, ORBSLAM3.format(type="PinHole"))) == 1000
    assert read_depth_scale(write(tmp_path, KITTI)) is None
    assert read_depth_scale(write(tmp_path, "500 500 320 240")) is None
    assert read_depth_scale(write(tmp_path, "a: b: c")) is None
    for wrong in ("depth_scale: 0", "depth_scale: -5", "depth_scale: much", "depth_scale: .inf"):
        with pytest.raises(TrianflowError, match="positive"):
            read_depth_scale(write(tmp_path, wrong))


def test_camera_from_file(tmp_path: Path) -> None:
    assert Camera.from_file(write(tmp_path, KITTI), "P1") == Camera(701, 702, 601, 181)


@pytest.mark.data
def test_shared_calibrations(shared_data: Path) -> None:
    files = sorted(shared_data.glob("**/calib.yaml"))
    assert files
    for file in files:
        camera = read_calibration(file)
        assert camera.width > 0
        assert 0.3 < camera.cx / camera.width < 0.7
        scale = read_depth_scale(file)
        assert (scale is not None) == ("depth_scale" in file.read_text())
    kitti = read_calibration(shared_data / "kitti_odom_10_color_velodyne" / "calib_kitti.txt", "P2")
    assert kitti == Camera(707.0912, 707.0912, 601.8873, 183.1104)
