"""The text of calibration files, format by format, to a `Camera`; `calibration` holds what others call."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import yaml

from trianflow.geometry.camera import Camera

SUPPORTED = (
    "KITTI (P0-P3, P_rect_0x), ROS camera_info, OpenCV and ORB-SLAM YAML, EuRoC sensor.yaml, COLMAP"
    " cameras.txt, a 3x3 matrix, 'fx fy cx cy [k1 k2 p1 p2 ...]', or YAML with fx, fy, cx, cy"
)

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_KITTI_KEY = re.compile(r"(P[0-3]|P_rect_0[0-3]|S_rect_0[0-3])\s*:\s*(.*)")
_COLMAP_ROW = re.compile(r"\d+\s+[A-Z][A-Z_]+\s+\d+\s+\d+\s")
_ZERO_PIXEL_SHIFT = 0.5  # COLMAP calls the centre of the top-left pixel (0.5, 0.5), we call it (0, 0)


class BadCalibration(Exception):
    """What is wrong with the text, in words that follow 'calibration FILE: '."""


def parse_calibration(text: str, name: str | None) -> Camera:
    """The camera in the text of a file; `BadCalibration`, or `Camera`'s ValueError, where there is none."""
    rows = [line.split("#")[0].strip() for line in text.splitlines()]
    rows = [row for row in rows if row]
    if not rows:
        raise BadCalibration(f"found nothing but comments; supported: {SUPPORTED}")
    kitti = {m[1]: m[2] for m in map(_KITTI_KEY.fullmatch, rows) if m}
    if any(key.startswith("P") for key in kitti):
        return _kitti(kitti, name)
    if any(map(_COLMAP_ROW.match, rows)):
        return _colmap(rows, name)
    tokens = [[t for t in re.split(r"[\s,;\[\]()]+", row) if t] for row in rows]
    if all(_NUMBER.fullmatch(token) for row in tokens for token in row):
        return _numbers([[float(token) for token in row] for row in tokens if row])
    data = load_yaml(text)
    if isinstance(data, Mapping):
        return _mapping(data, name)
    _unknown(f"{rows[0][:60]!r}")


def _unknown(found: str) -> NoReturn:
    raise BadCalibration(f"found {found}, no format that is known; supported: {SUPPORTED}")


# --- text formats -------------------------------------------------------------------------------------------


def _kitti(values: Mapping[str, str], name: str | None) -> Camera:
    number = 0
    if name is not None and re.fullmatch(r"P(?:_rect_0)?\d", name):
        number = int(name[-1])
    raw = any(key.startswith("P_rect") for key in values)
    key = f"P_rect_0{number}" if raw else f"P{number}"
    if key not in values:
        found = ", ".join(sorted(k for k in values if k.startswith("P")))
        raise BadCalibration(f"no {key} in this KITTI file, only {found}")
    P = _floats(values[key].split(), key)
    if len(P) != 12:
        raise BadCalibration(f"{key} has {len(P)} numbers, a projection matrix has 12")
    size = [round(v) for v in _floats(values.get(f"S_rect_0{number}", "").split(), "S_rect")]
    width, height = size if len(size) == 2 else (0, 0)
    return _from_matrix(np.reshape(P, (3, 4))[:, :3].copy(), width, height)


