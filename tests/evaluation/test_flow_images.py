"""Which images a true flow is of."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.errors import TrianflowError
from trianflow.evaluation.flow_images import read_frame_pair


def save(path: Path, level: int, size: tuple[int, int] = (4, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, np.full((*size, 3), level, np.uint8))[1].tobytes())


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("000007_10", "000007_10.png", "000007_11.png"),
        ("alley_1/frame_0009", "alley_1/frame_0009.png", "alley_1/frame_0010.png"),
        ("RubberWhale/flow10", "RubberWhale/frame10.png", "RubberWhale/frame11.ppm"),
        ("flow10", "frame10.png", "frame11.png"),
        ("overflow_1", "overflow_1.png", "overflow_2.png"),
    ],
)
def test_names_of_the_datasets(name: str, first: str, second: str, tmp_path: Path) -> None:
    save(tmp_path / first, 10)
    save(tmp_path / second, 20)
    a, b = read_frame_pair(tmp_path, name)
    assert a.shape == b.shape == (4, 6, 3)
    assert (a[0, 0, 0], b[0, 0, 0]) == (10, 20)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    save(tmp_path / "000000_10.png", 10)
    with pytest.raises(TrianflowError, match=r"000000_11\.png: missing"):
        read_frame_pair(tmp_path, "000000_10")
    save(tmp_path / "000000_11.png", 10, (4, 7))
    with pytest.raises(TrianflowError, match=r"000000_11\.png: size 7x4 differs from 6x4"):
        read_frame_pair(tmp_path, "000000_10")
    (tmp_path / "000000_11.png").write_bytes(b"nothing")
    with pytest.raises(TrianflowError, match=r"000000_11\.png: a text file"):
        read_frame_pair(tmp_path, "000000_10")
    with pytest.raises(TrianflowError, match="flow_gt: the name of the truth ends in no number"):
        read_frame_pair(tmp_path, "flow_gt")
