"""What happens to each image of a pair on its own: exposure, vignetting, uneven light, blur and noise."""

from __future__ import annotations

import cv2
import numpy as np

_GREY = 0.3  # share of the pairs that lose their colours
_CHANGING = 0.5  # share of the pairs whose second image has another exposure
_UNEVEN = 0.25  # share of the images with vignetting or uneven light
_BLURRED = 0.2  # share of the images


def disturb(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    """A pair of images as two cameras of their own would have taken them.

    Args:
        rng: what the disturbances are drawn from.
        images: `(2, h, w, 3)` RGB uint8.

    Returns:
        `(2, h, w, 3)` RGB uint8.
    """
    grey = rng.random() < _GREY
    changing = rng.random() < _CHANGING
    out = np.empty_like(images)
    for i, image in enumerate(images):
        if grey:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        value = _exposure(rng, changing and i == 1)[image]
        if rng.random() < _UNEVEN:
            value *= _light(rng, *image.shape[:2])[..., None]
        if rng.random() < _BLURRED:
            value = cv2.GaussianBlur(value, (5, 5), rng.uniform(0.3, 1.2))
        strength = np.float32(255 * abs(rng.normal(0, 0.012)))
        noise = rng.standard_normal((*image.shape[:2], 1 if grey else 3), np.float32)
        value += strength * noise
        out[i] = (value + np.float32(0.5)).clip(0, 255)
    return out


def _exposure(rng: np.random.Generator, changing: bool) -> np.ndarray:
    """Grey value to grey value, `(256,)` float32 in [0, 255]: another gain, gamma and black level."""
    gain, gamma, black = rng.normal(0, (0.15, 0.15, 0.03)) * changing
    value = np.linspace(0, 1, 256, dtype=np.float32)
    return ((np.exp(gain) * value ** np.exp(gamma) + black).clip(0, 1) * 255).astype(np.float32)


def _light(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth factor of the brightness, `(height, width)` float32 about 1: darker corners, and some unevenness."""
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    coarse = rng.normal(0, 0.07, (3, 4)).astype(np.float32)
    uneven = np.exp(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    return uneven * (1 - np.float32(rng.uniform(0, 0.25)) * (x * x + y * y))
