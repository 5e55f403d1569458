"""Errors of depth: by hand, in any unit, and against the published figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trianflow.evaluation.depth import absolute_relative, scaled_by_median


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
