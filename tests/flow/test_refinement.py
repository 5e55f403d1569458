from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from trianflow.data.synthetic import SyntheticSequence
from trianflow.flow.dis import DISFlow
from trianflow.flow.refinement import Refiner, shapes_of, smoothed
from trianflow.geometry.camera import Camera

SIZE = 160, 120


def texture(x: np.ndarray, y: np.ndarray, seed: int = 0) -> np.ndarray:
    """A picture that is known at any place: waves of 6 to 30 pixels."""
    rng = np.random.default_rng(seed)
    image = np.full_like(x, 120.0)
    for _ in range(40):
        angle, length, phase = rng.uniform(0, 2 * np.pi), rng.uniform(6, 30), rng.uniform(0, 2 * np.pi)
        image += 8 * np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / length + phase)
    return image


def warped_pair(A: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Images a and b with b(A x + t) = a(x), and the flow from a to b; the origin is the middle."""
    grid = np.stack(np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1])), -1) - np.array(SIZE) / 2
    back = (grid - t) @ np.linalg.inv(A).T
    a, b = (texture(p[..., 0], p[..., 1]).clip(0, 255).round().astype(np.uint8) for p in (grid, back))
    flow = grid @ (A - np.eye(2)).T + t
    return a, b, torch.from_numpy(flow).permute(2, 0, 1)[None].float()


def points(flow: torch.Tensor, margin: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels on a grid, and where the flow takes them."""
    axes = (torch.arange(margin, size - margin, 8) for size in reversed(SIZE))
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    p = torch.stack([columns, rows], -1).reshape(-1, 2).double()
    return p, p + flow[0][:, rows.flatten(), columns.flatten()].T.double()


@pytest.mark.parametrize(
    "A", [np.eye(2), np.array([[1.12, 0.03], [-0.05, 0.94]]), np.array([[0.96, -0.2], [0.2, 0.96]])]
)
def test_a_wrong_start_comes_home_under_any_affine_motion(A):
    a, b, flow = warped_pair(A, np.array([3.3, -1.7]))
    p, exact = points(flow)
    wrong = exact + 0.4 * torch.randn(exact.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found_p, sigma = Refiner(smoothed(a), smoothed(b), flow)(p, wrong)
    found = sigma.isfinite()
    assert float(found.double().mean()) > 0.9
    error = (found_p - exact).norm(dim=-1)[found]
    assert float(error.median()) < 0.03, "pixels, with 8-bit images and bilinear samples"
    assert float(error.mean()) < 0.05
    assert torch.equal(found_p[~found], wrong[~found]), "what is not found is as it was given"


def test_a_patch_is_found_again_in_a_later_image_through_the_shapes_between():
    A, t = np.array([[1.06, 0.02], [-0.03, 1.04]]), np.array([1.5, -0.8])
    a, b, flow_ab = warped_pair(A, t)
    _, c, flow_ac = warped_pair(A @ A, A @ t + t)
    first, second = Refiner(smoothed(a), smoothed(b), flow_ab), Refiner(smoothed(b), smoothed(c), flow_ab)
    p, p_c = points(flow_ac, 24)
    _, p_b = points(flow_ab, 24)
    patches, shapes = first.patches(p), shapes_of(flow_ab, p_b) @ shapes_of(flow_ab, p)
    assert torch.allclose(shapes, torch.from_numpy(A @ A).expand_as(shapes), atol=1e-3)
    found_p, sigma = second.aligned(patches, shapes, p_c + 0.3)
    found = sigma.isfinite()
    assert float(found.double().mean()) > 0.9
    assert float((found_p - p_c).norm(dim=-1)[found].median()) < 0.03
    elsewhere = torch.roll(patches, 40, 0)
    assert float(second.aligned(elsewhere, shapes, p_c)[1].isfinite().double().mean()) < 0.1, "other points"
    unknown = torch.full_like(patches, torch.nan)
    assert second.aligned(unknown, shapes, p_c)[1].isinf().all()
    assert torch.equal(second.aligned(unknown, shapes, p_c)[0], p_c)


def test_exposure_does_not_matter():
    a, b, flow = warped_pair(np.eye(2), np.array([1.25, 0.6]))
    b = (0.6 * b.astype(float) + 30).round().astype(np.uint8)
    p, exact = points(flow)
    found_p, sigma = Refiner(smoothed(a), smoothed(b), flow)(p, exact + 0.3)
    found = sigma.isfinite()
    assert float(found.double().mean()) > 0.9
    assert float((found_p - exact).norm(dim=-1)[found].median()) < 0.03


def test_hidden_flat_and_far_points_are_not_found():
    a, b, flow = warped_pair(np.eye(2), np.array([2.0, 1.0]))
    p, exact = points(flow)
    other = smoothed(warped_pair(np.eye(2), np.array([31.0, 17.0]))[1])
    assert float(Refiner(smoothed(a), other, flow)(p, exact)[1].isfinite().double().mean()) < 0.1, "another place"
    flat = np.full_like(a, 90)
    for images in ((flat, flat), (flat, b), (a, flat)):
        found_p, sigma = Refiner(*map(smoothed, images), flow)(p, exact)
        assert sigma.isinf().all()
        assert torch.equal(found_p, exact), "never NaN"
    rng = np.random.default_rng(3)
    dim = [(100 + 2 * rng.standard_normal(a.shape)).round().astype(np.uint8) for _ in range(2)]
    assert float(Refiner(*map(smoothed, dim), flow)(p, exact)[1].isfinite().double().mean()) < 0.02, "noise alone"
    outside = torch.tensor([[1.0, 1.0], [SIZE[0] - 2.0, SIZE[1] - 2.0]], dtype=torch.float64)
    moved, sigma = Refiner(smoothed(a), smoothed(b), flow)(outside, outside + 500)
    assert sigma.isinf().all()
    assert torch.equal(moved, outside + 500)


def test_points_do_not_depend_on_each_other():
    a, b, flow = warped_pair(np.array([[1.05, 0.0], [0.02, 1.03]]), np.array([0.8, 0.3]))
    p, exact = points(flow, 12)
    p, wrong = p.repeat(5, 1), (exact + 0.2).repeat(5, 1)
    refiner = Refiner(smoothed(a), smoothed(b), flow)
    everything, sigma = refiner(p, wrong)
    assert len(p) > 512, "more than a block"
    alone, alone_sigma = refiner(p[700:703], wrong[700:703])
    assert torch.allclose(everything[700:703], alone, atol=1e-4)
    assert torch.allclose(sigma[700:703], alone_sigma, rtol=0.03)
    single, _ = refiner(p.float(), wrong.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), everything, atol=1e-3)
    none, sigma = refiner(p[:0], wrong[:0])
    assert none.shape == (0, 2)
    assert sigma.shape == (0,)


def test_colour_is_seen_as_grey():
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert np.allclose(smoothed(image), smoothed(grey))
    assert smoothed(image).dtype == np.float32
    assert smoothed(grey).std() < 0.5 * grey.std()


def test_on_a_street_it_lowers_the_error_of_dense_flow_by_a_third_and_knows_what_is_left():
    camera = Camera(256.0, 256.0, 255.5, 127.5, 512, 256)
    drive = SyntheticSequence.drive("open", camera, seed=3, frames=3)
    pair = next(iter(drive))
    a, b = ((x[0].permute(1, 2, 0) * 255).round().byte().numpy() for x in (pair.image_a, pair.image_b))
    dis = DISFlow()
    flow_ab = dis.flow(dis.encode(a), dis.encode(b)).flow_ab
    rows, columns = torch.meshgrid(torch.arange(10, 246, 5), torch.arange(10, 502, 5), indexing="ij")
    p = torch.stack([columns, rows], -1).reshape(-1, 2).double()
    at = rows.flatten(), columns.flatten()
    exact = p + pair.flow_ab[0][:, at[0], at[1]].T.double()
    carried = p + flow_ab[0][:, at[0], at[1]].T.double()
    refined, sigma = Refiner(smoothed(a), smoothed(b), flow_ab)(p, carried)
    found = sigma.isfinite() & (pair.visible_a[0, 0][at] > 0)
    before, after = ((x - exact).norm(dim=-1)[found].median() for x in (carried, refined))
    assert int(found.sum()) > 1000
    assert float(after) < 0.67 * float(before)
    error, order = (refined - exact)[found].abs().flatten(), sigma[found].repeat_interleave(2).argsort()
    for third in order.chunk(3):
        told = sigma[found].repeat_interleave(2)[third].median()
        assert 0.4 < float(error[third].quantile(0.68) / told) < 1.3, "of each axis"
