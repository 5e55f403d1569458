"""Calibration files of every common format, recognised by what stands in them, become a `Camera`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from trianflow.data.calibration_formats import SUPPORTED, BadCalibration, load_yaml, parse_calibration
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera

GUESSED_FOV = 65.0  # degrees along the longer side, see `guess_camera`
ASPECT_TOLERANCE = 0.01  # relative difference of width / height up to which a calibration is rescaled
_LARGEST_FILE = 4 << 20  # bytes; a calibration has a few hundred


def read_calibration(path: str | Path, name: str | None = None) -> Camera:
    """Read one camera from a calibration file; the format is recognised by its keys, never by line numbers.

    | format | recognised by | taken |
    |---|---|---|
    | KITTI odometry and object | `P0:` ... `P3:` | `name`, else P0 (left grey; P2 is left colour) |
    | KITTI raw `calib_cam_to_cam.txt` | `P_rect_00:` ... | as above, with the size of `S_rect_0x` |
    | ROS camera_info, OpenCV FileStorage | `camera_matrix` or `K` | matrix, distortion, size where given |
    | ORB-SLAM, stella-vslam | `Camera.fx` or `Camera1.fx` | pinhole with `Camera.k1` ... |
    | EuRoC sensor.yaml, Kalibr camchain | `intrinsics` | `name` (`cam0`) in a chain, else its first camera |
    | COLMAP `cameras.txt` | `1 PINHOLE 640 480 ...` | camera number `name`; cx, cy less half a pixel |
    | plain YAML or JSON | `fx`, `fy`, `cx`, `cy` | with `width`, `height`, `distortion` where given |
    | numbers alone | 3x3, 3x4 or 4x4 matrix; `fx fy cx cy [k1 k2 p1 p2 [k3 ...]]` | |

    Args:
        path: the file.
        name: which camera of a file with several: `P0` to `P3` for both KITTI formats, `cam0` for a Kalibr
            chain, a number for COLMAP. A name of another kind is not looked at, so a caller may always pass
            what the folder of the images suggests.

    Returns:
        The camera in our pixel convention (the centre of the top-left pixel is (0, 0)), with its distortion;
        width and height are 0 where the file does not say.

    Raises:
        TrianflowError: unreadable file, unknown format, or a camera model that is not a pinhole with
            radial-tangential distortion (fisheye, equidistant, FOV, omnidirectional).
    """
    path = Path(path)
    text = _read_text(path)
    try:
        return parse_calibration(text, name)
    except BadCalibration as error:
        raise TrianflowError(f"calibration {path}: {error}") from None
    except ValueError as error:  # Camera's own checks and numbers that are none
        raise TrianflowError(f"calibration {path}: {error}") from None


def read_depth_scale(path: str | Path) -> float | None:
    """Units per metre of 16-bit depth images, from `depth_scale` (plain YAML) or `DepthMapFactor` (ORB-SLAM).

    Args:
        path: a calibration file of any format.

    Returns:
        The scale (depth in metres = stored value / scale), or None where the file does not name one.

    Raises:
        TrianflowError: the file cannot be read, or the scale is not a positive number.
    """
    path = Path(path)
    try:
        data = load_yaml(_read_text(path))
    except BadCalibration:
        return None
    for key in ("depth_scale", "DepthMapFactor", "RGBD.DepthMapFactor", "Camera.DepthMapFactor"):
        if isinstance(data, Mapping) and data.get(key) is not None:
            try:
                scale = float(data[key])
            except (TypeError, ValueError):
                scale = math.nan
            if not (math.isfinite(scale) and scale > 0):
                raise TrianflowError(
                    f"calibration {path}: {key} must be a positive number, not {data[key]!r}"
                )
            return scale
    return None


def fit_to_image(camera: Camera, width: int, height: int) -> tuple[Camera, str | None]:
    """Bring a calibration to the size of the images.

    Args:
        camera: as read; its size may be unknown (0).
        width, height: of the images, pixels.

    Returns:
        The camera for `width` x `height`, and a note where the user should know what was done (else None):
        a calibration of another size but the same aspect ratio (within 1 %) is scaled, one of unknown size is
        taken as it is.

    Raises:
        TrianflowError: another aspect ratio, or, where the size is unknown, a principal point outside the
            image.
    """
    if not camera.width or not camera.height:
        if not (0 <= camera.cx < width and 0 <= camera.cy < height):
            raise TrianflowError(
                f"the principal point ({camera.cx:g}, {camera.cy:g}) lies outside the"
                f" {width}x{height} frames: the calibration is for another resolution; give it with its width"
                " and height to have it scaled"
            )
        note = None
        if abs(camera.cx / width - 0.5) > 0.25 or abs(camera.cy / height - 0.5) > 0.25:
            note = (
                f"the principal point ({camera.cx:g}, {camera.cy:g}) is far from the centre of the"
                f" {width}x{height} frames: is the calibration, which does not say its size, for another?"
            )
        return replace(camera, width=width, height=height), note
    if (camera.width, camera.height) == (width, height):
        return camera, None
    size = f"{camera.width}x{camera.height}"
    if abs(width * camera.height / (height * camera.width) - 1) > ASPECT_TOLERANCE:
        raise TrianflowError(
            f"the calibration is for {size} images but the frames are {width}x{height}, another aspect ratio"
            " (cropped?); give a calibration of these frames with --calib or --intrinsics"
        )
    note = f"the calibration is for {size} images and was scaled to the {width}x{height} frames"
    return camera.resized(width, height), note


def guess_camera(width: int, height: int, image_path: str | Path | None = None) -> tuple[Camera, str]:
    """A pinhole camera for images without calibration: from EXIF, else from a usual field of view.

    EXIF's focal length in 35 mm film is turned into pixels by the diagonal (43.27 mm), as CIPA DC-008 defines
    it, so it holds for 4:3 and 16:9 sensors. Without EXIF the longer side is given 65 degrees: between a
    depth camera (Kinect 57), webcams and phones (60 to 70, 26 mm film equivalent) and the cameras of driving
    and drone data (Malaga 66, EuRoC 79, KITTI 82); over 50 to 80 degrees the focal length is wrong by -27 to
    +32 %.

    Args:
        width, height: of the images, pixels.
        image_path: an image of the sequence, looked at for EXIF; no error if it has none.

    Returns:
        The camera with a centred principal point and square pixels, and one line that names the guess.
    """
    film = _exif_focal_length(Path(image_path)) if image_path is not None else None
    if film is not None:
        focal = film * math.hypot(width, height) / math.hypot(36, 24)
        origin = f"guessed from the EXIF focal length of {film:g} mm (35 mm film)"
    else:
        focal = max(width, height) / (2 * math.tan(math.radians(GUESSED_FOV) / 2))
        origin = f"guessed as a field of view of {GUESSED_FOV:g} degrees along the longer side"
    camera = Camera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)
    text = f"fx = fy = {focal:.1f} px, centre ({camera.cx:g}, {camera.cy:g}), no distortion"
    return camera, f"no calibration: {origin}, {text}; give --calib or --intrinsics for a true one"


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise TrianflowError(f"calibration {path}: this is a folder; name the file in it")
        if path.stat().st_size > _LARGEST_FILE:
            size = path.stat().st_size / 1e6
            raise TrianflowError(
                f"calibration {path}: {size:.0f} MB is no calibration file; supported: {SUPPORTED}"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise TrianflowError(f"calibration {path}: no such file") from None
    except OSError as error:
        raise TrianflowError(f"calibration {path}: {error.strerror or error}") from None
    if not data.strip():
        raise TrianflowError(f"calibration {path}: the file is empty; supported: {SUPPORTED}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise TrianflowError(f"calibration {path}: found binary data; supported: {SUPPORTED}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _exif_focal_length(path: Path) -> float | None:
    """EXIF FocalLengthIn35mmFilm in millimetres, None where absent or implausible."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            exif = image.getexif()
            value = exif.get_ifd(0x8769).get(0xA405) or exif.get(0xA405)
        film = float(value) if value else 0.0
    except Exception:  # a damaged header of a guess: PIL raises a dozen kinds
        return None
    return film if 5 <= film <= 1000 else None
