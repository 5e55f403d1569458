"""Matches from dense flow: the best, spread evenly, inside, finite, without repetition."""

from __future__ import annotations

import pytest
import torch

from trianflow.flow.matches import Matches, select_matches, top_ratio


def flow_and_score(seed: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise flow and random scores of 96 rows and 160 columns."""
    generator = torch.Generator().manual_seed(seed)
    flow = 4 * torch.randn(batch, 2, 96, 160, generator=generator)
    return flow, torch.rand(batch, 1, 96, 160, generator=generator) + 0.01


def pixels(matches: Matches) -> torch.Tensor:
    return matches.p_a.long()


def test_top_ratio() -> None:
    score = torch.tensor([[0.1, 0.9, 0.5, 0.7, 0.3], [5.0, 4, 3, 2, 1]])
    values, index = top_ratio(score, 0.5)
    assert values.tolist() == [[pytest.approx(0.9), pytest.approx(0.7)], [5.0, 4.0]]
    assert index.tolist() == [[1, 3], [0, 1]]
    assert top_ratio(score, 1.0)[0].shape == (2, 5)
    assert top_ratio(score, 0.01)[1].tolist() == [[1], [0]], "one at least"


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_matches_are_pixels_with_their_flow_and_score(stride: int) -> None:
    flow, score = flow_and_score(0, 2)
    score = score[..., ::stride, ::stride]
    matches = select_matches(flow, score, 300, 0.5, stride=stride)
    assert matches.p_a.shape == matches.p_b.shape == (2, 300, 2)
    assert matches.valid.all()
    for item in range(2):
        x, y = pixels(matches)[item].unbind(-1)
        assert torch.equal(torch.stack([x, y], -1).float(), matches.p_a[item]), "whole pixels"
        assert (x % stride == 0).all()
        assert (y % stride == 0).all()
        displacement = matches.p_b[item] - matches.p_a[item]
        torch.testing.assert_close(displacement, flow[item, :, y, x].T, rtol=0, atol=1e-4)
        assert torch.equal(matches.score[item], score[item, 0, y // stride, x // stride])
        assert len({(int(a), int(b)) for a, b in zip(x, y)}) == 300, "no repetition"
    inside = (matches.p_b >= 0) & (matches.p_b <= torch.tensor([159, 95]))
    assert inside.all()


def test_only_the_best_share_is_drawn() -> None:
    flow, score = flow_and_score(1)
    flow.zero_()
    matches = select_matches(flow, score, 10_000, 0.2)
    threshold = top_ratio(score.flatten(1), 0.2)[0].min()
    assert matches.score.shape == (1, int(0.2 * 96 * 160))
    assert matches.score.min() == threshold


def test_pixels_without_score_flow_or_target_are_never_drawn() -> None:
    flow, score = flow_and_score(2)
    flow.zero_()
    score[:, :, :40] = 0
    flow[:, 0, 40:50] = torch.nan
    flow[:, 1, 50:60] = torch.inf
    flow[:, 0, 60:70] = 500
    flow[:, 1, 70:80] = -80.5
    score[:, :, 80:82] = torch.nan
    matches = select_matches(flow, score, 20_000, 1.0)
    rows = pixels(matches)[0, matches.valid[0], 1]
    # Ranked among NaN scores or not, what is drawn as valid is good.
    assert rows.min() >= 82
    assert int(matches.valid.sum()) == 14 * 160
    assert matches.score.isfinite().all()


def test_scores_that_are_no_numbers_take_no_ones_place() -> None:
    """A tenth of the pixels without a number; the best tenth of the others is drawn all the same."""
    _, score = flow_and_score(7)
    best = top_ratio(score[:, :, 10:].flatten(1), 96 / 860)[0].min()
    score[:, :, :10] = torch.nan
    matches = select_matches(torch.zeros(1, 2, 96, 160), score, 20_000, 0.1)
    assert matches.valid.all()
    assert matches.score.min() == best


def test_borders_are_inside() -> None:
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0] = 1.0
    matches = select_matches(flow, torch.ones(1, 1, 8, 8), 64, 1.0, cell=4)
    assert int(matches.valid.sum()) == 8 * 7, "the last column leaves, the last but one lands on the border"
    assert matches.p_b[matches.valid].max() == 7


def test_cells_give_equally_many() -> None:
    """Scores of very different height in the two halves, but all qualify: every cell gives its share."""
    flow = torch.zeros(1, 2, 96, 160)
    score = torch.rand(1, 1, 96, 160, generator=torch.Generator().manual_seed(3)) + 0.01
    score[..., :80] += 5
    matches = select_matches(flow, score, 15 * 40, 1.0, cell=32)
    cells = (pixels(matches)[0] // 32) @ torch.tensor([1, 5])
    counts = torch.bincount(cells, minlength=15)
    assert counts.min() >= 39
    assert counts.max() <= 41


def test_a_poor_cell_gives_what_it_has_and_the_others_the_rest() -> None:
    flow = torch.zeros(1, 2, 64, 64)
    score = torch.zeros(1, 1, 64, 64)
    score[..., :32, :32] = torch.rand(32, 32, generator=torch.Generator().manual_seed(4)) + 0.5
    score[..., 32:, 32:] = 1.0
    score[0, 0, 5, 40:47] = 1.0
    matches = select_matches(flow, score, 307, 1.0, cell=32)
    cells = (pixels(matches)[0] // 32) @ torch.tensor([1, 2])
    counts = torch.bincount(cells, minlength=4).tolist()
    assert counts[1] == 7
    assert counts[2] == 0
    assert abs(counts[0] - counts[3]) <= 2
    assert matches.valid.all()


def test_within_a_cell_the_draw_is_random_not_the_best() -> None:
    flow, score = torch.zeros(1, 2, 32, 32), torch.rand(1, 1, 32, 32) + 0.1
    chosen = torch.stack([select_matches(flow, score, 100, 0.5, seed=s).score.mean() for s in range(40)])
    pool = top_ratio(score.flatten(1), 0.5)[0]
    assert chosen.mean() == pytest.approx(pool.mean().item(), abs=4 * pool.std().item() / 4000**0.5)


def test_seed_repeats_and_items_are_independent() -> None:
    flow, score = flow_and_score(5, 3)
    matches = select_matches(flow, score, 200, seed=7)
    again = select_matches(flow, score, 200, seed=7)
    assert torch.equal(matches.p_a, again.p_a)
    assert not torch.equal(matches.p_a, select_matches(flow, score, 200, seed=8).p_a)
    flow[0], score[2] = torch.nan, 0.0
    beside = select_matches(flow, score, 200, seed=7)
    assert torch.equal(beside.p_a[1], matches.p_a[1])
    assert torch.equal(beside.p_b[1], matches.p_b[1])
    assert not beside.valid[0].any()
    assert not beside.valid[2].any()
    assert beside.valid[1].all()


def test_fewer_pixels_than_matches() -> None:
    flow, score = torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, 8, 8)
    score[..., 2, 3] = 1.0
    matches = select_matches(flow, score, 6000, 1.0)
    assert matches.p_a.shape[1] == matches.valid.shape[1]
    assert int(matches.valid.sum()) == 1
    assert matches.p_a[matches.valid].tolist() == [[3.0, 2.0]]


def test_double_precision() -> None:
    flow, score = flow_and_score(6)
    matches = select_matches(flow.double(), score.double(), 50)
    assert matches.p_b.dtype == matches.score.dtype == torch.float64
