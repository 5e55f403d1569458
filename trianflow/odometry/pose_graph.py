"""A trajectory corrected by loops: a pose graph of similarities, as the unit of a monocular trajectory drifts too.

Similarities are `(4, 4)` matrices [[s R, t], [0, 1]], so that they compose and invert as such.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import bsr_matrix, csc_matrix, diags
from scipy.sparse.linalg import splu
from scipy.spatial.transform import Rotation

from trianflow.geometry.epipolar import skew_array

# Standard deviations of the odometry between two key frames: radians, share of the step's length, log scale.
_ROTATION, _TRANSLATION, _SCALE = 0.003, 0.02, 0.01
# How many times as much across a break, where the odometry was lost.
_BREAK = 50.0
# Squared residual, in standard deviations, from which on a loop is an outlier: 99 % of chi-square with 7 degrees.
_OUTLIER = 18.5


@dataclass(frozen=True, eq=False)
class Edge:
    """Where one key frame is seen from another.

    Attributes:
        a, b: numbers of the key frames.
        S_ba: `(4, 4)` similarity: X_b = S_ba X_a, each in the unit that the trajectory has at its key frame.
        sigma: standard deviations of rotation (radians), translation (unit of b) and log scale, on each axis.
    """

    a: int
    b: int
    S_ba: np.ndarray
    sigma: tuple[float, float, float]


@dataclass(frozen=True)
class PoseGraph:
    """Key frames in one world and one unit, those of the first key frame.

    Attributes:
        S_wc: `(N, 4, 4)` similarity of each key frame, X_w = S_wc X_c.
        kept: `(L,)` bool, False for a loop that the odometry or the others contradict.
    """

    S_wc: np.ndarray
    kept: np.ndarray


def optimise_pose_graph(
    T_wc: np.ndarray, loops: Sequence[Edge], breaks: Collection[int] = (), metric: bool = False
) -> PoseGraph:
    """The similarities that best explain the odometry between consecutive key frames and the loops.

    Levenberg-Marquardt with sparse normal equations. Under a Cauchy loss a loop pulls the trajectory along until it is
    closed, unless that takes many times the drift that the odometry is believed to have, or the other loops hold
    against it; the loss is tightened step by step, and what is then not explained is left out.

    Args:
        T_wc: `(N, 4, 4)` camera to world of the key frames in order of time, as the odometry has them.
        loops: between any two of them.
        breaks: numbers of the key frames before which the odometry was lost: their steps, and the units before and
            after, are little more than a guess.
        metric: the trajectory is in metres, and so are the loops: the scale of every key frame is left alone.

    Returns:
        `PoseGraph`; the odometry unchanged where there are no loops.

    Source: Strasdat, Montiel & Davison, "Scale drift-aware large scale monocular SLAM", RSS 2010.
    """
    T_wc = np.array(T_wc, dtype=np.float64)
    if not loops:
        return PoseGraph(T_wc, np.zeros(0, dtype=bool))
    odometry = odometry_edges(T_wc, breaks)
    graph, count = _Graph.of([*odometry, *loops]), len(odometry)
    nodes, weight = _Nodes.of(T_wc), np.ones(count + len(loops))
    free = np.arange(7, 7 * len(T_wc))  # the first key frame stays
    if metric:
        free = free[free % 7 != 6]
    for width in (9, 3, 1):
        for _ in range(20):
            before = weight[count:].copy()
            weight[count:] = 1 / (1 + _squared(nodes, graph)[count:] / (width * _OUTLIER))
            nodes = _adjust(nodes, graph, weight, free, steps=1)
            if np.allclose(before, weight[count:], rtol=0.02, atol=0):
                break
    for _ in range(2):
        weight[count:] = _squared(nodes, graph)[count:] <= _OUTLIER
        nodes = _adjust(nodes, graph, weight, free, steps=10)
    return PoseGraph(nodes.matrices(), weight[count:] > 0)


def odometry_edges(T_wc: np.ndarray, breaks: Collection[int] = ()) -> list[Edge]:
    """Edges between consecutive key frames `(N, 4, 4)`; one that stands still has a tenth of the mean step's doubt."""
    T_ba = np.linalg.inv(T_wc[1:]) @ T_wc[:-1]
    length = np.linalg.norm(T_ba[:, :3, 3], axis=1)
    least = 0.1 * length.mean() if length.any() else 1.0
    edges = []
    for b, (T, step) in enumerate(zip(T_ba, length), 1):
        doubt = _BREAK if b in breaks else 1.0
        sigma = doubt * _ROTATION, doubt * _TRANSLATION * max(float(step), least), doubt * _SCALE
        edges.append(Edge(b - 1, b, T, sigma))
    return edges


