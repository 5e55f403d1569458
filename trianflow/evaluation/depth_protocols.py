"""Protocols of depth evaluation: which pixels count, and how a prediction is laid over them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np

from trianflow.errors import UsageError
from trianflow.evaluation.depth import DepthErrors

CROPS = ("none", "garg", "eigen", "nyuv2", "make3d")
METRICS = tuple(field.name for field in fields(DepthErrors))

# Shares of height and width: top, bottom, left, right.
_SHARES = {
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),  # Garg et al., ECCV 2016, in Monodepth's digits
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),  # Eigen et al., NeurIPS 2014, in Monodepth's digits
}
_NYU_FRAME, _NYU_CROP = (480, 640), (44, 471, 40, 601)  # where the toolbox of NYUv2 has valid projected depth
# Make3D: rows of the central crop by height and width of the truth, which is an image or the laser's grid, whole or cut
_MAKE3D_ROWS = {(2272, 1704): 852, (55, 305): 21, (852, 1704): 852, (21, 305): 21}


@dataclass(frozen=True)
class DepthProtocol:
    """Which pixels of the truth count, and what is printed.

    Attributes:
        name: as the command line has it.
        crop: one of `CROPS`.
        least, largest: truth counts strictly between these, and the scaled prediction is clamped to them; metres.
        metrics: keys of `DepthErrors` in the order of the published table.
        published: name of the table in `evaluation.published`; empty for none.
        images: of the test set that table is about.
    """

    name: str
    crop: str
    least: float
    largest: float
    metrics: tuple[str, ...] = METRICS
    published: str = ""
    images: int = 0

    @property
    def label(self) -> str:
        """Crop and caps in words."""
        crop = "no crop" if self.crop == "none" else f"crop {self.crop}"
        cap = f"{self.least:g} to {self.largest:g} m" if np.isfinite(self.largest) else f"from {self.least:g} m"
        return f"{crop}, {cap}"


_KITTI = ("abs_rel", "sq_rel", "rmse", "rmse_log", "d1", "d2", "d3")
_NYU = ("abs_rel", "log10", "rmse", "d1", "d2", "d3")
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        DepthProtocol("eigen", "garg", 1e-3, 80.0, _KITTI, "depth_eigen", 697),
        DepthProtocol("eigen50", "garg", 1e-3, 50.0, _KITTI, "depth_eigen50", 697),
        # the truth ends at 10 m, but the published test of TrianFlow clamps predictions to 80 m
        DepthProtocol("nyuv2", "nyuv2", 1e-3, 80.0, _NYU, "depth_nyuv2", 654),
        # C1 of Liu et al., CVPR 2014: what is beyond 70 m is not measured at all
        DepthProtocol("make3d", "make3d", 1e-3, 70.0, ("abs_rel", "sq_rel", "rmse", "log10"), "depth_make3d", 134),
        DepthProtocol("plain", "none", 1e-3, float("inf")),
    )
}


def crop_window(crop: str, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns that a crop leaves.

    Args:
        crop: one of `CROPS`. `nyuv2` is the valid region of the toolbox and knows whole frames (640x480) and frames
            that were cut to it before (561x427), of which everything is left; so does `make3d`, the central rows, an
            image twice as wide as high (1704x852 of 1704x2272, or 21 of the 55 rows of the laser's grid).
        size: (height, width) of the truth.

    Raises:
        UsageError: truth of a size that the crop is not defined for, or no such crop.
    """
    H, W = size
    if crop == "none":
        return slice(0, H), slice(0, W)
    if crop in _SHARES:
        top, bottom, left, right = _SHARES[crop]
        return slice(int(top * H), int(bottom * H)), slice(int(left * W), int(right * W))
    if crop == "make3d":
        rows = _MAKE3D_ROWS.get(size)
        if rows is None:
            raise UsageError(
                f"truth of {W}x{H} pixels: the crop of Make3D is for 1704x2272 and the laser's 305x55, or 1704x852 and"
                " 305x21 where it is cut already (--crop none scores everything)"
            )
        first = (H - rows) // 2
        return slice(first, first + rows), slice(0, W)
    if crop != "nyuv2":
        raise UsageError(f"no crop is called {crop!r}; there are {', '.join(CROPS)}")
    top, bottom, left, right = _NYU_CROP
    if size == _NYU_FRAME:
        return slice(top, bottom), slice(left, right)
    if size == (bottom - top, right - left):
        return slice(0, H), slice(0, W)
    raise UsageError(
        f"truth of {W}x{H} pixels: the crop of NYUv2 is for 640x480, or 561x427 where it is cut already"
        " (--crop none scores everything)"
    )


def fit_prediction(prediction: np.ndarray, size: tuple[int, int], *, disparity: bool = False) -> np.ndarray:
    """A prediction as depth at the size of the truth.

    Where the size differs, the disparity (inverse depth) is resized, bilinearly, and inverted afterwards, whichever of
    the two is given: so do the published tests of TrianFlow and Monodepth2. At the edge of an object that is not what
    resizing the depth gives. Half-pixel convention (OpenCV's INTER_LINEAR), both images cover the same field of view.

    Args:
        prediction: `(h, w)` float; what is not positive and finite is unknown, and so are its neighbours once resized.
        size: (height, width) of the truth.
        disparity: the prediction is inverse depth.

    Returns:
        `(H, W)` float32 depth, NaN where unknown.
    """
    known = np.isfinite(prediction) & (prediction > 0)
    values: np.ndarray = np.where(known, prediction, np.nan).astype(np.float32)
    if values.shape == size:
        return 1 / values if disparity else values
    inverse = values if disparity else 1 / values
    resized: np.ndarray = 1 / cv2.resize(inverse, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return resized


@dataclass(frozen=True)
class ImagePair:
    """The pixels of one image that count.

    Attributes:
        name: of the image.
        truth, depth: `(N,)` float32, metres and the unit of the prediction; depth is NaN where it is unknown.
    """

    name: str
    truth: np.ndarray
    depth: np.ndarray

    @property
    def ratio(self) -> float | None:
        """Median of the truth over that of the prediction, where it is known; None where nothing is."""
        known = np.isfinite(self.depth)
        return float(np.median(self.truth[known]) / np.median(self.depth[known])) if known.any() else None


def select_pixels(
    name: str,
    truth: np.ndarray,
    prediction: np.ndarray,
    protocol: DepthProtocol,
    *,
    disparity: bool = False,
) -> ImagePair:
    """The pixels of an image that a protocol scores.

    Args:
        name: of the image.
        truth: `(H, W)` metres; 0 where unknown.
        prediction: `(h, w)` depth or disparity, see `fit_prediction`.
        protocol: crop and caps.
        disparity: the prediction is inverse depth.

    Raises:
        UsageError: the crop is not for truth of this size.
    """
    size = (truth.shape[0], truth.shape[1])
    window = crop_window(protocol.crop, size)
    valid = np.zeros(size, bool)
    valid[window] = True
    valid &= (truth > protocol.least) & (truth < protocol.largest)
    depth = fit_prediction(prediction, size, disparity=disparity)
    return ImagePair(name, truth[valid], depth[valid])
