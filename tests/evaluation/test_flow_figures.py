"""Errors of flow by group and over images: by hand, by loops, against the oracle and the development kit's example."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from trianflow.data.flow_files import read_flow
from trianflow.evaluation.flow import GroupError, enlarged, error_maps, group_errors, over_images


def test_groups_by_plain_loops() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 60, (13, 17, 2)).astype(np.float32)
    flow = truth + rng.normal(0, 3, truth.shape).astype(np.float32)
    truth[rng.random((13, 17)) < 0.3] = np.nan
    flow[rng.random((13, 17)) < 0.1] = np.nan
    visible, moving = rng.random((13, 17)) < 0.7, rng.random((13, 17)) < 0.4
    found = group_errors(error_maps(flow, truth), visible, moving)
    wanted = {
        "all": visible | True,
        "noc": visible,
        "occ": ~visible,
        "moving": moving,
        "static": ~moving,
    }
    assert list(found) == list(wanted)
    for name, group in wanted.items():
        pixels = estimated = bad = 0
        total = 0.0
        for y in range(13):
            for x in range(17):
                u, v = truth[y, x].tolist()
                if math.isnan(u) or not group[y, x]:
                    continue
                pixels += 1
                a, b = flow[y, x].tolist()
                if math.isnan(a):
                    bad += 1
                    continue
                error = math.hypot(a - u, b - v)
                estimated += 1
                total += error
                bad += error > 3 and error > 0.05 * math.hypot(u, v)
        assert (found[name].pixels, found[name].estimated) == (pixels, estimated)
        assert found[name].epe == pytest.approx(total / estimated, rel=1e-5)
        assert found[name].outliers == pytest.approx(bad / pixels, abs=1e-12)


def test_maps_tell_an_unknown_estimate_from_an_unknown_truth() -> None:
    truth = np.array([[[3.0, 4.0], [np.nan, np.nan], [3.0, 4.0]]], np.float32)
    flow = np.array([[[3.0, 0.0], [1.0, 1.0], [np.nan, np.nan]]], np.float32)
    maps = error_maps(flow, truth)
    np.testing.assert_array_equal(maps.error, [[4, np.nan, np.inf]])
    np.testing.assert_array_equal(maps.outlier, [[True, False, True]])
    np.testing.assert_array_equal(maps.length, [[5, np.nan, 5]])
    with pytest.raises(ValueError, match="shape"):
        error_maps(flow, truth[:, :2])


def test_groups_without_a_pixel_are_left_out() -> None:
    truth = np.ones((2, 2, 2), np.float32)
    everywhere = np.ones((2, 2), bool)
    assert list(group_errors(error_maps(truth, truth), everywhere, ~everywhere)) == ["all", "noc", "static"]
    nothing = group_errors(error_maps(truth, truth * np.nan))["all"]
    assert nothing.pixels == 0
    assert math.isnan(nothing.epe)
    assert math.isnan(nothing.outliers)
    unknown = group_errors(error_maps(truth * np.nan, truth))["all"]
    assert (unknown.estimated, unknown.outliers) == (0, 1.0)
    assert math.isnan(unknown.epe)


def test_means_over_images_and_over_pixels() -> None:
    images = [
        {"all": GroupError(10, 10, 1.0, 0.0), "occ": GroupError(2, 2, 4.0, 1.0)},
        {"all": GroupError(30, 20, 4.0, 0.8)},
        {"all": GroupError(5, 0, math.nan, 1.0)},
    ]
    by_image, by_pixel = over_images(images), over_images(images, "pixels")
    assert by_image["all"] == GroupError(45, 30, 2.5, pytest.approx(0.6))
    assert by_pixel["all"] == GroupError(45, 30, pytest.approx(3.0), pytest.approx(29 / 45))
    assert by_image["occ"] == by_pixel["occ"] == GroupError(2, 2, 4.0, 1.0)
    assert list(by_image) == ["all", "occ"]
    assert over_images([]) == {}


def test_enlarging_scales_the_components() -> None:
    flow = np.dstack([np.full((4, 6), 2.0), np.full((4, 6), -3.0)]).astype(np.float32)
    large = enlarged(flow, 18, 8)
    assert large.shape == (8, 18, 2)
    np.testing.assert_allclose(large[..., 0], 6.0)
    np.testing.assert_allclose(large[..., 1], -6.0)
    assert enlarged(flow, 6, 4) is flow


@pytest.mark.data
def test_19_flow_metrics_by_group(shared_data: Path) -> None:
    with np.load(shared_data / "oracle" / "19_flow_metrics.npz") as arrays:
        o = dict(arrays)
    images = []
    for prediction, gt, noc, moving in zip(o["pred_netres"], o["gt"], o["noc"], o["moving"]):
        truth = np.where(gt[..., 2:] > 0, gt[..., :2], np.nan).astype(np.float32)
        maps = error_maps(enlarged(prediction, gt.shape[1], gt.shape[0]), truth)
        images.append(group_errors(maps, noc > 0, moving > 0))

    def figures(g: dict[str, GroupError]) -> list[float]:
        return [g[n].epe for n in ("all", "noc", "occ", "moving", "static")] + [
            g[n].outliers for n in ("moving", "static", "all")
        ]

    np.testing.assert_allclose([figures(g) for g in images], o["per_image"], rtol=0, atol=6e-5)
    np.testing.assert_allclose(figures(over_images(images)), o["mean"], rtol=0, atol=6e-5)


@pytest.mark.data
def test_example_of_the_development_kit(shared_data: Path) -> None:
    folder = shared_data / "kitti2015_devkit_flow_disp"
    flow = group_errors(error_maps(read_flow(folder / "flow_est.png"), read_flow(folder / "flow_gt.png")))["all"]
    assert flow.epe == pytest.approx(12.2007, abs=5e-5)
    assert 100 * flow.outliers == pytest.approx(20.688, abs=5e-4)
