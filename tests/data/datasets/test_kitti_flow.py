"""KITTI 2012 and 2015 as unpacked, in miniature, with planted faults."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.data.datasets.kitti_flow import KITTI_2012, KITTI_2015, KittiFlowFolder, open_kitti_flow
from trianflow.data.flow_files import write_flow
from trianflow.errors import TrianflowError

W, H = 62, 19
P = "70.0 0.0 30.5 {} 0.0 71.0 9.25 0.0 0.0 0.0 1.0 0.0"


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def true_flow(scene: int) -> np.ndarray:
    """Multiples of 1/64 pixel; the first column is unknown."""
    flow = np.random.default_rng(scene).integers(-900, 900, (H, W, 2)) / 64
    flow[:, 0] = np.nan
    return flow.astype(np.float32)


def visible(flow: np.ndarray) -> np.ndarray:
    """All but the last ten columns are seen in the second frame."""
    flow = flow.copy()
    flow[:, -10:] = np.nan
    return flow


def write_scene(training: Path, scene: int, edition: str) -> None:
    rng = np.random.default_rng(scene)
    name = f"{scene:06d}"
    for number in ("10", "11"):
        rgb = rng.integers(0, 255, (H, W, 3), np.uint8)
        if edition == "2015":
            save(training / "image_2" / f"{name}_{number}.png", rgb)
        else:
            save(training / "colored_0" / f"{name}_{number}.png", rgb)
            save(training / "image_0" / f"{name}_{number}.png", rgb[..., 0])
    flow = true_flow(scene)
    for kind, values in (("occ", flow), ("noc", visible(flow))):
        (training / f"flow_{kind}").mkdir(exist_ok=True)
        write_flow(training / f"flow_{kind}" / f"{name}_10.png", values)
    disparity = np.arange(H * W).reshape(H, W).astype(np.uint16) * 16
    for kind in ("occ", "noc"):
        suffix = "_0" if edition == "2015" else ""
        shown = disparity if kind == "occ" else np.where(disparity > 5000, 0, disparity)
        save(training / f"disp_{kind}{suffix}" / f"{name}_10.png", shown.astype(np.uint16))
    if edition == "2015":
        objects = np.zeros((H, W), np.uint8)
        objects[3:6, 10:20] = 2
        save(training / "obj_map" / f"{name}_10.png", objects)
        text = f"calib_time: 09-Jan-2012 13:57:47\nS_rect_02: {W}.0 {H}.0\nP_rect_00: {P.format(0)}\n"
        calibration, text = "calib_cam_to_cam", text + f"P_rect_02: {P.format(44.9)}\n"
    else:
        text = "".join(f"P{i}: {P.format(-i)}\n" for i in range(4))
        calibration = "calib"
    (training / calibration).mkdir(exist_ok=True)
    (training / calibration / f"{name}.txt").write_text(text)


@pytest.fixture
def kitti2015(tmp_path: Path) -> Path:
    root = tmp_path / "data_scene_flow"
    for scene in range(3):
        write_scene(root / "training", scene, "2015")
    return root


@pytest.fixture
def kitti2012(tmp_path: Path) -> Path:
    root = tmp_path / "data_stereo_flow"
    for scene in range(2):
        write_scene(root / "training", scene, "2012")
    return root


@pytest.mark.parametrize("below", [".", "training"])
def test_2015_as_unpacked(kitti2015: Path, below: str) -> None:
    content = open_kitti_flow(kitti2015 / below)
    assert content.problems == ()
    assert [s.name for s in content.sequences] == ["000000", "000001", "000002"]
    scene = pickle.loads(pickle.dumps(content.sequences[1]))
    assert scene.problems == ()
    assert len(scene) == 2
    frames = list(scene.frames)
    assert [f.name for f in frames] == ["000001_10.png", "000001_11.png"]
    stored = cv2.imread(str(kitti2015 / "training" / "image_2" / "000001_11.png"))
    np.testing.assert_array_equal(frames[1].image, stored[..., ::-1])
    camera = scene.camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (70.0, 71.0, 30.5, 9.25)
    assert (camera.width, camera.height) == (W, H)
    truth = scene.flow(0)
    np.testing.assert_array_equal(truth.flow_ab, true_flow(1))
    np.testing.assert_array_equal(truth.visible, np.isfinite(visible(true_flow(1))).all(-1))
    folder = KittiFlowFolder.find(kitti2015)
    np.testing.assert_allclose(folder.disparity("000001"), np.arange(H * W).reshape(H, W) / 16)
    objects = scene.instances(0)
    assert objects.dtype == np.int32
    assert (objects == 2).sum() == 30
    assert scene.flow(1) is scene.instances(1) is scene.depth(0) is None


def test_the_example_of_the_documentation_runs_as_written(kitti2015: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text()
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "/data/kitti_2015" in code)
    seen: dict[str, object] = {}
    exec(example.replace("/data/kitti_2015", str(kitti2015)), seen)
    assert {"depth", "flow", "objects", "speed"} < set(seen)


def test_2012_as_unpacked(kitti2012: Path) -> None:
    content = open_kitti_flow(kitti2012)
    assert content.problems == ()
    assert [s.name for s in content.sequences] == ["000000", "000001"]
    scene = content.sequences[0]
    assert scene.problems == ()
    assert next(iter(scene.frames)).image.ndim == 3
    assert (scene.camera.fx, scene.camera.width) == (70.0, W)
    np.testing.assert_array_equal(scene.flow(0).flow_ab, true_flow(0))
    assert scene.instances(0) is None
    folder = KittiFlowFolder.find(kitti2012)
    assert folder.edition == KITTI_2012
    assert folder.disparity("000000", visible=True).max() == 5000 // 16 * 16 / 256
    shutil.rmtree(kitti2012 / "training" / "colored_0")
    assert next(iter(open_kitti_flow(kitti2012).sequences[0].frames)).image.ndim == 2


def test_testing_has_images_and_no_truth(kitti2015: Path) -> None:
    testing = kitti2015 / "testing"
    shutil.copytree(kitti2015 / "training" / "image_2", testing / "image_2")
    shutil.copytree(kitti2015 / "training" / "calib_cam_to_cam", testing / "calib_cam_to_cam")
    content = open_kitti_flow(testing)
    assert content.problems == ()
    assert len(content.sequences) == 3
    assert content.sequences[0].flow(0) is None
    assert KittiFlowFolder.find(kitti2015).path == kitti2015 / "training"


def test_planted_faults_are_named_and_the_rest_goes_on(kitti2015: Path) -> None:
    training = kitti2015 / "training"
    for scene in range(3, 8):
        write_scene(training, scene, "2015")
    (training / "image_2" / "000000_11.png").unlink()
    truncated = training / "flow_occ" / "000001_10.png"
    truncated.write_bytes(truncated.read_bytes()[:-40])
    save(training / "image_2" / "000002_11.png", np.zeros((H, W + 4, 3), np.uint8))
    save(training / "flow_noc" / "000003_10.png", np.zeros((H - 1, W, 3), np.uint16))
    (training / "obj_map" / "000004_10.png").unlink()
    (training / "calib_cam_to_cam" / "000005.txt").write_text("no calibration\n")
    (training / "disp_occ_0" / "000006_10.png").write_bytes(b"")
    (training / "image_2" / "notes.txt").write_text("mine")
    (training / "image_2" / "000007_12.png").write_bytes(b"multi-view extension")

    content = open_kitti_flow(kitti2015)
    assert [s.name for s in content.sequences] == [f"{i:06d}" for i in (1, 3, 4, 5, 6, 7)]
    (stray,) = content.notes
    missing, size = content.problems
    assert f"{training / 'image_2'}: left out notes.txt: no files of KITTI; remove" in stray
    assert "image_2/000000_11.png: missing" in missing
    assert "unpack data_scene_flow.zip again" in missing
    assert f"image_2/000002_11.png: {W + 4}x{H} pixels, but the first frame has {W}x{H}" in size

    by_name = {s.name: s for s in content.sequences}
    expected = {
        "000001": "flow_occ/000001_10.png: truncated PNG",
        "000003": f"flow_noc/000003_10.png: {W}x{H - 1} pixels, but the image has {W}x{H}",
        "000004": "obj_map/000004_10.png: missing",
        "000005": "calib_cam_to_cam/000005.txt",
        "000006": "disp_occ_0/000006_10.png: the file is empty",
    }
    for name, text in expected.items():
        (line,) = by_name[name].problems
        assert text in line
        assert "unpack data_scene_flow" in line
        assert "\n" not in line
    assert by_name["000007"].problems == ()
    with pytest.raises(TrianflowError, match=r"000001_10\.png: truncated"):
        by_name["000001"].flow(0)
    with pytest.raises(TrianflowError, match=r"000003_10\.png: .* but the flow has"):
        by_name["000003"].flow(0)
    with pytest.raises(TrianflowError, match=r"000004_10\.png"):
        by_name["000004"].instances(0)
    with pytest.raises(TrianflowError, match=r"000006_10\.png"):
        KittiFlowFolder.find(kitti2015).disparity("000006")
    assert by_name["000005"].camera.width == W
    np.testing.assert_array_equal(by_name["000007"].flow(0).flow_ab, true_flow(7))


def test_damage_inside_a_file_is_found_when_it_is_read(kitti2015: Path) -> None:
    file = kitti2015 / "training" / "flow_noc" / "000000_10.png"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(TrianflowError, match=r"flow_noc/000000_10\.png: damaged"):
        open_kitti_flow(kitti2015).sequences[0].flow(0)


def test_whole_folders_missing(kitti2015: Path) -> None:
    training = kitti2015 / "training"
    shutil.rmtree(training / "calib_cam_to_cam")
    shutil.rmtree(training / "flow_noc")
    content = open_kitti_flow(kitti2015)
    assert len(content.sequences) == 3
    assert all(s.problems == () for s in content.sequences), "one line for all of them"
    calibration, noc = content.problems
    assert "calib_cam_to_cam: missing" in calibration
    assert "unpack data_scene_flow_calib.zip" in calibration
    assert "flow_noc: missing" in noc
    assert content.sequences[0].flow(0).visible is None
    (kitti2015 / "data_scene_flow_calib.zip").write_bytes(b"PK")
    assert (
        f"unpack {kitti2015 / 'data_scene_flow_calib.zip'}, which lies there" in open_kitti_flow(kitti2015).problems[0]
    )
    shutil.rmtree(training / "image_2")
    with pytest.raises(TrianflowError, match=r"image_2 is missing; unpack data_scene_flow\.zip"):
        open_kitti_flow(kitti2015)


def test_nested_folders(kitti2015: Path, kitti2012: Path, tmp_path: Path) -> None:
    nested = tmp_path / "a"
    (nested / "b").mkdir(parents=True)
    shutil.copytree(kitti2015 / "training", nested / "b" / "training")
    assert len(open_kitti_flow(nested).sequences) == 3
    with pytest.raises(TrianflowError, match="name one of") as error:
        open_kitti_flow(tmp_path)
    assert f"{kitti2015 / 'training'} (KITTI 2015)" in str(error.value)
    assert f"{kitti2012 / 'training'} (KITTI 2012)" in str(error.value)


def test_both_editions_in_one_folder(kitti2015: Path, kitti2012: Path) -> None:
    shutil.copytree(kitti2012 / "training", kitti2015 / "training", dirs_exist_ok=True)
    with pytest.raises(TrianflowError, match=r"KITTI 2012 and 2015 lie in one folder.*of its own"):
        open_kitti_flow(kitti2015)


def test_not_unpacked_or_not_there(tmp_path: Path) -> None:
    archive = tmp_path / "data_scene_flow.zip"
    archive.write_bytes(b"PK\x03\x04")
    with pytest.raises(TrianflowError, match="unpack it"):
        open_kitti_flow(archive)
    with pytest.raises(TrianflowError, match=r"data_scene_flow\.zip: an archive that is not unpacked"):
        open_kitti_flow(tmp_path)
    archive.unlink()
    with pytest.raises(TrianflowError, match=r"expected KITTI 2015.*name the folder that has them"):
        open_kitti_flow(tmp_path)
    with pytest.raises(TrianflowError, match="no such folder"):
        open_kitti_flow(tmp_path / "nowhere")
    odometry = tmp_path / "sequences" / "00"
    save(odometry / "image_2" / "000000.png", np.zeros((H, W, 3), np.uint8))
    with pytest.raises(TrianflowError, match="expected KITTI 2015"):
        open_kitti_flow(odometry)


def test_editions_are_told_apart(kitti2015: Path) -> None:
    assert KittiFlowFolder.find(kitti2015).edition == KITTI_2015
    assert KittiFlowFolder.find(kitti2015).scenes == ["000000", "000001", "000002"]
