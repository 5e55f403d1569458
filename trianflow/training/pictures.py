"""A batch as a picture: images, flow, occlusion, inliers, depth and triangulated points of its first pairs."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

from trianflow.data.pairs.batch import PairBatch
from trianflow.flow.occlusion import visibility
from trianflow.systems.result import StepResult
from trianflow.visualization.colors import color_depth, color_flow, color_scalar


def training_picture(batch: PairBatch, result: StepResult, pairs: int = 2) -> np.ndarray:
    """What the networks make of the first pairs of a batch.

    Columns: image a, image b, and where they are there flow a to b, occlusion, inlier score, disparity, and the
    triangulated points, near ones bright.

    Returns:
        `(rows H, columns W, 3)` uint8 RGB, one row a pair.
    """
    rows = []
    for i in range(min(pairs, len(batch))):
        image = _rgb(batch.input_a[i])
        cells = [image, _rgb(batch.input_b[i])]
        if result.flow is not None:
            cells.append(color_flow(_numpy(result.flow.flow_ab[i]).transpose(1, 2, 0)))
            cells.append(_grey(visibility(result.flow.flow_ba[i : i + 1].detach())[0, 0]))
        geometry = result.geometry
        if geometry is not None:
            cells.append(_grey(geometry.inlier[i, 0]))
        if result.disparity_a is not None:
            cells.append(color_scalar(_numpy(result.disparity_a[i, 0])))
        if geometry is not None:
            cells.append(_points(image, geometry.p_a[i], geometry.depth_a[i], geometry.valid[i]))
        rows.append(np.concatenate(cells, 1))
    return np.concatenate(rows)


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().float().cpu().numpy()


def _rgb(image: Tensor) -> np.ndarray:
    return (np.nan_to_num(_numpy(image)).transpose(1, 2, 0) * 255).round().clip(0, 255).astype(np.uint8, order="C")


def _grey(x: Tensor) -> np.ndarray:
    return np.repeat((_numpy(x)[..., None] * 255).clip(0, 255).astype(np.uint8), 3, 2)


def _points(image: np.ndarray, p: Tensor, depth: Tensor, valid: Tensor) -> np.ndarray:
    """The darkened image with the points on it, coloured by inverse depth."""
    canvas = np.ascontiguousarray(image // 2)
    if not bool(valid.any()):
        return canvas
    where = p[valid].detach().round().int().cpu().numpy()
    colors = color_depth(_numpy(depth[valid])[None])[0]
    for (x, y), color in zip(where.tolist(), colors.tolist()):
        cv2.circle(canvas, (x, y), 1, color, -1)
    return canvas
