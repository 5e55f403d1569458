"""Flow and depth files: round trips, against OpenCV, against KITTI's own, damaged."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.data.depth import read_depth, write_depth
from trianflow.data.flow_files import read_flow, write_flow
from trianflow.errors import TrianflowError, UsageError


@pytest.fixture
def flow() -> np.ndarray:
    flow = np.random.default_rng(0).normal(0, 30, (17, 23, 2)).astype(np.float32)
    flow[3, 4], flow[5, 6, 0] = np.nan, np.inf
    return flow


def test_flo_is_exact_and_that_of_opencv(tmp_path: Path, flow: np.ndarray) -> None:
    write_flow(tmp_path / "a.flo", flow)
    read = read_flow(tmp_path / "a.flo")
    known = np.isfinite(flow).all(-1)
    np.testing.assert_array_equal(read[known], flow[known])
    assert np.isnan(read[~known]).all()
    assert (~known).sum() == 2
    theirs = cv2.readOpticalFlow(str(tmp_path / "a.flo"))
    np.testing.assert_array_equal(theirs[known], flow[known])
    assert cv2.writeOpticalFlow(str(tmp_path / "b.flo"), np.nan_to_num(flow, posinf=0))
    np.testing.assert_array_equal(read_flow(tmp_path / "b.flo"), np.nan_to_num(flow, posinf=0))


def test_png_is_to_a_64th(tmp_path: Path, flow: np.ndarray) -> None:
    flow[0, 0], flow[0, 1], flow[0, 2] = (511.9, -512.0), (512.1, 0), (0, -600)
    write_flow(tmp_path / "a.png", flow)
    read = read_flow(tmp_path / "a.png")
    known = np.isfinite(flow).all(-1)
    known[0, 1:3] = False
    assert np.abs(read[known] - flow[known]).max() <= 1 / 128
    assert np.isnan(read[~known]).all()


@pytest.mark.data
def test_png_of_kitti(tmp_path: Path, shared_data: Path) -> None:
    path = shared_data / "flow_kitti2015_pair" / "flow_gt.png"
    flow = read_flow(path)
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    u, v, valid = (stored[..., 2 - i].astype(float) for i in range(3))
    np.testing.assert_array_equal(np.isfinite(flow).all(-1), valid > 0)
    np.testing.assert_array_equal(flow[valid > 0], np.stack([(u - 32768) / 64, (v - 32768) / 64], -1)[valid > 0])
    assert 1 < np.nanmedian(np.linalg.norm(flow, axis=-1)) < 100
    write_flow(tmp_path / "again.png", flow)
    again = cv2.imread(str(tmp_path / "again.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(again[valid > 0], stored[valid > 0])
    np.testing.assert_array_equal(again[..., 0] > 0, valid > 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.flo", b"", "the|not a .flo"),
        ("a.flo", b"PIEH\x01\0\0\0", "not a .flo file"),
        ("a.flo", b"HEIP" + bytes(100), "not a .flo file"),
        ("a.flo", b"PIEH" + np.array([1000, 1000], "<i4").tobytes() + bytes(10), r"truncated .* 8000012"),
        ("a.flo", b"PIEH" + np.array([-5, 1000], "<i4").tobytes(), "impossible size -5x1000"),
        ("a.flo", b"PIEH" + np.array([2**30, 2**30], "<i4").tobytes(), "impossible size"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "truncated PNG"),
        ("a.png", cv2.imencode(".png", np.zeros((3, 3, 3), np.uint8))[1].tobytes(), "not a flow PNG of KITTI"),
        ("a.png", cv2.imencode(".png", np.zeros((3, 3), np.uint16))[1].tobytes(), "not a flow PNG of KITTI"),
    ],
)
def test_damaged(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrianflowError, match=message) as caught:
        read_flow(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_other_files(tmp_path: Path, flow: np.ndarray) -> None:
    for call in (lambda p: read_flow(p), lambda p: write_flow(p, flow)):
        with pytest.raises(UsageError, match=r"\.flo .*\.png"):
            call(tmp_path / "a.jpg")
    with pytest.raises(TrianflowError, match="No such file"):
        read_flow(tmp_path / "a.flo")
    with pytest.raises(TrianflowError, match="cannot write the flow"):
        write_flow(tmp_path / "nowhere" / "a.flo", flow)


def test_depth_round_trip(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).uniform(0.1, 100, (9, 11)).astype(np.float32)
    depth[0, :5] = 0, np.nan, -1, np.inf, 500
    write_depth(tmp_path / "a.png", depth, 500)
    read = read_depth(tmp_path / "a.png", 500)
    known = np.isfinite(depth) & (depth > 0)
    np.testing.assert_array_equal(read[~known], 0)
    assert read[0, 4] == np.float32(65534 / 500)
    known[0, 4] = False
    assert np.abs(read[known] - depth[known]).max() <= 0.5 / 500 + 1e-5
    write_depth(tmp_path / "tiny.png", np.full((2, 2), 1e-6), 500)
    assert (read_depth(tmp_path / "tiny.png", 500) > 0).all()
    write_depth(tmp_path / "a.npy", depth, 500)
    np.testing.assert_array_equal(read_depth(tmp_path / "a.npy"), np.where(np.isfinite(depth) & (depth > 0), depth, 0))
    for name in ("a.png", "a.npy"):
        with pytest.raises(TrianflowError, match="cannot write the depth"):
            write_depth(tmp_path / "nowhere" / name, depth, 500)
