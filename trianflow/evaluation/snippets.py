"""The snippet ATE of the SfMLearner family: position errors over a few frames, each run with its own scale.

The definition is that of the evaluation published with T. Zhou et al., "Unsupervised Learning of Depth and Ego-Motion
from Video", CVPR 2017, which GeoNet, CC, Struct2depth, Insta-DM and others use. For every run of 5 (or 3) consecutive
frames the L true and predicted positions g_i, p_i are taken in the frame of the run's first camera. With the
least-squares scale s = sum g_i.p_i / sum p_i.p_i the error of the run is sqrt(sum |s p_i - g_i|^2) / L, and a method's
figure is the mean and the standard deviation of it over all runs of a sequence. The papers call it the
root-mean-square error, but it divides by L and not by its root: the true one is sqrt(L) times as large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.evaluation.alignment import associate, time_gap
from trianflow.trajectory import Trajectory

_TIME_TOLERANCE = 0.01  # seconds, as in the published evaluation


@dataclass(frozen=True)
class SnippetErrors:
    """The errors of S snippets of L frames.

    Attributes:
        length: L.
        errors: `(S,)` float64 metres, the root of the summed squares over L (see above).
        scales: `(S,)` float64, by what the predicted positions were multiplied. Negative where the prediction runs
            against the truth; 1 where it stands still and no scale is determined.
    """

    length: int
    errors: np.ndarray
    scales: np.ndarray

    @property
    def mean(self) -> float:
        """The figure of the papers, metres."""
        return float(self.errors.mean())

    @property
    def std(self) -> float:
        """The standard deviation over the snippets (divided by S), metres."""
        return float(self.errors.std())

    @property
    def rmse(self) -> float:
        """The mean over the snippets of the true root-mean-square position error, metres."""
        return float(self.errors.mean() * np.sqrt(self.length))


def snippet_errors(gt_T_wc: np.ndarray, est_T_wc: np.ndarray) -> SnippetErrors:
    """The error of each snippet.

    Args:
        gt_T_wc: `(S, L, 4, 4)` float64 true camera-to-world poses, metres, any world in each snippet.
        est_T_wc: `(S, L, 4, 4)` float64 predictions, any world and unit in each snippet.

    Raises:
        ValueError: the shapes differ, there is no snippet, or a number is not finite.

    Example:
        >>> gt = np.tile(np.eye(4), (1, 3, 1, 1))
        >>> gt[0, :, 2, 3] = [0, 1, 2]
        >>> est = gt.copy()
        >>> est[0, :, 2, 3] = [0, 1, 1]  # the best scale is 1.5, which leaves 0.5 m twice
        >>> round(snippet_errors(gt, est).mean, 4)
        0.2357
    """
    if gt_T_wc.shape != est_T_wc.shape or gt_T_wc.ndim != 4 or gt_T_wc.shape[2:] != (4, 4) or not len(gt_T_wc):
        raise ValueError(f"expected two (S, L, 4, 4) arrays of poses, not {gt_T_wc.shape} and {est_T_wc.shape}")
    if not (np.isfinite(gt_T_wc).all() and np.isfinite(est_T_wc).all()):
        raise ValueError("a pose that is not finite cannot be scored")
    true, found = ((np.linalg.inv(T[:, :1]) @ T)[:, :, :3, 3] for T in (gt_T_wc, est_T_wc))
    extent = (found**2).sum((1, 2))
    moves = extent > 0
    scales = np.ones(len(extent))
    scales[moves] = (true * found).sum((1, 2))[moves] / extent[moves]
    rest = scales[:, None, None] * found - true
    length = gt_T_wc.shape[1]
    return SnippetErrors(length, np.sqrt((rest**2).sum((1, 2))) / length, scales)


@dataclass(frozen=True)
class SnippetScore:
    """One prediction against one truth.

    Attributes:
        errors: of the snippets that both have.
        first: `(S,)` int64, the frame each of them begins with.
        true: how many snippets the truth has.
        time_gap: the largest difference between the time stamps of truth and prediction, seconds; 0 without stamps.
    """

    errors: SnippetErrors
    first: np.ndarray
    true: int
    time_gap: float = 0.0


def score_snippets(
    gt: Trajectory | Mapping[int, Trajectory], est: Trajectory | Mapping[int, Trajectory], length: int = 5
) -> SnippetScore:
    """Cut trajectories into all their runs of `length` consecutive frames and score each.

    Args:
        gt: the truth of a whole sequence, or its snippets by the number of their first frame.
        est: the prediction of a whole sequence, or its snippets. Whole trajectories are associated as in
            `evaluate_odometry` and a run is scored where every frame of it has a prediction; a whole trajectory meets
            snippets by the number of the frame (its own, or its row where it has time stamps).
        length: frames in a snippet.

    Raises:
        TrianflowError: snippets of another length, with other time stamps, or none in common.
    """
    if isinstance(gt, Trajectory) and isinstance(est, Trajectory):
        gt_index, est_index, how = associate(gt, est)
        counted = est_index if how == "time stamp" else gt_index  # the truth may have a rate of its own
        total = len(gt_index) if how == "time stamp" else len(gt)
        first = np.flatnonzero(counted[length - 1 :] - counted[: max(len(counted) - length + 1, 0)] == length - 1)
        if not len(first):
            raise TrianflowError(f"no {length} consecutive frames in common ({len(gt_index)} common poses)")
        rows = first[:, None] + np.arange(length)
        errors = snippet_errors(gt.T_wc[gt_index[rows]], est.T_wc[est_index[rows]])
        return SnippetScore(errors, counted[first], total - length + 1, time_gap(gt, est, gt_index, est_index))
    true, found = _snippets(gt, length), _snippets(est, length)
    common = sorted(true.keys() & found.keys())
    if not common:
        raise TrianflowError(f"no snippet in common: {_range(true)} in the truth, {_range(found)} predicted")
    for number in common:
        _check(number, true[number], found[number], length)
    stacks = [np.stack([snippets[number].T_wc for number in common]) for snippets in (true, found)]
    return SnippetScore(snippet_errors(*stacks), np.array(common), len(true))


def _snippets(source: Trajectory | Mapping[int, Trajectory], length: int) -> Mapping[int, Trajectory]:
    """All runs of consecutive frames of a trajectory by the number of the first; snippets as they are."""
    if not isinstance(source, Trajectory):
        return source
    numbers = source.times.astype(int) if source.times_are_indices else np.arange(len(source))
    return {
        int(numbers[i]): replace(source, times=source.times[i : i + length], T_wc=source.T_wc[i : i + length])
        for i in range(len(source) - length + 1)
        if numbers[i + length - 1] - numbers[i] == length - 1
    }


def _check(number: int, gt: Trajectory, est: Trajectory, length: int) -> None:
    """Refuse snippets that are not of the same frames."""
    for side, snippet in (("the truth", gt), ("the prediction", est)):
        if len(snippet) != length:
            raise TrianflowError(f"snippet {number:06d} of {side} has {len(snippet)} poses where {length} are scored")
    timed = not (gt.times_are_indices or est.times_are_indices)
    apart = float(np.abs(gt.times - est.times).max()) if timed else 0.0
    if apart > _TIME_TOLERANCE:
        raise TrianflowError(
            f"snippet {number:06d}: the time stamps of truth and prediction are up to {apart:.3g} s apart:"
            " they are not of the same frames"
        )


def _range(snippets: Mapping[int, Trajectory]) -> str:
    """Which snippets there are."""
    return f"{len(snippets)} ({min(snippets):06d} to {max(snippets):06d})" if snippets else "none"
