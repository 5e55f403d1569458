"""The filter of the scale against a dense least-squares solution of the whole problem, and what it must withstand."""

import math

import numpy as np
import pytest

from trianflow.odometry.scale_fusion import BIASES, Measurement, ScaleFilter, smoothed_scales


def white(source, sigma):
    """The variance that a measurement of a source is fused with."""
    return sigma**2 + BIASES[source].frames * BIASES[source].sigma ** 2


def dense(drifts, rows):
    """Mean and standard deviation of every state of the walk, of all measurements at once."""
    count = len(drifts)
    information, right = np.zeros((count, count)), np.zeros(count)
    for k in range(1, count):
        step = np.zeros(count)
        step[k - 1], step[k] = -1.0, 1.0
        information += np.outer(step, step) / drifts[k] ** 2
    for k, measurements in enumerate(rows):
        for source, m in measurements.items():
            information[k, k] += 1 / white(source, m.sigma)
            right[k] += m.log_scale / white(source, m.sigma)
    covariance = np.linalg.inv(information)
    return covariance @ right, np.sqrt(covariance.diagonal())


def drive(count=30, seed=0):
    """Drifts and measurements that agree within their noise; the first two frames have none."""
    rng = np.random.default_rng(seed)
    drifts = rng.uniform(0.005, 0.03, count)
    rows = []
    for k in range(count):
        sources = [s for s in BIASES if k >= 2 and rng.uniform() < 0.4]
        rows.append({s: Measurement(0.7 + rng.normal(0, 0.003), rng.uniform(0.01, 0.05)) for s in sources})
    assert any(rows)
    return drifts, rows


def test_filter_and_smoother_are_the_least_squares_solution():
    drifts, rows = drive()
    scale = ScaleFilter()
    fused = [scale.step(drift, row) for drift, row in zip(drifts, rows)]
    first = next(k for k, row in enumerate(rows) if row)
    for k, now in enumerate(fused):
        if k < first:
            assert (now.log_scale, now.sigma, now.shares) == (0.0, math.inf, {"structure": 1.0})
            continue
        mean, sigma = dense(drifts[: k + 1], rows[: k + 1])
        assert now.log_scale == pytest.approx(mean[-1], abs=1e-9)
        assert now.sigma == pytest.approx(sigma[-1], rel=1e-6)
    mean, sigma = dense(drifts, rows)
    log_scale, stated = smoothed_scales(zip(drifts, rows))
    np.testing.assert_allclose(log_scale, mean, atol=1e-8)
    np.testing.assert_allclose(stated, sigma, rtol=1e-5)


def test_shares_are_the_weights_of_the_mean():
    scale = ScaleFilter()
    scale.step(0.0, {"speed": Measurement(1.0, 0.02)})
    before = scale.step(0.05, {})
    measured = {"camera_height": Measurement(1.1, 0.03), "depth": Measurement(0.95, 0.05)}
    after = scale.step(0.05, measured)
    assert before.shares == {"structure": 1.0}
    assert set(after.shares) == {"structure", "camera_height", "depth"}
    assert sum(after.shares.values()) == pytest.approx(1.0, abs=1e-12)
    mean = after.shares["structure"] * before.log_scale
    mean += sum(after.shares[source] * m.log_scale for source, m in measured.items())
    assert after.log_scale == pytest.approx(mean, abs=1e-12)
    known = 1 / (before.sigma**2 + 0.05**2)
    assert after.shares["structure"] == pytest.approx(known * after.sigma**2, rel=1e-9)


def test_one_outlier_counts_for_little_and_a_wrong_start_is_forgotten():
    scale = ScaleFilter()
    for _ in range(50):
        usual = scale.step(0.002, {"camera_height": Measurement(0.5, 0.02)})
    wild = scale.step(0.002, {"camera_height": Measurement(2.0, 0.02)})
    assert wild.shares["camera_height"] < usual.shares["camera_height"] / 20
    assert wild.log_scale == pytest.approx(0.5, abs=0.002)
    late = ScaleFilter()
    late.step(0.002, {"camera_height": Measurement(2.0, 0.02)})
    for _ in range(200):
        fused = late.step(0.002, {"camera_height": Measurement(0.5, 0.02)})
    assert fused.log_scale == pytest.approx(0.5, abs=0.02)


def test_many_frames_do_not_claim_more_than_the_bias_allows():
    scale = ScaleFilter()
    for _ in range(100):
        fused = scale.step(0.0, {"camera_height": Measurement(0.0, 0.005)})
    assert fused.sigma > 0.01


def test_stated_sigma_holds_for_a_bias_that_lasts():
    """A walk with measurements whose error is the bias, new after so many frames, and noise."""
    bias, errors = BIASES["camera_height"], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        scale, truth = ScaleFilter(), 0.3
        for k in range(250):
            if k % int(bias.frames) == 0:
                offset = rng.normal(0, bias.sigma)
            truth += rng.normal(0, 0.002)
            fused = scale.step(0.002, {"camera_height": Measurement(truth + offset + rng.normal(0, 0.02), 0.02)})
        errors.append((fused.log_scale - truth) / fused.sigma)
    assert 0.5 < np.std(errors) < 2


def follow(source, truth, said=0.02, noise=0.02, seed=0):
    """A scale `(N,)` as a source with its bias tells it.

    Returns:
        The filter, what it knew frame by frame, and what is known at the end: log scales and their sigmas.
    """
    rng, bias, scale, steps = np.random.default_rng(seed), BIASES[source], ScaleFilter(), []
    for k, value in enumerate(truth):
        if k % int(bias.frames) == 0:
            offset = rng.normal(0, bias.sigma)
        steps.append((0.002, {source: Measurement(value + offset + rng.normal(0, noise), said)}))
    return scale, [scale.step(*step) for step in steps], smoothed_scales(steps)


@pytest.mark.parametrize("source", ["camera_height", "speed"])
def test_a_structure_that_drifts_more_than_was_told_is_followed(source):
    """Steadily, by 4.5 times in 150 frames, and at random."""
    steady = np.log(4.5) * np.arange(150) / 150
    scale, fused, (log_scale, _) = follow(source, steady)
    assert scale.rate == 16
    assert np.abs(log_scale - steady)[10:].max() < 0.08
    assert np.sqrt(np.mean((log_scale - steady)[10:] ** 2)) < 0.04
    assert np.abs([now.log_scale - value for now, value in zip(fused, steady)])[20:].max() < 0.15
    errors = []
    for seed in range(12):
        walk = np.random.default_rng(100 + seed).normal(0, 0.02, 250).cumsum()
        scale, _, (log_scale, sigma) = follow(source, walk, seed=seed)
        assert scale.rate in (8, 16)
        errors.append((log_scale - walk)[5:] / sigma[5:])
    assert 0.6 < np.std(errors) < 1.4


def test_noise_that_is_understated_is_no_drift():
    for seed in range(8):
        walk = np.random.default_rng(100 + seed).normal(0, 0.002, 250).cumsum()
        scale, _, (log_scale, _) = follow("camera_height", walk, noise=0.06, seed=seed)
        assert scale.rate <= 4
        assert np.abs(log_scale - walk).max() < 0.06


def test_nothing_measured():
    assert [len(x) for x in smoothed_scales([])] == [0, 0]
    log_scale, sigma = smoothed_scales([(0.01, {})] * 3)
    assert log_scale.tolist() == [0.0] * 3
    assert np.isinf(sigma).all()
