"""The last key frames and the points tracked through them, adjusted together: a scale that many frames carry."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from trianflow.config import WindowConfig
from trianflow.flow.refinement import PATCH, shapes_of
from trianflow.geometry.camera import homogeneous, invert_pose, normalize_pixels
from trianflow.geometry.radial import straighten
from trianflow.geometry.scale import robust_mean
from trianflow.geometry.triangulation import inverse_depths
from trianflow.odometry.adjustment import adjust, without_oldest
from trianflow.odometry.bundle import Link, Window
from trianflow.odometry.motion import depth_at
from trianflow.odometry.pair import Pair
from trianflow.odometry.residual_distortion import ResidualDistortion
from trianflow.odometry.road_watch import RoadWatch
from trianflow.odometry.structure import carry, cells, first_of_cell
from trianflow.pose.two_view import TwoViewStatus

# Points that are needed to compare two scales.
_MIN_POINTS = 30
# A length less certain than this, as a share of it, is not taken from the tracks.
_MAX_LENGTH_SIGMA = 0.2
# Largest forward-backward difference of a point that is followed: pixels, and share of its motion.
_FOLLOWING = 0.33, 0.01
# What a point errs by that the flow alone has carried, pixels.
_BY_FLOW = 0.35
# A point further than this from where it should be, in its standard deviations, is another point.
_GATE = 6.0
# The oldest frames are held over this share of the window's extent: a single short step would hold the scale badly.
_BASELINE = 0.4
# Share of what is known of a point's depth that outlives a key frame, as it wanders on its surface.
_MEMORY = 0.97
# Parallax below which a point is no use as a track, pixels. A larger one would prefer those that seem too near.
_LEAST_PARALLAX = 0.05
# Share of the tracks that may be so far away, or so new, that they say nothing of the scale: those with fewer standard
# deviations than this between their inverse depth and zero.
_FAR_SHARE = 0.25
_FAR = 2.0
# Tracks in the window, those that have ended included, as a multiple of those that are followed.
_TRACKS = 1.25


@dataclass(frozen=True)
class WindowStep:
    """What the window made of a new key frame.

    Attributes:
        T_cw: `(4, 4)` of it.
        scale: length of its step in the window, over the length that it came with; 1 where that is too short to tell.
        points: that are tracked.
        carried: whether the tracks tell that length.
        note: why nothing was adjusted; empty where it was.
    """

    T_cw: Tensor
    scale: float
    points: int
    carried: bool
    note: str


class SlidingWindow:
    """Key frames, tracks, and what the calibration has left of radial distortion.

    Points are followed by the dense flow from key frame to key frame and anchored where they were first seen. With
    every key frame the window is adjusted, its two oldest frames held; what a frame that leaves has said of a point
    stays as a prior of its depth. Where the camera turns more than it moves, the distortion is estimated too.

    Args:
        K: `(3, 3)` float64 intrinsics.
        config: size, points, noise.
    """

    def __init__(self, K: Tensor, config: WindowConfig) -> None:
        self._K, self._config = K, config
        self._f = K.diagonal()[:2]
        self._distortion = ResidualDistortion(K, config.radial_sigma)
        self._road = RoadWatch(K)
        self.restart(0, torch.eye(4, dtype=torch.float64))

    def restart(self, number: int, T_cw: Tensor) -> None:
        """Begin anew at a key frame: nothing before it counts, but the distortion."""
        self._numbers = [number]
        self._road.forget()
        zeros = torch.zeros(0, dtype=torch.float64)
        none = torch.zeros(1, 0, dtype=torch.bool)
        one = zeros.reshape(1, 0)
        self._window = Window(T_cw[None], zeros.reshape(1, 0, 2), none, one, zeros.long(), zeros, zeros, zeros)
        self._p = zeros.reshape(0, 2)  # pixels in the newest frame
        # How the points looked when they were first seen, NaN where the flow stood, and what became of the shape.
        self._patches, self._shapes = torch.zeros(0, PATCH), zeros.reshape(0, 2, 2)
        self._alive = none[0]

    @property
    def radial(self) -> float:
        """Residual distortion, as `geometry.radial.straighten` takes it."""
        return self._distortion.radial

    @property
    def poses(self) -> dict[int, Tensor]:
        """T_cw `(4, 4)` of the key frames in the window, by their numbers."""
        return dict(zip(self._numbers, self._window.T_cw))

    def add(
        self, number: int, T_ck: Tensor, pair: Pair, depth: np.ndarray | None = None, depth_noise: float = 0.03
    ) -> WindowStep:
        """Take the next key frame.

        Args:
            number: of the key frame, for `poses`.
            T_ck: `(4, 4)` from the newest frame of the window, its length a first guess.
            pair: the two frames.
            depth: `(H, W)` measured in the newest frame of the window, in the unit of its poses, 0 where unknown: a
                prior of the points that begin there.
            depth_noise: of it, share of the depth.
        """
        if len(self._window.T_cw) >= max(self._config.frames, 2):
            self._forget_oldest()
        self._drop_ended()
        self._drop_far()
        before = self._p
        doubt, miss = self._follow(pair)
        T_ba = T_ck.clone()
        given = float(T_ck[:3, 3].norm())
        moves = given > 0 and pair.near_parallax(T_ck, self._K) > 3 * self._config.noise
        length = self._length(T_ck, before) if moves else None
        if length is not None:
            T_ba[:3, 3] *= length / given
        elif moves:
            self._road.forget()  # the unit may be another from here on
        self._append(number, T_ba @ self._window.T_cw[-1], self._weight(doubt, miss))
        inlier = pair.view.inlier[0]
        p_a, p_b = pair.matches.p_a[0].double()[inlier], pair.matches.p_b[0].double()[inlier]
        if given > 0:
            self._begin_tracks(before, p_a, p_b, pair.sigma[inlier], T_ba, pair, depth, depth_noise)
        turning = self._distortion.watch(pair, p_a, p_b)
        links = [*self._window.links, *self._link(pair)]
        sigma = self._distortion.sigma if turning else 0.0
        self._window = replace(
            self._window, links=links, radial=self.radial, radial_prior=self.radial, radial_sigma=sigma
        )
        result = adjust(self._window, self._f, self._config.noise, self._held())
        self._window = result.window
        if result.ok:
            self._distortion.learn(self._window, result.radial_information, self._config.frames)
            off = result.error * result.window.weight.sqrt() / self._config.noise
            self._select(off.amax(0) < _GATE)
            if moves:
                self._drop_what_drives(p_a, p_b)
        T_ba = self._window.T_cw[-1] @ invert_pose(self._window.T_cw[-2])
        scale = 1.0 if length is None else float(T_ba[:3, 3].norm()) / given
        return WindowStep(self._window.T_cw[-1], scale, int(self._alive.sum()), length is not None, result.note)

    def _follow(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Take the points to the next frame, by the flow and then to where it looks as when they were first seen.

        A point that no longer looks so has ended: what is nearer has come before it, and carries it along. Where the
        flow stands as it is, looks are not compared, and points first seen there end where they are again.

        Returns:
            Sigma `(M,)`, pixels, infinite by the flow alone, and how the way back of the flow misses, `(M,)`.
        """
        before = self._p
        p, miss = carry(before, pair.flow, *_FOLLOWING)
        alive = self._alive & (miss < 1)
        p, doubt = pair.refined(before, p)
        self._shapes = shapes_of(pair.flow.flow_ab, before) @ self._shapes
        if pair.refiner is not None:
            q, sigma = pair.refiner.aligned(self._patches, self._shapes, p)
            same = sigma.isfinite()
            p, doubt = torch.where(same[:, None], q, p), torch.where(same, sigma, doubt)
            alive = alive & same
        self._p, self._alive = p, alive
        return doubt, miss

    def _held(self) -> int:
        """How many of the oldest frames must be held, so that some way between them holds the scale."""
        centres = invert_pose(self._window.T_cw)[:, :3, 3]
        way = (centres - centres[0]).norm(dim=-1)
        far = (way > _BASELINE * way.max()).nonzero()[:, 0]
        return max(int(far[0]) + 1, 2) if len(far) else 2

    def _length(self, T_ck: Tensor, before: Tensor) -> float | None:
        """Length of a step of known direction by the depths of the tracks; None where they do not tell."""
        given = float(T_ck[:3, 3].norm())
        T_unit = T_ck.clone()
        T_unit[:3, 3] /= given
        known = self._seen_from(-1)[1]
        rho, reach = self._measure(normalize_pixels(before, self._K), normalize_pixels(self._p, self._K), T_unit)
        parallax = reach * known
        good = self._alive & known.isfinite() & (parallax > 0)
        if int(good.sum()) < _MIN_POINTS:
            return None
        length, sigma = robust_mean((rho / known)[good], self._config.noise / parallax[good])
        return length if sigma < _MAX_LENGTH_SIGMA * length else None

    def _measure(self, x_a: Tensor, x_b: Tensor, T_ba: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse depths in a of points, and how many pixels one unit of them moves the points in b."""
        rho, reach = inverse_depths(straighten(x_a, self.radial), straighten(x_b, self.radial), T_ba)
        return rho, reach * self._f.mean()

    def _weight(self, doubt: Tensor, miss: Tensor) -> Tensor:
        """Weight `(M,)` of where points were carried to by their sigma, or by how the way back of the flow misses."""
        return self._config.noise**2 / torch.where(doubt.isfinite(), doubt**2, _BY_FLOW**2 * (1 + miss.square()))

    def _append(self, number: int, T_cw: Tensor, weight: Tensor) -> None:
        w = self._window
        self._numbers.append(number)
        x = normalize_pixels(self._p, self._K)
        self._window = replace(
            w,
            T_cw=torch.cat([w.T_cw, T_cw[None]]),
            x=torch.cat([w.x, x[None]]),
            seen=torch.cat([w.seen, self._alive[None]]),
            weight=torch.cat([w.weight, weight[None]]),
        )

    def _begin_tracks(
        self,
        before: Tensor,
        p_a: Tensor,
        p_b: Tensor,
        doubt: Tensor,
        T_ba: Tensor,
        pair: Pair,
        depth: np.ndarray | None,
        depth_noise: float,
    ) -> None:
        """New points where the last key frame has none yet, as far as their depth is measured or parallax tells it.

        Of the matches in a cell the one of the smallest sigma is taken.
        """
        w, room = self._window, self._config.points - int(self._alive.sum())
        if room <= 0:
            return
        height, width = pair.flow.flow_ab.shape[-2:]
        spacing = math.sqrt(height * width / (1.5 * self._config.points))
        empty = ~torch.isin(cells(p_a, spacing), cells(before[self._alive], spacing))
        order = doubt[empty].argsort(stable=True)
        p_a, p_b, doubt = p_a[empty][order], p_b[empty][order], doubt[empty][order]
        rho, reach = self._measure(normalize_pixels(p_a, self._K), normalize_pixels(p_b, self._K), T_ba)
        miss = carry(p_a, pair.flow, *_FOLLOWING)[1]
        measured = torch.full_like(rho, torch.nan) if depth is None else 1 / depth_at(depth, p_a)
        known = measured.isfinite()
        good = (((rho * reach > _LEAST_PARALLAX) & (rho > 0)) | known) & (miss < 1)
        rho = torch.where(known, measured, rho)
        sigma = torch.where(known, depth_noise * rho, torch.inf)
        good = good.nonzero()[:, 0]
        new = good[first_of_cell(cells(p_a[good], spacing))][:room]
        p_a, p_b, rho, sigma = p_a[new], p_b[new], rho[new], sigma[new]
        x = torch.zeros(len(w.T_cw), len(new), 2, dtype=torch.float64)
        x[-2], x[-1] = normalize_pixels(p_a, self._K), normalize_pixels(p_b, self._K)
        seen = torch.zeros(x.shape[:2], dtype=torch.bool)
        seen[-2:] = True
        weight = torch.ones(x.shape[:2], dtype=torch.float64)
        weight[-1] = self._weight(doubt[new], miss[new])
        self._window = replace(
            w,
            x=torch.cat([w.x, x], 1),
            seen=torch.cat([w.seen, seen], 1),
            weight=torch.cat([w.weight, weight], 1),
            anchor=torch.cat([w.anchor, torch.full((len(new),), len(w.T_cw) - 2)]),
            inverse_depth=torch.cat([w.inverse_depth, rho]),
            prior=torch.cat([w.prior, rho]),
            prior_sigma=torch.cat([w.prior_sigma, sigma]),
        )
        self._p = torch.cat([self._p, p_b])
        none = torch.full((len(new), PATCH), torch.nan)
        patches = none if pair.refiner is None else pair.refiner.patches(p_a)
        self._patches = torch.cat([self._patches, patches])
        self._shapes = torch.cat([self._shapes, shapes_of(pair.flow.flow_ab, p_a)])
        self._alive = torch.cat([self._alive, torch.ones(len(new), dtype=torch.bool)])

    def _link(self, pair: Pair) -> list[Link]:
        """What the two-view geometry says of the newest two frames."""
        if pair.status not in (TwoViewStatus.OK, TwoViewStatus.ROTATION_ONLY):
            return []
        last = len(self._window.T_cw) - 1
        known = pair.view.information[0].double()
        return [Link(last - 1, last, pair.view.T_ba[0].double(), known)]

    def _select(self, keep: Tensor) -> None:
        """Keep some of the points `(M,)`."""
        w = self._window
        self._window = replace(
            w,
            x=w.x[:, keep],
            seen=w.seen[:, keep],
            weight=w.weight[:, keep],
            anchor=w.anchor[keep],
            inverse_depth=w.inverse_depth[keep],
            prior=w.prior[keep],
            prior_sigma=w.prior_sigma[keep],
        )
        self._p, self._alive = self._p[keep], self._alive[keep]
        self._patches, self._shapes = self._patches[keep], self._shapes[keep]

    def _drop_ended(self) -> None:
        """Drop tracks that have ended where there are many, the shortest first."""
        ended = (~self._alive).nonzero()[:, 0]
        surplus = len(self._alive) - int(_TRACKS * self._config.points)
        if surplus > 0 and len(ended):
            length = self._window.seen[:, ended].sum(0)
            keep = torch.ones_like(self._alive)
            keep[ended[length.argsort(stable=True)[:surplus]]] = False
            self._select(keep)

    def _drop_far(self) -> None:
        """Drop tracks that say nothing of the scale where they are many, as they would outlive all that do."""
        if len(self._window.T_cw) < 3:
            return
        clear = self._window.inverse_depth * self._information().sqrt()
        far = self._alive & (clear < _FAR)
        surplus = int(far.sum()) - int(_FAR_SHARE * self._config.points)
        if surplus > 0:
            keep = torch.ones_like(far)
            keep[torch.where(far, clear, torch.inf).argsort()[:surplus]] = False
            self._select(keep)

    def _information(self) -> Tensor:
        """What is known of the inverse depths `(M,)`, one over their variance, as if the poses were exact."""
        w = self._window
        T = w.T_cw @ invert_pose(w.T_cw)[w.anchor][:, None]
        home = w.x[w.anchor, torch.arange(len(w.anchor))][:, None, None].expand(-1, len(w.T_cw), -1, -1)
        reach = self._measure(home, w.x.transpose(0, 1)[:, :, None], T)[1][..., 0]
        return (w.weight.T * (reach / self._config.noise).square() * w.seen.T).sum(1) + w.prior_sigma**-2

    def _drop_what_drives(self, p_a: Tensor, p_b: Tensor) -> None:
        """Drop the tracks of cars that drive along; `p_a`, `p_b` `(N, 2)` are inliers of the newest pair."""
        w = self._window
        T_ba = w.T_cw[-1] @ invert_pose(w.T_cw[-2])
        rho, reach = self._measure(normalize_pixels(p_a, self._K), normalize_pixels(p_b, self._K), T_ba)
        self._road.look(p_a, rho, self._config.noise / reach, invert_pose(T_ba)[:3, 3], self.radial)
        x, inverse_depth, change = self._seen_from(-2)
        self._select(~self._road.below(x, inverse_depth, change / self._information().sqrt()))

    def _seen_from(self, frame: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tracks in a frame of the window, without distortion; inverse depth is NaN behind it.

        Returns:
            x `(M, 2)`, inverse depth `(M,)`, and its derivative by that in the anchor `(M,)`.
        """
        w = self._window
        ray = homogeneous(straighten(w.x[w.anchor, torch.arange(len(w.anchor))], self.radial))
        T = w.T_cw[frame] @ invert_pose(w.T_cw)[w.anchor]
        turned = (T[:, :3, :3] @ ray[..., None])[..., 0]
        X = turned + w.inverse_depth[:, None] * T[:, :3, 3]
        z = torch.where(X[:, 2] > 0, X[:, 2], torch.nan)
        return X[:, :2] / z[:, None], w.inverse_depth / z, turned[:, 2] / z.square()

    def _forget_oldest(self) -> None:
        """Drop the oldest frame; its points move on to the next one, with what the two say of their depths."""
        window = replace(self._window, radial=self.radial)
        self._window, kept = without_oldest(window, self._f, self._config.noise, _MEMORY)
        self._numbers = self._numbers[1:]
        self._select(kept & (self._alive | (self._window.seen.sum(0) >= 3)))
