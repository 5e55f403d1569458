"""Matches to a fraction of a pixel: small patches aligned under the local shape of a dense flow.

A dense flow errs coherently where it changes within its own patches and where it is smoothed: on a road by a tenth of a
pixel and more, which bends a scale that is carried along. Here the patch around a point is warped by the gradient of
the flow, so that only a shift is left to find (inverse compositional Lucas-Kanade, Baker and Matthews, IJCV 2004).
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

# Half the side of a patch, and the standard deviation of its Gaussian weights, pixels. Larger patches are less noisy
# but bend with a road: at 7 pixels its parallax comes out 0.4 % too large, at 5 pixels 0.25 %, by the flow 0.9 %.
_RADIUS, _SOFT = 5, 2.75
_BLUR = 0.7  # of the images before, pixels
_STEPS = 4
# A point is not believed that goes further than this, is still moving by so much, or whose patches are correlated less.
_FARTHEST, _UNSETTLED, _ALIKE = 1.0, 0.05, 0.5
# Standard deviation of a point, pixels: the least, and what it grows by with the square root of what the patches differ
# by over what their gradients weigh; and the largest that is believed. Measured on rendered drives.
_LEAST_SIGMA, _GROWTH, _LARGEST_SIGMA = 0.06, 0.3, 0.38
_LEAST_TEXTURE = 0.01  # smaller eigenvalue of the mean structure tensor, grey levels squared
_BLOCK = 512  # points at a time, so that their patches stay in the cache

_SIDE = np.arange(-_RADIUS, _RADIUS + 1, dtype=np.float32)
_OFFSETS = np.stack(np.meshgrid(_SIDE, _SIDE), -1).reshape(-1, 2)
_WEIGHTS = np.exp(-0.5 * (_OFFSETS**2).sum(1) / _SOFT**2)
_WEIGHTS /= _WEIGHTS.sum()
_WIDER = [x.ravel() for x in np.meshgrid(*2 * [np.arange(-_RADIUS - 1, _RADIUS + 2, dtype=np.float32)])]
PATCH = len(_WIDER[0])  # numbers in a patch with its rim
_SHAPE = np.stack(np.meshgrid(_SIDE[::2], _SIDE[::2]), -1).reshape(-1, 2)  # where the flow is looked at
_SLOPES = np.linalg.pinv(_SHAPE)


def smoothed(image: np.ndarray) -> np.ndarray:
    """The image `(H, W)` or RGB `(H, W, 3)`, uint8, as patches are taken from it: grey, `(H, W)` float32."""
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.GaussianBlur(grey.astype(np.float32), (0, 0), _BLUR)


def shapes_of(flow_ab: Tensor, p_a: Tensor) -> Tensor:
    """What small patches around points become in b, by how the flow changes around them.

    Args:
        flow_ab: `(1, 2, H, W)` pixels.
        p_a: `(N, 2)` pixels.

    Returns:
        `(N, 2, 2)` float64, from offsets in a to offsets in b.
    """
    whole = np.ascontiguousarray(flow_ab[0].permute(1, 2, 0).float().numpy())
    flow = _taken(whole, *_around(p_a.numpy(), *_SHAPE.T))
    return torch.from_numpy(np.eye(2) + np.einsum("dk,nkc->ncd", _SLOPES, flow))


class Refiner:
    """Brings matches between two images to a fraction of a pixel.

    Args:
        a, b: the images as `smoothed` returns them.
        flow_ab: `(1, 2, H, W)` pixels, whose gradient is the shape of the patches in b.
    """

    def __init__(self, a: np.ndarray, b: np.ndarray, flow_ab: Tensor) -> None:
        self._a, self._b, self._flow_ab = a, b, flow_ab

    def __call__(self, p_a: Tensor, p_b: Tensor) -> tuple[Tensor, Tensor]:
        """Where the points lie in b.

        Args:
            p_a: `(N, 2)` pixels.
            p_b: `(N, 2)` first guesses, good to about a pixel.

        Returns:
            `(N, 2)` pixels in the type of p_b, and `(N,)` float64 their standard deviations, pixels. Points that were
            not found are returned as given, with infinite ones: without texture, at the border, hidden, on an edge of
            depth.
        """
        return self.aligned(self.patches(p_a), shapes_of(self._flow_ab, p_a), p_b)

    def patches(self, p_a: Tensor) -> Tensor:
        """What surrounds the points `(N, 2)` of a, `(N, S)` float32, to be found in b or in a later image."""
        return torch.from_numpy(_taken(self._a, *_around(p_a.numpy(), *_WIDER)))

    def aligned(self, patches: Tensor, shapes: Tensor, p_b: Tensor) -> tuple[Tensor, Tensor]:
        """Where patches lie in b.

        Args:
            patches: `(N, S)` as `patches` gives them, of a or of an earlier image.
            shapes: `(N, 2, 2)` from that image to b.
            p_b: `(N, 2)` first guesses.

        Returns:
            As a call does.
        """
        given = patches.numpy(), shapes.float().numpy(), p_b.double().numpy()
        parts = [self._block(*(x[i : i + _BLOCK] for x in given)) for i in range(0, len(p_b), _BLOCK)]
        if not parts:
            return p_b, torch.zeros(0, dtype=torch.float64)
        shift, sigma = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts))
        return p_b + torch.where(sigma.isfinite()[:, None], shift, 0.0).to(p_b.dtype), sigma

    def _block(self, patch: np.ndarray, A: np.ndarray, p_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shifts `(N, 2)` of p_b, and their standard deviations `(N,)`, infinite where there is none."""
        patch = patch.reshape(-1, 2 * _RADIUS + 3, 2 * _RADIUS + 3)
        wx = _weighted((patch[:, 1:-1, 2:] - patch[:, 1:-1, :-2]) / 2)
        wy = _weighted((patch[:, 2:, 1:-1] - patch[:, :-2, 1:-1]) / 2)
        template = patch[:, 1:-1, 1:-1].reshape(len(patch), -1)
        wt = _weighted(template)
        xx, xy, yy = _sum(wx, wx / _WEIGHTS), _sum(wx, wy / _WEIGHTS), _sum(wy, wy / _WEIGHTS)
        energy, x0, y0 = np.maximum(_sum(wt, template), 0), _sum(wx, template), _sum(wy, template)
        half, det = (xx + yy) / 2, xx * yy - xy**2
        found = half - np.sqrt(np.maximum(half**2 - det, 0)) > _LEAST_TEXTURE
        det = np.where(found, det, 1)
        dx, dy = (A @ _OFFSETS.T).transpose(1, 0, 2)
        shift, step, alike = np.zeros_like(p_b), np.zeros_like(p_b), np.zeros(len(p_b))
        for _ in range(_STEPS):
            seen = _taken(self._b, *_around(p_b + shift, dx, dy))
            power = np.maximum(np.square(seen) @ _WEIGHTS - np.square(seen @ _WEIGHTS), 1e-6)
            gain = np.sqrt(energy / power)  # whatever the exposure
            alike = _sum(wt, seen) / np.sqrt(np.maximum(energy * power, 1e-9))
            ex, ey = gain * _sum(wx, seen) - x0, gain * _sum(wy, seen) - y0
            step = np.stack([xy * ey - yy * ex, xy * ex - xx * ey], 1) / det[:, None]
            step = np.where(found[:, None], np.einsum("ncd,nd->nc", A, step), 0)
            shift += step
        near = (np.linalg.norm(shift, axis=1) < _FARTHEST) & (np.linalg.norm(step, axis=1) < _UNSETTLED)
        size = np.array(self._b.shape[::-1]) - 1
        inside = ((p_b + shift >= 0) & (p_b + shift <= size)).all(1)
        doubt = np.sqrt(2 * np.maximum(1 - alike, 0) * energy * (xx + yy) / det)
        sigma = np.hypot(_LEAST_SIGMA, _GROWTH * doubt)
        good = found & near & inside & (alike > _ALIKE) & (sigma < _LARGEST_SIGMA)
        return shift, np.where(good, sigma, np.inf).astype(np.float64)


def _around(p: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows `(N, K)` at offsets from the points `(N, 2)`."""
    x, y = p.astype(np.float32).T
    return x[:, None] + dx, y[:, None] + dy


def _taken(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear samples of an image at columns and rows `(N, K)`."""
    if not len(x):
        return np.zeros((*x.shape, *image.shape[2:]), np.float32)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _weighted(patch: np.ndarray) -> np.ndarray:
    """`(N, K)`: without its weighted mean, times the weights."""
    patch = patch.reshape(len(patch), -1)
    return (patch - (patch @ _WEIGHTS)[:, None]) * _WEIGHTS


def _sum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.einsum("nk,nk->n", x, y)
