"""The scores of depth predictions under a protocol: each image scaled, clamped and measured, then the mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.depth import DepthErrors, depth_errors, relative_error
from trianflow.evaluation.depth_protocols import METRICS, DepthProtocol, ImagePair

SCALINGS = ("median", "none")
DISTANCES = 2.0 ** np.arange(-4, 10.5, 0.5)  # metres, the bins of error over distance


@dataclass(frozen=True)
class ImageScore:
    """The errors of one image.

    Attributes:
        name: of the image.
        errors: of its pixels.
        pixels: that were scored.
        unknown: those of them without a prediction, scored as the least depth of the protocol.
        ratio: median of the truth over that of the prediction; None where the prediction is unknown everywhere.
        factor: that the prediction was multiplied by.
        relative: `(K - 1,)` the sums of |d - t| / t over the pixels whose truth is in a bin of `DISTANCES`.
        counts: `(K - 1,)` how many those are.
    """

    name: str
    errors: DepthErrors
    pixels: int
    unknown: int
    ratio: float | None
    factor: float
    relative: np.ndarray
    counts: np.ndarray


def score_image(pair: ImagePair, protocol: DepthProtocol, factor: float) -> ImageScore:
    """Scale the prediction, clamp it to the caps, measure it; no pixel with truth is left out.

    Args:
        pair: with at least one pixel.
        protocol: whose caps hold.
        factor: that brings the prediction to metres.

    Raises:
        ValueError: no pixel.
    """
    known = np.isfinite(pair.depth)
    depth = np.where(known, pair.depth, 0).astype(np.float64) * factor
    depth = np.clip(depth, protocol.least, protocol.largest)
    counts, _ = np.histogram(pair.truth, DISTANCES)
    sums, _ = np.histogram(pair.truth, DISTANCES, weights=relative_error(depth, pair.truth))
    errors = depth_errors(depth, pair.truth)
    return ImageScore(pair.name, errors, len(depth), int((~known).sum()), pair.ratio, factor, sums, counts)


@dataclass(frozen=True)
class DepthScore:
    """The scores of all images under one protocol.

    Attributes:
        protocol: which pixels counted.
        scaling: one of `SCALINGS`.
        images: at least one.
        empty: names of images without a pixel of truth that counts.
    """

    protocol: DepthProtocol
    scaling: str
    images: Sequence[ImageScore]
    empty: Sequence[str] = ()

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each metric over the images, each image alike, as the tables of the papers have it."""
        return {key: float(np.mean([getattr(i.errors, key) for i in self.images])) for key in METRICS}

    @property
    def pixels(self) -> int:
        """That were scored, in all images."""
        return sum(image.pixels for image in self.images)

    @property
    def unknown(self) -> int:
        """Pixels scored without a prediction."""
        return sum(image.unknown for image in self.images)

    @property
    def scale(self) -> float | None:
        """The median of truth over prediction, the median over the images; None where no image has one."""
        return float(np.median(ratios)) if (ratios := self._ratios) else None

    @property
    def scale_deviation(self) -> float | None:
        """Standard deviation of that ratio over its median, by image: 0 for depth of one consistent scale."""
        ratios = self._ratios
        return float(np.std(np.array(ratios) / np.median(ratios))) if ratios else None

    @property
    def by_distance(self) -> tuple[np.ndarray, np.ndarray]:
        """AbsRel `(K - 1,)` of all pixels in the bins of `DISTANCES`, NaN where there are none; and their counts."""
        counts = np.sum([image.counts for image in self.images], axis=0)
        sums = np.sum([image.relative for image in self.images], axis=0)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), counts

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with those of every image."""
        images = [
            {"name": i.name, **asdict(i.errors), "pixels": i.pixels, "unknown": i.unknown, "factor": i.factor}
            for i in self.images
        ]
        largest = self.protocol.largest
        return {
            **self.mean,
            "protocol": self.protocol.name,
            "crop": self.protocol.crop,
            "least": self.protocol.least,
            "largest": largest if np.isfinite(largest) else None,
            "scaling": self.scaling,
            "scale": self.scale,
            "scale_deviation": self.scale_deviation,
            "pixels": self.pixels,
            "unknown": self.unknown,
            "empty": list(self.empty),
            "images": images,
        }

    @property
    def _ratios(self) -> list[float]:
        return [image.ratio for image in self.images if image.ratio is not None]


def score_images(pairs: Iterable[ImagePair], protocol: DepthProtocol, scaling: str = "median") -> DepthScore:
    """Score images under a protocol.

    Args:
        pairs: of `select_pixels`, read one at a time.
        protocol: caps.
        scaling: `median` scales every image by its own ratio of medians, `none` leaves it as it is.

    Raises:
        UsageError: no such scaling.
        TrianflowError: no image, or none has truth that counts.
    """
    if scaling not in SCALINGS:
        raise UsageError(f"no scaling is called {scaling!r}; there are {', '.join(SCALINGS)}")
    images, empty = [], []
    for pair in pairs:
        if not len(pair.truth):
            empty.append(pair.name)
            continue
        ratio = pair.ratio if scaling == "median" else None
        images.append(score_image(pair, protocol, 1.0 if ratio is None else ratio))
    if not images:
        if not empty:
            raise TrianflowError("no image could be read")
        raise TrianflowError(f"no pixel of the truth counts ({protocol.label}); check its scale with --gt-scale")
    return DepthScore(protocol, scaling, images, empty)
