"""Direct alignment (DDVO): the pose that makes two images alike, given the depth of one; differentiable throughout."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from trianflow.geometry.camera import pixel_grid, pose_matrix
from trianflow.geometry.inverse_depth import inverse_depth_of, see
from trianflow.geometry.sampson import rotation_exp
from trianflow.geometry.warping import sample

# Pixels that a motion moves the image by on average: below the first nothing happens any more, and linearised images
# are not to be believed beyond the second.
_STILL, _FAR = 2e-3, 2.0
# Share of the pixels of known depth that must be in view.
_FEWEST = 0.1
# An alignment that raises the error by more than this is none: to the least error, not the exact minimum, it comes.
_WORSE = 1.05
# Smallest pivot of the normal matrix, of unit diagonal, that still tells six unknowns apart.
_SINGULAR = 1e-3
# Ratio of depths within three by three pixels above which they are of different things.
_JUMP = 1.3
# Sides below which a coarser level is left out, pixels.
_SMALLEST = 12


class AlignmentStatus(IntEnum):
    """How an alignment ended."""

    CONVERGED = 0
    UNFINISHED = 1  # no worse than the start, but still moving
    TOO_FEW_PIXELS = 2  # with depth in view of both cameras, or too little texture
    DIVERGED = 3  # worse than the start


@dataclass(frozen=True)
class Alignment:
    """Poses of B pairs by direct alignment.

    Attributes:
        T_ba: `(B, 4, 4)` in the unit of the depth; the start where the status is not CONVERGED or UNFINISHED.
        status: `(B,)` int64, of `AlignmentStatus`.
        error: `(B,)` mean of half the squared residuals of the pixels in view, or of their Huber loss.
        share: `(B,)` of the pixels of known depth that are in view, in [0, 1].
    """

    T_ba: Tensor
    status: Tensor
    error: Tensor
    share: Tensor

    @property
    def found(self) -> Tensor:
        """`(B,)` bool: there is a pose, with an error at most 5 % above that of the start."""
        return self.status <= AlignmentStatus.UNFINISHED


@dataclass(frozen=True)
class _Level:
    """One size of the pyramid, with what does not change from step to step.

    Attributes:
        image_a, image_b: `(B, C, h, w)`.
        inverse_depth: `(B, 1, h, w)`; known: the same, bool.
        K: `(B, 3, 3)`.
        J: `(B, 6, C, h w)` derivatives of image a by a motion of the points of a (rotation, then translation).
        motion: `(B, 6, 6)`, mean of the squared length that a motion moves a pixel by.
    """

    image_a: Tensor
    image_b: Tensor
    inverse_depth: Tensor
    known: Tensor
    K: Tensor
    J: Tensor
    motion: Tensor

    @classmethod
    def of(cls, image_a: Tensor, image_b: Tensor, inverse_depth: Tensor, known: Tensor, K: Tensor) -> _Level:
        h, w = image_a.shape[-2:]
        focal = torch.stack([K[:, 0, 0], K[:, 1, 1]], 1)[:, :, None, None]
        x, y = ((pixel_grid(h, w, K.dtype, K.device) - K[:, :2, 2, None, None]) / focal).split(1, 1)
        d, o = inverse_depth, torch.zeros_like(inverse_depth)
        by_motion = torch.stack(
            [
                focal[:, :1, None] * torch.stack([-x * y, 1 + x * x, -y.expand_as(o), d, o, -d * x], 1)[:, :, 0, None],
                focal[:, 1:, None] * torch.stack([-1 - y * y, x * y, x.expand_as(o), o, d, -d * y], 1)[:, :, 0, None],
            ],
            2,
        )  # (B, 6, 2, 1, h, w)
        gx, gy = torch.gradient(image_a, dim=(-1, -2))
        J = by_motion[:, :, 0] * gx[:, None] + by_motion[:, :, 1] * gy[:, None]
        flat = (by_motion.flatten(2) * known.flatten(1).repeat(1, 2)[:, None]).detach()
        count = known.flatten(1).sum(1).clamp_min(1)[:, None, None]
        return cls(image_a, image_b, inverse_depth, known, K, J.flatten(3), flat @ flat.mT / count)


def _smooth(inverse_depth: Tensor, known: Tensor) -> Tensor:
    """Which known pixels have no jump of depth beside them, where colours mix and things cover each other."""
    far = torch.where(known, inverse_depth, torch.inf).detach()
    nearest = torch.nn.functional.max_pool2d(inverse_depth.detach(), 3, 1, 1)
    farthest = -torch.nn.functional.max_pool2d(-far, 3, 1, 1)
    return known & (nearest <= _JUMP * farthest)


def _halved(x: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(x, 2)


def _pyramid(
    image_a: Tensor, image_b: Tensor, inverse_depth: Tensor, known: Tensor, K: Tensor, levels: int
) -> list[_Level]:
    """The levels, the finest first; each the mean of two by two pixels of the one before, known ones of the depth."""
    out = [_Level.of(image_a, image_b, inverse_depth, known, K)]
    for _ in range(levels - 1):
        if min(image_a.shape[-2:]) < 2 * _SMALLEST:
            break
        image_a, image_b = _halved(image_a), _halved(image_b)
        weight = _halved(known.to(inverse_depth.dtype))
        known = weight > 0
        inverse_depth = _halved(inverse_depth) / torch.where(known, weight, 1.0)
        # u' = (u + 0.5) / 2 - 0.5
        K = K.new_tensor([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]]) @ K
        out.append(_Level.of(image_a, image_b, inverse_depth, known, K))
    return out


def _residuals(level: _Level, T_ba: Tensor) -> tuple[Tensor, Tensor]:
    """Image b at the pixels of a less image a, `(B, C, h w)`, and which of them count, `(B, 1, h w)` 0 or 1."""
    seen = see(level.inverse_depth, T_ba, level.K)
    inside = seen.within() & level.known
    points = torch.stack([seen.x, seen.y], -1)[:, 0]
    # Straight lines between pixels are duller than the image: a bias that small motions cannot bear.
    seen_b = sample(level.image_b, torch.where(inside[:, 0, ..., None], points, 0.0), "border", "bicubic")
    return (seen_b - level.image_a).flatten(2), inside.flatten(2).to(seen_b.dtype)


def _share(level: _Level, mask: Tensor) -> Tensor:
    return mask.sum((1, 2)) / level.known.flatten(1).sum(1).clamp_min(1)


def _error(level: _Level, T_ba: Tensor, huber: float | None) -> tuple[Tensor, Tensor]:
    """Mean robust error of the pixels in view, and their share of the known ones: `(B,)` each."""
    r, mask = _residuals(level, T_ba)
    size = r.abs()
    if huber is None:
        loss = r.square() / 2
    else:
        loss = torch.where(size < huber, r.square() / 2, huber * size - huber**2 / 2)
    return (loss * mask).sum((1, 2)) / (mask.sum((1, 2)) * r.shape[1]).clamp_min(1), _share(level, mask)


def _step(A: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """The Gauss-Newton step `(B, 6)` and whether the equations determine one `(B,)`; zero where they do not."""
    scale = torch.diagonal(A, dim1=-2, dim2=-1)
    ok = scale.amin(-1) > 1e-12 * scale.amax(-1).clamp_min(1e-12)
    scale = torch.where(ok[:, None], scale, 1.0).rsqrt()
    eye = torch.eye(6, dtype=A.dtype, device=A.device)
    unit = torch.where(ok[:, None, None], A * scale[:, :, None] * scale[:, None], eye)
    factor, failed = torch.linalg.cholesky_ex(unit.detach())
    ok = ok & (failed == 0) & (torch.diagonal(factor, dim1=-2, dim2=-1).amin(-1) > _SINGULAR)
    unit = torch.where(ok[:, None, None], unit, eye)
    return torch.where(ok[:, None], scale * torch.linalg.solve(unit, scale * g), 0.0), ok


def _align_level(level: _Level, T_ba: Tensor, huber: float | None, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Steps on one level: the pose, whether it has come to rest, and whether all steps were determined, `(B,)`."""
    still = torch.zeros(len(T_ba), dtype=torch.bool, device=T_ba.device)
    sound = ~still
    for _ in range(iterations):
        r, mask = _residuals(level, T_ba)
        weight = mask.expand_as(r) if huber is None else mask * huber / r.abs().clamp_min(huber)
        weighed = (level.J * weight[:, None]).flatten(2)
        step, ok = _step(weighed @ level.J.flatten(2).mT, (weighed @ r.flatten(1)[..., None])[..., 0])
        sound = sound & (still | (ok & (_share(level, mask) > _FEWEST)))
        square = (step[:, None] @ level.motion @ step[..., None])[:, 0, 0]
        far = square > _FAR**2
        step = step * torch.where(far, _FAR * torch.where(far, square, 1.0).rsqrt(), 1.0)[:, None]
        moves = sound & ~still
        back = pose_matrix(rotation_exp(-step[:, :3]), -step[:, 3:])
        T_ba = torch.where(moves[:, None, None], T_ba @ back, T_ba)
        still = still | (moves & (square < _STILL**2))
        if bool((still | ~sound).all()):
            break
    return T_ba, still, sound


