"""Bundle adjustment of a few key frames and the points seen from them: Levenberg-Marquardt on the Schur complement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trianflow.geometry.camera import homogeneous, invert_pose, pose_matrix
from trianflow.geometry.epipolar import skew
from trianflow.geometry.radial import bend, straighten
from trianflow.geometry.sampson import rotation_exp, tangent_basis

# Scale of the Cauchy loss in standard deviations (95 % efficient).
_CAUCHY = 2.385
# Squared distance, in scales of the loss, that a point behind a camera is charged.
_BEHIND = 100.0
# The cost falls by less than this share: done.
_ENOUGH = 1e-4


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
    anchor: Tensor
    inverse_depth: Tensor
    prior: Tensor
    prior_sigma: Tensor
    links: Sequence[Link] = ()
    radial: float = 0.0
    radial_prior: float = 0.0
    radial_sigma: float = 0.0


@dataclass(frozen=True)
class Normal:
    """Cost and normal equations of a window, the P motion parameters (6 a free frame, 1 radial) before the M points."""

    cost: float
    motion: Tensor  # (P, P)
    mixed: Tensor  # (P, M)
    points: Tensor  # (M,), diagonal
    motion_gradient: Tensor  # (P,)
    points_gradient: Tensor  # (M,)

    def reduced(self, damping: float) -> tuple[Tensor, Tensor, Tensor]:
        """Schur complement `(P, P)` and gradient `(P,)` without the points, and the damped diagonal of these."""
        points = self.points * (1 + damping) + 1e-12
        scaled = self.mixed / points
        S = self.motion + damping * self.motion.diagonal().diag() - scaled @ self.mixed.mT
        return S, self.motion_gradient - scaled @ self.points_gradient, points


def residuals(window: Window, f: Tensor) -> Tensor:
    """Reprojection errors `(F, M, 2)` in pixels of the uncorrected image, prediction minus measurement.

    Zero where a point was not seen, and in its anchor.

    Args:
        window: frames and points.
        f: `(2,)` focal lengths, pixels.
    """
    projection = _Projection.of(window)
    out = torch.zeros_like(window.x)
    out[projection.frame, projection.point] = projection.error * f
    return out


@dataclass(frozen=True)
class _Projection:
    """The N sightings of points in frames other than their anchors; h `(N, 3)` is a point times its inverse depth."""

    frame: Tensor
    point: Tensor
    R_cw: Tensor
    R_wa: Tensor
    c_a: Tensor
    ray: Tensor
    x: Tensor
    h: Tensor
    q: Tensor
    error: Tensor

    @classmethod
    def of(cls, window: Window) -> _Projection:
        points = torch.arange(len(window.anchor))
        elsewhere = window.seen.clone()
        elsewhere[window.anchor, points] = False
        frame, point = elsewhere.nonzero(as_tuple=True)
        ray = homogeneous(straighten(window.x[window.anchor, points], window.radial))
        T_wc = invert_pose(window.T_cw)[window.anchor]
        R_wa, c_a, rho = T_wc[:, :3, :3], T_wc[:, :3, 3], window.inverse_depth[:, None]
        world = ((R_wa @ ray[..., None])[..., 0] + rho * c_a)[point]
        T_cw, x = window.T_cw[frame], window.x[frame, point]
        h = (T_cw[:, :3, :3] @ world[..., None])[..., 0] + rho[point] * T_cw[:, :3, 3]
        q = h[:, :2] / h[:, 2:].clamp_min(1e-9)
        error = bend(q - straighten(x, window.radial), x, window.radial)
        return cls(frame, point, T_cw[:, :3, :3], R_wa[point], c_a[point], ray[point], x, h, q, error)


def linearise(window: Window, f: Tensor, noise: float, fixed: int = 2, derivatives: bool = True) -> Normal:
    """Cost of a window, and its normal equations.

    Args:
        window: frames and points.
        f: `(2,)` focal lengths, pixels.
        noise: standard deviation of a measurement on each axis, pixels.
        fixed: leading frames that do not move.
        derivatives: without, only the cost is computed.
    """
    F, M = window.seen.shape
    seen = _Projection.of(window)
    front = seen.h[:, 2] > 1e-3
    r = torch.where(front[:, None], seen.error * (f / noise), 0.0)
    z = torch.where(front, r.square().sum(-1) / _CAUCHY**2, _BEHIND)
    pull = (window.inverse_depth - window.prior) / window.prior_sigma
    loss = torch.log1p(z).sum() + torch.log1p(pull.square() / _CAUCHY**2).sum()
    cost = float(loss) * _CAUCHY**2
    off_radial = window.radial - window.radial_prior
    if window.radial_sigma > 0:
        cost += (off_radial / window.radial_sigma) ** 2
    P = 6 * max(F - fixed, 0) + 1
    motion, gradient = window.x.new_zeros(P, P), window.x.new_zeros(P)
    for link in window.links:
        e, J = _link(window, link)
        cost += float(e @ link.information @ e)
        if derivatives:
            J = torch.cat([J[:, fixed:].flatten(1), J.new_zeros(5, 1)], 1)
            motion += J.mT @ link.information @ J
            gradient += J.mT @ link.information @ e
    empty = window.x.new_zeros(0)
    if not derivatives:
        return Normal(cost, motion, empty, empty, gradient, empty)

    # Derivatives of the pixel by h, then of h by the frame, by the frame of the anchor, by the point and the radial.
    inverse = 1 / seen.h[:, 2].clamp_min(1e-9)
    zero = torch.zeros_like(inverse)
    by_h = torch.stack(
        [
            torch.stack([inverse, zero, -seen.q[:, 0] * inverse], -1),
            torch.stack([zero, inverse, -seen.q[:, 1] * inverse], -1),
        ],
        -2,
    )
    root = torch.where(front, (1 + z).rsqrt(), 0.0)[:, None]
    scale = root * (f / noise)
    by_h = scale[..., None] * bend(by_h.mT, seen.x[:, None], window.radial).mT
    rho = window.inverse_depth[seen.point, None, None]
    by_frame = torch.cat([torch.linalg.cross(seen.h[:, None], by_h), by_h * rho], -1)
    by_ray = by_h @ (seen.R_cw @ seen.R_wa)
    by_anchor = torch.cat([torch.linalg.cross(by_ray, seen.ray[:, None]), -by_ray * rho], -1)
    by_depth = window.T_cw[seen.frame, :3, 3] + (seen.R_cw @ seen.c_a[..., None])[..., 0]
    J_points = (by_h @ by_depth[..., None])[..., 0]
    rows = torch.arange(len(seen.frame))
    J = window.x.new_zeros(len(rows), 2, 6 * F + 1)
    blocks = J[..., :-1].unflatten(-1, (F, 6))
    blocks[rows, :, seen.frame] = by_frame
    blocks[rows, :, window.anchor[seen.point]] = by_anchor
    if window.radial_sigma > 0:
        r2 = seen.x.square().sum(-1, keepdim=True)
        at_anchor = window.x[window.anchor, torch.arange(M)]
        by_radial = (at_anchor * at_anchor.square().sum(-1, keepdim=True))[seen.point]
        curved = r2 * seen.error + 2 * seen.x * (seen.x * seen.error).sum(-1, keepdim=True)
        bent = bend(seen.x * r2 + curved, seen.x, window.radial)
        J[..., -1] = (by_ray[..., :2] @ by_radial[..., None])[..., 0] - scale * bent
        motion[-1, -1] += 1 / window.radial_sigma**2
        gradient[-1] += off_radial / window.radial_sigma**2
    J, rw = J[..., 6 * fixed :], root * r
    flat = J.flatten(0, 1)
    trust = 1 / (window.prior_sigma.square() * (1 + pull.square() / _CAUCHY**2))
    return Normal(
        cost,
        motion + flat.mT @ flat,
        window.x.new_zeros(M, P).index_add_(0, seen.point, (J * J_points[..., None]).sum(1)).mT,
        trust.index_add(0, seen.point, J_points.square().sum(-1)),
        gradient + flat.mT @ rw.flatten(),
        (trust * (window.inverse_depth - window.prior)).index_add(0, seen.point, (J_points * rw).sum(-1)),
    )


def _link(window: Window, link: Link) -> tuple[Tensor, Tensor]:
    """Error of a link `(5,)` and its derivatives by the frames `(5, F, 6)`."""
    T_ba = window.T_cw[link.second] @ invert_pose(window.T_cw[link.first])
    R, t = T_ba[:3, :3], T_ba[:3, 3]
    length = t.norm().clamp_min(1e-12)
    direction = t / length
    basis = tangent_basis(torch.nn.functional.normalize(link.T_ba[:3, 3], dim=0))
    turn = R @ link.T_ba[:3, :3].mT
    w = torch.stack([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    e = torch.cat([w, basis @ direction])
    eye = torch.eye(3, dtype=t.dtype)
    by_b = t.new_zeros(5, 6)
    by_b[:3, :3] = (turn.diagonal().sum() * eye - turn.mT) / 2
    by_b[3:, :3] = -basis @ skew(direction)
    by_b[3:, 3:] = basis @ (eye - direction[:, None] * direction) / length
    adjoint = t.new_zeros(6, 6)
    adjoint[:3, :3] = adjoint[3:, 3:] = R
    adjoint[3:, :3] = skew(t) @ R
    J = t.new_zeros(5, len(window.T_cw), 6)
    J[:, link.second] += by_b
    J[:, link.first] -= by_b @ adjoint
    return e, J


def moved(window: Window, motion: Tensor, points: Tensor, fixed: int) -> Window:
    """A window after a step: `(P,)` motion parameters, applied on the left of T_cw, and `(M,)` inverse depths."""
    delta = motion[:-1].unflatten(0, (-1, 6))
    T_cw = window.T_cw.clone()
    T_cw[fixed:] = pose_matrix(rotation_exp(delta[:, :3]), delta[:, 3:]) @ T_cw[fixed:]
    nearest = window.inverse_depth / 10  # a step never takes a point through infinity
    depth = (window.inverse_depth + points).maximum(nearest)
    return replace(window, T_cw=T_cw, inverse_depth=depth, radial=window.radial + float(motion[-1]))


@dataclass(frozen=True)
class Adjusted:
    """The outcome of `adjust`.

    Attributes:
        window: with poses, inverse depths and radial coefficient as adjusted; as given where `ok` is False.
        ok: False where it changed nothing.
        error: `(F, M)` reprojection errors, pixels; 0 where a point was not seen, and in its anchor.
        radial_information: what the window says of the radial coefficient, 1 / variance, its prior not counted.
        cost: before and after.
        note: why it changed nothing; empty where it did.
    """

    window: Window
    ok: bool
    error: Tensor
    radial_information: float
    cost: tuple[float, float]
    note: str = ""


def adjust(
    window: Window, f: Tensor, noise: float = 0.5, fixed: int = 2, steps: int = 8, min_points: int = 30
) -> Adjusted:
    """Poses and points that best explain what was seen, the first frames being held.

    Minimises the Cauchy loss of the reprojection errors and of the priors of the points, plus the links. The held
    frames fix the frame of reference and the scale.

    Args:
        window: where to start.
        f: `(2,)` focal lengths, pixels.
        noise: of the measurements on each axis, pixels.
        fixed: leading frames that are held, at least one; with one the scale rests on the priors alone.
        steps: of Levenberg-Marquardt at most.
        min_points: fewer points that were seen twice, or that show parallax, change nothing.

    Returns:
        `Adjusted`. Too few points, standing still, turning only and a failed solution are notes, not exceptions.
    """
    window = replace(window, T_cw=window.T_cw.clone())
    if (problem := _problem(window, f, noise, fixed, min_points)) is not None:
        return Adjusted(window, False, residuals(window, f).norm(dim=-1), 0.0, (0.0, 0.0), problem)
    normal = linearise(window, f, noise, fixed)
    start, best, damping = normal.cost, window, 1e-4
    for _ in range(steps):
        for _ in range(5):
            S, gradient, points = normal.reduced(damping)
            if window.radial_sigma <= 0:
                S[-1, -1] = 1.0
            ridge = 1e-12 * S.diagonal().amax() * torch.eye(len(S), dtype=S.dtype)
            motion, failed = torch.linalg.solve_ex(S + ridge, -gradient)
            step = -(normal.points_gradient + normal.mixed.mT @ motion) / points
            if not failed and motion.isfinite().all() and step.isfinite().all():
                trial = moved(best, motion, step, fixed)
                cost = linearise(trial, f, noise, fixed, derivatives=False).cost
                if cost < normal.cost:
                    break
            damping = max(damping, 1e-6) * 10
        else:
            break
        gained = (normal.cost - cost) / max(normal.cost, 1e-300)
        best, damping = trial, damping / 10
        normal = linearise(best, f, noise, fixed)
        if gained < _ENOUGH:
            break
    information = 0.0
    if window.radial_sigma > 0:
        covariance, failed = torch.linalg.inv_ex(normal.reduced(0.0)[0])
        if not failed and float(covariance[-1, -1]) > 0:
            information = max(1 / float(covariance[-1, -1]) - 1 / window.radial_sigma**2, 0.0)
    return Adjusted(best, best is not window, residuals(best, f).norm(dim=-1), information, (start, normal.cost))


def _problem(window: Window, f: Tensor, noise: float, fixed: int, min_points: int) -> str | None:
    """Why a window cannot be adjusted."""
    if len(window.T_cw) <= fixed:
        return "too few key frames"
    twice = window.seen.sum(0) >= 2
    if int(twice.sum()) < min_points:
        return f"{int(twice.sum())} points seen twice"
    still = window.T_cw.clone()
    still[:, :3, 3] = -(still[:, :3, :3] @ invert_pose(window.T_cw)[0, :3, 3])  # all from the first camera's centre
    here, there = _Projection.of(window), _Projection.of(replace(window, T_cw=still))
    apart = ((here.q - there.q) * f).norm(dim=-1)
    parallax = apart.new_zeros(len(window.anchor)).scatter_reduce_(0, here.point, apart, "amax")
    if int((parallax > 3 * noise).sum()) < min_points:
        return "no parallax"
    return None