def corrected_trajectory(T_wc: np.ndarray, rows: Sequence[int], S_wk: np.ndarray) -> np.ndarray:
    """All poses of a trajectory, each carried along by the last key frame before it.

    Args:
        T_wc: `(F, 4, 4)` camera to world, as the odometry has them.
        rows: `(N,)` row of each key frame in them, growing.
        S_wk: `(N, 4, 4)` of the key frames, from `optimise_pose_graph` on `T_wc[rows]`.

    Returns:
        `(F, 4, 4)` camera to world, rigid, in the unit of the first key frame.
    """
    if not len(rows):
        return np.array(T_wc, dtype=np.float64)
    last = np.searchsorted(rows, np.arange(len(T_wc)), side="right") - 1
    node = last.clip(0)
    S_wc = S_wk[node] @ np.linalg.inv(T_wc[np.asarray(rows)[node]]) @ T_wc
    S_wc[:, :3, :3] /= scale_of(S_wc)[:, None, None]
    return S_wc


def scale_of(S: np.ndarray) -> np.ndarray:
    """The scale of similarities `(..., 4, 4)`: `(...,)`."""
    return np.cbrt(np.linalg.det(S[..., :3, :3]))


@dataclass(frozen=True)
class _Nodes:
    """Similarities by their parts: R `(N, 3, 3)`, t `(N, 3)`, log scale `(N,)`."""

    R: np.ndarray
    t: np.ndarray
    log_scale: np.ndarray

    @classmethod
    def of(cls, S: np.ndarray) -> _Nodes:
        scale = scale_of(S)
        return cls(S[:, :3, :3] / scale[:, None, None], S[:, :3, 3], np.log(scale))

    def matrices(self) -> np.ndarray:
        S = np.tile(np.eye(4), (len(self.t), 1, 1))
        S[:, :3, :3], S[:, :3, 3] = self.R * np.exp(self.log_scale)[:, None, None], self.t
        return S

    def moved(self, step: np.ndarray) -> _Nodes:
        """After a step `(N, 7)`: a rotation vector on the right, a translation and a log scale that are added."""
        R = self.R @ Rotation.from_rotvec(step[:, :3]).as_matrix()
        return _Nodes(R, self.t + step[:, 3:6], self.log_scale + step[:, 6])


