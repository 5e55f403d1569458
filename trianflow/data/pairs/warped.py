"""Real images warped by flows that are known: pairs whose truth is exact, of any footage and without a calibration."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from trianflow.data.frames import open_frames
from trianflow.data.pairs.config import WarpedSource
from trianflow.data.pairs.disturbances import disturb
from trianflow.data.pairs.frames import FrameStore, UnreadableFrame
from trianflow.data.pairs.prepare import Preparation
from trianflow.data.pairs.sources import PairSource, RawPair, UnreadablePair
from trianflow.data.pairs.warp_fields import Mover, polygon_mask, random_flow, random_mover
from trianflow.geometry.camera import Camera

_ROOM = 1.25  # size of the pictures over that of the pairs: what comes into view is there, and windows differ
_FIELD_OF_VIEW = 80.0  # degrees, of the camera that stands for all
_MOVERS = (0.4, 0.3, 0.2, 0.1)  # share of the pairs with none, one, two, three
_UNSEEN = 0.5  # share of the width: what moves farther is not learned


class WarpedPairs(PairSource):
    """Pairs of a picture and the same picture warped; pair i depends on the source's seed and i alone.

    The second image b is a window of a frame, with patches of another frame on it. The first one is a(x) = b(x + f(x)),
    where f is the flow of a random scene before a random camera, or that of the patch; so the flow from a to b is f.
    Then each is disturbed as by a camera of its own. A point is visible where the patches do not hide it and it stays
    in the window.

    Args:
        source: frames, number of pairs, seed, largest motion.
        size: width and height, pixels.
        cache: folder of the decoded frames; None decodes on demand.

    Raises:
        UsageError, TrianflowError: frames that are not there or cannot be read, a cache that cannot be written.
    """

    def __init__(self, source: WarpedSource, size: tuple[int, int], cache: Path | None) -> None:
        frames = open_frames(source.warped)
        width, height = frames.first_image_size()
        self._size, self._seed = size, source.seed
        self._motion = source.motion * size[0]
        pictures = (round(_ROOM * size[0]), round(_ROOM * size[1]))
        preparation = Preparation(Camera.from_fov(width, height, _FIELD_OF_VIEW), pictures, "crop")
        identity = [str(Path(source.warped).expanduser().absolute()), *pictures, "warped"]
        self._frames = FrameStore(frames, preparation, identity, cache)
        self._count = source.pairs or len(self._frames)
        self.notes = list(frames.notes)

    def __len__(self) -> int:
        """The number of pairs."""
        return self._count

    def read(self, number: int) -> RawPair:
        """As `PairSource.read`; the flow is known but where it is larger than half the width."""
        rng = np.random.default_rng([self._seed, number])
        width, height = self._size
        try:
            picture = self._frames.image(number % len(self._frames))
            other = self._frames.image(int(rng.integers(len(self._frames))))
        except UnreadableFrame as error:
            raise UnreadablePair(str(error)) from None
        flow = random_flow(rng, width, height, self._motion)
        movers = [random_mover(rng, flow) for _ in range(rng.choice(len(_MOVERS), p=_MOVERS))]
        window = _random_window(rng, picture, width, height)
        textures = [_random_window(rng, other, width, height) for _ in movers]
        images, flow, visible = _compose(picture, other, flow, movers, window, textures)
        far = np.maximum(np.abs(flow[..., 0]), np.abs(flow[..., 1])) > _UNSEEN * width
        flow[far] = np.nan
        camera = Camera.from_fov(width, height, _FIELD_OF_VIEW)
        return RawPair(
            disturb(rng, images),
            camera,
            flow_ab=np.ascontiguousarray(flow.transpose(2, 0, 1)),
            visible_a=visible[None].astype(np.float32),
        )


def _random_window(rng: np.random.Generator, picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pixels of a window to those of the picture that it shows, `(2, 3)` float64."""
    room = np.array(picture.shape[1::-1], np.float64)
    zoom = rng.uniform(1.0, min(_ROOM, *(room / (width, height)))) if min(room / (width, height)) > 1 else 1.0
    left, top = rng.random(2) * np.maximum(room - zoom * np.array([width, height]), 0)
    return np.array([[zoom, 0, left], [0, zoom, top]])


def _compose(
    picture: np.ndarray,
    other: np.ndarray,
    flow: np.ndarray,
    movers: list[Mover],
    window: np.ndarray,
    textures: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both images `(2, h, w, 3)` uint8, the flow with that of the patches, `(h, w, 2)`, and the visibility `(h, w)`."""
    height, width = flow.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)), -1)
    target = grid + flow
    zoom, origin = np.float32(window[0, 0]), window[:, 2].astype(np.float32)
    x, y = (np.ascontiguousarray(zoom * target[..., i] + origin[i]) for i in (0, 1))
    a = cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    b = _seen(picture, window, width, height)
    owner_a, owner_b = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    for number, (mover, texture) in enumerate(zip(movers, textures), 1):
        cover_b = polygon_mask(mover.polygon, width, height)
        M = mover.A[:, :2]
        outline = (mover.polygon - mover.A[:, 2]) @ np.linalg.inv(M).T
        cover_a = polygon_mask(outline.astype(np.float32), width, height)
        a = _over(a, _seen(other, _joined(texture, mover.A), width, height), cover_a)
        b = _over(b, _seen(other, texture, width, height), cover_b)
        inside = cover_a > 127
        target[inside] = grid[inside] @ M.T.astype(np.float32) + mover.A[:, 2].astype(np.float32)
        owner_a[inside] = number
        owner_b[cover_b > 127] = number
    x, y = (np.ascontiguousarray(target[..., i]) for i in (0, 1))
    there = cv2.remap(owner_b, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=255)
    visible = (there == owner_a) & (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    return np.stack([a, b]), target - grid, visible


def _seen(picture: np.ndarray, window: np.ndarray, width: int, height: int) -> np.ndarray:
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, window, (width, height), flags=how, borderMode=cv2.BORDER_REFLECT_101)


def _joined(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The affine map that applies `inner` and then `outer`."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def _over(below: np.ndarray, above: np.ndarray, cover: np.ndarray) -> np.ndarray:
    share = cover[..., None].astype(np.float32) / np.float32(255)
    return (below + share * (above.astype(np.float32) - below) + np.float32(0.5)).astype(np.uint8)
