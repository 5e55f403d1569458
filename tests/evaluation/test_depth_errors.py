"""Errors of depth: by hand, in any unit, and against the published figures."""

from __future__ import annotations

import math
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch

from trianflow.evaluation.depth import absolute_relative, depth_errors, scaled_by_median


def test_known_errors() -> None:
    truth = torch.tensor([[1.0, 2.0, 4.0, 100.0], [2.0, 2.0, 2.0, 2.0]])
    depth = torch.tensor([[2.0, 4.0, 10.0, -5.0], [1.0, 2.0, 4.0, torch.nan]])
    valid = torch.tensor([[True, True, True, False]]).expand(2, 4)
    scaled = scaled_by_median(depth, truth, valid)
    torch.testing.assert_close(scaled[:, :3], torch.tensor([[1.0, 2.0, 5.0], [1.0, 2.0, 4.0]]))
    error = absolute_relative(scaled, truth, valid)
    torch.testing.assert_close(error, torch.tensor([0.25 / 3, (0.5 + 0 + 1) / 3]))


def test_the_unit_of_the_prediction_does_not_matter() -> None:
    g = torch.Generator().manual_seed(0)
    depth, truth = (1 + 5 * torch.rand(3, 101, generator=g) for _ in range(2))
    valid = torch.rand(3, 101, generator=g) > 0.3
    first = absolute_relative(scaled_by_median(depth, truth, valid), truth, valid)
    again = absolute_relative(scaled_by_median(depth * 37, truth, valid), truth, valid)
    torch.testing.assert_close(first, again)
    assert (first > 0.1).all()
    assert (absolute_relative(truth, truth, valid) == 0).all()


def test_nothing_valid_has_no_error() -> None:
    depth = torch.ones(2, 5)
    valid = torch.tensor([[True], [False]]).expand(2, 5)
    truth = torch.where(valid, 2.0, torch.nan)
    error = absolute_relative(scaled_by_median(depth, truth, valid), truth, valid)
    assert error[0] == 0
    assert error[1].isnan()


def test_17_depth_metrics(shared_data: Path) -> None:
    with np.load(shared_data / "oracle" / "17_depth_metrics.npz") as arrays:
        o = dict(arrays)
    for i in range(3):
        truth, depth = (torch.from_numpy(o[f"{name}{i}"]).double() for name in ("gt", "pred"))
        H, W = truth.shape
        crop = torch.zeros(H, W, dtype=torch.bool)
        crop[int(0.40810811 * H) : int(0.99189189 * H), int(0.03594771 * W) : int(0.96405229 * W)] = True
        valid = (crop & (truth > 1e-3) & (truth < 80)).flatten()[None]
        truth, depth = truth.flatten()[None], depth.flatten()[None]
        scaled = scaled_by_median(depth, truth, valid).clamp(1e-3, 80)
        assert absolute_relative(scaled, truth, valid).item() == pytest.approx(float(o["per_image"][i, 0]), rel=1e-4)


# --- one image ----------------------------------------------------------------------------------------------


def test_each_figure_is_its_formula() -> None:
    rng = np.random.default_rng(1)
    truth, depth = rng.uniform(1, 80, 57), rng.uniform(1, 80, 57)
    sums = [0.0] * 8
    for d, t in zip(depth.tolist(), truth.tolist()):
        ratio = max(d / t, t / d)
        terms = (abs(d - t) / t, (d - t) ** 2 / t, (d - t) ** 2, math.log(d / t) ** 2, abs(math.log10(d / t)))
        terms += (ratio < 1.25, ratio < 1.5625, ratio < 1.953125)
        sums = [s + term for s, term in zip(sums, terms)]
    mean = [s / 57 for s in sums]
    mean[2:4] = [math.sqrt(m) for m in mean[2:4]]
    np.testing.assert_allclose(astuple(depth_errors(depth, truth)), mean, rtol=1e-12)


def test_perfect_and_doubled_depth() -> None:
    truth = np.float32([1, 10, 79])
    assert astuple(depth_errors(truth, truth)) == (0, 0, 0, 0, 0, 1, 1, 1)
    doubled = depth_errors(2 * truth, truth)
    assert (doubled.abs_rel, doubled.sq_rel, doubled.d3) == (1, 30, 0)
    assert doubled.rmse_log == pytest.approx(math.log(2))
    assert doubled.log10 == pytest.approx(math.log10(2))


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_values_that_are_no_depth(wrong: float) -> None:
    good, bad = np.ones(2), np.array([1, wrong])
    for arguments in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match="positive and finite"):
            depth_errors(*arguments)


def test_shapes_that_do_not_fit() -> None:
    for depth, truth in ((np.ones(2), np.ones(3)), (np.ones(0), np.ones(0)), (np.ones((2, 2)), np.ones((2, 2)))):
        with pytest.raises(ValueError, match="both must be"):
            depth_errors(depth, truth)
