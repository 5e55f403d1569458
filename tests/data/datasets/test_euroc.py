"""The reader of EuRoC."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from trianflow.data.datasets.euroc import open_euroc
from trianflow.errors import TrianflowError
from trianflow.trajectory import Trajectory

START = 1403636579763555584
T_BS = np.array(
    [
        [0.0148655429818, -0.999880929698, 0.00414029679422, -0.0216401454975],
        [0.999557249008, 0.0149672133247, 0.025715529948, -0.064676986768],
        [-0.0257744366974, 0.00375618835797, 0.999660727178, 0.00981073058949],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
SENSOR = f"""# General sensor definitions.
sensor_type: camera
comment: VI-Sensor cam0 (MT9M034)

# Sensor extrinsics wrt. the body-frame.
T_BS:
  cols: 4
  rows: 4
  data: [{", ".join(repr(v) for v in T_BS.ravel().tolist())}]

# Camera specific definitions.
rate_hz: 20
resolution: [752, 480]
camera_model: pinhole
intrinsics: [458.654, 457.296, 367.215, 248.375] #fu, fv, cu, cv
distortion_model: radial-tangential
distortion_coefficients: [-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05]
"""
TRUTH_HEADER = "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []\n"


def body(seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Position and quaternion (xyzw) of the body: constant speed and turn, which interpolation keeps exact."""
    return np.array([seconds, -2 * seconds, 1.0]), Rotation.from_rotvec([0.0, 0.4 * seconds, 0.0]).as_quat()


def write_sequence(folder: Path, frames: int = 4) -> Path:
    camera = folder / "mav0" / "cam0"
    truth = folder / "mav0" / "state_groundtruth_estimate0"
    for place in (camera / "data", truth, folder / "mav0" / "imu0"):
        place.mkdir(parents=True)
    stamps = [START + i * 50_000_000 for i in range(frames)]
    for i, stamp in enumerate(stamps):
        cv2.imwrite(str(camera / "data" / f"{stamp}.png"), np.full((480, 752), 20 * i, np.uint8))
    (camera / "data.csv").write_text("#timestamp [ns],filename\r\n" + "".join(f"{s},{s}.png\r\n" for s in stamps))
    (camera / "sensor.yaml").write_text(SENSOR)
    rows = []
    for i in range(-3, 10 * frames):
        p, (x, y, z, w) = body(i * 0.005)
        values = [*p, w, x, y, z, *[0.0] * 9]
        rows.append(",".join([str(START + i * 5_000_000), *(f"{v:.9f}" for v in values)]))
    (truth / "data.csv").write_text(TRUTH_HEADER + "\n".join(rows) + "\n")
    (folder / "mav0" / "body.yaml").write_text("comment: VI-Sensor\n")
    return folder


def test_official_layout(tmp_path: Path) -> None:
    write_sequence(tmp_path / "machine_hall" / "MH_01_easy")
    write_sequence(tmp_path / "vicon_room1" / "V1_01_easy")
    found = open_euroc(tmp_path)
    assert found.problems == ()
    assert [s.name for s in found.sequences] == ["machine_hall/MH_01_easy", "vicon_room1/V1_01_easy"]
    sequence = found.sequences[0]
    assert sequence.problems == ()
    frames = list(sequence.frames)
    assert [f.image[0, 0] for f in frames] == [0, 20, 40, 60]
    assert frames[0].image.shape == (480, 752)
    assert np.allclose(np.diff([f.time for f in frames]), 0.05, atol=1e-6)
    camera = sequence.camera
    assert (camera.fx, camera.cy, camera.width, camera.height) == (458.654, 248.375, 752, 480)
    assert camera.distortion == (-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05)
    assert sequence.depth(0) is None


def test_poses_are_those_of_the_camera(tmp_path: Path) -> None:
    (sequence,) = open_euroc(write_sequence(tmp_path / "MH_01_easy")).sequences
    assert sequence.poses is not None
    assert np.array_equal(sequence.poses.times, sequence.frames.times)
    for i in range(4):
        p, q = body(i * 0.05)
        R = Rotation.from_quat(q).as_matrix()
        assert np.allclose(sequence.poses.T_wc[i, :3, :3], R @ T_BS[:3, :3], atol=1e-6)
        assert np.allclose(sequence.poses.T_wc[i, :3, 3], R @ T_BS[:3, 3] + p, atol=1e-6)


