"""Undistortion against a radial model written out, and OpenCV's point function."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from trianflow.data.undistort import Undistorter
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera

BARREL = Camera(300, 310, 162, 117, 320, 240, (-0.25, 0.06, 0.001, -0.0015))
CAMERAS = [
    BARREL,
    Camera(517.3, 516.5, 318.6, 255.3, 640, 480, (0.262383, -0.953104, -0.005358, 0.002628, 1.163314)),
    Camera(458.654, 457.296, 367.215, 248.375, 752, 480, (-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05)),
    Camera(300, 300, 159.5, 119.5, 320, 240, (0.1, 0.0, 0.0, 0.0)),
]


def distort(camera: Camera, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalised coordinates to pixels of the distorted image, the textbook formula."""
    k1, k2, p1, p2, k3 = (*camera.distortion, 0.0)[:5]
    r2 = x**2 + y**2
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2)
    yd = y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y
    return camera.fx * xd + camera.cx, camera.fy * yd + camera.cy


def rays(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    return (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy


@pytest.mark.parametrize("camera", CAMERAS)
def test_image_of_a_known_function(camera: Camera) -> None:
    """A distorted image whose value is the distorted pixel coordinate comes out where it must."""
    u, v = np.meshgrid(np.arange(camera.width, dtype=np.float32), np.arange(camera.height, dtype=np.float32))
    undistorter = Undistorter(camera)
    new = undistorter.camera
    assert new.distortion == ()
    assert (new.width, new.height) == (camera.width, camera.height)
    expected_u, expected_v = distort(camera, *rays(new))
    inside = np.s_[2:-2, 2:-2]
    np.testing.assert_allclose(undistorter.image(u)[inside], expected_u[inside], atol=0.04)
    np.testing.assert_allclose(undistorter.image(v)[inside], expected_v[inside], atol=0.04)


@pytest.mark.parametrize("camera", CAMERAS)
def test_every_pixel_is_valid(camera: Camera) -> None:
    undistorter = Undistorter(camera)
    u, v = distort(camera, *rays(undistorter.camera))
    assert u.min() > -0.51
    assert v.min() > -0.51
    assert u.max() < camera.width - 0.49
    assert v.max() < camera.height - 0.49
    white = undistorter.image(np.full((camera.height, camera.width, 3), 255, np.uint8))
    assert white.shape == (camera.height, camera.width, 3)
    assert white.min() == 255


@pytest.mark.parametrize("camera", CAMERAS)
def test_agrees_with_undistort_points(camera: Camera) -> None:
    """A dot in the distorted image is found where cv2.undistortPoints sends it."""
    undistorter = Undistorter(camera)
    new = undistorter.camera
    point = np.array([[[camera.width * 0.3, camera.height * 0.65]]])
    image = np.zeros((camera.height, camera.width), np.float32)
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    image += np.exp(-((u - point[0, 0, 0]) ** 2 + (v - point[0, 0, 1]) ** 2) / 18).astype(np.float32)
    found = undistorter.image(image)
    weight = found / found.sum()
    centre = [(weight * u).sum(), (weight * v).sum()]
    target = cv2.undistortPoints(point, camera.K().numpy(), np.array(camera.distortion), P=new.K().numpy())
    np.testing.assert_allclose(centre, target[0, 0], atol=0.1)


def test_depth_takes_the_nearest_pixel() -> None:
    undistorter = Undistorter(BARREL)
    depth = np.random.default_rng(0).choice([0, 1.0, 50.0], (240, 320)).astype(np.float32)
    found = undistorter.depth(depth)
    assert found.dtype == np.float32
    assert set(np.unique(found)) == {0, 1, 50}  # nothing in between
    u, v = distort(BARREL, *rays(undistorter.camera))
    clear = (np.abs(u % 1 - 0.5) > 0.01) & (np.abs(v % 1 - 0.5) > 0.01)
    expected = depth[np.rint(v).astype(int).clip(0, 239), np.rint(u).astype(int).clip(0, 319)]
    np.testing.assert_array_equal(found[clear], expected[clear])


@pytest.mark.parametrize("distortion", [(), (0.0, 0.0, 0.0, 0.0)])
def test_nothing_to_do(distortion: tuple[float, ...]) -> None:
    camera = Camera(300, 300, 160, 120, 320, 240, distortion)
    undistorter = Undistorter(camera)
    image = np.zeros((240, 320), np.uint8)
    assert undistorter.image(image) is image
    assert undistorter.depth(image) is image
    assert undistorter.camera == Camera(300, 300, 160, 120, 320, 240)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="size"):
        Undistorter(Camera(300, 300, 160, 120, distortion=(0.1, 0, 0, 0)))
    with pytest.raises(ValueError, match="320x240 images, this one is 640x480"):
        Undistorter(BARREL).image(np.zeros((480, 640, 3), np.uint8))
    for nonsense in ((60.0, 500.0, 0.0, 0.0), (-9.0, 0.0, 3.0, 0.0)):
        with pytest.raises(TrianflowError, match="k1 k2 p1 p2"):
            Undistorter(Camera(300, 300, 160, 120, 320, 240, nonsense))