def align(
    image_a: Tensor,
    image_b: Tensor,
    depth_a: Tensor,
    K: Tensor,
    start_T_ba: Tensor | None = None,
    levels: int = 5,
    iterations: int = 20,
    huber: float | None = 0.01,
) -> Alignment:
    """The motion between two cameras by inverse-compositional Gauss-Newton on the photometric error, coarse to fine.

    The derivatives of image a are taken once a level. A step moves the points of a, and its inverse goes to the right
    of the pose; each level begins where the coarser one ended, unless that has made it worse.

    Args:
        image_a, image_b: `(B, C, H, W)` in [0, 1], finite.
        depth_a: `(B, 1, H, W)` along z; unknown where not positive or NaN, infinite for the sky. Pixels with depths
            within three by three pixels that differ by more than a factor of 1.3 are left out.
        K: `(B, 3, 3)` or `(3, 3)`.
        start_T_ba: `(B, 4, 4)` in the unit of the depth; the identity by default.
        levels: of the pyramid, the full size included (paper: 5); those below 12 pixels are left out.
        iterations: at most, on each level.
        huber: residual beyond which a pixel counts in proportion instead of by its square; None for plain squares.

    Returns:
        `Alignment`, its pose differentiable through all steps in images, depth and start. An item for which no pose
        is found has its start; it never has a say in the others.

    Source: DDVO, section 3; Baker and Matthews, "Lucas-Kanade 20 years on", IJCV 2004.
    """
    B = len(image_a)
    inverse_depth, known = inverse_depth_of(depth_a)
    K = K.to(depth_a).expand(B, 3, 3)
    start = torch.eye(4).to(depth_a).expand(B, 4, 4) if start_T_ba is None else start_T_ba
    pyramid = _pyramid(image_a, image_b, inverse_depth, _smooth(inverse_depth, known), K, levels)
    T_ba = start
    for level in reversed(pyramid):
        moved, still, sound = _align_level(level, T_ba, huber, iterations)
        with torch.no_grad():
            better = _error(level, moved, huber)[0] <= _WORSE * _error(level, T_ba, huber)[0] + 1e-9
        T_ba = torch.where(better[:, None, None], moved, T_ba)
    with torch.no_grad():
        begin, _ = _error(pyramid[0], start, huber)
        error, share = _error(pyramid[0], T_ba, huber)
        status = torch.where(still & better, AlignmentStatus.CONVERGED, AlignmentStatus.UNFINISHED)
        status = torch.where(error <= _WORSE * begin + 1e-9, status, AlignmentStatus.DIVERGED)
        status = torch.where(sound & (share > _FEWEST), status, AlignmentStatus.TOO_FEW_PIXELS)
        found = status <= AlignmentStatus.UNFINISHED
        error, share = (torch.where(found, x, y) for x, y in zip((error, share), _error(pyramid[0], start, huber)))
    return Alignment(torch.where(found[:, None, None], T_ba, start), status, error, share)
