"""A cloud as it was written, or some of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trianflow.data.ply import write_ply
from trianflow.errors import TrianflowError
from trianflow.visualization.html_cloud import read_cloud


def test_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points, colors = rng.normal(0, 10, (50, 3)), rng.integers(0, 256, (50, 3)).astype(np.uint8)
    write_ply(tmp_path / "c.ply", points, colors)
    X, color = read_cloud(tmp_path / "c.ply", 100)
    np.testing.assert_allclose(X, points, atol=1e-5)
    np.testing.assert_array_equal(color, colors)
    few, shades = read_cloud(tmp_path / "c.ply", 10)
    assert len(few) == len(shades) == 10
    rows = [int(np.abs(X - x).sum(1).argmin()) for x in few]
    assert len(set(rows)) == 10
    np.testing.assert_array_equal(shades, colors[rows])
    np.testing.assert_array_equal(read_cloud(tmp_path / "c.ply", 10)[0], few)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match="No such file"):
        read_cloud(tmp_path / "gone.ply", 10)
    (tmp_path / "c.ply").write_text("ply\nformat ascii 1.0\nend_header\n0 0 0\n")
    with pytest.raises(TrianflowError, match="not a point cloud"):
        read_cloud(tmp_path / "c.ply", 10)
