"""What two cameras of their own make of a pair: other values, the same picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from trianflow.data.pairs.disturbances import disturb


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    coarse = np.random.default_rng(0).uniform(40, 200, (8, 16, 3)).astype(np.float32)
    image = cv2.resize(coarse, (128, 64), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    return np.stack([image, image])


def test_the_picture_stays_and_its_values_change(images: np.ndarray) -> None:
    before = images.copy()
    likeness, shifts, grey = [], [], 0
    for number in range(80):
        found = disturb(np.random.default_rng(number), images)
        assert found.shape == images.shape
        assert found.dtype == np.uint8
        values = found.astype(float).mean(-1), images.astype(float).mean(-1)
        likeness += [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(*values)]
        shifts.append(abs(values[0][0].mean() - values[0][1].mean()))
        grey += int(np.ptp(found.astype(int), axis=-1).max() == 0)
    np.testing.assert_array_equal(images, before)
    assert min(likeness) > 0.75
    assert np.median(likeness) > 0.98
    assert np.quantile(shifts, 0.25) < 4, "many pairs have one exposure"
    assert np.quantile(shifts, 0.9) > 10, "some do not"
    assert 10 < grey < 40


def test_the_same_draws_give_the_same_pair(images: np.ndarray) -> None:
    a, b, c = (disturb(np.random.default_rng(seed), images) for seed in (7, 7, 8))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
