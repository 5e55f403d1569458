"""Scores of depth predictions: the oracle, scaling, and what has no truth or no prediction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.depth_protocols import PROTOCOLS, ImagePair, select_pixels
from trianflow.evaluation.depth_scores import DISTANCES, score_image, score_images
from trianflow.evaluation.depth_table import comparable_rows, depth_table
from trianflow.evaluation.published import published_rows

EIGEN, PLAIN = PROTOCOLS["eigen"], PROTOCOLS["plain"]
NYU_MEAN = ("abs_rel", "sq_rel", "rmse", "log10", "d1", "d2", "d3")


def pair(truth: list[float], depth: list[float], name: str = "a") -> ImagePair:
    return ImagePair(name, np.float32(truth), np.float32(depth))


@pytest.mark.data
@pytest.mark.parametrize(
    ("protocol", "metrics", "expected"),
    [
        (EIGEN, EIGEN.metrics, "mean"),
        (PROTOCOLS["eigen50"], EIGEN.metrics, "mean_cap50"),
        (replace(EIGEN, crop="none"), NYU_MEAN, "mean_nyu_nocrop_log10"),
    ],
)
def test_17_depth_metrics(shared_data: Path, protocol, metrics, expected: str) -> None:
    with np.load(shared_data / "oracle" / "17_depth_metrics.npz") as arrays:
        o = dict(arrays)
    score = score_images((select_pixels(str(i), o[f"gt{i}"], o[f"pred{i}"], protocol) for i in range(3)), protocol)
    np.testing.assert_allclose([score.mean[key] for key in metrics], o[expected], rtol=2e-7)
    if expected == "mean":
        own = [[getattr(image.errors, key) for key in metrics] for image in score.images]
        np.testing.assert_allclose(own, o["per_image"], rtol=2e-7)


def test_scaling() -> None:
    pairs = [pair([2, 4, 6], [1, 2, 3], "a"), pair([3, 6, 9], [1, 2, 3], "b"), pair([8, 16, 24], [1, 2, 3], "c")]
    median = score_images(pairs, PLAIN)
    assert median.mean["abs_rel"] == 0
    assert median.mean["d1"] == 1
    assert (median.scale, median.scale_deviation) == (3, pytest.approx(np.std([2 / 3, 1, 8 / 3])))
    assert score_images(pairs, PLAIN, "none").mean["abs_rel"] == pytest.approx((1 / 2 + 2 / 3 + 7 / 8) / 3)
    with pytest.raises(UsageError, match="no scaling is called 'mean'"):
        score_images(pairs, PLAIN, "mean")


def test_each_image_counts_alike() -> None:
    score = score_images([pair([1] * 9, [1] * 9), pair([1], [3])], PLAIN, "none")
    assert score.mean["abs_rel"] == 1
    assert score.pixels == 10


def test_clamped_after_scaling() -> None:
    score = score_images([pair([10, 20, 40], [1, 2, 60])], EIGEN)
    assert score.images[0].factor == 10
    assert score.mean["abs_rel"] == pytest.approx((80 - 40) / 40 / 3)


def test_indoors_predictions_are_clamped_at_80_m_not_where_the_truth_ends() -> None:
    score = score_images([pair([1, 2, 9], [1, 2, 30])], PROTOCOLS["nyuv2"])
    assert score.images[0].factor == 1
    assert score.mean["abs_rel"] == pytest.approx((30 - 9) / 9 / 3)
    assert score.mean["rmse"] == pytest.approx((30 - 9) / 3**0.5)
    score = score_images([pair([1, 2, 8], [1, 2, 100])], PROTOCOLS["nyuv2"])
    assert score.mean["abs_rel"] == pytest.approx((80 - 8) / 8 / 3)


def test_pixels_without_prediction_count_against_it() -> None:
    image = score_image(pair([2, 2, 2, 2], [1, np.nan, 1, 1]), EIGEN, 2)
    assert (image.pixels, image.unknown) == (4, 1)
    assert image.errors.abs_rel == pytest.approx((2 - 1e-3) / 2 / 4)
    nothing = score_images([pair([2, 2], [np.nan, np.nan])], EIGEN)
    assert nothing.scale is None
    assert nothing.scale_deviation is None
    assert nothing.mean["d3"] == 0


def test_images_without_truth_are_named() -> None:
    score = score_images([pair([], [], "empty"), pair([1], [1])], PLAIN)
    assert (score.empty, len(score.images)) == (["empty"], 1)
    with pytest.raises(TrianflowError, match="no pixel of the truth counts"):
        score_images([pair([], [], "empty")], PLAIN)
    with pytest.raises(TrianflowError, match="no image could be read"):
        score_images([], PLAIN)


def test_by_distance() -> None:
    score = score_images([pair([3, 3, 30], [6, 3, 15]), pair([3], [3])], PLAIN, "none")
    relative, counts = score.by_distance
    near, far = (np.searchsorted(DISTANCES, d) - 1 for d in (3, 30))
    assert (counts[near], counts[far], counts.sum()) == (3, 1, 4)
    assert relative[near] == pytest.approx(1 / 3)
    assert relative[far] == pytest.approx(0.5)
    assert np.isnan(relative[counts == 0]).all()


def test_plain_values() -> None:
    entry = score_images([pair([2, 4], [1, 2])], PLAIN).to_dict()
    text = json.loads(json.dumps(entry, allow_nan=False))
    assert (text["largest"], text["scale"], text["pixels"], text["images"][0]["name"]) == (None, 2, 2, "a")


def test_the_table() -> None:
    runs = {f"seed{i}": score_images([pair([2, 4], [1, 2 + i])], EIGEN) for i in range(3)}
    table = depth_table(runs, median=True, published=published_rows("depth_eigen"))
    names = [row.name for row in table.rows]
    assert names[:5] == ["seed0", "seed1", "seed2", "median of 3", "TrianFlow"]
    assert table.rows[3].values["abs_rel"] == runs["seed1"].mean["abs_rel"]
    assert table.rows[3].spread["abs_rel"] == pytest.approx(runs["seed2"].mean["abs_rel"] / 2)
    assert "pixels" not in table.rows[3].spread
    assert table.label == "eigen (crop garg, 0.001 to 80 m; scaling: each image by its medians)"
    assert len(set(table.csv().splitlines()[0].split(","))) == len(table.csv().splitlines()[0].split(","))


def test_papers_stand_only_beside_what_was_computed_alike() -> None:
    def published(protocol, images: int = 697, scaling: str = "median", choice="few") -> int:
        whole = score_images([pair([2, 4], [1, 2])] * 697, protocol, scaling)
        part = score_images([pair([2, 4], [1, 2])] * images, protocol, scaling)
        return len(comparable_rows([whole, part], choice))

    assert 4 < published(EIGEN) < 10
    assert published(EIGEN, choice="all") > 40
    assert published(EIGEN, choice="none") == 0
    assert published(EIGEN, images=696) == 0
    assert published(EIGEN, scaling="none") == 0
    assert published(replace(EIGEN, crop="eigen")) == 0
    assert published(replace(EIGEN, largest=60.0)) == 0
    assert published(PROTOCOLS["nyuv2"]) == 0  # of 654 images
    assert published(PLAIN) == 0