# COLMAP model: (number of focal lengths, names of the distortion parameters in the order of the file)
_COLMAP_MODELS: dict[str, tuple[int, tuple[str, ...]]] = {
    "SIMPLE_PINHOLE": (1, ()),
    "PINHOLE": (2, ()),
    "SIMPLE_RADIAL": (1, ("k1",)),
    "RADIAL": (1, ("k1", "k2")),
    "OPENCV": (2, ("k1", "k2", "p1", "p2")),
    "FULL_OPENCV": (2, ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")),
}


def _colmap(rows: list[str], name: str | None) -> Camera:
    cameras = {row.split()[0]: row.split()[1:] for row in rows if _COLMAP_ROW.match(row)}
    if name is not None and name.isdigit():
        if name not in cameras:
            raise BadCalibration(f"no camera {name} in this COLMAP file, only {', '.join(cameras)}")
        model, *fields = cameras[name]
    elif len({tuple(c) for c in cameras.values()}) > 1:
        raise BadCalibration(
            f"this COLMAP file has {len(cameras)} different cameras ({', '.join(cameras)});"
            " keep the one of these images"
        )
    else:
        model, *fields = next(iter(cameras.values()))
    if model not in _COLMAP_MODELS:
        _refuse_model(model)
    focals, names = _COLMAP_MODELS[model]
    width, height, *values = _floats(fields, model)
    if len(values) != focals + 2 + len(names):
        raise BadCalibration(f"{model} has {focals + 2 + len(names)} parameters, this line {len(values)}")
    fx, fy = values[0], values[focals - 1]
    cx, cy = (v - _ZERO_PIXEL_SHIFT for v in values[focals : focals + 2])
    return Camera(fx, fy, cx, cy, int(width), int(height), _distortion(values[focals + 2 :]))


def _numbers(rows: list[list[float]]) -> Camera:
    lengths = [len(row) for row in rows]
    flat = [v for row in rows for v in row]
    shapes = {9: (3, 3), 12: (3, 4), 16: (4, 4)}
    if len(flat) in shapes and (len(rows) == 1 or lengths == [shapes[len(flat)][1]] * shapes[len(flat)][0]):
        matrix = np.reshape(flat, shapes[len(flat)])
        if len(rows) > 1 or (
            matrix[1, 0] == 0 and matrix[2, 2] == 1
        ):  # else a one-liner with 5 or 8 coefficients
            return _from_matrix(matrix[:3, :3].copy())
    if len(rows) == 1 and len(flat) == 6 and all(v >= 16 and v == int(v) for v in flat[4:]):
        return Camera(flat[0], flat[1], flat[2], flat[3], int(flat[4]), int(flat[5]))
    if len(rows) == 1 and len(flat) >= 4:
        return Camera(flat[0], flat[1], flat[2], flat[3], 0, 0, _distortion(flat[4:]))
    shape = (
        "x".join(map(str, (len(rows), lengths[0]))) if len(set(lengths)) == 1 else f"rows of {lengths[:8]}"
    )
    _unknown(f"{shape} numbers")


# --- YAML formats -------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """SafeLoader that takes OpenCV's matrices as plain mappings."""


def _plain_mapping(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(
            None, None, "an OpenCV matrix without rows, cols, data", node.start_mark
        )
    return loader.construct_mapping(node, deep=True)


for _tag in ("opencv-matrix", "opencv-nd-matrix"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _plain_mapping)


def load_yaml(text: str) -> Any:
    """The first document of a YAML text, OpenCV's dialect included; `BadCalibration` where it is none."""
    # OpenCV writes `%YAML:1.0`, which is no YAML directive, and its tabs are no YAML either
    text = re.sub(r"\A\s*%YAML.*\n", "", text).replace("\t", "  ")
    try:
        documents = [d for d in yaml.load_all(text, Loader=_Loader) if d is not None]
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}: {getattr(error, 'problem', '')})" if mark else ""
        raise BadCalibration(
            f"found text that is neither numbers nor YAML{where}; supported: {SUPPORTED}"
        ) from None
    return documents[0] if documents else None


def _mapping(data: Mapping[Any, Any], name: str | None) -> Camera:
    data = {str(key): value for key, value in data.items()}
    chain = [
        key for key, value in data.items() if re.fullmatch(r"cam\d+", key) and isinstance(value, Mapping)
    ]
    if chain:
        wanted = name if name is not None and re.fullmatch(r"cam\d+", name) else chain[0]
        if wanted not in chain:
            raise BadCalibration(f"no camera {wanted} in this chain, only {', '.join(chain)}")
        data = {str(key): value for key, value in data[wanted].items()}
    orbslam = next((p for p in ("Camera.", "Camera1.") if f"{p}fx" in data), None)
    if orbslam:
        _refuse_fisheye(_first(data, "Camera.type", "Camera.model"))
        data = {key.removeprefix(orbslam).removeprefix("Camera."): value for key, value in data.items()}
    _refuse_fisheye(_first(data, "camera_model", "model"))
    _refuse_fisheye(_first(data, "distortion_model", "distortion_type"))
    if _first(data, "fisheye_model", "fisheye") not in (None, 0, False, "0", "false"):
        _refuse_model("fisheye")
    if "xi" in data:
        _refuse_model("omnidirectional (xi)")

    width, height = _size(data)
    coefficients = _first(
        data,
        "distortion_coefficients",
        "distortion_coeffs",
        "distCoeffs",
        "dist_coeffs",
        "distortion",
        "D",
        "d",
        "D1",
    )
    if coefficients is None and "k1" in data:
        rest = [data.get(key, 0.0) for key in ("k3", "k4", "k5", "k6")]
        coefficients = [data.get(key, 0.0) for key in ("k1", "k2", "p1", "p2")] + rest
    distortion = _distortion([] if coefficients is None else _flat(coefficients, "the distortion"))

    if "fx" in data or "fy" in data:
        missing = [key for key in ("fx", "fy", "cx", "cy") if data.get(key) is None]
        if missing:
            raise BadCalibration(f"{', '.join(missing)} missing")
        fx, fy, cx, cy = _floats([data[key] for key in ("fx", "fy", "cx", "cy")], "fx, fy, cx, cy")
        return Camera(fx, fy, cx, cy, width, height, distortion)
    matrix = _first(
        data,
        "camera_matrix",
        "cameraMatrix",
        "Camera_Matrix",
        "intrinsic_matrix",
        "K",
        "k",
        "M1",
        "projection_matrix",
    )
    if matrix is not None:
        values = _flat(matrix, "the camera matrix")
        if len(values) not in (9, 12):
            raise BadCalibration(f"the camera matrix has {len(values)} numbers, not 9")
        return replace(
            _from_matrix(np.reshape(values, (3, -1))[:, :3].copy(), width, height), distortion=distortion
        )
    if data.get("intrinsics") is not None:
        values = _flat(data["intrinsics"], "intrinsics")
        if len(values) == 4:
            return Camera(values[0], values[1], values[2], values[3], width, height, distortion)
        if len(values) == 9:
            camera = _from_matrix(np.reshape(values, (3, 3)), width, height)
            return replace(camera, distortion=distortion)
        raise BadCalibration(f"intrinsics has {len(values)} numbers, not fx, fy, cx, cy")
    _unknown(f"the keys {', '.join(list(data)[:6])}{', ...' if len(data) > 6 else ''}")


