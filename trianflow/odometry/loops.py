"""Loops: key frames that look like one of long ago, believed where the geometry of both agrees.

A false loop bends a whole trajectory, a missed one costs little: each test below refuses what is in doubt.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from scipy.spatial import Delaunay, QhullError
from torch import Tensor

from trianflow.geometry.camera import backproject, project, transform
from trianflow.geometry.scale import robust_scale
from trianflow.odometry.pose_graph import Edge, corrected_trajectory, optimise_pose_graph, scale_of
from trianflow.pose.pnp import refine_pnp, solve_pnp
from trianflow.pose.two_view import TwoViewStatus, solve_two_view
from trianflow.trajectory import Trajectory

# A key frame every so many median depths of the way, and at every such turn.
_SPACING, _TURN = 0.25, math.radians(10)
_FEATURES, _MIN_FEATURES = 500, 50
# Key frames between the two of a loop, and the distance of its ends as a share of the way between them.
_GAP, _RETURN = 20, 0.5
_WORDS = 32
_CANDIDATES = 3
_RATIO = 0.8
_MIN_INLIERS = 25
# Reprojection error of an inlier: pixels at least, and share of the focal length.
_REACH = 2.0, 0.004
# Doubt of a depth (log), and of the scale between two key frames (log).
_DEPTH_NOISE, _SCALE_NOISE = 0.1, 0.05
# Cells of an image; features in one that make it count, inliers that it then needs, cells that must count, and the
# share of them that must have theirs. What a street shares with its like is the road, or a facade.
_CELLS = 4, 3
_EXPECTED, _FOUND, _LEAST, _COVERED = 8, 2, 4, 0.7
# How far two measurements of one similarity may differ: radians, median depths, log scale.
_AGREE = math.radians(2.5), 0.1, 0.15
# Standard deviations that a loop has at least: as above.
_SIGMA = 0.005, 0.03, 0.05
# Key frames during which a loop waits for another that confirms it.
_PATIENCE = 3


@dataclass(frozen=True)
class Closed:
    """A trajectory with its loops closed.

    Attributes:
        trajectory: in the unit of its first key frame; as it was where no loop is kept.
        rows: `(L, 2)` int64, of every loop that was found: the rows of its two frames, the earlier first.
        kept: `(L,)` bool, False for a loop that the odometry or the others contradict.
    """

    trajectory: Trajectory
    rows: np.ndarray
    kept: np.ndarray


@dataclass(frozen=True)
class _Place:
    """What is kept of a key frame.

    Attributes:
        T_wc: `(4, 4)` float64 camera to world.
        travelled: the way up to here, in the trajectory's unit.
        p: `(n, 2)` float32 pixels of the features.
        descriptors: `(n, 128)` uint8, SIFT.
        depth: `(n,)` float32 in the trajectory's unit, NaN where unknown.
        typical: the median depth of the structure.
        size: width and height, pixels.
        metres: in that unit, where the depth was measured in metres; None where the structure told it.
    """

    T_wc: np.ndarray
    travelled: float
    p: np.ndarray
    descriptors: np.ndarray
    depth: np.ndarray
    typical: float
    size: tuple[int, int]
    metres: float | None


class LoopCloser:
    """Finds loops while a trajectory grows; keeps some 90 kB a key frame, and no images.

    Retrieval by VLAD of rootSIFT over words that are learnt from the first key frames; then matches, two-view geometry,
    the pose of each key frame from the points of the other, and the scale between the depths of both.

    Args:
        K: `(3, 3)` intrinsics of all images, which are without distortion.

    Attributes:
        indices: row of each key frame in the trajectory; the `a` and `b` of a loop count their places in this list.
        loops: all that were accepted.

    Source: Jegou et al., "Aggregating local descriptors into a compact image representation", CVPR 2010;
    Arandjelovic & Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012.
    """

    def __init__(self, K: Tensor) -> None:
        self.indices: list[int] = []
        self.loops: list[Edge] = []
        self._K = K.double()
        self._sift = cv2.SIFT.create(_FEATURES, contrastThreshold=0.02)
        self._places: list[_Place] = []
        self._words = np.zeros((0, 128), np.float32)
        self._looks = np.zeros((64, _WORDS * 128), np.float32)  # a row a key frame, grown by doubling
        self._recent: list[Edge] = []  # verified lately, accepted or not

    def add(
        self,
        index: int,
        image: np.ndarray,
        T_wc: np.ndarray,
        p: np.ndarray,
        depth: np.ndarray,
        metres: float | None = None,
    ) -> list[Edge]:
        """Offer a frame; it becomes a key frame of the pose graph where it is far enough from the last one.

        Args:
            index: row of the frame in the trajectory, growing.
            image: `(H, W)` or `(H, W, 3)` uint8, without distortion.
            T_wc: `(4, 4)` float64 camera to world, any unit.
            p, depth: `(M, 2)` pixels and `(M,)` depths along z, in the same unit, of the structure in this frame.
            metres: in that unit, as it was taken to turn depths that were measured in metres into it; None for others.

        Returns:
            The loops that this frame brings to light, newly accepted; as a rule none. A frame without enough features
            or points brings none and becomes no key frame.
        """
        good = np.isfinite(p).all(1) & np.isfinite(depth) & (depth > 0)
        if good.sum() < _MIN_INLIERS or not self._is_due(T_wc):
            return []
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        points, descriptors = self._sift.detectAndCompute(grey, None)
        if len(points) < _MIN_FEATURES:
            return []
        q, way = np.array([point.pt for point in points], np.float32), 0.0
        if self._places:
            last = self._places[-1]
            way = last.travelled + float(np.linalg.norm(T_wc[:3, 3] - last.T_wc[:3, 3]))
        place = _Place(
            T_wc.copy(),
            way,
            q,
            descriptors.astype(np.uint8),
            _depth_at(q, p[good], depth[good]),
            float(np.median(depth[good])),
            image.shape[1::-1],
            metres,
        )
        self._places.append(place)
        self.indices.append(index)
        self._remember()
        return self._search()

    def closed(
        self,
        raw: Trajectory,
        breaks: Collection[int] = (),
        metres: np.ndarray | None = None,
        hold_scale: bool = False,
    ) -> Closed | None:
        """A trajectory with the loops closed.

        Args:
            raw: of all frames so far, as they are known now.
            breaks: rows of it before which the odometry was lost.
            metres: where it has another unit than that in which frames were offered: `(F,)`, how many of it that of
                each frame has by what is known now. Measured depths are in metres whatever has become known since.
            hold_scale: leave the scale as it is, as it is known from elsewhere.

        Returns:
            None where no loop was found.
        """
        if not self.loops:
            return None
        rows = np.array(self.indices)
        loops = self.loops
        if metres is not None:
            pairs = zip(self._places, metres[rows].tolist())
            units = np.array([now if place.metres is None else place.metres for place, now in pairs])
            loops = [_in_metres(loop, units) for loop in loops]
        cuts = {int(node) for node in np.searchsorted(rows, sorted(breaks))} - {0, len(rows)}
        graph = optimise_pose_graph(raw.T_wc[rows], loops, cuts, hold_scale)
        T_wc = corrected_trajectory(raw.T_wc, self.indices, graph.S_wc) if graph.kept.any() else raw.T_wc
        ends = np.array([(loop.a, loop.b) for loop in loops])
        return Closed(Trajectory(raw.times, T_wc), rows[ends], graph.kept)

    def _is_due(self, T_wc: np.ndarray) -> bool:
        """Whether a camera has moved enough since the last key frame."""
        if not self._places:
            return True
        last = self._places[-1]
        turn, shift, _ = _difference(np.linalg.inv(last.T_wc) @ T_wc)
        return turn > _TURN or shift > _SPACING * last.typical

    def _remember(self) -> None:
        """The last place among those that can be asked for; all of them once the words are learnt."""
        new = self._places[-1:]
        if not len(self._words):
            if len(self._places) <= _GAP:
                return
            new = self._places
            features = np.concatenate([_root_sift(place) for place in new])
            start = features[:: len(features) // _WORDS][:_WORDS]
            self._words = kmeans2(features, start, minit="matrix")[0]
        count = len(self._places)
        while count > len(self._looks):
            self._looks = np.concatenate([self._looks, np.zeros_like(self._looks)])
        for i, place in enumerate(new, count - len(new)):
            self._looks[i] = _vlad(_root_sift(place), self._words)

    def _search(self) -> list[Edge]:
        """The loops that the last key frame brings."""
        b = len(self._places) - 1
        place, before = self._places[b], self._places[: max(b - _GAP + 1, 0)]
        if not before:
            return []
        away = np.linalg.norm(np.stack([a.T_wc[:3, 3] for a in before]) - place.T_wc[:3, 3], axis=1)
        returns = away <= _RETURN * (place.travelled - np.array([a.travelled for a in before]))
        alike = np.where(returns, self._looks[: len(before)] @ self._looks[b], -np.inf)
        for a in np.argsort(-alike, kind="stable")[:_CANDIDATES]:
            if returns[a] and (loop := self._verified(int(a), b)) is not None:
                return self._accepted(loop)
        return []

    def _verified(self, a: int, b: int) -> Edge | None:
        """The loop between two key frames, where every test is passed."""
        place_a, place_b, K = self._places[a], self._places[b], self._K
        p_a, p_b, depth_a, depth_b = _matches(place_a, place_b)
        if len(p_a) < _MIN_INLIERS:
            return None
        view = solve_two_view(p_a[None], p_b[None], K)
        keep, status = view.inlier[0], TwoViewStatus(int(view.status))
        if int(keep.sum()) < max(_MIN_INLIERS, 0.4 * len(p_a)):
            return None
        p_a, p_b, depth_a, depth_b = p_a[keep], p_b[keep], depth_a[keep], depth_b[keep]
        there = _resect(p_a, depth_a, p_b, depth_b, K)
        back = _resect(p_b, depth_b, p_a, depth_a, K)
        if there is None or back is None:
            return None
        both = there.inlier | back.inlier
        if not (_covers(place_a, there, p_b[both], K) and _covers(place_b, back, p_a[both], K)):
            return None
        S_ba = there.S_ba.copy()
        turn, shift, growth = _difference(back.S_ba @ S_ba)
        shift /= place_a.typical
        if turn > _AGREE[0] or shift > _AGREE[1] or abs(growth) > _AGREE[2]:
            return None
        if status is TwoViewStatus.OK and not _along(S_ba, view.T_ba[0], float(view.direction_sigma), place_b.typical):
            return None
        S_ba[:3] *= math.exp(-growth / 2)  # the mean of both directions
        doubts = (math.hypot(x, floor) for x, floor in zip((turn, shift, growth / 2), _SIGMA))
        rotation, translation, scale = doubts
        return Edge(a, b, S_ba, (rotation, translation * place_b.typical, scale))

    def _accepted(self, loop: Edge) -> list[Edge]:
        """What is certain now: a loop that a recent one confirms, and that one."""
        recent = [other for other in self._recent if loop.b - other.b <= _PATIENCE]
        agreeing = [other for other in recent if self._agree(other, loop)]
        self._recent = [*recent, loop]
        if not agreeing:
            return []
        new = [found for found in [*agreeing, loop] if found not in self.loops]
        self.loops += new
        return new

    def _agree(self, e: Edge, f: Edge) -> bool:
        """Whether two loops are one, by the odometry between their ends."""
        T_wa, T_wb, T_wc, T_wd = (self._places[i].T_wc for i in (e.a, e.b, f.a, f.b))
        S_dc = np.linalg.inv(T_wd) @ T_wb @ e.S_ba @ np.linalg.inv(T_wa) @ T_wc
        turn, shift, growth = _difference(np.linalg.inv(f.S_ba) @ S_dc)
        shift /= self._places[f.a].typical
        return turn <= 2 * _AGREE[0] and shift <= 2 * _AGREE[1] and abs(growth) <= 2 * _AGREE[2]


@dataclass(frozen=True)
class _Resection:
    """Similarity of b seen from the points of a, and which matches fit, `(n,)` bool."""

    S_ba: np.ndarray
    inlier: Tensor


def _resect(p_a: Tensor, depth_a: Tensor, p_b: Tensor, depth_b: Tensor, K: Tensor) -> _Resection | None:
    """b by the points known in a, and the unit of b by its own depths of them."""
    reach = max(_REACH[0], _REACH[1] * float(K[0, 0]))
    X_a = backproject(p_a, depth_a, K)
    pnp = solve_pnp(X_a, p_b, K, reach, _MIN_INLIERS)
    if not pnp.ok:
        return None
    X, p = X_a[pnp.inlier], p_b[pnp.inlier]
    T_ba = refine_pnp(pnp.T_ba, X, p, K, max(pnp.noise, 0.3), torch.full_like(p[:, 0], _DEPTH_NOISE))
    seen, doubt = transform(T_ba, X)[:, 2], torch.full_like(p[:, 0], 2 * _DEPTH_NOISE**2)
    unit = robust_scale(seen, depth_b[pnp.inlier], doubt)
    if not unit.ok or float(unit.log_sigma) > _SCALE_NOISE:
        return None
    S_ba = T_ba.numpy().copy()
    S_ba[:3] *= float(unit.scale)
    return _Resection(S_ba, pnp.inlier)


def _in_metres(loop: Edge, metres: np.ndarray) -> Edge:
    """A loop between key frames whose units have so many `metres` `(N,)`."""
    S_ba, (turn, shift, growth) = loop.S_ba.copy(), loop.sigma
    S_ba[:3] *= metres[loop.b]
    S_ba[:3, :3] /= metres[loop.a]
    return replace(loop, S_ba=S_ba, sigma=(turn, shift * float(metres[loop.b]), growth))


def _difference(S: np.ndarray) -> tuple[float, float, float]:
    """Angle in radians, length of the translation and log scale of a similarity."""
    scale = float(scale_of(S))
    cosine = (float(np.trace(S[:3, :3])) / scale - 1) / 2
    return math.acos(min(max(cosine, -1.0), 1.0)), float(np.linalg.norm(S[:3, 3])), math.log(scale)


def _along(S_ba: np.ndarray, T_ba: Tensor, sigma: float, typical: float) -> bool:
    """Whether a similarity has the rotation and, as far as it is known, the direction of two-view geometry."""
    T = T_ba.numpy()
    turn = _difference(S_ba @ np.linalg.inv(T))[0]
    t, u = S_ba[:3, 3], T[:3, 3]
    off = float(np.linalg.norm(t - max(float(t @ u), 0.0) * u))
    return turn <= _AGREE[0] and off <= 0.5 * _AGREE[1] * typical + 3 * sigma * float(np.linalg.norm(t))


def _covers(a: _Place, there: _Resection, p_b: Tensor, K: Tensor) -> bool:
    """Whether inliers lie wherever b should show features of a."""
    X_a = backproject(torch.from_numpy(a.p).double(), torch.from_numpy(a.depth).double(), K)
    X_b = transform(torch.from_numpy(there.S_ba), X_a)
    q, size = project(X_b, K), torch.tensor(a.size)
    seen = (X_b[:, 2] > 0) & ((q >= 0) & (q < size)).all(1)
    expected, found = _per_cell(q[seen], size), _per_cell(p_b, size)
    counts = expected >= _EXPECTED
    total, covered = int(counts.sum()), int((counts & (found >= _FOUND)).sum())
    return total >= _LEAST and covered >= _COVERED * total


def _per_cell(p: Tensor, size: Tensor) -> Tensor:
    """Number of pixels `(n, 2)` in each cell of an image."""
    column, row = (p / size * torch.tensor(_CELLS)).long().T
    return torch.bincount(row * _CELLS[0] + column, minlength=_CELLS[0] * _CELLS[1])


def _root_sift(place: _Place) -> np.ndarray:
    """Unit descriptors `(n, 128)` float32 whose product is the Hellinger kernel of the SIFT histograms."""
    d = place.descriptors.astype(np.float32)
    return np.sqrt(d / d.sum(1, keepdims=True).clip(1))


def _vlad(features: np.ndarray, words: np.ndarray) -> np.ndarray:
    """One unit vector of an image: the sums of what its features differ by from their words, each of unit length."""
    nearest = (features @ words.T - (words**2).sum(1) / 2).argmax(1)
    member = (np.arange(len(words))[:, None] == nearest).astype(np.float32)
    total = member @ (features - words[nearest])
    total /= np.linalg.norm(total, axis=1, keepdims=True).clip(1e-9)
    return total.ravel() / max(np.linalg.norm(total), 1e-9)


def _matches(a: _Place, b: _Place) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels `(m, 2)` and depths `(m,)`, float64, of features that choose each other and no third."""
    alike = torch.from_numpy(_root_sift(a)) @ torch.from_numpy(_root_sift(b)).T
    best, choice = alike.topk(2, dim=1)
    distance = (2 - 2 * best).clamp_min(0).sqrt()
    mutual = alike.argmax(0)[choice[:, 0]] == torch.arange(len(alike))
    at_a = (mutual & (distance[:, 0] < _RATIO * distance[:, 1])).nonzero()[:, 0].numpy()
    at_b = choice[at_a, 0].numpy()
    parts = a.p[at_a], b.p[at_b], a.depth[at_a], b.depth[at_b]
    p_a, p_b, depth_a, depth_b = (torch.from_numpy(x).double() for x in parts)
    return p_a, p_b, depth_a, depth_b


def _depth_at(q: np.ndarray, p: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Depth at pixels `(n, 2)` within the triangles of known points: float32, NaN outside and across a jump.

    The inverse depth of a plane is linear in the image, so it is exact on planes.
    """
    try:
        mesh = Delaunay(p)
    except QhullError:
        return np.full(len(q), np.nan, np.float32)
    triangle = mesh.find_simplex(q)
    corner, affine = depth[mesh.simplices[triangle]], mesh.transform[triangle]
    share = (affine[:, :2] @ (q - affine[:, 2])[:, :, None])[:, :, 0]
    share = np.concatenate([share, 1 - share.sum(1, keepdims=True)], 1)
    smooth = (triangle >= 0) & (corner.max(1) < 1.4 * corner.min(1))
    return np.where(smooth, 1 / (share / corner).sum(1), np.nan).astype(np.float32)
