"""The two-view solver beside those of OpenCV and PoseLib."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.pose.two_view_pairs import K, angle_errors, check_promises, stacked, tensors
from trianflow.data.synthetic.matches import random_match_scene
from trianflow.geometry.epipolar import sampson_distance
from trianflow.pose.reference import solve_two_view_opencv, solve_two_view_poselib
from trianflow.pose.two_view import TwoView, TwoViewStatus, solve_two_view

REFERENCES = {
    "essential": solve_two_view_opencv,
    "fundamental": lambda *args, **kw: solve_two_view_opencv(*args, model="fundamental", **kw),
    "poselib": solve_two_view_poselib,
}


@pytest.fixture(params=REFERENCES)
def reference(request: pytest.FixtureRequest) -> Callable[..., TwoView]:
    if request.param == "poselib":
        pytest.importorskip("poselib")
    return REFERENCES[request.param]


def test_references_solve_the_same_problem(reference: Callable[..., TwoView]) -> None:
    """The same conventions, and every field filled as ours: frames, signs, units, inliers."""
    scenes = [random_match_scene(seed, 2000, 0.2, 0.2) for seed in range(3)]
    p_a, p_b = stacked(scenes)
    p_b[0, 5] = torch.nan
    view, ours = reference(p_a, p_b, K), solve_two_view(p_a, p_b, K)
    check_promises(view, p_a, p_b)
    assert (view.status == TwoViewStatus.OK).all()
    for i, scene in enumerate(scenes):
        rotation, direction = angle_errors(view.T_ba[i], scene.T_ba)
        assert rotation < 0.2
        assert direction < 5
        across = sampson_distance(view.F_ba[i], p_a[i], p_b[i])[ours.inlier[i]]
        assert across.abs().median() < 0.2
    torch.testing.assert_close(view.motion, ours.motion, rtol=0.05, atol=0)
    torch.testing.assert_close(view.parallax, ours.parallax, rtol=0.05, atol=0)
    torch.testing.assert_close(view.noise, ours.noise, rtol=0.3, atol=0)
    assert (view.inlier == ours.inlier).float().mean() > 0.97


def test_references_fail_without_raising(reference: Callable[..., TwoView]) -> None:
    """Beside a good pair in the batch, with float32, a non-contiguous K, and matches left out."""
    scene = random_match_scene(1, 400, 0.1, 0.2)
    p_a, p_b = (x.repeat(4, 1, 1) for x in tensors(scene, torch.float32))
    p_b[1, 7:] = torch.nan
    p_a[2], p_b[2] = 5.0, 5.0
    valid = torch.ones(4, 400, dtype=torch.bool)
    valid[3, 6:] = False
    P = torch.nn.functional.pad(K, (0, 1)).float()
    view = reference(p_a, p_b, P[:, :3], valid)
    check_promises(view, p_a, p_b)
    assert view.status[0] == TwoViewStatus.OK
    assert (view.status[[1, 3]] == TwoViewStatus.TOO_FEW_MATCHES).all()
    assert angle_errors(view.T_ba[0], scene.T_ba)[0] < 0.3
    empty = reference(p_a[:, :0], p_b[:, :0], K)
    assert (empty.status == TwoViewStatus.TOO_FEW_MATCHES).all()


def test_opencv_reports_no_consensus() -> None:
    p = torch.full((1, 20, 2), 3.0)
    for model in ("essential", "fundamental"):
        assert solve_two_view_opencv(p, p, K, model=model).status[0] == TwoViewStatus.NO_CONSENSUS
    with pytest.raises(ValueError, match="not 'homography'"):
        solve_two_view_opencv(p, p, K, model="homography")
