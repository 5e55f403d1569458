"""Errors of flow: by hand, and against the published figures."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from trianflow.evaluation.flow import end_point_error, is_outlier


def test_known_errors() -> None:
    truth = torch.tensor([[100.0, 0.0], [1.0, -2.0], [0.0, 0.0]]).T.reshape(1, 2, 1, 3)
    flow = truth + torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -3.5]]).T.reshape(1, 2, 1, 3)
    error = end_point_error(flow, truth)
    assert error.shape == (1, 1, 1, 3)
    assert error.flatten().tolist() == [5.0, 0.0, 3.5]
    assert is_outlier(error, truth).flatten().tolist() == [False, False, True], "5 of 100 pixels is not more than 5 %"


def test_bounds_of_an_outlier() -> None:
    truth = torch.tensor([0.0, 0.0, 200.0, 200.0, 60.0, 60.0]).reshape(1, 1, 1, 6)
    truth = torch.cat([torch.zeros_like(truth), truth], 1)
    error = torch.tensor([3.0, 3.01, 9.9, 10.1, 3.0, 3.01]).reshape(1, 1, 1, 6)
    assert is_outlier(error, truth).flatten().tolist() == [False, True, False, True, False, True]


def test_unknown_stays_unknown() -> None:
    truth = torch.full((1, 2, 1, 2), torch.nan)
    truth[..., 0] = 1.0
    error = end_point_error(torch.zeros(1, 2, 1, 2), truth)
    assert error[..., 0].item() == pytest.approx(math.sqrt(2))
    assert error[..., 1].isnan().all()
    assert not is_outlier(error, truth)[..., 1].any()


def test_19_flow_metrics(shared_data: Path) -> None:
    with np.load(shared_data / "oracle" / "19_flow_metrics.npz") as arrays:
        print({k: (v.shape, v.dtype) for k, v in arrays.items()})
        assert cv2 is not None
        raise AssertionError
