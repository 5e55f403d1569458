"""Dense flow and its score to a set of matches: the best share of the pixels, spread evenly over the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.geometry.camera import pixel_grid


@dataclass(frozen=True)
class Matches:
    """N matches of each of B pairs.

    Attributes:
        p_a, p_b: `(B, N, 2)` pixels.
        score: `(B, N)` non-negative, higher is better.
        valid: `(B, N)` bool, False where a pair had fewer than N pixels to offer.
    """

    p_a: Tensor
    p_b: Tensor
    score: Tensor
    valid: Tensor


def top_ratio(score: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """The best share of the scores.

    Args:
        score: `(..., N)`.
        ratio: share to keep, in (0, 1].

    Returns:
        The floor(ratio N) best scores in descending order and their indices, `(..., n)`.
    """
    best = score.topk(max(int(ratio * score.shape[-1]), 1), dim=-1)
    return best.values, best.indices


def select_matches(
    flow_ab: Tensor,
    score: Tensor,
    count: int,
    ratio: float = 0.2,
    cell: int = 32,
    stride: int = 1,
    seed: int = 0,
) -> Matches:
    """Matches from the best pixels, drawn at random and evenly over cells of the image.

    Args:
        flow_ab: `(B, 2, H, W)` pixels.
        score: `(B, 1, h, w)` on every stride-th row and column; pixels of score 0 and those whose flow is not
            finite or leaves the image are never drawn.
        count: matches N.
        ratio: share of the pixels that qualify, by score.
        cell: side of a cell in pixels; cells give equally many matches as long as they have any.
        stride: of `score`.
        seed: of the draw.

    Returns:
        `Matches` without repetition.
    """
    H, W = flow_ab.shape[-2:]
    coarse = flow_ab[..., ::stride, ::stride].flatten(2)
    grid = pixel_grid(H, W, flow_ab.dtype, flow_ab.device, stride).flatten(1)
    target = coarse + grid
    limit = target.new_tensor([W - 1, H - 1])[:, None]
    inside = ((target >= 0) & (target <= limit) & target.isfinite()).all(1)
    values, index = top_ratio((score.flatten(1) * inside).nan_to_num(0.0), ratio)

    # The k-th pixel of every cell comes before the (k + 1)-th of any: rank them in their cell, in random order.
    columns = (W + stride - 1) // stride
    cells = index // columns * stride // cell * ((W - 1) // cell + 1) + index % columns * stride // cell
    cells = cells.masked_fill(values <= 0, H * W)  # apart from those that may be drawn
    generator = torch.Generator(device=score.device).manual_seed(seed)
    chance = torch.rand(index.shape[1], generator=generator, device=score.device, dtype=torch.float64)
    keys, order = (cells + chance * 0.999).sort(dim=-1)
    sorted_cells = keys.floor()
    position = torch.arange(order.shape[1], device=score.device).expand_as(order)
    first = torch.searchsorted(sorted_cells, sorted_cells, side="left")
    rank = (position - first + chance).masked_fill(values.gather(1, order) <= 0, torch.inf)
    drawn = rank.topk(min(count, rank.shape[1]), dim=-1, largest=False)
    chosen = order.gather(1, drawn.indices)
    pixel = index.gather(1, chosen)
    p_a = grid.T[pixel]
    p_b = p_a + coarse.gather(2, pixel[:, None].expand(-1, 2, -1)).mT
    return Matches(p_a, p_b, values.gather(1, chosen), drawn.values.isfinite())