@dataclass(frozen=True)
class _Graph:
    """E edges: numbers of their nodes, what was measured, and one over the standard deviations `(E, 7)`."""

    a: np.ndarray
    b: np.ndarray
    measured: _Nodes
    information: np.ndarray

    @classmethod
    def of(cls, edges: Sequence[Edge]) -> _Graph:
        sigma = np.array([edge.sigma for edge in edges])[:, [0, 0, 0, 1, 1, 1, 2]]
        a, b = np.array([(edge.a, edge.b) for edge in edges]).T
        return cls(a, b, _Nodes.of(np.stack([edge.S_ba for edge in edges])), 1 / sigma)

    def residuals(self, nodes: _Nodes) -> np.ndarray:
        """Rotation, translation and log scale of every edge off what was measured, in standard deviations: `(E, 7)`."""
        R_ba, t_ba = self._predicted(nodes)
        turn = Rotation.from_matrix(self.measured.R.transpose(0, 2, 1) @ R_ba).as_rotvec()
        growth = nodes.log_scale[self.a] - nodes.log_scale[self.b] - self.measured.log_scale
        return np.concatenate([turn, t_ba - self.measured.t, growth[:, None]], 1) * self.information

    def jacobian(self, nodes: _Nodes) -> csc_matrix:
        """Derivatives of the residuals by the step of `_Nodes.moved`: `(7 E, 7 N)`."""
        R_ba, t_ba = self._predicted(nodes)
        turn = Rotation.from_matrix(self.measured.R.transpose(0, 2, 1) @ R_ba).as_rotvec()
        bend = _right_inverse(turn)
        R_bw = nodes.R[self.b].transpose(0, 2, 1) * np.exp(-nodes.log_scale[self.b])[:, None, None]
        by_a, by_b = np.zeros((2, len(self.a), 7, 7))
        by_a[:, :3, :3], by_b[:, :3, :3] = bend, -bend @ R_ba.transpose(0, 2, 1)
        by_a[:, 3:6, 3:6], by_b[:, 3:6, 3:6] = R_bw, -R_bw
        by_b[:, 3:6, :3], by_b[:, 3:6, 6] = skew_array(t_ba), -t_ba
        by_a[:, 6, 6], by_b[:, 6, 6] = 1, -1
        blocks = np.stack([by_a, by_b], 1) * self.information[:, None, :, None]
        columns, ends = np.stack([self.a, self.b], 1).ravel(), 2 * np.arange(len(self.a) + 1)
        shape = 7 * len(self.a), 7 * len(nodes.t)
        return bsr_matrix((blocks.reshape(-1, 7, 7), columns, ends), shape=shape).tocsc()

    def _predicted(self, nodes: _Nodes) -> tuple[np.ndarray, np.ndarray]:
        """Rotation `(E, 3, 3)` and translation `(E, 3)` from a to b as the nodes have them."""
        R_bw = nodes.R[self.b].transpose(0, 2, 1)
        apart = (nodes.t[self.a] - nodes.t[self.b]) * np.exp(-nodes.log_scale[self.b])[:, None]
        return R_bw @ nodes.R[self.a], (R_bw @ apart[:, :, None])[:, :, 0]


def _right_inverse(w: np.ndarray) -> np.ndarray:
    """What a small turn on the right adds to rotation vectors `(E, 3)`: `(E, 3, 3)`."""
    angle = np.linalg.norm(w, axis=1)
    half = np.maximum(angle, 1e-4) / 2
    W, bend = skew_array(w), (1 - half / np.tan(half)) / (4 * half**2)
    return np.eye(3) + W / 2 + bend[:, None, None] * W @ W


def _squared(nodes: _Nodes, graph: _Graph) -> np.ndarray:
    """Squared residual of every edge, `(E,)`."""
    return (graph.residuals(nodes) ** 2).sum(1)


def _adjust(nodes: _Nodes, graph: _Graph, weight: np.ndarray, free: np.ndarray, steps: int) -> _Nodes:
    """Levenberg-Marquardt at given weights `(E,)` of the edges, over the parameters whose numbers are `free`."""
    damping, root = 1e-6, diags(np.repeat(np.sqrt(weight), 7))
    cost = float(weight @ _squared(nodes, graph))
    for _ in range(steps):
        r, J = root @ graph.residuals(nodes).ravel(), (root @ graph.jacobian(nodes))[:, free]
        A, g = (J.T @ J).tocsc(), J.T @ r
        while True:
            damped = A + diags(damping * A.diagonal(), format="csc")
            factors = splu(damped, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
            step = np.zeros(7 * len(nodes.t))
            step[free] = -factors.solve(g)
            trial = nodes.moved(step.reshape(-1, 7))
            trial_cost = float(weight @ _squared(trial, graph))
            if trial_cost <= cost:
                break
            damping *= 10
            if damping > 1e3:
                return nodes
        done = cost - trial_cost <= 1e-9 * cost
        nodes, cost, damping = trial, trial_cost, max(damping / 10, 1e-9)
        if done:
            break
    return nodes
