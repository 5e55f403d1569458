import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from trianflow.odometry.pose_graph import (
    Edge,
    _Graph,
    _Nodes,
    corrected_trajectory,
    odometry_edges,
    optimise_pose_graph,
    scale_of,
)

EXACT = (1e-6, 1e-6, 1e-6)
GOOD = (0.003, 0.05, 0.02)


def similarity(rotation, t, scale=1.0):
    S = np.eye(4)
    S[:3, :3], S[:3, 3] = scale * Rotation.from_rotvec(rotation).as_matrix(), t
    return S


def circle(count=60, radius=10.0):
    """Poses once around, and a little further, with some climb; the first is the identity."""
    angle = np.linspace(0, 2.2 * np.pi, count)
    steps = [similarity([0, a, 0.1 * np.sin(a)], [radius * np.sin(a), 0.3 * a, radius * np.cos(a)]) for a in angle]
    return np.linalg.inv(steps[0]) @ np.stack(steps)


def drifted(T_wc, growth=1.01, turn=0.0):
    """What an odometry makes of poses whose unit grows, and whose heading turns, at every step; and the true S_wc."""
    unit = growth ** np.arange(len(T_wc))
    truth, odometry = T_wc.copy(), [T_wc[0]]
    truth[:, :3, :3] /= unit[:, None, None]
    for i in range(1, len(T_wc)):
        T_ba = np.linalg.inv(T_wc[i]) @ T_wc[i - 1]
        T_ba[:3, 3] *= unit[i]
        odometry.append(odometry[-1] @ np.linalg.inv(T_ba) @ similarity([0, turn, 0], np.zeros(3)))
    return np.stack(odometry), truth


def loop_of(truth, a, b, sigma=GOOD):
    return Edge(a, b, np.linalg.inv(truth[b]) @ truth[a], sigma)


def error(S_wc, truth):
    return np.linalg.norm(S_wc[:, :3, 3] - truth[:, :3, 3], axis=1)


def test_one_exact_loop_recovers_a_circle_whose_scale_drifts():
    odometry, truth = drifted(circle())
    graph = optimise_pose_graph(odometry, [loop_of(truth, 0, 59, EXACT)])
    assert error(odometry, truth).max() > 3
    assert graph.kept.tolist() == [True]
    np.testing.assert_allclose(scale_of(graph.S_wc), scale_of(truth), rtol=1e-4)
    np.testing.assert_allclose(graph.S_wc, truth, atol=1e-3)
    np.testing.assert_array_equal(graph.S_wc[0], np.eye(4))


@pytest.mark.parametrize("unit", [0.01, 100.0])
def test_drift_of_heading_too_and_any_unit(unit):
    T_wc = circle()
    T_wc[:, :3, 3] *= unit
    odometry, truth = drifted(T_wc, turn=0.005)
    loops = [loop_of(truth, a, b, (0.003, 0.05 * unit, 0.02)) for a, b in ((0, 54), (2, 57), (4, 59))]
    graph = optimise_pose_graph(odometry, loops)
    assert graph.kept.all()
    assert error(graph.S_wc, truth)[-1] < error(odometry, truth)[-1] / 5
    assert error(graph.S_wc, truth).max() < error(odometry, truth).max() / 3


def test_a_false_loop_is_rejected_by_the_others():
    odometry, truth = drifted(circle())
    good = [loop_of(truth, a, b) for a, b in ((0, 54), (2, 57), (4, 59))]
    false = Edge(10, 40, np.eye(4), GOOD)
    graph, without = optimise_pose_graph(odometry, [false, *good]), optimise_pose_graph(odometry, good)
    assert graph.kept.tolist() == [False, True, True, True]
    np.testing.assert_allclose(graph.S_wc[:, :3, 3], without.S_wc[:, :3, 3], atol=0.05)


def test_a_break_takes_the_blame():
    T_wc = circle()
    odometry, truth = T_wc.copy(), T_wc.copy()
    J = similarity([0, 0.2, 0], np.zeros(3), 2.5)  # lost before 30: from there on it turns, and its unit is another
    after = J @ np.linalg.inv(T_wc[30]) @ T_wc[30:]
    after[:, :3, :3] /= 2.5
    odometry[30:] = T_wc[30] @ after
    truth[30:, :3, :3] /= 2.5
    loops = [loop_of(truth, a, b) for a, b in ((0, 54), (2, 57), (4, 59))]
    told, untold = (optimise_pose_graph(odometry, loops, breaks) for breaks in ([30], []))
    assert told.kept.all()
    assert error(odometry, truth).max() > 30
    assert error(told.S_wc, truth).max() < 0.5
    assert error(untold.S_wc, truth).max() > 2


