"""Which pixels of two views have a true partner in the other: edge, overlap and blank masks, and their repetition."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trianflow.geometry.camera import invert_pose
from trianflow.geometry.inverse_depth import inverse_depth_of, see

# Parts of a pixel to which landings are rounded: what differs by less in a standing camera has not moved.
_PARTS = 1024


@dataclass(frozen=True)
class ViewMasks:
    """Masks of one view against another, `(B, 1, H, W)` bool each, True where a pixel may be used.

    Attributes:
        edge: it has a depth, and lands in front of the other camera and within its image.
        overlap: no nearer pixel lands between the same four pixels of the other image.
        blank: some pixel of the other view lands within less than a pixel of it on both axes.
    """

    edge: Tensor
    overlap: Tensor
    blank: Tensor

    @property
    def mask(self) -> Tensor:
        """All three, `(B, 1, H, W)` bool."""
        return self.edge & self.overlap & self.blank


@dataclass(frozen=True)
class _Landing:
    """Where the N = H W pixels of a view fall in the other image; anything for those that are not `inside`.

    Attributes:
        inside: `(B, N)` bool.
        nearness: `(B, N)` inverse depth in the other view.
        cell: `(B, N)` int64, number of the square between four pixels, that of its top-left pixel.
        place: `(B, N)` int64, number on a grid of twice the size, whose even rows and columns are pixel centres and
            whose odd ones are all that lies between two.
        size: H, W.
    """

    inside: Tensor
    nearness: Tensor
    cell: Tensor
    place: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, depth_a: Tensor, T_ba: Tensor, K: Tensor) -> _Landing:
        H, W = depth_a.shape[-2:]
        inverse_depth, known = inverse_depth_of(depth_a)
        seen = see(inverse_depth, T_ba, K)
        seen = replace(seen, x=(seen.x * _PARTS).round_().div_(_PARTS), y=(seen.y * _PARTS).round_().div_(_PARTS))
        inside = seen.within() & known
        x, y = torch.where(inside, seen.x, 0.0), torch.where(inside, seen.y, 0.0)
        column, row = x.long(), y.long()
        place = (2 * row + (y > row)) * (2 * W) + 2 * column + (x > column)
        nearness, cell = inverse_depth / seen.ratio, row * W + column
        return cls(inside.flatten(1), nearness.flatten(1), cell.flatten(1), place.flatten(1), (H, W))

    def nearest(self, projects: Tensor) -> Tensor:
        """Which of the pixels that project `(B, N)` have none of them in front in their cell; False for the others."""
        nearness = torch.where(projects, self.nearness, -1.0)
        nearest = torch.full_like(nearness, -1.0).scatter_reduce_(1, self.cell, nearness, "amax")
        return projects & (nearness >= nearest.gather(1, self.cell))

    def covered(self, projects: Tensor) -> Tensor:
        """Pixels of the other image `(B, N)` to which a pixel that projects contributes in bilinear interpolation."""
        H, W = self.size
        beside = 4 * H * W  # takes what does not project
        hit = torch.zeros(len(projects), beside + 1, dtype=torch.bool, device=projects.device)
        hit.scatter_(1, torch.where(projects, self.place, beside), True)
        rows = hit[:, :-1].reshape(-1, H, 2, 2 * W)
        rows = rows[:, :, 0] | _with_previous(rows[:, :, 1], 1)
        columns = rows.reshape(-1, H, W, 2)
        return (columns[..., 0] | _with_previous(columns[..., 1], 2)).flatten(1)


def _with_previous(between: Tensor, dim: int) -> Tensor:
    """What lies after a pixel or before it, from what lies after each along a dimension of `(B, H, W)`."""
    out = between.clone()
    size = between.shape[dim] - 1
    out.narrow(dim, 1, size).logical_or_(between.narrow(dim, 0, size))
    return out


@torch.no_grad()
def multi_mask(
    depth_a: Tensor, depth_b: Tensor, T_ba: Tensor, K: Tensor, rounds: int = 3
) -> tuple[ViewMasks, ViewMasks]:
    """Masks of what two views of a static scene cannot both see, from depth and pose alone.

    Every pixel is projected into the other image. What falls outside is masked (edge); of several that fall between
    the same four pixels all but the nearest are (overlap); pixels between which nothing falls are, in the image that
    is projected into (blank). A round does this both ways; masked pixels do not project in the rounds after it, which
    uncovers pixels that only wrong ones have reached.

    Args:
        depth_a, depth_b: `(B, 1, H, W)` along z; unknown (0, negative, NaN) depth is masked.
        T_ba: `(B, 4, 4)` finite, in the unit of the depths.
        K: `(B, 3, 3)` or `(3, 3)`, of both views.
        rounds: at least 1 (paper: 3).

    Returns:
        The masks of a and of b. Of pixels equally near both stay. Landings are rounded to 1/1024 pixel, and a weight
        of zero contributes nothing: a camera at rest masks nothing.

    Source: Multi-mask, section III.
    """
    landings = _Landing.of(depth_a, T_ba, K), _Landing.of(depth_b, invert_pose(T_ba), K)
    edge = [landing.inside for landing in landings]
    overlap, blank = [torch.ones_like(x) for x in edge], [torch.ones_like(x) for x in edge]
    projects = list(edge)
    for _ in range(rounds):
        for i, landing in enumerate(landings):
            overlap[i] = overlap[i] & (landing.nearest(projects[i]) | ~projects[i])
            blank[i] = blank[i] & landings[1 - i].covered(projects[1 - i])
        projects = [e & o & c for e, o, c in zip(edge, overlap, blank)]
    a, b = (ViewMasks(*(x.view_as(depth_a) for x in masks)) for masks in zip(edge, overlap, blank))
    return a, b
