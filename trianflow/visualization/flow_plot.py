"""A picture of the errors of flow: how many pixels are how wrong, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trianflow.evaluation.flow import ErrorMaps
from trianflow.evaluation.flow_files import HISTOGRAM
from trianflow.visualization.style import FAINT, INK, line_styles, new_figure, save_figure, set_words, style_axes

# KITTI's colours, and the error at which each begins: 1 is the bound of an outlier (3 pixels and 5 %)
_BOUNDS = np.array([0, 0.0625, 0.125, 0.25, 0.5, 1, 2, 4, 8, 16])
_COLORS = np.array(
    [
        *((49, 54, 149), (69, 117, 180), (116, 173, 209), (171, 217, 233), (224, 243, 248)),
        *((254, 224, 144), (253, 174, 97), (244, 109, 67), (215, 48, 39), (165, 0, 38)),
    ],
    np.uint8,
)


@dataclass(frozen=True)
class ErrorPicture:
    """An image whose errors are shown.

    Attributes:
        title: over it.
        maps: its errors.
    """

    title: str
    maps: ErrorMaps


def color_error(maps: ErrorMaps) -> np.ndarray:
    """Errors in KITTI's colours: blue is right, yellow and red are outliers, a step is a factor of two.

    Returns:
        `(H, W, 3)` uint8 RGB; black where the truth is unknown.
    """
    known = ~np.isnan(maps.error)
    error, length = np.where(known, maps.error, 0.0), np.where(known, maps.length, 0.0)
    relative = np.divide(error, 0.05 * length, out=np.full(error.shape, np.inf), where=length > 0)
    colors = _COLORS[np.searchsorted(_BOUNDS, np.minimum(error / 3, relative), "right") - 1]
    colors[~known] = 0
    return colors


def plot_flow_errors(
    path: str | Path, histograms: Mapping[str, np.ndarray], pictures: Sequence[ErrorPicture], title: str = ""
) -> None:
    """Draw the cumulative distribution of the error of each set of predictions, and errors of some images.

    Args:
        path: the picture; its folder must exist.
        histograms: of `FlowScores`, by name.
        pictures: below one another.
        title: over the picture.

    Raises:
        TrianflowError: the file cannot be written.
    """
    width = 9.0
    heights = [0.45 + 0.93 * width * p.maps.error.shape[0] / p.maps.error.shape[1] for p in pictures]
    figure = new_figure(width, 4.6 + sum(heights), title)
    axes = np.atleast_1d(figure.subplots(1 + len(pictures), 1, height_ratios=[4.2, *heights]))
    for (name, counts), style in zip(histograms.items(), line_styles(len(histograms))):
        share = 100 * np.cumsum(counts[:-1]) / max(counts.sum(), 1)
        axes[0].plot(HISTOGRAM[1:], share, label=name, **style)
    _style(axes[0])
    for axis, picture in zip(axes[1:], pictures):
        axis.imshow(_thickened(color_error(picture.maps)), interpolation="nearest")
        set_words(axis.set_title("", loc="left", fontsize=9.5, color=INK), picture.title)
        axis.set_axis_off()
    if pictures:
        _key(axes[-1])
    save_figure(figure, path)


def _thickened(colors: np.ndarray) -> np.ndarray:
    """Sparse pixels (laser) grown to 3x3, so that they are seen; dense ones stay as they are."""
    empty = np.asarray(~colors.any(-1))
    if empty.mean() < 0.5:
        return colors
    grown = cv2.dilate(colors, np.ones((3, 3), np.uint8))
    return np.where(empty[..., None], grown, colors)


def _style(axis: Any) -> None:
    style_axes(axis)
    axis.set_xscale("log")
    axis.set_xlim(0.05, 200)
    axis.set_ylim(0, 100)
    axis.axvline(3, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axis.annotate("3 px", (3, 2), xytext=(4, 0), textcoords="offset points", fontsize=8.5, color=FAINT)
    axis.set_xticks([0.1, 0.3, 1, 3, 10, 30, 100], ["0.1", "0.3", "1", "3", "10", "30", "100"])
    axis.minorticks_off()
    axis.set_xlabel("end-point error (pixels)")
    axis.set_ylabel("pixels with at most this error (%)")
    for text in axis.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK).get_texts():
        set_words(text, text.get_text())


def _key(axis: Any) -> None:
    """The colours under the last picture: error in pixels, for flows up to 60 pixels."""
    from matplotlib.patches import Patch

    edges = [f"{3 * bound:.2g}" for bound in _BOUNDS]
    labels = [f"< {edge}" for edge in edges[1:]] + [f"≥ {edges[-1]}"]
    patches = [Patch(color=tuple(c / 255), label=label) for c, label in zip(_COLORS, labels)]
    axis.legend(
        handles=patches,
        title="error in pixels; where the true flow is longer than 60 pixels, times 60 / its length",
        title_fontsize=8.5,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        ncols=len(patches),
        frameon=False,
        fontsize=8.5,
        handlelength=1.2,
        columnspacing=1.2,
        labelcolor=INK,
    )
