"""Bundle adjustment of a few key frames and the points seen from them: Levenberg-Marquardt on the Schur complement."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from trianflow.geometry.camera import homogeneous, invert_pose
from trianflow.geometry.radial import straighten
from trianflow.geometry.triangulation import inverse_depths
from trianflow.odometry.bundle import Equations, Look, State, Window

# The cost falls by less than this share: done.
_ENOUGH = 1e-4
# A measured depth further than this from the adjusted one, in standard deviations, is not remembered.
_GATE = 3.0


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

    Minimises the Cauchy losses of the reprojection errors, of the priors of the points and of the links. The held
    frames fix the frame of reference and the scale.

    Args:
        window: where to start.
        f: `(2,)` focal lengths, pixels.
        noise: of the measurements on each axis, pixels.
        fixed: leading frames that are held, at least one; with one the scale rests on the priors alone.
        steps: of Levenberg-Marquardt at most.
        min_points: fewer points that carry the scale on (seen by three frames, or by two and with a prior), or that
            show parallax, change nothing.

    Returns:
        `Adjusted`. Too few points, standing still, turning only and a failed solution are notes, not exceptions.
    """
    # The world is the oldest frame, so that twists are about a point nearby.
    start = State((window.T_cw @ invert_pose(window.T_cw[0])).numpy(), window.inverse_depth.numpy(), window.radial)
    equations = Equations(window, f, noise, fixed)
    best, seen, damping = start, equations.look(start), 1e-4
    if (problem := _problem(equations, start, seen, window, 3 * noise, fixed, min_points)) is not None:
        return Adjusted(window, False, torch.from_numpy(equations.errors(seen)), 0.0, (0.0, 0.0), problem)
    before = seen.cost
    for _ in range(steps):
        normal = equations.normal(best, seen)
        for _ in range(5):
            if (step := normal.step(damping)) is not None:
                trial = best.moved(*step)
                there = equations.look(trial)
                if there.cost < seen.cost:
                    break
            damping = max(damping, 1e-6) * 10
        else:
            break
        gained = 1 - there.cost / seen.cost
        best, seen, damping = trial, there, max(damping / 10, 1e-9)
        if gained < _ENOUGH:
            break
    information = 0.0
    if window.radial_sigma > 0:
        information = _information(equations.normal(best, seen).reduced(0.0)[0]) - 1 / window.radial_sigma**2
    error, cost = torch.from_numpy(equations.errors(seen)), (before, seen.cost)
    if best is start:
        return Adjusted(window, False, error, max(information, 0.0), cost, "no better")
    T_cw = torch.from_numpy(best.T_cw) @ window.T_cw[0]
    # Poses are inverted by transposing: what little a rotation is off would double with every adjustment.
    U, _, Vh = torch.linalg.svd(T_cw[:, :3, :3])
    T_cw[:, :3, :3] = U @ Vh
    T_cw[:fixed] = window.T_cw[:fixed]
    depth = torch.from_numpy(best.inverse_depth)
    found = replace(window, T_cw=T_cw, inverse_depth=depth, radial=best.radial)
    return Adjusted(found, True, error, max(information, 0.0), cost)


def _information(S: np.ndarray) -> float:
    """Of the last parameter, the others being free."""
    rest, failed = torch.linalg.solve_ex(torch.from_numpy(S[:-1, :-1]), torch.from_numpy(S[:-1, -1:]))
    return 0.0 if failed else float(S[-1, -1] - S[-1, :-1] @ rest.numpy()[:, 0])


def _problem(
    equations: Equations, state: State, seen: Look, window: Window, parallax: float, fixed: int, min_points: int
) -> str | None:
    """Why a window cannot be adjusted."""
    if len(window.T_cw) <= fixed:
        return "too few key frames"
    views = window.seen.sum(0)
    carrying = (views >= 3) | ((views == 2) & window.prior_sigma.isfinite())
    if (count := int(carrying.sum())) < min_points:
        return f"{count} points carry the scale"
    T_cw = state.T_cw.copy()
    T_cw[:, :3, 3] = 0  # all from the first camera's centre
    turned = equations.look(replace(state, T_cw=T_cw))
    apart = equations.errors(replace(seen, error=seen.q - turned.q)).max(0)
    return "no parallax" if int((apart > parallax).sum()) < min_points else None


def without_oldest(window: Window, f: Tensor, noise: float, memory: float) -> tuple[Window, Tensor]:
    """A window without its oldest frame: the points anchored there move on, with what it has said of their depths.

    Args:
        window: of two frames at least.
        f: `(2,)` focal lengths, pixels.
        noise: of the measurements on each axis, pixels.
        memory: share of what was known of a point before that is kept.

    Returns:
        The window, and `(M,)` bool: False for points that cannot move on, as the next frame does not see them.
    """
    moving = window.anchor == 0
    T_ba = window.T_cw[1] @ invert_pose(window.T_cw[0])
    x_a, x_b = straighten(window.x[0], window.radial), straighten(window.x[1], window.radial)
    measured, reach = inverse_depths(x_a, x_b, T_ba)
    # What is known of the inverse depth in the oldest frame.
    rho = window.inverse_depth
    by_match = window.weight[1] * (reach * f.mean() / noise).square()
    by_match = torch.where((measured - rho).square() * by_match < _GATE**2, by_match, 0.0)
    by_prior = memory / window.prior_sigma.square()
    information = by_match + by_prior
    mean = (by_match * measured + by_prior * window.prior) / information.clamp_min(1e-30)
    # The same in the next: inverse depth / z, where z is linear in it.
    far = homogeneous(x_a) @ T_ba[2, :3]
    z = far + rho * T_ba[2, 3]
    front = (z > 1e-3) & (far > 1e-3)
    z, far = z.clamp_min(1e-3), far.clamp_min(1e-3)
    rate = far / z.square()
    prior = torch.where(information > 0, rho / z + rate * (mean - rho), rho / z)
    kept = (window.seen[1] & front) | ~moving
    shorter = replace(
        window,
        T_cw=window.T_cw[1:],
        x=window.x[1:],
        seen=window.seen[1:],
        weight=window.weight[1:],
        anchor=(window.anchor - 1).clamp_min(0),
        inverse_depth=torch.where(moving, rho / z, rho),
        prior=torch.where(moving, prior, window.prior),
        prior_sigma=torch.where(moving, rate * information.rsqrt(), window.prior_sigma),
        links=[replace(k, first=k.first - 1, second=k.second - 1) for k in window.links if k.first > 0],
    )
    return shorter, kept