def test_jacobian_is_that_of_finite_differences():
    rng = np.random.default_rng(0)

    def random_similarities(count):
        parts = zip(rng.normal(0, 1, (count, 3)), rng.normal(0, 3, (count, 3)), np.exp(rng.normal(0, 0.5, count)))
        return [similarity(*part) for part in parts]

    nodes = _Nodes.of(np.stack(random_similarities(5)))
    ends = [(0, 1), (3, 2), (4, 0), (1, 4)]
    edges = [Edge(a, b, S, (0.1, 0.5, 0.2)) for (a, b), S in zip(ends, random_similarities(4))]
    edges.append(loop_of(nodes.matrices(), 2, 0, (0.1, 0.5, 0.2)))  # one without a residual
    graph = _Graph.of(edges)
    expected = np.zeros((35, 35))
    for k in range(35):
        step = np.zeros(35)
        step[k] = 1e-6
        ahead, behind = (graph.residuals(nodes.moved(s.reshape(5, 7))) for s in (step, -step))
        expected[:, k] = (ahead - behind).ravel() / 2e-6
    np.testing.assert_allclose(graph.jacobian(nodes).toarray(), expected, atol=1e-6)
    np.testing.assert_allclose(graph.residuals(nodes)[-1], 0, atol=1e-10)


def test_without_loops_nothing_changes():
    for T_wc in (circle(), circle()[:1], np.zeros((0, 4, 4))):
        graph = optimise_pose_graph(T_wc, [])
        np.testing.assert_array_equal(graph.S_wc, T_wc)
        assert graph.kept.shape == (0,)


def test_a_loop_that_agrees_changes_nothing():
    T_wc = circle()
    graph = optimise_pose_graph(T_wc, [loop_of(T_wc, 0, 59)])
    np.testing.assert_allclose(graph.S_wc, T_wc, atol=1e-9)


def test_a_camera_that_stood_all_along_stays():
    T_wc = np.tile(np.eye(4), (5, 1, 1))
    graph = optimise_pose_graph(T_wc, [loop_of(T_wc, 0, 4)])
    np.testing.assert_allclose(graph.S_wc, T_wc, atol=1e-9)
    assert len(odometry_edges(T_wc)) == 4


def test_frames_follow_the_key_frame_before_them():
    T_wc, rows = circle(), [3, 10, 40]
    G = similarity([0.2, -0.4, 0.1], [1.0, 2.0, 3.0], 1.7)
    corrected = corrected_trajectory(T_wc, rows, G @ T_wc[rows])
    np.testing.assert_allclose(corrected[:, :3, 3], T_wc[:, :3, 3] @ G[:3, :3].T + G[:3, 3], atol=1e-12)
    np.testing.assert_allclose(corrected[:, :3, :3], G[:3, :3] / 1.7 @ T_wc[:, :3, :3], atol=1e-12)

    S_wk = T_wc[rows].copy()
    S_wk[1, :3, :3] *= 2  # all lengths seen from the second key frame double
    corrected = corrected_trajectory(T_wc, rows, S_wk)
    same = [*range(10), *range(40, 60)]
    np.testing.assert_allclose(corrected[same], T_wc[same], atol=1e-12)
    away = corrected[10:40, :3, 3] - T_wc[10, :3, 3]
    np.testing.assert_allclose(away, 2 * (T_wc[10:40, :3, 3] - T_wc[10, :3, 3]), atol=1e-12)
    np.testing.assert_array_equal(corrected_trajectory(T_wc, [], S_wk[:0]), T_wc)


def test_in_metres_a_loop_bends_the_way_and_leaves_its_scale():
    T_wc = circle()
    odometry, _ = drifted(T_wc, growth=1.0, turn=0.005)
    doubtful = [Edge(a, b, similarity([0, 0, 0], [0, 0, 0], 1.03) @ np.linalg.inv(T_wc[b]) @ T_wc[a], GOOD)
                for a, b in ((0, 54), (2, 57), (4, 59))]  # fmt: skip
    graph, free = (optimise_pose_graph(odometry, doubtful, metric=metric) for metric in (True, False))
    assert graph.kept.all()
    np.testing.assert_allclose(scale_of(graph.S_wc), 1, atol=1e-12)
    assert abs(scale_of(free.S_wc)[-1] - 1) > 0.01
    assert error(graph.S_wc, T_wc)[-1] < error(odometry, T_wc)[-1] / 5
    np.testing.assert_array_equal(graph.S_wc[0], np.eye(4))
