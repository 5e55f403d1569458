"""`--report`: a run as one page, with its trajectory in space, its figures over time and pictures of some frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trianflow.data.frames import Frame
from trianflow.errors import TrianflowError
from trianflow.evaluation.alignment import Alignment, align_trajectories
from trianflow.odometry.pair import Seen
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.run import PAGE, OdometryRun, comparable
from trianflow.odometry.step import Step
from trianflow.odometry.structure import follow
from trianflow.trajectory import Trajectory
from trianflow.visualization import html_words as words
from trianflow.visualization.html_cloud import read_cloud
from trianflow.visualization.html_page import Page
from trianflow.visualization.html_run import Curve, RunView, run_data
from trianflow.visualization.html_thumbnails import FrameView, Thumbnails

_POINTS = 60_000  # of a cloud, at most
_SURE = 0.15  # of single points, those are drawn whose log depth is known better than this


class HtmlReport:
    """An observer of `run_odometry` that writes `report.html` beside the other results.

    Keeps small pictures of 48 frames at most, whatever the length of the run.

    Args:
        truth: that the run is compared with; drawn beside the estimate, aligned as the figures say.
        cloud: a PLY file that an observer before this one writes; a part of its points is shown.
    """

    def __init__(self, truth: Trajectory | None = None, cloud: str | Path | None = None) -> None:
        self._truth, self._cloud = truth, cloud
        self._thumbnails = Thumbnails()
        self._row = 0

    def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
        """Take pictures of a frame, where it is one of those that are shown."""
        row, seen = self._row, odometry.seen
        self._row += 1
        if seen is not None:
            self._thumbnails.offer(row, lambda: _view(odometry, seen))

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        """Write the page.

        Raises:
            TrianflowError: it cannot be written.
        """
        view, problems = _run_view(run, odometry, self._truth), list(run.problems)
        if self._cloud is not None and run.named(Path(self._cloud)) in run.files:
            try:
                points, view.colors = read_cloud(self._cloud, _POINTS)
                view.cloud = _moved(points, run.trajectory.T_wc[0], view.T_wc[0], view.scale)
            except TrianflowError as e:
                problems.append(str(e))
        report = run.report.to_dict(frames=False)
        Page(
            title=words.title(report) or run.out.absolute().name,
            state=report["state"],
            lead=words.lead(report),
            error=report["error"],
            figures=words.figures(report),
            accuracy=words.accuracy(report["evaluation"]),
            notes=[*problems, *words.remarks(report)],
            settings=words.settings(report),
            data=run_data(view, self._thumbnails),
        ).save(run.out / PAGE)
        return [PAGE]

    def abandon(self) -> None:
        """Nothing is left: the run has removed the page of an earlier one."""


def _view(odometry: VisualOdometry, seen: Seen) -> FrameView:
    """What the odometry made of its last frame, for its pictures."""
    image, depth, pair, metric = seen.prepared.image, seen.prepared.depth, seen.pair, odometry.metric
    unit = "units of the network" if seen.prepared.predicted else "m"
    if pair is None:
        return FrameView(image, depth=depth, unit=unit)
    points = None
    if depth is None:
        unit = "m" if metric.known or odometry.in_metres else "units"
        sure = seen.structure.select(seen.structure.variance < _SURE**2)
        p, ok = sure.p, sure.variance.isfinite()
        if len(sure) and not seen.advanced:  # they are in the key frame
            settings = odometry.config.matches
            p, ok = follow(sure.p, pair.flow, settings.alpha, settings.beta)
        points = np.c_[p.numpy(), metric.factor * sure.log_depth.exp().numpy()][ok.numpy()]
    valid = pair.matches.valid[0].numpy()
    p_a, p_b = (p[0].double().numpy()[valid] for p in (pair.matches.p_a, pair.matches.p_b))
    inlier = pair.view.inlier[0].numpy()[valid]
    return FrameView(image, pair.flow, p_a, p_b, inlier, depth, points, unit)


def _run_view(run: OdometryRun, odometry: VisualOdometry, truth: Trajectory | None) -> RunView:
    """The run as it is drawn: over the truth where it was compared with it."""
    report, evaluation = run.report, run.report.evaluation
    camera, loops = odometry.camera, report.back_end.get("loops") or {}
    view = RunView(
        rows=report.rows,
        T_wc=run.trajectory.T_wc,
        unit=words.UNITS[report.unit],
        view_angle=(camera.width / camera.fx / 2, camera.height / camera.fy / 2),
        loops=loops.get("kept", []),
    )
    if truth is not None and evaluation is not None:
        pair = align_trajectories(truth, comparable(run, truth), Alignment(evaluation["alignment"]))
        errors = np.full(len(report.rows), np.nan)
        errors[pair.est_index] = np.linalg.norm(
            pair.est.positions[pair.est_index] - pair.gt.positions[pair.gt_index], axis=1
        )
        view.T_wc, view.scale, view.unit = pair.est.T_wc, pair.fit.scale, "m"
        view.truth = pair.gt.positions[pair.gt_index[0] : pair.gt_index[-1] + 1]
        view.alignment, view.errors = pair.alignment.label, errors
    view.curves = _curves(view)
    return view


def _curves(view: RunView) -> list[Curve]:
    """What is drawn over the frames."""
    rows = view.rows
    position = {row["index"]: i for i, row in enumerate(rows)}
    keys = [position.get(row["key_frame"], -1) for row in rows]
    steps = np.linalg.norm(view.T_wc[:, :3, 3] - view.T_wc[keys, :3, 3], axis=1)
    compared = [row["matches"] > 0 and row["inlier_ratio"] is not None for row in rows]
    share = [100 * row["inlier_ratio"] if ok else None for row, ok in zip(rows, compared)]
    parallax = [row["parallax"] if ok else None for row, ok in zip(rows, compared)]
    length = [float(step) if key >= 0 else None for step, key in zip(steps, keys)]
    curves = [
        Curve("Inliers", "%", share, "share of the matches that fit the motion"),
        Curve("Parallax", "px", parallax, "median, since the key frame, that rotation does not explain"),
        Curve("Scale", view.unit, length, "distance from the key frame"),
    ]
    sigmas = [row["scale_sigma"] for row in rows]
    if any(sigma is not None for sigma in sigmas):
        percent = [None if sigma is None else 100 * sigma for sigma in sigmas]
        curves.append(Curve("Scale, uncertainty", "%", percent, "standard deviation, of the scale in metres"))
    curves.append(Curve("Time per frame", "ms", [row["ms"] for row in rows], "to track the frame"))
    if view.errors is not None:
        detail = f"distance from the truth; alignment {view.alignment}"
        curves.insert(0, Curve("Error", "m", view.errors.tolist(), detail))
    return curves


def _moved(points: np.ndarray, T_run: np.ndarray, T_drawn: np.ndarray, scale: float) -> np.ndarray:
    """Points `(N, 3)` beside the run's first pose, `scale` times as large beside the drawn one."""
    R = T_drawn[:3, :3] @ T_run[:3, :3].T
    return np.asarray(scale * (points - T_run[:3, 3]) @ R.T + T_drawn[:3, 3])
