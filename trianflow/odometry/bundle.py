"""What a window of frames and points has seen, what a state of it costs, and the normal equations of that cost.

A frame moves by a twist on the right of its T_cw, that is in the world. To first order, what is measured between two
frames then depends on the difference of their twists alone: a point adds one 6x6 matrix to the pair of the frame that
sees it and the frame of its anchor, as a link does, and the normal matrix of all motion is the Laplacian of these. In
numpy with coordinates first, as the arrays are small and many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from trianflow.geometry.epipolar import skew_array
from trianflow.geometry.radial import bend, straighten
from trianflow.geometry.sampson import tangent_basis

# Scale of the Cauchy loss in standard deviations (95 % efficient).
_CAUCHY = 2.385
# The same for the five parameters of a link, squared.
_LINK_LOSS = 5 * _CAUCHY**2
# Squared distance, in scales of the loss, that a point behind a camera is charged.
_BEHIND = 100.0


@dataclass(frozen=True)
class Link:
    """What two-view geometry says of two frames of a window: rotation and direction of translation.

    Attributes:
        first, second: frames a and b.
        T_ba: `(4, 4)`; the length of its translation is ignored.
        information: `(5, 5)` inverse covariance in radians^-2: rotation on the left of T_ba, then the two tangents of
            its direction; zero rows for what is unknown.
    """

    first: int
    second: int
    T_ba: Tensor
    information: Tensor


@dataclass(frozen=True)
class Window:
    """F frames, and M points each of which is anchored in one of them by its pixel and its inverse depth.

    Attributes:
        T_cw: `(F, 4, 4)` float64, world to camera.
        x: `(F, M, 2)` normalised image coordinates of the points in the frames.
        seen: `(F, M)` bool, where x was measured; True in the anchor.
        weight: `(F, M)` of the squared error of each, in (0, 1].
        anchor: `(M,)` int64, frame of each point.
        inverse_depth: `(M,)` along z of the anchor, positive.
        prior, prior_sigma: `(M,)` of the inverse depth; an infinite sigma where there is none.
        links: between frames.
        radial: residual distortion of x (`geometry.radial.straighten`).
        radial_prior, radial_sigma: of it; a sigma of zero keeps it as it is.
    """

    T_cw: Tensor
    x: Tensor
    seen: Tensor
    weight: Tensor
    anchor: Tensor
    inverse_depth: Tensor
    prior: Tensor
    prior_sigma: Tensor
    links: Sequence[Link] = ()
    radial: float = 0.0
    radial_prior: float = 0.0
    radial_sigma: float = 0.0


@dataclass(frozen=True)
class State:
    """What is adjusted: T_cw `(F, 4, 4)`, inverse depths `(M,)`, and the radial coefficient."""

    T_cw: np.ndarray
    inverse_depth: np.ndarray
    radial: float

    def moved(self, motion: np.ndarray, points: np.ndarray) -> State:
        """After a step: `(P,)` twists of the last frames (turn, shift) and the radial, and `(M,)` inverse depths."""
        twist = motion[:-1].reshape(-1, 6)
        step = np.tile(np.eye(4), (len(twist), 1, 1))
        step[:, :3, :3], step[:, :3, 3] = Rotation.from_rotvec(twist[:, :3]).as_matrix(), twist[:, 3:]
        T_cw = self.T_cw.copy()
        free = len(T_cw) - len(twist)
        T_cw[free:] = T_cw[free:] @ step
        nearest = self.inverse_depth / 10  # a step never takes a point through infinity
        return State(T_cw, np.maximum(self.inverse_depth + points, nearest), self.radial + float(motion[-1]))


@dataclass(frozen=True)
class Normal:
    """Normal equations of half the cost, the P motion parameters (6 a free frame, 1 radial) before the M points."""

    motion: np.ndarray  # (P, P)
    mixed: np.ndarray  # (P, M)
    points: np.ndarray  # (M,), diagonal
    motion_gradient: np.ndarray  # (P,)
    points_gradient: np.ndarray  # (M,)

    def reduced(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Schur complement `(P, P)` and gradient `(P,)` without the points, and the damped diagonal of these.

        A parameter that nothing depends on gets a one, and so stays.
        """
        points = self.points * (1 + damping) + 1e-12
        scaled = self.mixed / points
        diagonal = self.motion.diagonal()
        S = self.motion + np.diag(np.where(diagonal > 0, damping * diagonal, 1.0)) - scaled @ self.mixed.T
        return S, self.motion_gradient - scaled @ self.points_gradient, points

    def step(self, damping: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Of motion `(P,)` and points `(M,)`, as `State.moved` takes them; None where there is no solution."""
        S, gradient, points = self.reduced(damping)
        try:
            motion = np.linalg.solve(S, -gradient)
        except np.linalg.LinAlgError:
            return None
        step = -(self.points_gradient + motion @ self.mixed) / points
        return (motion, step) if np.isfinite(motion).all() and np.isfinite(step).all() else None


@dataclass(frozen=True)
class Look:
    """A state as the frames see it, coordinates first; the N sightings are those of points away from their anchors.

    Attributes:
        cost: of the state.
        centre: `(F, 3)` of the cameras.
        world: `(3, M)` points times their inverse depths.
        inverse: `(N,)` one over what is left of the depth: 1 / (depth * inverse depth in the anchor).
        q: `(2, N)` where the points are predicted, straightened.
        error: `(2, N)` prediction minus measurement, in normalised coordinates with the distortion.
        r: `(2, N)` the same in standard deviations; zero for a point behind the camera.
        root: `(N,)` square root of the robust weight; zero for a point behind the camera.
        pull: `(M,)` inverse depths off their priors, in standard deviations.
        bending: `(2, 2, N)` `geometry.radial.bend` at the measurements.
    """

    cost: float
    centre: np.ndarray
    world: np.ndarray
    inverse: np.ndarray
    q: np.ndarray
    error: np.ndarray
    r: np.ndarray
    root: np.ndarray
    pull: np.ndarray
    bending: np.ndarray


class Equations:
    """What a window has seen, laid out for the cost of any `State` of it.

    Args:
        window: frames and points; its poses, inverse depths and radial are a start only.
        f: `(2,)` focal lengths, pixels.
        noise: standard deviation of a measurement of weight one on each axis, pixels.
        fixed: leading frames that do not move.
    """

    def __init__(self, window: Window, f: Tensor, noise: float, fixed: int) -> None:
        F, M = window.seen.shape
        self._f, self._fixed, self._points = f.numpy()[:, None], fixed, np.arange(M)
        self._anchor = window.anchor.numpy()
        elsewhere = window.seen.numpy().copy()
        elsewhere[self._anchor, self._points] = False
        frame, point = elsewhere.nonzero()
        pair = self._anchor[point] * F + frame
        order = pair.argsort(kind="stable")
        self.frame, self.point = frame[order], point[order]
        pairs, starts = np.unique(pair[order], return_index=True)
        ends = [*starts[1:], len(order)]
        self._pairs = [(*divmod(int(pair), F), start, end) for pair, start, end in zip(pairs, starts, ends)]
        x = window.x.numpy()
        self._x = np.ascontiguousarray(x[self.frame, self.point].T)
        self._x_anchor = np.ascontiguousarray(x[self._anchor, self._points].T)
        self._scale = self._f / noise * np.sqrt(window.weight.numpy()[self.frame, self.point])
        self._prior, self._prior_sigma = window.prior.numpy(), window.prior_sigma.numpy()
        self._radial_prior, self._radial_sigma = window.radial_prior, window.radial_sigma
        self._links = _Links(window.links)
        self._lens = (window.radial, *self._straighten(window.radial))

    def errors(self, look: Look) -> np.ndarray:
        """Distances `(F, M)` of predictions from measurements, pixels; zero where a point was not seen, and at home."""
        out = np.zeros((len(look.centre), len(self._points)))
        out[self.frame, self.point] = np.hypot(*(look.error * self._f))
        return out

    def _straighten(self, radial: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rays of the points `(3, M)`, straightened measurements `(2, N)`, and `bend` at these as matrices."""
        x, home = torch.from_numpy(self._x.T), torch.from_numpy(self._x_anchor.T)
        ray = np.vstack([straighten(home, radial).numpy().T, np.ones(len(home))])
        axes = torch.eye(2, dtype=x.dtype)[:, None].expand(2, len(x), 2)
        matrices = np.ascontiguousarray(bend(axes, x, radial).numpy().transpose(2, 0, 1))
        return ray, np.ascontiguousarray(straighten(x, radial).numpy().T), matrices

    def look(self, state: State) -> Look:
        """A state as the frames see it, and its cost: Cauchy losses of the points and their priors, and the links."""
        if state.radial != self._lens[0]:
            self._lens = (state.radial, *self._straighten(state.radial))
        _, ray, straight, bending = self._lens
        R, t = state.T_cw[:, :3, :3], state.T_cw[:, :3, 3]
        centre = -np.einsum("fji,fj->fi", R, t)
        world = np.einsum("mji,jm->im", R[self._anchor], ray) + state.inverse_depth * centre[self._anchor].T
        everywhere = state.T_cw[:, :3].reshape(-1, 4) @ np.vstack([world, state.inverse_depth])
        h = np.ascontiguousarray(everywhere.reshape(len(R), 3, -1)[self.frame, :, self.point].T)
        front, inverse = h[2] > 1e-3, 1 / np.maximum(h[2], 1e-9)
        q = h[:2] * inverse
        error = (bending * (q - straight)).sum(1)
        r = np.where(front, error * self._scale, 0.0)
        z = np.where(front, (r * r).sum(0) / _CAUCHY**2, _BEHIND)
        pull = (state.inverse_depth - self._prior) / self._prior_sigma
        cost = _CAUCHY**2 * float(np.log1p(z).sum() + np.log1p((pull / _CAUCHY) ** 2).sum())
        if self._radial_sigma > 0:
            cost += ((state.radial - self._radial_prior) / self._radial_sigma) ** 2
        cost += self._links.cost(state.T_cw)
        root = np.where(front, 1 / np.sqrt(1 + z), 0.0)
        return Look(cost, centre, world, inverse, q, error, r, root, pull, bending)

    def normal(self, state: State, look: Look) -> Normal:
        """Normal equations at a state, given its `look`."""
        F, M = len(state.T_cw), len(self._points)
        frame, point, rho = self.frame, self.point, state.inverse_depth
        scale = self._scale * look.root
        # Derivatives of a residual by the point in the world times its inverse depth: (2, 3, N).
        R = state.T_cw[:, :3, :3].reshape(F, 9).T.take(frame, axis=1).reshape(3, 3, -1)
        by_q = look.bending * (scale * look.inverse)[:, None]
        by_world = (by_q[:, :, None] * (R[:2] - look.q[:, None] * R[2])).sum(1)
        # Columns: turn and shift of the frame (those of the anchor are their opposites), radial, and the residual.
        Y = look.world.take(point, axis=1)
        U = np.empty((2, 8, len(point)))
        U[:, 0] = Y[1] * by_world[:, 2] - Y[2] * by_world[:, 1]
        U[:, 1] = Y[2] * by_world[:, 0] - Y[0] * by_world[:, 2]
        U[:, 2] = Y[0] * by_world[:, 1] - Y[1] * by_world[:, 0]
        U[:, 3:6] = rho.take(point) * by_world
        U[:, 6] = self._by_radial(state, look, by_world, scale) if self._radial_sigma > 0 else 0.0
        U[:, 7] = look.root * look.r
        apart = look.centre.T.take(self._anchor[point], axis=1) - look.centre.T.take(frame, axis=1)
        by_depth = (by_world * apart).sum(1)

        edges = self._links.edges(state.T_cw)
        for a, b, start, end in self._pairs:
            part = U[:, :, start:end]
            edges[a, b] += (part @ part.transpose(0, 2, 1)).sum(0)
        free, P = slice(self._fixed, F), 6 * (F - self._fixed) + 1
        frames, into, out_of = np.arange(F), edges.sum(0), edges.sum(1)
        blocks = -(edges + edges.transpose(1, 0, 2, 3))[..., :6, :6]
        blocks[frames, frames] += (into + out_of)[:, :6, :6]
        whole, net = into.sum(0), (into - out_of)[free, :6]
        motion = np.empty((P, P))
        motion[:-1, :-1] = blocks[free, free].transpose(0, 2, 1, 3).reshape(P - 1, P - 1)
        motion[:-1, -1] = motion[-1, :-1] = net[..., 6].ravel()
        motion[-1, -1] = whole[6, 6]
        gradient = np.append(net[..., 7].ravel(), whole[6, 7])
        if self._radial_sigma > 0:
            motion[-1, -1] += 1 / self._radial_sigma**2
            gradient[-1] += (state.radial - self._radial_prior) / self._radial_sigma**2

        by_both = (U[:, :7] * by_depth[:, None]).sum(0)
        mixed = np.zeros((F, 6, M))
        mixed[frame, :, point] = by_both[:6].T
        mixed[self._anchor, :, self._points] -= mixed.sum(0).T
        trust = 1 / (self._prior_sigma**2 * (1 + (look.pull / _CAUCHY) ** 2))
        return Normal(
            motion,
            np.vstack([mixed[free].reshape(P - 1, M), np.bincount(point, by_both[6], M)]),
            trust + np.bincount(point, (by_depth**2).sum(0), M),
            gradient,
            trust * (rho - self._prior) + np.bincount(point, (by_depth * U[:, 7]).sum(0), M),
        )

    def _by_radial(self, state: State, look: Look, by_world: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Derivatives of the residuals `(2, N)` by the radial coefficient."""
        home = self._x_anchor * (self._x_anchor**2).sum(0)
        turned = np.einsum("mji,jm->im", state.T_cw[self._anchor, :2, :3], home)
        r2 = (self._x**2).sum(0)
        curved = self._x * r2 + r2 * look.error + 2 * self._x * (self._x * look.error).sum(0)
        bent = (look.bending * curved).sum(1)
        return (by_world * turned.take(self.point, axis=1)).sum(1) - scale * bent


class _Links:
    """Links as arrays, under a Cauchy loss as a pair's direction may be wrong altogether.

    A direction is compared by the chord, which is longest for the opposite one.
    """

    def __init__(self, links: Sequence[Link]) -> None:
        self.first = np.array([link.first for link in links], dtype=np.int64)
        self.second = np.array([link.second for link in links], dtype=np.int64)
        T_ba = torch.stack([link.T_ba for link in links]) if links else torch.zeros(0, 4, 4, dtype=torch.float64)
        known = [link.information for link in links]
        information = torch.stack(known) if links else torch.zeros(0, 5, 5, dtype=torch.float64)
        direction = torch.nn.functional.normalize(T_ba[:, :3, 3], dim=-1)
        lift = torch.zeros(len(links), 5, 6, dtype=torch.float64)
        lift[:, :3, :3] = torch.eye(3, dtype=torch.float64)
        lift[:, 3:, 3:] = tangent_basis(direction)
        lifted = lift.mT @ information @ lift
        doubt = information[:, 3:, 3:].diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
        lifted[:, 3:, 3:] += doubt * direction[:, :, None] * direction[:, None]
        self._R_ba, self._direction, self._information = T_ba[:, :3, :3].numpy(), direction.numpy(), lifted.numpy()

    def cost(self, T_cw: np.ndarray) -> float:
        """Losses of all links."""
        return _LINK_LOSS * float(np.log1p(self._squared(self._error(*self._relative(T_cw)))).sum())

    def _squared(self, error: np.ndarray) -> np.ndarray:
        """Squared errors `(L,)` in scales of the loss."""
        return np.einsum("ki,kij,kj->k", error, self._information, error) / _LINK_LOSS

    def edges(self, T_cw: np.ndarray) -> np.ndarray:
        """Normal matrices `(F, F, 8, 8)` of the pairs of frames: difference of their twists, radial, residual."""
        R, t = self._relative(T_cw)
        length = np.linalg.norm(t, axis=-1).clip(1e-12)[:, None, None]
        direction, eye = t / length[..., 0], np.eye(3)
        turn = R @ self._R_ba.transpose(0, 2, 1)
        by_twist = np.zeros((len(t), 6, 6))
        by_twist[:, :3, :3] = (np.trace(turn, axis1=1, axis2=2)[:, None, None] * eye - turn) / 2
        by_twist[:, 3:, :3] = -skew_array(direction)
        by_twist[:, 3:, 3:] = (eye - direction[:, :, None] * direction[:, None]) / length
        R_b, t_b = T_cw[self.second, :3, :3], T_cw[self.second, :3, 3]
        adjoint = np.zeros((len(t), 6, 6))
        adjoint[:, :3, :3] = adjoint[:, 3:, 3:] = R_b
        adjoint[:, 3:, :3] = skew_array(t_b) @ R_b
        U = np.zeros((len(t), 6, 8))
        U[..., :6], U[..., 7] = by_twist @ adjoint, self._error(R, t)
        weighted = self._information / (1 + self._squared(U[..., 7]))[:, None, None]
        edges = np.zeros((len(T_cw), len(T_cw), 8, 8))
        np.add.at(edges, (self.first, self.second), U.transpose(0, 2, 1) @ weighted @ U)
        return edges

    def _relative(self, T_cw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """R_ba `(L, 3, 3)` and t_ba `(L, 3)` of the linked frames."""
        a, b = T_cw[self.first], T_cw[self.second]
        R = b[:, :3, :3] @ a[:, :3, :3].transpose(0, 2, 1)
        return R, b[:, :3, 3] - np.einsum("kij,kj->ki", R, a[:, :3, 3])

    def _error(self, R: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Of rotation, radians, and direction `(L, 6)`."""
        turn = R @ self._R_ba.transpose(0, 2, 1)
        w = turn[:, [2, 0, 1], [1, 2, 0]] - turn[:, [1, 2, 0], [2, 0, 1]]
        return np.hstack([w / 2, t / np.linalg.norm(t, axis=-1).clip(1e-12)[:, None] - self._direction])
