"""The picture of depth errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trianflow.data.decoding import decode_image
from trianflow.errors import TrianflowError
from trianflow.evaluation.depth_protocols import PROTOCOLS, ImagePair
from trianflow.evaluation.depth_scores import DepthScore, score_images
from trianflow.visualization.depth_error_plot import plot_depth_errors


def score(noise: float, images: int = 5) -> DepthScore:
    rng = np.random.default_rng(0)
    pairs = []
    for i in range(images):
        truth = rng.uniform(2, 70, 300).astype(np.float32)
        pairs.append(ImagePair(str(i), truth, (truth * rng.uniform(1 - noise, 1 + noise, 300)).astype(np.float32)))
    return score_images(pairs, PROTOCOLS["eigen"])


def colors(path: Path) -> set[tuple[int, ...]]:
    return set(map(tuple, decode_image(path.read_bytes()).reshape(-1, 3).tolist()))


def test_every_method_has_a_line_of_its_own(tmp_path: Path) -> None:
    plot_depth_errors(tmp_path / "one.png", {"first": score(0.1)})
    plot_depth_errors(tmp_path / "two.png", {"first": score(0.1), "second": score(0.4)})
    blue, orange = (0x1D, 0x5F, 0xD1), (0xD9, 0x48, 0x0F)
    assert blue in colors(tmp_path / "one.png")
    assert orange not in colors(tmp_path / "one.png")
    assert {blue, orange} <= colors(tmp_path / "two.png")


def test_many_methods_and_a_single_image(tmp_path: Path) -> None:
    plot_depth_errors(tmp_path / "many.pdf", {f"a method of a long name {i}": score(0.05 * i, 1) for i in range(1, 9)})
    assert (tmp_path / "many.pdf").read_bytes().startswith(b"%PDF")


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    for name in ("no/such.png", "picture.depth"):
        with pytest.raises(TrianflowError, match="cannot write the picture"):
            plot_depth_errors(tmp_path / name, {"a": score(0.1)})
