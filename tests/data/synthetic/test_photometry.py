"""The sensor: drifting exposure, noise, and the truth that knows nothing of them."""

from __future__ import annotations

import dataclasses

import torch
from synthetic_worlds import CAMERA

from trianflow.data.synthetic import Photometry, SyntheticSequence, random_pairs

_DRIFT = Photometry(gain=0.15, offset=0.03)
_SENSOR = dataclasses.replace(_DRIFT, noise=0.02)


def _clip(photometry=None, frames=4, path="driving", seed=2):
    return SyntheticSequence.make("street", path, frames, CAMERA, 10.0, seed, 1, photometry)


def test_truth_is_that_of_the_perfect_sensor():
    for perfect, real in zip(_clip(), _clip(_SENSOR)):
        for f in dataclasses.fields(perfect):
            same = torch.equal(getattr(perfect, f.name), getattr(real, f.name))
            assert same == (not f.name.startswith("image")), f.name
    for perfect, real in zip(_clip().frames(), _clip(_SENSOR).frames()):
        assert torch.equal(perfect.depth, real.depth)
        assert not torch.equal(perfect.image, real.image)
        assert 0 <= real.image.min() <= real.image.max() <= 1


def test_no_photometry_is_the_identity():
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(Photometry().film(images, [3, 4], 10.0, 5), images)
    assert torch.equal(Photometry()(images, torch.Generator()), images)


def test_exposure_drifts_smoothly_and_within_bounds():
    grey = torch.full((600, 3, 2, 2), 0.4)
    level = _DRIFT.film(grey, range(600), 10.0, 1)[:, 0, 0, 0]
    assert level.std() > 0.02
    assert level.diff().abs().max() < 0.02
    assert level.diff(n=2).abs().max() < 0.006
    assert level.max() < 0.4 * torch.exp(torch.tensor(0.15 * 2.2)) + 0.03 * 2.2
    assert level.min() > 0.4 * torch.exp(torch.tensor(-0.15 * 2.2)) - 0.03 * 2.2
    gains = [Photometry(gain=0.15).film(grey, range(600), 10.0, seed)[:, 0, 0, 0] for seed in range(20)]
    spread = (torch.stack(gains) / 0.4).log()
    assert 0.12 < spread.square().mean().sqrt() < 0.18


def test_image_mean_drifts_in_a_standing_clip():
    means = torch.stack([frame.image.mean() for frame in _clip(_DRIFT, 12, "standing").frames()])
    assert means.diff().abs().max() < 0.03
    assert means.std() > 0.001


def test_same_seed_same_image_and_a_frame_is_the_same_in_both_its_pairs():
    first, again, other = _clip(_SENSOR), _clip(_SENSOR), _clip(_SENSOR)
    other = dataclasses.replace(other, seed=9)
    pairs, pairs_again = list(first), list(again)
    for one, two in zip(pairs, pairs_again):
        assert torch.equal(one.image_a, two.image_a)
        assert torch.equal(one.image_b, two.image_b)
    torch.testing.assert_close(pairs[0].image_b, pairs[1].image_a, rtol=0, atol=1e-4)
    assert not torch.equal(next(iter(other)).image_a, pairs[0].image_a)


def test_noise_is_fresh_in_every_frame():
    grey = torch.full((2, 3, 64, 64), 0.5)
    noisy = Photometry(noise=0.02).film(grey, [0, 1], 10.0, 0) - grey
    torch.testing.assert_close(noisy.std((1, 2, 3)), torch.full((2,), 0.02), rtol=0.05, atol=0)
    assert (noisy[0] * noisy[1]).mean().abs() < 0.02**2 * 0.05


def test_random_pairs_draw_each_image_and_each_item_on_its_own():
    perfect, real = (random_pairs(2, 48, 64, 3, photometry=p) for p in (Photometry(), Photometry(gain=0.3)))
    ratio = (real.image_a.mean() / perfect.image_a.mean(), real.image_b.mean() / perfect.image_b.mean())
    assert abs(ratio[0] - ratio[1]) > 0.02
    assert torch.equal(perfect.flow_ab, real.flow_ab)
    alone = random_pairs(1, 48, 64, 3, photometry=Photometry(gain=0.3))
    assert torch.equal(alone.image_a, real.image_a[:1])
