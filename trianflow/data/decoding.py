"""Image files to arrays, completely or not at all: a truncated file is a reason, never half a picture."""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np


class UnreadableImage(Exception):
    """Why a file gave no picture, in one line without the file's name."""


def decode_image(data: bytes) -> np.ndarray:
    """Decode an image file completely.

    PNG and JPEG are checked for their end (and PNG for its checksums) before they are decoded: libjpeg fills
    what is missing with grey and succeeds.

    Args:
        data: content of the file.

    Returns:
        `(H, W)` or `(H, W, 3)` RGB as stored, uint8 or uint16 (float32 of a TIFF); alpha dropped, palette
        resolved, orientation tag applied.

    Raises:
        UnreadableImage: empty, damaged, truncated or no image.
    """
    image = _decode(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image


def decode_raw(data: bytes) -> np.ndarray:
    """Decode with channels and orientation as stored (for depth), channels in BGR; else as `decode_image`."""
    return _decode(data, cv2.IMREAD_UNCHANGED)


def _decode(data: bytes, flags: int) -> np.ndarray:
    problem = file_damage(data)
    if problem:
        raise UnreadableImage(problem)
    try:
        with quiet_opencv():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UnreadableImage(f"could not be decoded ({str(error.err).strip()[:80]})") from None
    if image is None or image.size == 0:
        raise UnreadableImage("damaged, truncated or not an image (OpenCV cannot decode it)")
    return image


def read_bytes(path: Path) -> bytes:
    """The content of a file; `UnreadableImage` where the system refuses."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from None


# --- damage -------------------------------------------------------------------------------------------------

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)


def file_damage(data: bytes) -> str:
    """Why the content of a file cannot be a complete image, as far as its container tells; empty if nothing is wrong.

    Nothing is decoded: of a PNG the checksums are computed, of a JPEG the end is looked for.
    """
    if not data:
        return "the file is empty (0 bytes)"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_damage(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_damage(data)
    head = data[:256]
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer in place of the image (git lfs pull fetches it)"
    if not re.match(rb"P[1-6]\s", head) and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return "a text file, not an image"
    if not any(head):
        return "not an image (zero bytes)"
    return ""


def _png_damage(data: bytes) -> str:
    position = 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            break
        critical = not kind[0] & 0x20  # libpng goes on with a damaged ancillary chunk
        if critical and zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(
            data[end - 4 : end], "big"
        ):
            return f"damaged PNG (checksum of its {kind.decode('latin-1')} chunk is wrong)"
        if kind == b"IEND":
            return ""
        position = end
    return f"truncated PNG (ends after {len(data)} bytes)"


def _jpeg_damage(data: bytes) -> str:
    truncated = f"truncated JPEG (ends after {len(data)} bytes)"
    position = 2
    while True:
        match = _JPEG_MARKER.search(data, position)
        if match is None or match.end() + 2 > len(data) > match.end():
            return truncated
        marker = data[match.end() - 1]
        if marker == 0xD9:
            return ""
        if match.end() + 2 > len(data):
            return truncated
        position = match.end() + (
            0 if marker == 0x01 else int.from_bytes(data[match.end() : match.end() + 2], "big")
        )


# --- silence ------------------------------------------------------------------------------------------------

_quiet_lock = threading.Lock()
_quiet_depth = 0
_loud_level = 0


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV's warnings off stderr: what they say is in `Frame.problem`. Nests, also across threads."""
    global _quiet_depth, _loud_level
    logging = cv2.utils.logging
    with _quiet_lock:
        if _quiet_depth == 0:
            _loud_level = logging.getLogLevel()
            logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                logging.setLogLevel(_loud_level)
