"""From a pair of frames to the motion between them: two-view geometry, known points, and where a length comes from."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from trianflow.config import OdometryConfig
from trianflow.flow.interface import FlowPair
from trianflow.flow.matches import select_matches
from trianflow.flow.occlusion import flow_quality
from trianflow.flow.refinement import Refiner
from trianflow.geometry.camera import backproject
from trianflow.geometry.scale import robust_scale
from trianflow.odometry.direct_motion import direct_motion
from trianflow.odometry.pair import KeyFrame, KnownPoints, Motion, Pair
from trianflow.odometry.preparation import Preparation, Prepared
from trianflow.odometry.step import StepStatus
from trianflow.odometry.structure import Structure, follow, measure_depth
from trianflow.pose.learned import PoseEstimator
from trianflow.pose.pnp import pnp_cost, refine_pnp, reprojection, solve_pnp
from trianflow.pose.two_view import TwoViewStatus, solve_two_view

# Points of known depth below which there is nothing to lean on.
_MIN_POINTS = 50
# Share of the matches that must be refined, so that the others can be left out: fewer lie too close together, and tell
# of images too noisy for it.
_ALIGNED = 0.3
# What the structure may cost more under the pose of two-view geometry than under its own, a point, in natural units:
# right poses stay below 0.05, and those of movers, mirrored and of the wrong plane are above 2.
_CONTRADICTION = 0.75
# What the pose from the predicted start must cost less than those from the others, a point. Where the camera moves, a
# depth in doubt absorbs the noise along the epipolar line, so that any motion costs up to 0.14 less than none.
_MUCH_BETTER = 0.2
# A scale whose logarithm is less certain than this is replaced by the last speed.
_MAX_SCALE_SIGMA = 0.2


def noise_of(pair: Pair) -> float:
    """Noise of a match, pixels."""
    return max(float(pair.view.noise), 0.1)


def depth_at(depth: np.ndarray, p: Tensor) -> Tensor:
    """Depths `(H, W)` at the pixels `(N, 2)` nearest to p, float64, NaN where unknown."""
    column, row = p.round().long().unbind(-1)
    found = torch.from_numpy(depth)[row, column].double()
    return torch.where(found > 0, found, torch.nan)


def compare_views(flow: FlowPair, K: Tensor, config: OdometryConfig, refiner: Refiner | None = None) -> Pair:
    """Matches and two-view geometry of two images alone, B = 1.

    Where enough matches can be refined, these alone count; else all as the flow gives them.

    Args:
        flow: between the images.
        K: `(3, 3)` float64 intrinsics.
        config: of matches and two-view geometry.
        refiner: between the same images.

    Returns:
        The pair, without any points known before.
    """
    settings = config.matches
    stride = settings.stride_for(*flow.flow_ab.shape[-2:])
    quality = flow_quality(flow, settings.alpha, settings.beta, stride)
    matches = select_matches(
        flow.flow_ab, quality.score, settings.count, settings.ratio, settings.cell, stride, config.seed
    )
    sigma = torch.full((matches.valid.shape[1],), torch.inf, dtype=torch.float64)
    if refiner is not None:
        p_b, sigma = refiner(matches.p_a[0], matches.p_b[0])
        aligned = matches.valid & sigma.isfinite()
        if int(aligned.sum()) < _ALIGNED * int(matches.valid.sum()):
            refiner, sigma = None, torch.full_like(sigma, torch.inf)
        else:
            matches = replace(matches, p_b=p_b[None], valid=aligned)
    view = solve_two_view(matches.p_a.double(), matches.p_b.double(), K, matches.valid, config.two_view, config.seed)
    overlap = float((quality.consistent & (quality.visible > 0.5)).float().mean())
    return Pair(flow, matches, view, overlap, sigma, refiner)


class MotionSolver:
    """The motion since the key frame, with its length.

    Depth sets the length where each pair stands by itself. Where a window carries the scale, depth only helps out,
    and is a prior of the window's points, or its scale is fused over time (`odometry.metric`).

    Attributes:
        carries: whether a window does.

    Args:
        K: `(3, 3)` float64 intrinsics.
        config: where the scale comes from, and thresholds.
        preparation: knows where depth comes from, and how good it is.
        pose: tells the motion instead of geometry.
    """

    def __init__(
        self, K: Tensor, config: OdometryConfig, preparation: Preparation, pose: PoseEstimator | None = None
    ) -> None:
        self._K, self._config, self._preparation, self._pose = K, config, preparation, pose
        self.carries = False

    @property
    def _structured(self) -> bool:
        """Whether the structure may set a length."""
        return self.carries or self._config.scale in ("auto", "structure")

    def compare(self, flow: FlowPair, structure: Structure, refiner: Refiner | None = None) -> Pair:
        """Matches, their two-view geometry, and where the points of the structure have gone."""
        pair = compare_views(flow, self._K, self._config, refiner)
        p_b, followed = self.follow(structure, flow)
        arriving = 1.0
        if self._structured and len(structure) >= _MIN_POINTS:
            arriving = structure.select(followed).information() / structure.information()
        return replace(pair, p_b=p_b, followed=followed, arriving=arriving)

    def follow(self, structure: Structure, flow: FlowPair) -> tuple[Tensor, Tensor]:
        """Where a flow takes the points of the structure `(M, 2)`, and which of them arrive `(M,)`."""
        return follow(structure.p, flow, self._config.matches.alpha / 3, self._config.matches.beta)

    def solve(
        self,
        pair: Pair,
        key: KeyFrame,
        structure: Structure,
        predicted: Tensor,
        travelled: float,
        unit: float | None,
        current: Prepared,
    ) -> Motion:
        """The motion since the key frame, by the best means at hand.

        Args:
            pair: the current frame against the key frame.
            key: which may have depth.
            structure: points in the key frame.
            predicted: `(4, 4)` key frame to current camera by constant velocity, for a pair that tells nothing.
            travelled: way since the key frame at the last speed, for a pair that does not tell its length.
            unit: of the depth, in units of the trajectory; None where depth is not to be used.
            current: the current frame.
        """
        view, T_unit = pair.view, pair.view.T_ba[0].double()
        usable = pair.matches.valid[0]
        ratio = float(view.inlier.sum() / usable.sum().clamp_min(1))
        if pair.status is TwoViewStatus.STATIC:
            return Motion(torch.eye(4, dtype=torch.float64), StepStatus.STATIC, inlier_ratio=ratio)
        if self._pose is not None:
            learned = self._pose.pose(key.prepared.image, current.image, self._K)
            return Motion(learned, StepStatus.OK, "network", ratio)
        solved = pair.status in (TwoViewStatus.OK, TwoViewStatus.PLANAR)
        if self._config.pose == "direct" and unit is not None:
            source = self._preparation.depth_source
            found = direct_motion(key.prepared, current, self._K, predicted, source, unit)
            if found is not None:
                return replace(found, measured=solved)
        two_view = self._scaled(pair, key, structure, travelled, unit) if solved else None
        known = self._known_points(pair, key, structure, unit)
        if known is not None and two_view is not None and self._contradicts(known, two_view, predicted, pair):
            two_view = None
        if known is not None and (
            two_view is None or two_view.status is StepStatus.PLANAR or (known.source == "depth" and not self.carries)
        ):
            T_ck = self.pose_of_known(known, two_view, predicted, noise_of(pair))
            if T_ck is not None:
                status = two_view.status if two_view is not None else StepStatus.PNP
                error = reprojection(T_ck, known.X_a, known.p_b, self._K)[0].norm(dim=-1)
                share = float((error < self._config.pnp_threshold).double().mean())
                moves = pair.status is not TwoViewStatus.ROTATION_ONLY
                return Motion(T_ck, status, known.source, share, measured=moves and known.source == "structure")
        if two_view is not None:
            return two_view
        if pair.status is TwoViewStatus.ROTATION_ONLY:
            return Motion(T_unit, StepStatus.ROTATION_ONLY, inlier_ratio=ratio)
        reason = pair.status.name.lower().replace("_", " ")
        return Motion(predicted, StepStatus.LOST, inlier_ratio=ratio, note=f"{reason}: constant velocity")

    def learn(self, structure: Structure, pair: Pair, motion: Motion) -> Structure:
        """The structure with this pair's depths fused into it, and with new points where there are none."""
        noise = noise_of(pair)
        log_depth, variance = measure_depth(structure.p, pair.p_b, motion.T_ck, self._K, noise)
        log_depth = torch.where(pair.followed, log_depth, torch.nan)
        structure = structure.fused(log_depth, variance)
        inlier = pair.view.inlier[0]
        p_a, p_b = pair.matches.p_a[0].double()[inlier], pair.matches.p_b[0].double()[inlier]
        log_depth, variance = measure_depth(p_a, p_b, motion.T_ck, self._K, noise)
        height, width = pair.flow.flow_ab.shape[-2:]
        spacing = math.sqrt(width * height / (1.5 * self._config.points))
        return structure.extended(p_a, log_depth, variance, self._config.points, spacing)

    def _contradicts(self, known: KnownPoints, two_view: Motion, predicted: Tensor, pair: Pair) -> bool:
        """Whether the structure knows better than two-view geometry, which may have followed what moves by itself."""
        if known.source != "structure" or two_view.status is not StepStatus.OK:
            return False
        noise = max(noise_of(pair), self._config.two_view.noise_floor)
        data = (known.X_a, known.p_b, self._K, noise, known.log_sigma)
        limit = pnp_cost(two_view.T_ck, *data) - _CONTRADICTION * len(known.X_a)
        if limit < 0:
            return False
        T_ck = self.pose_of_known(known, None, predicted, noise)
        return T_ck is not None and pnp_cost(T_ck, *data) < limit

    def pose_of_known(
        self, known: KnownPoints, two_view: Motion | None, predicted: Tensor, noise: float
    ) -> Tensor | None:
        """The pose that points of known depth give: from the start, of all that there are, that explains them best.

        Args:
            known: the points.
            two_view: a start, where its length is by the same source.
            predicted: `(4, 4)` key frame to current camera, a start where there is another, to be much better than:
                where most points are too far away to tell a translation, the consensus of PnP may be one that has
                none; but where none of them tells, the prediction is no better than that.
            noise: of a pixel, pixels.

        Returns:
            `(4, 4)`; None where there is no start but the prediction.
        """
        data = (known.X_a, known.p_b, self._K, noise, known.log_sigma)
        pnp = solve_pnp(known.X_a, known.p_b, self._K, self._config.pnp_threshold)
        starts = [pnp.T_ba] if pnp.ok else []
        if two_view is not None and two_view.status is StepStatus.OK and two_view.scale_source == known.source:
            starts.append(two_view.T_ck)
        poses = [refine_pnp(start, *data) for start in starts]
        best = min(poses, key=lambda T_ck: pnp_cost(T_ck, *data), default=None)
        if best is None:
            return None
        T_ck = refine_pnp(predicted, *data)
        return T_ck if pnp_cost(T_ck, *data) < pnp_cost(best, *data) - _MUCH_BETTER * len(known.X_a) else best

    def _scaled(self, pair: Pair, key: KeyFrame, structure: Structure, travelled: float, unit: float | None) -> Motion:
        """The motion of two-view geometry with the length of its translation."""
        length, source = self._length(pair, key, structure, travelled, unit)
        T_ck = pair.view.T_ba[0].double().clone()
        T_ck[:3, 3] *= length
        status = StepStatus.OK if pair.status is TwoViewStatus.OK else StepStatus.PLANAR
        ratio = float(pair.view.inlier.sum() / pair.matches.valid.sum().clamp_min(1))
        note = "scale from the last speed" if source == "velocity" else ""
        return Motion(T_ck, status, source, ratio, note, measured=True)

    def _known_points(self, pair: Pair, key: KeyFrame, structure: Structure, unit: float | None) -> KnownPoints | None:
        """Points of known depth in the key frame: of the depth source, else of the structure."""
        p_a, p_b, valid = pair.matches.p_a[0].double(), pair.matches.p_b[0].double(), pair.matches.valid[0]
        if key.prepared.depth is not None and unit is not None:
            depth = unit * depth_at(key.prepared.depth, p_a)
            good = valid & depth.isfinite()
            if int(good.sum()) >= _MIN_POINTS:
                X_a = backproject(p_a[good], depth[good], self._K)
                log_sigma = torch.full_like(depth[good], self._preparation.depth_noise)
                return KnownPoints(X_a, p_b[good], log_sigma, self._preparation.depth_source)
        if self._structured and int(pair.followed.sum()) >= _MIN_POINTS:
            structure = structure.select(pair.followed)
            X_a = structure.points(self._K)
            return KnownPoints(X_a, pair.p_b[pair.followed], structure.variance.sqrt(), "structure")
        return None

    def _length(
        self, pair: Pair, key: KeyFrame, structure: Structure, travelled: float, unit: float | None
    ) -> tuple[float, str]:
        """Length of the translation since the key frame, and where it comes from."""
        if self._config.scale == "unit":
            return 1.0, "unit"
        T_unit, noise = pair.view.T_ba[0].double(), noise_of(pair)
        known: dict[str, tuple[Tensor, ...]] = {}  # pixels in both frames, depths, variance of their logarithm
        if key.prepared.depth is not None and unit is not None:
            p_a = pair.matches.p_a[0].double()
            variance = torch.where(pair.view.inlier[0], self._preparation.depth_noise**2, torch.nan)
            depth = unit * depth_at(key.prepared.depth, p_a)
            known[self._preparation.depth_source] = p_a, pair.matches.p_b[0].double(), depth, variance
        if len(structure) and self._structured:
            variance = torch.where(pair.followed, structure.variance, torch.nan)
            known["structure"] = structure.p, pair.p_b, structure.log_depth.exp(), variance
        first = "structure" if self.carries else self._preparation.depth_source
        for source in sorted(known, key=lambda source: source != first):
            p_a, p_b, depth, variance = known[source]
            measured, doubt = measure_depth(p_a, p_b, T_unit, self._K, noise)
            found = robust_scale(measured.exp(), depth, doubt + variance, _MIN_POINTS)
            if bool(found.ok) and float(found.log_sigma) < _MAX_SCALE_SIGMA:
                return float(found.scale), source
        return (travelled, "velocity") if travelled > 0 else (1.0, "unit")
