"""Changes of a pair that keep its geometry true: a window, its size, a mirror, brightness, colours, shadows, blur."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from trianflow.data.pairs.sources import RawPair

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # weights of luma, ITU-R BT.601
_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Draw:
    """What was drawn at random for one pair.

    Attributes:
        left, top: place of the window, shares of the room there is, in [0, 1].
        flip: the pair is mirrored when this is below the probability, in [0, 1).
        colour: brightness, contrast, saturation and gamma, each in [-1, 1], in units of the strength.
        grey: the pair loses its colours when this is below the probability, in [0, 1).
        zoom: place of the magnification between none and the largest, in [0, 1).
        shadow, blur: there are shadows, or blur, when this is below the probability, in [0, 1).
        key: seed, epoch and index, for what takes more random numbers.
    """

    left: float
    top: float
    flip: float
    colour: tuple[float, float, float, float]
    grey: float
    zoom: float
    shadow: float
    blur: float
    key: tuple[int, int, int]

    @classmethod
    def from_key(cls, seed: int, epoch: int, index: int) -> Draw:
        """The draw of a pair in an epoch; what is used of it has no influence on the rest."""
        shares = np.random.default_rng([seed, epoch, index]).random(11).tolist()
        left, top, flip, brightness, contrast, saturation, gamma, grey, zoom, shadow, blur = shares
        colour = (2 * brightness - 1, 2 * contrast - 1, 2 * saturation - 1, 2 * gamma - 1)
        return cls(left, top, flip, colour, grey, zoom, shadow, blur, (seed, epoch, index))


def crop_pair(pair: RawPair, size: tuple[int, int], left: float, top: float) -> RawPair:
    """A window of `size` (width, height), placed by shares of the room there is; K and truth follow."""
    width, height = size
    x = round(left * (pair.camera.width - width))
    y = round(top * (pair.camera.height - height))
    if (pair.camera.width, pair.camera.height) == size:
        return pair
    rows, columns = slice(y, y + height), slice(x, x + width)
    return replace(
        pair,
        images=pair.images[:, rows, columns],
        camera=pair.camera.cropped(x, y, width, height),
        **{name: value[:, rows, columns] for name, value in _maps(pair).items()},
    )


def resize_pair(pair: RawPair, size: tuple[int, int]) -> RawPair:
    """The pair at `size` (width, height); K and truth follow.

    Depth, visibility and labels are those of the nearest pixel, images and flow are interpolated.
    """
    width, height = size
    old = pair.camera
    if (old.width, old.height) == size:
        return pair
    maps = {}
    for name, value in _maps(pair).items():
        if name == "flow_ab":
            scale = np.array([width / old.width, height / old.height], np.float32)[:, None, None]
            maps[name] = scale * np.stack([cv2.resize(part, size, interpolation=cv2.INTER_LINEAR) for part in value])
        else:
            rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(size[::-1], value.shape[1:]))
            maps[name] = value[:, rows[:, None], columns]
    images = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in pair.images])
    return replace(pair, images=images, camera=old.resized(width, height), **maps)


def flip_pair(pair: RawPair) -> RawPair:
    """The pair mirrored left to right, as a mirrored world would give it; K and truth follow.

    What lies to the right lies to the left then, so the motion is conjugated by diag(-1, 1, 1).
    """
    maps = {name: value[..., ::-1] for name, value in _maps(pair).items()}
    if "flow_ab" in maps:
        maps["flow_ab"] = maps["flow_ab"] * np.array([-1, 1], np.float32)[:, None, None]
    return replace(
        pair,
        images=pair.images[:, :, ::-1],
        camera=pair.camera.flipped(),
        T_ba=None if pair.T_ba is None else _MIRROR @ pair.T_ba @ _MIRROR,
        **maps,
    )


def jitter_images(images: np.ndarray, strength: float, colour: tuple[float, float, float, float]) -> np.ndarray:
    """Other gamma, brightness, contrast and saturation, the same for all images of the pair.

    With draws d in [-1, 1] and strength s: v^exp(s d), then times 1 + s d, then away from the mean grey value by
    the factor 1 + s d, then each colour away from its grey by 1 + s d.

    Args:
        images: `(2, H, W, 3)` RGB uint8.
        strength: s in [0, 1).
        colour: the draws for brightness, contrast, saturation and gamma.

    Returns:
        `(2, H, W, 3)` float32 in [0, 1].
    """
    brightness, contrast, saturation = (1 + strength * d for d in colour[:3])
    values = (np.arange(256) / 255) ** np.exp(strength * colour[3]) * brightness
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(3)], 1)
    mean = float(values @ counts @ _GREY) / (images.size / 3)
    table = (mean + contrast * (values - mean)).astype(np.float32)
    out = table[images]
    grey = _luma(out)
    out -= grey
    out *= np.float32(saturation)
    out += grey
    return out.clip(0, 1, out=out)


def grey_images(images: np.ndarray) -> np.ndarray:
    """Images `(..., 3)` float32 RGB with their luma in all channels."""
    return np.broadcast_to(_luma(images), images.shape)


def shadow_images(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images under shadows as of trees and houses, with sharp or soft borders, the same on all of them.

    Args:
        images: `(N, H, W, 3)` float32 RGB in [0, 1].
        rng: what the shadows are drawn from.

    Returns:
        The same with up to three layers of shadow, each of which takes 30 to 90 % of the grey value.
    """
    height, width = images.shape[1:3]
    light = np.ones((height, width), np.float32)
    for _ in range(rng.integers(1, 4)):
        coarse = rng.normal(size=rng.integers((2, 2), (9, 13))).astype(np.float32)
        field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        steepness, level = np.float32(np.exp(rng.uniform(0, 4))), np.float32(rng.uniform(0, 1.5))
        dark = 0.5 + 0.5 * np.tanh(steepness * (field - level))
        light *= 1 - np.float32(rng.uniform(0.3, 0.9)) * dark
    return images * light[..., None]


def blur_images(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images as of a camera with fewer pixels, enlarged: 1 to 3 times fewer along each axis, the same for all of them.

    Args:
        images: `(N, H, W, 3)` float32 RGB.
        rng: what the number of pixels is drawn from.
    """
    height, width = images.shape[1:3]
    coarser = 3 ** rng.random()
    size = max(1, round(width / coarser)), max(1, round(height / coarser))
    small = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images)
    return np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR) for image in small])


def _luma(images: np.ndarray) -> np.ndarray:
    grey: np.ndarray = sum(images[..., c] * _GREY[c] for c in range(3))[..., None]
    return grey


def _maps(pair: RawPair) -> dict[str, np.ndarray]:
    maps = {"flow_ab": pair.flow_ab, "visible_a": pair.visible_a, "depth_a": pair.depth_a, "labels": pair.labels}
    return {name: value for name, value in maps.items() if value is not None}
