"""Errors of disparities, by the rule of flow: a disparity is a flow along the rows."""

from __future__ import annotations

import numpy as np

from trianflow.evaluation.flow import GroupError, error_maps, group_errors


def disparity_errors(
    disparity: np.ndarray, truth: np.ndarray, visible: np.ndarray | None = None
) -> dict[str, GroupError]:
    """Errors of the disparities of one image; `outliers` is KITTI's D1 (more than 3 pixels and more than 5 % wrong).

    Args:
        disparity: `(H, W)` pixels. Unknown (0, or not finite) counts as the disparity 0, which is an outlier wherever
            the truth is beyond 3 pixels.
        truth: `(H, W)` pixels; 0 where unknown.
        visible: `(H, W)` bool, seen by the other camera as well; None where it is not known.

    Returns:
        By group, as `flow.group_errors`; `epe` is the mean absolute error.

    Raises:
        ValueError: two sizes.
    """
    there = np.where(np.isfinite(disparity), disparity, 0)
    return group_errors(error_maps(along_rows(there), along_rows(np.where(truth > 0, truth, np.nan))), visible)


def along_rows(disparity: np.ndarray) -> np.ndarray:
    """A disparity `(H, W)` as a flow `(H, W, 2)` of the same length along x, so that the rules of flow hold for it."""
    return np.stack([disparity, np.zeros_like(disparity)], -1)
