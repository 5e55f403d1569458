"""The reader of NYUv2's raw distribution."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.data.datasets.nyuv2 import COLOUR, DEPTH
from trianflow.data.datasets.nyuv2_raw import open_nyuv2_raw, raw_depth, register_depth
from trianflow.data.decoding import decode_image, decode_raw
from trianflow.errors import TrianflowError

START = 1294886362.2


def write_depth(path: Path, raw: np.ndarray) -> None:
    """A PGM with swapped bytes, as the raw distribution has it."""
    header = f"P5 {raw.shape[1]} {raw.shape[0]} 65535\n".encode()
    path.write_bytes(header + raw.astype("<u2").tobytes())


def write_scene(folder: Path, colour: list[float], depth: list[float]) -> Path:
    """Dumps at these seconds after the start; grey level and raw depth tell the number of the image."""
    folder.mkdir(parents=True)
    for i, time in enumerate(colour):
        cv2.imwrite(str(folder / f"r-{START + time:.6f}-{3118787619 + i}.ppm"), np.full((480, 640, 3), i, np.uint8))
    for i, time in enumerate(depth):
        write_depth(folder / f"d-{START + time:.6f}-{3143255701 + i}.pgm", np.full((480, 640), 700 + 50 * i))
    (folder / "a-1294886363.011060-3164794231.dump").write_bytes(bytes(16))
    (folder / "INDEX.txt").write_text("a-1294886363.011060-3164794231.dump\n")
    return folder


def values(path: Path, suffix: str = "") -> list[Path]:
    return sorted(path.glob(f"{suffix}*"))


def test_each_depth_image_goes_with_the_nearest_colour_image(tmp_path: Path) -> None:
    # depth 0 and 1 both are nearest to colour 1, 1 is nearer; colour 0 and 3 are nearest to none
    write_scene(tmp_path / "bedroom_0001", [0.0, 0.10, 0.14, 0.18, 0.24], [0.06, 0.11, 0.145, 0.23])
    found = open_nyuv2_raw(tmp_path)
    assert found.problems == ()
    (scene,) = found.sequences
    assert (scene.name, scene.problems, scene.poses) == ("bedroom_0001", (), None)
    frames = list(scene.frames)
    assert [frame.image[0, 0, 0] for frame in frames] == [1, 2, 4]
    assert [frame.time for frame in frames] == pytest.approx([START + 0.10, START + 0.14, START + 0.24], abs=1e-6)
    for index, raw in enumerate((750, 800, 850)):
        depth = scene.depth(index)
        assert depth is not None
        assert depth.dtype == np.float32
        assert np.median(depth[depth > 0]) == pytest.approx(351.3 / (1092.5 - raw), rel=2e-3)
    assert scene.camera == COLOUR
    assert scene.camera.cx == pytest.approx(325.58244941119034 - 1)


def test_raw_values() -> None:
    raw = np.array([[0, 1, 599, 600, 986, 1057, 1058, 1092, 1093, 2047, 65535]], np.uint16)
    expected = [0, 0, 0, 351.3 / 492.5, 351.3 / 106.5, 351.3 / 35.5, 0, 0, 0, 0, 0]
    assert raw_depth(raw.byteswap())[0] == pytest.approx(expected)


def _distorted(x: float, y: float, camera) -> tuple[float, float]:
    k1, k2, p1, p2, k3 = camera.distortion
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return camera.fx * u + camera.cx, camera.fy * v + camera.cy


def test_registration_is_that_of_plain_loops() -> None:
    random = np.random.default_rng(1)
    # the toolbox's own numbers: X_rgb = R X + t with R = inv(reshape(-list, 3, 3)'), columns first
    listed = -np.array(
        [
            *(9.9997798940829263e-01, 5.0518419386157446e-03, 4.3011152014118693e-03, -5.0359919480810989e-03),
            *(9.9998051861143999e-01, -3.6879781309514218e-03, -4.3196624923060242e-03, 3.6662365748484798e-03),
            9.9998394948385538e-01,
        ]
    )
    R = np.linalg.inv(listed.reshape(3, 3, order="F").T)
    t = np.array([2.5031875059141302e-02, -2.9342312935846411e-04, 6.6238747008330102e-04])
    checked = 0
    for _ in range(60):
        row, column = random.integers(20, 460), random.integers(20, 620)
        z = random.uniform(0.6, 8)
        depth = np.zeros((480, 640))
        depth[row, column] = z
        registered = register_depth(depth)
        # the point whose distorted image is the pixel, by Newton-like steps
        x, y = (column - DEPTH.cx) / DEPTH.fx, (row - DEPTH.cy) / DEPTH.fy
        for _ in range(100):
            u, v = _distorted(x, y, DEPTH)
            x, y = x + (column - u) / DEPTH.fx, y + (row - v) / DEPTH.fy
        X = R @ np.array([x * z, y * z, z]) + t
        u, v = _distorted(X[0] / X[2], X[1] / X[2], COLOUR)
        if not (0 <= round(u) < 640 and 0 <= round(v) < 480):
            assert not registered.any()
            continue
        assert np.argwhere(registered).tolist() == [[round(v), round(u)]]
        assert registered.max() == pytest.approx(abs(X[2]), rel=1e-6)
        checked += 1
    assert checked > 40


def test_the_nearest_surface_stays() -> None:
    depth = np.full((480, 640), 5.0)
    depth[:, 300:340] = 1.0
    registered = register_depth(depth)
    # the near stripe moves left against the far wall (t to the right is 13 px at 1 m, 2.6 px at 5 m) and hides it
    row = registered[240]
    near = np.flatnonzero((row > 0.9) & (row < 1.1))
    assert len(near) >= 33
    between = row[near.min() : near.max() + 1]
    assert not ((between > 1.1) & (between < 4.0)).any()
    assert (between > 4).sum() <= 4  # cracks, where the stripe is magnified
    assert register_depth(np.zeros((480, 640))).max() == 0


def test_the_crop_is_carried_into_the_camera(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "study_0001", [0.0], [0.01])
    rows, columns = np.indices((480, 640))
    image = np.stack([rows % 256, columns % 256, rows * 0], axis=-1).astype(np.uint8)
    cv2.imwrite(str(values(folder, "r-")[0]), image[..., ::-1])
    (whole,), (window,) = open_nyuv2_raw(folder).sequences, open_nyuv2_raw(folder, crop=True).sequences
    frame, depth, all_depth = next(iter(window.frames)), window.depth(0), whole.depth(0)
    assert depth is not None
    assert all_depth is not None
    assert np.array_equal(frame.image, image[44:471, 40:601])
    assert np.array_equal(depth, all_depth[44:471, 40:601])
    assert (window.camera.cx, window.camera.width, window.camera.height) == (COLOUR.cx - 40, 561, 427)
    assert window.camera.distortion == COLOUR.distortion


def test_planted_faults(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "part1" / "office_0001a", [0.0, 0.1, 0.2, 0.3], [0.0, 0.1, 0.2, 0.3, 0.9])
    colour, depth = values(folder, "r-"), values(folder, "d-")
    colour[1].write_bytes(colour[1].read_bytes()[:1000])
    cv2.imwrite(str(colour[2]), np.zeros((240, 320, 3), np.uint8))
    depth[1].write_bytes(depth[1].read_bytes()[:1000])
    write_depth(depth[2], np.full((240, 320), 700))
    depth[3].write_bytes(b"")
    (folder / "Thumbs.db").write_bytes(b"x")
    write_scene(tmp_path / "part1" / "office_0002", [0.0], [])
    write_scene(tmp_path / "part1" / "office_0003", [0.0], [50.0])
    write_scene(tmp_path / "part1" / "office_0004", [0.0], [0.0])
    (tmp_path / "studies.zip").write_bytes(b"PK")
    (tmp_path / "part1" / "offices_part2.zip").write_bytes(b"PK")  # unpacked: office_0001a
    found = open_nyuv2_raw(tmp_path)
    assert [s.name for s in found.sequences] == ["part1/office_0001a", "part1/office_0004"]
    text = "\n".join(found.problems)
    assert "studies.zip: an archive that is not unpacked" in text
    assert "offices_part2" not in text
    assert "office_0002: no depth images (d-*.pgm); unpack the scene again" in text
    assert "office_0003: no colour and depth image belong together in time" in text
    scene = found.sequences[0]
    text = "\n".join(scene.problems)
    assert f"{depth[3]}: missing or empty" in text
    stray, apart = scene.notes
    assert "office_0001a: left out Thumbs.db: no files of this dataset; remove" in stray
    assert f"{depth[4]}: no colour image within 0.1 s, left out (1 of 5 depth images)" in apart
    frames = list(scene.frames)
    assert [f.image is None for f in frames] == [False, True, True, False]
    assert frames[2].problem == "size 320x240 differs from 640x480"
    for index, reason in ((1, "damaged"), (2, "320x240 pixels of uint16, not 640x480"), (3, "the file is empty")):
        with pytest.raises(TrianflowError, match=reason):
            scene.depth(index)
    assert scene.depth(0) is not None


def test_images_that_the_index_lists_are_missed(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "study_0001", [0.0, 0.1], [0.0, 0.1])
    lost = values(folder, "r-")[1]
    with (folder / "INDEX.txt").open("a") as index:
        index.write(f"{lost.name}\n")
    assert open_nyuv2_raw(tmp_path).sequences[0].problems == ()
    lost.unlink()
    (scene,) = open_nyuv2_raw(tmp_path).sequences
    assert scene.problems == (f"{lost}: listed in INDEX.txt, but not there (1 such images); unpack the scene again",)


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match=r"expected a folder a scene with r-\*\.ppm"):
        open_nyuv2_raw(tmp_path)
    write_scene(tmp_path / "den_0001", [], [0.0])
    with pytest.raises(TrianflowError, match="den_0001: no colour images"):
        open_nyuv2_raw(tmp_path)


@pytest.mark.data
def test_edges_of_real_depth_lie_on_those_of_the_image(shared_data: Path) -> None:
    folder = shared_data / "nyuv2_single_pair"
    depth = raw_depth(decode_raw((folder / "depth_raw.pgm").read_bytes()))
    assert np.median(depth[depth > 0]) == pytest.approx(3.27, abs=0.01)
    registered = cv2.dilate(register_depth(depth), np.ones((3, 3)))
    grey = cv2.GaussianBlur(
        cv2.cvtColor(decode_image((folder / "rgb.png").read_bytes()), cv2.COLOR_RGB2GRAY), (0, 0), 1
    )
    gradient = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    jump = np.abs(np.diff(registered, axis=1, append=registered[:, -1:])) > 0.15
    jump |= np.abs(np.diff(registered, axis=0, append=registered[-1:])) > 0.15
    jump &= cv2.erode((registered > 0).astype(np.uint8), np.ones((5, 5))) > 0
    shifts = [(dy, dx) for dy in range(-6, 7, 2) for dx in range(-6, 7, 2)]
    best = max(shifts, key=lambda s: gradient[np.roll(jump, s, (0, 1))].mean())
    assert best == (0, 0)
