"""Models of a pair of views fitted side by side: epipolar geometry, homography, rotation; each robust and batched.

Coordinates q are centred pixels over the mean focal length: of order one, isotropic, so that a distance in them is a
distance in pixels over the focal length. `S` is the diagonal that takes normalised image coordinates to q.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.geometry.camera import homogeneous
from trianflow.geometry.epipolar import (
    decompose_essential,
    essential_from_fundamental,
    pose_from_essential,
    skew,
)
from trianflow.geometry.homography import (
    decompose_homography,
    fit_homography,
    fit_rotation,
    homography_squared,
)
from trianflow.geometry.ransac import draw, eight_point_minimal, homography_minimal, msac, ransac, take
from trianflow.geometry.sampson import MatchProducts, refine_pose
from trianflow.geometry.triangulation import signed_parallax


@dataclass(frozen=True)
class PairProblem:
    """Matches of B pairs in the coordinates above, and the subset that judges hypotheses.

    Attributes:
        q_a, q_b: `(B, N, 2)` float64; zero where not valid.
        valid: `(B, N)` bool.
        S: `(B, 3)`.
        reach: `(B,)` largest distance of an inlier.
        subset: `(B, n)` indices of the judges.
    """

    q_a: Tensor
    q_b: Tensor
    valid: Tensor
    S: Tensor
    reach: Tensor
    subset: Tensor

    @property
    def judges(self) -> tuple[Tensor, Tensor, Tensor]:
        """q_a, q_b `(B, n, 2)` and valid `(B, n)` of the judges."""
        return take(self.q_a, self.subset), take(self.q_b, self.subset), self.valid.gather(1, self.subset)

    def rays(self, q: Tensor) -> Tensor:
        """Unit rays `(B, ..., 3)` of coordinates `(B, ..., 2)`."""
        S = self.S[:, :2].reshape(len(q), *[1] * (q.ndim - 2), 2).to(q)
        return torch.nn.functional.normalize(homogeneous(q / S), dim=-1)

    def fundamental(self, R: Tensor, t: Tensor) -> Tensor:
        """F of poses `(B, M, 3, 3)`, `(B, M, 3)` in the coordinates q."""
        return skew(t) @ R / (self.S[:, None, :, None] * self.S[:, None, None, :]).to(R)

    def plausible(self, R: Tensor, t: Tensor, q_a: Tensor, q_b: Tensor, near: Tensor) -> Tensor:
        """Matches whose parallax is that of a point in front, and no far cry from what the others have.

        A wrong match that meets its epipolar line by chance has as a rule a large displacement, and with it the
        leverage of dozens of good matches on the direction of translation; this is what tells it apart.

        Args:
            R, t: `(B, M, 3, 3)` and `(B, M, 3)`.
            q_a, q_b: `(B, n, 2)`.
            near: `(B, M, n)` bool, matches that fit the epipolar geometry.

        Returns:
            `(B, M, n)` bool.
        """
        S = self.S[:, None, :2].to(q_a)
        parallax = signed_parallax(R, t, q_a / S, q_b / S)
        reach = self.reach[:, None, None].to(q_a)
        # What is usual is asked of the points that have a parallax: sky and horizon may be in the majority.
        moving = near & (parallax > reach)
        usual = parallax.masked_fill(~moving, torch.nan).nanmedian(-1, keepdim=True).values.nan_to_num(torch.inf)
        return (parallax > -reach) & (parallax < 10 * usual + reach)

    def plane_poses(self, H: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The two poses R `(B, 2, 3, 3)`, unit t `(B, 2, 3)` and the normals `(B, 2, 3)` that a homography allows."""
        S_H = self.S[:, :, None] / self.S[:, None, :]
        R, t, normal = decompose_homography(H / S_H, self.q_a / self.S[:, None, :2], self.valid.double())
        return R, torch.nn.functional.normalize(t + 1e-9, dim=-1), normal

    def conjugate(self, R: Tensor) -> Tensor:
        """The homography in the coordinates q of a homography `(B, M, 3, 3)` in normalised coordinates."""
        return R * (self.S[:, None, :, None] / self.S[:, None, None, :]).to(R)


def _reweight(squared: Tensor, scale: Tensor) -> Tensor:
    """Geman-McClure weights `(B, N)` of squared distances at the distance `scale` `(B,)`."""
    return (1 + squared / scale[:, None].square()).square().reciprocal()


