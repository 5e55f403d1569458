"""Flow files: Middlebury's `.flo` and KITTI's 16-bit PNG."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from trianflow.data.decoding import UnreadableImage, decode_raw, read_bytes
from trianflow.errors import TrianflowError, UsageError

FLOW_SUFFIXES = (".flo", ".png")
_MAGIC = b"PIEH"
_UNKNOWN = 1e9  # components beyond this are unknown in .flo files (Middlebury)
_STEPS, _ZERO = 64, 2**15  # KITTI: steps a pixel, and the stored value of no motion
_LARGEST_SIDE = 100_000


def read_flow(path: str | Path) -> np.ndarray:
    """Read a flow file.

    Args:
        path: `.flo`, or a 16-bit `.png` of KITTI.

    Returns:
        `(H, W, 2)` float32 pixels, x first; NaN where unknown.

    Raises:
        UsageError: another suffix.
        TrianflowError: it cannot be read, or is damaged, or another kind of file.
    """
    path = Path(path)
    _check_suffix(path)
    try:
        data = read_bytes(path)
        return _parse_flo(data) if path.suffix.lower() == ".flo" else _parse_png(data)
    except UnreadableImage as error:
        raise TrianflowError(f"{path}: {error}") from None


def write_flow(path: str | Path, flow: np.ndarray) -> None:
    """Write a flow file; the suffix says which kind.

    Args:
        path: `.flo` (exact) or `.png` (KITTI: to 1/64 pixel, and unknown where a component is beyond 512 pixels).
        flow: `(H, W, 2)` pixels, x first; not finite where unknown.

    Raises:
        UsageError: another suffix.
        TrianflowError: the file cannot be written.
    """
    path = Path(path)
    _check_suffix(path)
    known = np.isfinite(flow).all(-1, keepdims=True)
    if path.suffix.lower() == ".flo":
        height, width = flow.shape[:2]
        values = np.where(known, flow, 10 * _UNKNOWN).astype("<f4")
        data = _MAGIC + np.array([width, height], "<i4").tobytes() + values.tobytes()
    else:
        stored = np.round(np.where(known, flow, 0) * float(_STEPS)) + _ZERO
        known &= ((stored >= 0) & (stored < 2**16)).all(-1, keepdims=True)
        bgr = np.concatenate([known, np.where(known, stored, 0)[..., ::-1]], -1)
        data = cv2.imencode(".png", bgr.astype(np.uint16))[1].tobytes()
    try:
        path.write_bytes(data)
    except OSError as error:
        raise TrianflowError(f"{path}: cannot write the flow: {error.strerror}") from error


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in FLOW_SUFFIXES:
        raise UsageError(f"{path}: flow files end in .flo (Middlebury) or .png (KITTI, 16 bits)")


def _parse_flo(data: bytes) -> np.ndarray:
    if data[:4] != _MAGIC or len(data) < 12:
        raise UnreadableImage("not a .flo file (it does not begin with PIEH and a size)")
    width, height = (int(side) for side in np.frombuffer(data[4:12], "<i4"))
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise UnreadableImage(f"a .flo file of impossible size {width}x{height}")
    expected = 12 + 8 * width * height
    if len(data) < expected:
        raise UnreadableImage(f"truncated .flo file ({len(data)} bytes of {expected} for {width}x{height})")
    flow = np.frombuffer(data, "<f4", 2 * width * height, 12).reshape(height, width, 2).astype(np.float32)
    flow[~(np.abs(flow) <= _UNKNOWN).all(-1)] = np.nan
    return flow


def _parse_png(data: bytes) -> np.ndarray:
    stored = decode_raw(data)
    if stored.dtype != np.uint16 or stored.ndim != 3 or stored.shape[2] != 3:
        raise UnreadableImage("not a flow PNG of KITTI (three channels of 16 bits)")
    flow = (stored[..., :0:-1].astype(np.float32) - _ZERO) / _STEPS
    flow[stored[..., 0] == 0] = np.nan
    return flow
