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
        o = dict(arrays)
    found = []
    for prediction, gt, noc, moving in zip(o["pred_netres"], o["gt"], o["noc"], o["moving"]):
        height, width = gt.shape[:2]
        full = cv2.resize(prediction, (width, height), interpolation=cv2.INTER_LINEAR)
        full = full * np.array([width, height]) / np.array(prediction.shape[1::-1])
        flow, truth = (torch.from_numpy(x).float().permute(2, 0, 1)[None] for x in (full, gt[..., :2]))
        error = end_point_error(flow, truth)[0, 0].numpy()
        bad = is_outlier(torch.from_numpy(error)[None, None], truth)[0, 0].numpy()
        known = gt[..., 2] > 0
        still = known & (moving == 0)
        moves = known & (moving > 0)
        groups = [known, noc > 0, known & (noc == 0), moves, still]
        rates = [bad[g].mean() for g in (moves, still, known)]
        found.append([*(error[g].mean() for g in groups), *rates])
    np.testing.assert_allclose(found, o["per_image"], rtol=0, atol=6e-5)