def homography_of(problem: PairProblem, hypotheses: int, generator: torch.Generator, iterations: int = 3) -> Tensor:
    """The homography that most matches agree on, `(B, 3, 3)` in the coordinates q."""
    q_a, q_b, valid = problem.judges
    f_a, f_b = q_a.float(), q_b.float()
    H = ransac(
        homography_minimal,
        lambda H: homography_squared(H, f_a, f_b),
        4,
        problem.q_a.float(),
        problem.q_b.float(),
        problem.valid,
        valid,
        problem.reach.float(),
        hypotheses,
        1,
        generator,
    )[:, 0].double()
    for _ in range(iterations):
        d = homography_squared(H[:, None], q_a, q_b)[:, 0]
        H = fit_homography(q_a, q_b, valid * _reweight(d, problem.reach / 2))
    return H


def rotation_of(problem: PairProblem, hypotheses: int, generator: torch.Generator, iterations: int = 3) -> Tensor:
    """The rotation that most matches agree on, `(B, 3, 3)`."""
    q_a, q_b, valid = problem.judges
    q_a, q_b = q_a.float(), q_b.float()
    rays_a, rays_b = problem.rays(q_a), problem.rays(q_b)

    def distance(R: Tensor) -> Tensor:
        return homography_squared(problem.conjugate(R), q_a, q_b)

    index = draw(problem.valid, (hypotheses, 3), generator)
    sample_a = problem.rays(take(problem.q_a, index).float())
    sample_b = problem.rays(take(problem.q_b, index).float())
    R = fit_rotation(sample_a, sample_b, torch.ones_like(sample_a[..., 0]))
    best = msac(distance(R), valid, problem.reach.float().square()).argmin(1)
    R = take(R.flatten(-2), best[:, None])[:, 0].unflatten(-1, (3, 3))
    for _ in range(iterations):
        R = fit_rotation(rays_a, rays_b, valid * _reweight(distance(R[:, None])[:, 0], problem.reach.float() / 2))
    return R.double()


def epipolar_pose_of(
    problem: PairProblem,
    H: Tensor,
    hypotheses: int,
    keep: int,
    steps: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The pose whose epipolar geometry most matches agree on, by cheirality and plausible parallax too.

    Eight-point hypotheses compete with the poses of a homography, which stay right where the scene is a plane and
    eight points are not enough; each is locally optimised before it is judged.

    Args:
        problem: the matches.
        H: `(B, 3, 3)` homography in the coordinates q.
        hypotheses: eight-point samples.
        keep: how many of them are optimised.
        steps: Gauss-Newton steps on each, before and after cheirality is known.
        generator: on the device of the matches.

    Returns:
        R `(B, 3, 3)` and unit t `(B, 3)`, float64.
    """
    q_a, q_b, valid = problem.judges
    products = MatchProducts.of(q_a.float(), q_b.float())
    F = ransac(
        eight_point_minimal,
        products.squared_distance,
        8,
        problem.q_a.float(),
        problem.q_b.float(),
        problem.valid,
        valid,
        problem.reach.float(),
        hypotheses,
        keep,
        generator,
    )
    S = torch.diag_embed(problem.S)[:, None].float()
    E = essential_from_fundamental(F, S, S)
    R, t, _ = problem.plane_poses(H)
    E = torch.cat([E, (skew(t) @ R).float()], 1)
    rays_a, rays_b = problem.rays(q_a).float()[:, None], problem.rays(q_b).float()[:, None]
    reach, judged = problem.reach.float(), valid[:, None].float()
    R, t = (x[:, :, 0] for x in decompose_essential(E))
    R, t, _ = refine_pose(R, t, products, problem.S.float(), judged, 2 * reach, steps[0])
    near = valid[:, None] & (products.squared_distance(problem.fundamental(R, t)) < (2 * reach)[:, None, None].square())
    R, t, _ = pose_from_essential(skew(t) @ R, rays_a, rays_b, near.float(), 2 * reach[:, None])
    judged = (valid[:, None] & problem.plausible(R, t, q_a.float(), q_b.float(), near)).float()
    R, t, _ = refine_pose(R, t, products, problem.S.float(), judged, reach / 2, steps[1])
    squared = products.squared_distance(problem.fundamental(R, t))
    cost = (1 - judged * (1 - squared / reach[:, None, None].square()).clamp_min(0)).sum(-1)
    best = cost.argmin(1)[:, None]
    R, t = take(R.flatten(-2), best)[:, 0].unflatten(-1, (3, 3)).double(), take(t, best)[:, 0].double()
    U, _, Vh = torch.linalg.svd(R)
    return U @ Vh, torch.nn.functional.normalize(t, dim=-1)
