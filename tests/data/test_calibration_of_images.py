"""Calibrations brought to the size of the images, and guesses where there are none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trianflow.data.calibration import fit_to_image, guess_camera
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera


def test_fit_to_image() -> None:
    camera = Camera(700, 700, 600, 180, 1226, 370)
    assert fit_to_image(camera, 1226, 370) == (camera, None)
    half, note = fit_to_image(camera, 613, 185)
    assert note is not None
    assert "1226x370" in note
    assert "613x185" in note
    assert half.width == 613
    np.testing.assert_allclose([half.fx, half.cx, half.cy], [350, 299.75, 89.75])  # (600 + 0.5) / 2 - 0.5
    nearly, note = fit_to_image(camera, 832, 250)  # 3.328 for 3.3135: within 1 %
    assert note is not None
    assert nearly.fx == pytest.approx(700 * 832 / 1226)
    with pytest.raises(TrianflowError, match=r"1226x370 .* 640x480"):
        fit_to_image(camera, 640, 480)
    with pytest.raises(TrianflowError, match="aspect"):
        fit_to_image(camera, 832, 256)


def test_fit_to_image_of_unknown_size() -> None:
    camera = Camera(700, 700, 600, 180)
    fitted, note = fit_to_image(camera, 1226, 370)
    assert fitted == Camera(700, 700, 600, 180, 1226, 370)
    assert note is None
    with pytest.raises(TrianflowError, match="outside the 416x128 frames"):
        fit_to_image(camera, 416, 128)
    _, note = fit_to_image(camera, 640, 370)
    assert note is not None


def test_guess_without_exif(tmp_path: Path) -> None:
    camera, text = guess_camera(640, 480)
    assert math.degrees(2 * math.atan(320 / camera.fx)) == pytest.approx(65)
    assert (camera.cx, camera.cy) == (319.5, 239.5)
    assert "65 degrees" in text
    assert "--calib" in text
    assert guess_camera(480, 640)[0].fx == camera.fx  # a portrait picture is the same camera turned
    assert guess_camera(640, 480, tmp_path / "none.png")[0] == camera
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe1\x00")
    assert guess_camera(640, 480, tmp_path / "bad.jpg")[0] == camera


def test_guess_from_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    Image.new("RGB", (40, 30)).save(tmp_path / "phone.jpg", exif=exif)
    camera, text = guess_camera(4000, 3000, tmp_path / "phone.jpg")
    assert camera.fx == pytest.approx(26 * 5000 / 43.2666, rel=1e-4)  # the diagonal of 36x24 mm is 43.27 mm
    assert "26 mm" in text