def _size(data: Mapping[str, Any]) -> tuple[int, int]:
    width = _first(data, "image_width", "width", "image_Width", "imageWidth", "cols")
    height = _first(data, "image_height", "height", "image_Height", "imageHeight", "rows")
    if width is None and height is None:
        pair = _first(data, "resolution", "image_size", "imageSize", "size")
        if pair is None:
            return 0, 0
        values = _flat(pair, "the image size")
        if len(values) != 2:
            raise BadCalibration(f"the image size has {len(values)} numbers, not width and height")
        width, height = values
    sizes = _floats([0 if v is None else v for v in (width, height)], "the image size")
    if not all(math.isfinite(v) for v in sizes):
        raise BadCalibration("the image size is not finite")
    return int(sizes[0]), int(sizes[1])


# --- pieces -------------------------------------------------------------------------------------------------


def _first(data: Mapping[str, Any], *keys: str) -> Any:
    return next((data[key] for key in keys if data.get(key) is not None), None)


def _floats(values: Sequence[Any], what: str) -> list[float]:
    try:
        return [float(v) for v in values]
    except (TypeError, ValueError):
        raise BadCalibration(f"{what}: {' '.join(str(v) for v in values)[:60]!r} are not numbers") from None


def _flat(value: Any, what: str) -> list[float]:
    """The numbers of a list, a list of rows or a `{rows, cols, data}` matrix, row by row."""
    if isinstance(value, Mapping):
        value = value.get("data")
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    if not isinstance(value, list):
        raise BadCalibration(f"{what} is {value!r}, not a list of numbers")
    return _floats([v for row in value for v in (row if isinstance(row, list) else [row])], what)


def _distortion(values: Sequence[float]) -> tuple[float, ...]:
    """OpenCV's order k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tx ty]]]], shortened; () where all are zero."""
    values = list(values)
    if len(values) > 14:
        raise BadCalibration(f"{len(values)} distortion coefficients, OpenCV's model has 4, 5, 8, 12 or 14")
    while values and values[-1] == 0:
        values.pop()
    if not values:
        return ()
    full = next(n for n in (4, 5, 8, 12, 14) if n >= len(values))
    return tuple(values + [0.0] * (full - len(values)))


def _from_matrix(K: np.ndarray, width: int = 0, height: int = 0) -> Camera:
    if K[0, 2] == 0 and K[1, 2] == 0 and K[2, 0] > 0 and K[2, 1] > 0:  # Matlab and Open3D store columns first
        K = K.T
    if (
        K[2, 2] == 0
        or not np.isfinite(K).all()
        or any(abs(K[i]) > 1e-9 * abs(K[2, 2]) for i in ((1, 0), (2, 0), (2, 1)))
    ):
        found = " ".join(f"{v:g}" for v in K.ravel())
        raise BadCalibration(f"not a camera matrix (fx 0 cx; 0 fy cy; 0 0 1): {found}")
    K = K / K[2, 2]
    if abs(K[0, 1]) > 1e-3 * abs(K[0, 0]):
        raise BadCalibration(f"a skew of {K[0, 1]:g} is not supported; rectify the images first")
    return Camera(float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]), width, height)


def _refuse_fisheye(model: Any) -> None:
    if model is None:
        return
    plain = re.sub(r"[^a-z]", "", str(model).lower())
    words = (
        "fisheye",
        "equi",
        "kannala",
        "omni",
        "fov",
        "mei",
        "doublesphere",
        "eucm",
        "unified",
        "division",
        "fthet",
    )
    if any(word in plain for word in words) or plain in ("ds", "ftheta", "kb", "ucm"):
        _refuse_model(str(model))


def _refuse_model(model: str) -> NoReturn:
    raise BadCalibration(
        f"the camera model {model} is not supported (pinhole with radial-tangential distortion is);"
        " undistort the images first, e.g. with cv2.fisheye.undistortImage or COLMAP's image_undistorter"
    )