def test_planted_faults(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "MH_01_easy" / "MH_01_easy")
    images = sorted((folder / "mav0" / "cam0" / "data").iterdir())
    images[1].unlink()
    images[2].write_bytes(images[2].read_bytes()[:60])
    cv2.imwrite(str(images[3]), np.zeros((240, 376), np.uint8))
    cv2.imwrite(str(folder / "mav0" / "cam0" / "data" / "7.png"), np.zeros((480, 752), np.uint8))
    rows = (folder / "mav0" / "state_groundtruth_estimate0" / "data.csv").read_text().splitlines()
    (folder / "mav0" / "state_groundtruth_estimate0" / "data.csv").write_text("\n".join(rows[:18]) + "\n")
    broken = write_sequence(tmp_path / "MH_02_easy")
    (broken / "mav0" / "cam0" / "sensor.yaml").unlink()
    no_list = write_sequence(tmp_path / "MH_03_medium")
    (no_list / "mav0" / "cam0" / "data.csv").unlink()
    (tmp_path / "MH_04_difficult.zip").write_bytes(b"PK")
    found = open_euroc(tmp_path)
    (sequence,) = found.sequences
    text = "\n".join(found.problems)
    assert "MH_04_difficult.zip: an archive that is not unpacked" in text
    assert "sensor.yaml: no such file; unpack or download the sequence again" in text
    assert f"{no_list / 'mav0' / 'cam0' / 'data.csv'}: No such file" in text
    assert [f.image is None for f in sequence.frames] == [False, True, True, True]
    text = "\n".join(sequence.problems)
    assert f"{images[1]}: missing or empty" in text
    stray, poseless = sequence.notes
    assert "data: left out 7.png: not in data.csv; remove" in stray
    assert "no pose for 2 of 4 images" in poseless
    assert sequence.poses is not None
    assert len(sequence.poses) == 2


def test_unsynchronised_or_damaged_truth(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "MH_01_easy")
    truth = folder / "mav0" / "state_groundtruth_estimate0" / "data.csv"
    cases = {
        TRUTH_HEADER + "1,0,0,0,1,0,0,0\n2,0,0,0,1,0,0,0\n": "no pose at the time of an image",
        TRUTH_HEADER + f"{START},0,0,0,2,0,0,0\n": "without finite positions and unit quaternions",
        TRUTH_HEADER + f"{START},0,0\n": "not a table of time",
        TRUTH_HEADER: "without finite positions",
    }
    for text, message in cases.items():
        truth.write_text(text)
        (sequence,) = open_euroc(tmp_path).sequences
        assert sequence.poses is None
        assert message in sequence.problems[0]
    truth.unlink()
    assert "data.csv: missing; the sequence is used without poses" in open_euroc(tmp_path).sequences[0].problems[0]


def test_without_extrinsics(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "MH_01_easy")
    sensor = folder / "mav0" / "cam0" / "sensor.yaml"
    sensor.write_text(sensor.read_text().replace("T_BS:", "T_other:"))
    (sequence,) = open_euroc(tmp_path).sequences
    assert sequence.poses is None
    assert "sensor.yaml: no T_BS with 16 numbers" in sequence.problems[0]


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match=r"expected sequences with mav0/cam0/data\.csv"):
        open_euroc(tmp_path)


@pytest.mark.data
def test_real_images_that_stand_still(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "euroc_v101_static_12"
    camera = tmp_path / "V1_01_easy" / "mav0" / "cam0"
    (camera / "data").mkdir(parents=True)
    stamps = [int(t.replace(".", "")) for t in (source / "times.txt").read_text().split()]
    for i, stamp in enumerate(stamps):
        shutil.copy(source / "images" / f"{i:06d}.png", camera / "data" / f"{stamp}.png")
    (camera / "data.csv").write_text("#timestamp [ns],filename\n" + "".join(f"{s},{s}.png\n" for s in stamps))
    (camera / "sensor.yaml").write_text(SENSOR)
    truth = Trajectory.load(source / "groundtruth.txt", "tum")
    T_wb = truth.T_wc @ np.linalg.inv(T_BS)
    rows = []
    for stamp, T in zip(stamps, T_wb):
        x, y, z, w = Rotation.from_matrix(T[:3, :3]).as_quat()
        rows.append(",".join(map(str, [stamp, *T[:3, 3], w, x, y, z])))
    (tmp_path / "V1_01_easy" / "mav0" / "state_groundtruth_estimate0").mkdir()
    (tmp_path / "V1_01_easy" / "mav0" / "state_groundtruth_estimate0" / "data.csv").write_text("\n".join(rows))
    (sequence,) = open_euroc(tmp_path).sequences
    assert (sequence.problems, len(sequence)) == ((), 12)
    assert all(frame.image is not None for frame in sequence.frames)
    assert sequence.poses is not None
    assert np.allclose(sequence.poses.T_wc, truth.T_wc, atol=1e-5)
    assert np.ptp(sequence.poses.positions, axis=0).max() < 2e-3
