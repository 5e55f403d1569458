"""The status that the two-view solver gives to every kind of pair."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.pose.two_view_pairs import FAILED, K, angle_errors, check_promises, tensors
from trianflow.config import TwoViewConfig
from trianflow.data.synthetic.matches import random_match_scene
from trianflow.geometry.camera import Camera
from trianflow.geometry.epipolar import sampson_distance
from trianflow.pose.two_view import TwoViewStatus, solve_two_view

Draw = Callable[[int, float], tuple[torch.Tensor, torch.Tensor, np.ndarray | None]]


def of_kind(kind: str) -> Draw:
    def draw(seed: int, outliers: float) -> tuple[torch.Tensor, torch.Tensor, np.ndarray | None]:
        scene = random_match_scene(seed, 2000, outliers, 0.5, kind)
        return *tensors(scene), scene.T_ba

    return draw


def few(seed: int, outliers: float) -> tuple[torch.Tensor, torch.Tensor, None]:
    p_a, p_b, _ = of_kind("general")(seed, outliers)
    return p_a[:, : seed % 8], p_b[:, : seed % 8], None


def all_nan(seed: int, outliers: float) -> tuple[torch.Tensor, torch.Tensor, None]:
    p_a, p_b, _ = of_kind("general")(seed, outliers)
    return p_a, torch.full_like(p_b, torch.nan), None


def some_nan(seed: int, outliers: float) -> tuple[torch.Tensor, torch.Tensor, np.ndarray | None]:
    p_a, p_b, truth = of_kind("general")(seed, outliers)
    p_a[:, seed % 7 :: 7, seed % 2] = torch.nan
    p_b[:, seed % 5 :: 11] = torch.inf
    return p_a, p_b, truth


def seven_left(seed: int, outliers: float) -> tuple[torch.Tensor, torch.Tensor, None]:
    p_a, p_b, _ = of_kind("general")(seed, outliers)
    p_b[:, 7:] = torch.nan
    return p_a, p_b, None


def one_point(seed: int, outliers: float) -> tuple[torch.Tensor, torch.Tensor, None]:
    p_a, p_b, _ = of_kind("general")(seed, outliers)
    return p_a[:, :1].expand_as(p_a), p_b[:, :1].expand_as(p_b), None


def same_points(seed: int, outliers: float) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    p_a, _, _ = of_kind("general")(seed, outliers)
    return p_a, p_a.clone(), np.eye(4)


KINDS: dict[str, tuple[Draw, TwoViewStatus]] = {
    "general": (of_kind("general"), TwoViewStatus.OK),
    "planar": (of_kind("planar"), TwoViewStatus.PLANAR),
    "rotation": (of_kind("rotation"), TwoViewStatus.ROTATION_ONLY),
    "static": (of_kind("static"), TwoViewStatus.STATIC),
    "random": (of_kind("random"), TwoViewStatus.NO_CONSENSUS),
    "fewer than eight": (few, TwoViewStatus.TOO_FEW_MATCHES),
    "seven left": (seven_left, TwoViewStatus.TOO_FEW_MATCHES),
    "all NaN": (all_nan, TwoViewStatus.TOO_FEW_MATCHES),
    "some NaN": (some_nan, TwoViewStatus.OK),
    "one point": (one_point, TwoViewStatus.NO_CONSENSUS),
    "same points": (same_points, TwoViewStatus.STATIC),
}


def check_kind(kind: str, outliers: float, draws: int) -> None:
    draw, expected = KINDS[kind]
    wrong = {}
    for seed in range(draws):
        p_a, p_b, truth = draw(seed, outliers)
        view = solve_two_view(p_a, p_b, K)
        check_promises(view, p_a, p_b)
        status = TwoViewStatus(int(view.status[0]))
        if status != expected:
            wrong[seed] = status.name
        elif expected == TwoViewStatus.PLANAR:
            # A plane allows two poses, and either is a fair answer; it has to explain the matches.
            across = sampson_distance(view.F_ba, p_a, p_b)[view.inlier]
            assert across.square().mean().sqrt() < 0.6, f"seed {seed}"
            assert angle_errors(view.T_ba[0], truth)[0] < 6, f"seed {seed}"
        elif truth is not None and expected not in FAILED:
            rotation, direction = angle_errors(view.T_ba[0], truth)
            assert rotation < 0.2, f"seed {seed}: {rotation} degrees"
            if expected == TwoViewStatus.OK:
                assert direction < 5, f"seed {seed}: {direction} degrees"
    assert not wrong, f"not {expected.name}: {wrong}"


@pytest.mark.parametrize("seed", [0, 1, 9, 14])
def test_clouds_over_a_slope_are_not_behind_a_plane(seed: int) -> None:
    """A homography explains nearly all; of its two poses the wrong one is 60 degrees from the truth."""
    rng = np.random.default_rng(seed)
    slope, share, count = rng.uniform(15, 40), rng.uniform(0.02, 0.06), 3000
    p_a = rng.uniform((0, 0), (800, 600), (count, 2))
    camera = Camera(620.0, 620.0, 400.0, 300.0, 800, 600)
    inverse = np.maximum(rng.uniform(0, 1 / 500, count), (p_a[:, 1] - rng.uniform(330, 460)) / (620 * slope))
    inverse = np.where(rng.uniform(size=count) < share, 1 / rng.uniform(15, 60, count), inverse)
    T_ba = np.eye(4)
    T_ba[:3, :3] = Rotation.from_rotvec(0.003 * rng.normal(size=3)).as_matrix()
    T_ba[:3, 3] = 0, -0.12, -0.99
    X_b = np.concatenate([(p_a - 300 - [100, 0]) / 620, np.ones((count, 1))], 1) / inverse[:, None]
    X_b = X_b @ T_ba[:3, :3].T + T_ba[:3, 3]
    p_b = 620 * X_b[:, :2] / X_b[:, 2:] + [400, 300] + 0.12 * rng.normal(size=(count, 2))
    matches = torch.from_numpy(p_a)[None], torch.from_numpy(p_b)[None]
    view = solve_two_view(*matches, camera.K(), config=TwoViewConfig(noise_floor=0.446))
    check_promises(view, *matches)
    rotation, direction = angle_errors(view.T_ba[0], T_ba)
    assert rotation < 0.2
    assert direction < 25


@pytest.mark.parametrize("outliers", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_status(kind: str, outliers: float) -> None:
    check_kind(kind, outliers, 10)


@pytest.mark.slow
@pytest.mark.parametrize("outliers", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_status_in_200_of_200_draws(kind: str, outliers: float) -> None:
    check_kind(kind, outliers, 200)
