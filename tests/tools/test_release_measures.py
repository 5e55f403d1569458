"""The figures of weights: what exact flow gets, what no flow gets, and a log that only grows."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.tools.test_release import RELEASE
from trianflow.data.flow_files import write_flow
from trianflow.data.synthetic import camera_path, make_scene, render_pairs
from trianflow.flow.interface import FlowPair
from trianflow.geometry.camera import Camera
from trianflow.trajectory import Trajectory

CAMERA = Camera(150.0, 150.0, 119.5, 59.5, 240, 120)
SEQUENCE = "street"


class KnownFlow:
    """A `FlowEstimator` that knows the two images and the flow between them, times a factor."""

    def __init__(self, flows: dict[bytes, FlowPair], factor: float = 1.0) -> None:
        self._flows, self._factor = flows, factor

    def encode(self, image: np.ndarray) -> Any:
        return image

    def flow(self, a: np.ndarray, b: np.ndarray) -> FlowPair:
        known = self._flows[a.tobytes()]
        return FlowPair(self._factor * known.flow_ab, self._factor * known.flow_ba)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, FlowPair]]:
    """A data folder with three frames of a street, their poses, and a pair with true flow."""
    data = tmp_path_factory.mktemp("data")
    scene = make_scene("street", 1, 0, length=40.0)
    T_wc = camera_path("driving", scene, 3, 5.0, 1)
    starts, ends = T_wc[:2], T_wc[1:]
    pairs = render_pairs(
        [scene, scene],
        torch.stack([starts, ends], 1),
        torch.zeros(2, 2, dtype=torch.float64),
        CAMERA.K().expand(2, 3, 3),
        CAMERA.height,
        CAMERA.width,
    )
    folder, single = data / SEQUENCE, data / "pair"
    (folder / "images").mkdir(parents=True)
    single.mkdir()
    flows = {}
    for i, image in enumerate([*pairs.image_a, pairs.image_b[1]]):
        values = image.permute(1, 2, 0).mul(255).round().byte().numpy()
        cv2.imwrite(str(folder / "images" / f"{i:06d}.png"), values[..., ::-1])
        if i < 2:
            flows[np.ascontiguousarray(values).tobytes()] = FlowPair(pairs.flow_ab[[i]], pairs.flow_ba[[i]])
            cv2.imwrite(str(single / f"img{i + 1}.png"), values[..., ::-1])
    names = ("fx", "fy", "cx", "cy", "width", "height")
    (folder / "calib.yaml").write_text("".join(f"{name}: {getattr(CAMERA, name)}\n" for name in names))
    Trajectory(np.arange(3), T_wc.numpy()).save(folder / "poses.txt", "kitti")
    write_flow(single / "flow_gt.flo", pairs.flow_ab[0].permute(1, 2, 0).numpy())
    return data, flows


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a module of the folder."""
    monkeypatch.syspath_prepend(str(RELEASE))
    return importlib.import_module


@pytest.fixture
def measures(beside: Callable[[str], ModuleType]) -> ModuleType:
    return beside("measures")


@pytest.fixture
def evaluate(beside: Callable[[str], ModuleType]) -> ModuleType:
    return beside("evaluate")


def test_exact_flow_has_no_errors_and_half_of_it_has(
    measures: ModuleType, street: tuple[Path, dict[bytes, FlowPair]]
) -> None:
    data, flows = street
    exact = measures.motion_figures(KnownFlow(flows), data, measures.Sequence(SEQUENCE, 1))
    assert exact["rot"] < 0.01
    assert exact["dir"] < 0.1
    assert exact["near"] > 0.99
    waves = 0.5 * torch.sin(torch.arange(CAMERA.width) / 20)
    off = {image: FlowPair(f.flow_ab + waves, f.flow_ba - waves) for image, f in flows.items()}
    mended = measures.motion_figures(KnownFlow(off), data, measures.Sequence(SEQUENCE, 1))
    assert mended["fine_dir"] < mended["dir"] / 2
    assert mended["fine_rot"] < mended["rot"] / 2
    still = measures.motion_figures(KnownFlow(flows, 0.0), data, measures.Sequence(SEQUENCE, 1))
    assert still["dir"] == 90
    lower = {
        image: FlowPair(f.flow_ab + torch.tensor([0.0, 6.0])[:, None, None], f.flow_ba) for image, f in flows.items()
    }
    assert measures.motion_figures(KnownFlow(lower), data, measures.Sequence(SEQUENCE, 1))["near"] < 0.5
    pair = measures.pair_figures(KnownFlow(flows), data / "pair")
    assert pair == {"epe": pytest.approx(0, abs=1e-4), "outliers": 0}
    half = measures.pair_figures(KnownFlow(flows, 0.5), data / "pair")
    length = next(iter(flows.values())).flow_ab[0].norm(dim=0)
    assert half["epe"] == pytest.approx(float(length.mean()) / 2, rel=1e-3)


def test_what_is_known_is_not_measured_again(evaluate: ModuleType, tmp_path: Path) -> None:
    calls: list[str] = []

    def part(name: str) -> Callable[[], dict[str, float]]:
        def measure() -> dict[str, float]:
            calls.append(name)
            if name == "bad":
                raise KeyboardInterrupt
            return {"epe": 0.1 + len(calls)}

        return measure

    file = tmp_path / "state" / "row.json"
    with pytest.raises(KeyboardInterrupt):
        evaluate.measured({"first": part("first"), "bad": part("bad")}, file)
    found = evaluate.measured({"first": part("first"), "second": part("second")}, file)
    assert calls == ["first", "bad", "second"]
    assert found == {"first": {"epe": 1.1}, "second": {"epe": 3.1}}


def test_cells_of_flow(evaluate: ModuleType) -> None:
    motion = {"rot": 0.0271, "dir": 0.333, "near": 0.641, "fine_rot": 0.0214, "fine_dir": 0.256}
    figures = dict.fromkeys(evaluate._MOTIONS, motion)
    figures |= {"kitti2015": {"epe": 7.0, "outliers": 21.04}, "rubberwhale": {"epe": 0.2}, "synthetic": {"epe": 1.0}}
    cells = evaluate.flow_cells(figures)
    assert cells[0] == "0.027/0.33/64"
    assert cells[-4:] == ["7.00", "21.0", "0.200", "1.00"]
    assert evaluate.fine_cells(figures)[-5:] == ["0.021/0.26", *4 * ["-"]]


def test_the_log_has_a_table_for_flow_and_one_for_depth(evaluate: ModuleType, tmp_path: Path) -> None:
    """In the log of the repository rows of flow come behind those that are there."""
    log = tmp_path / "LOG.md"
    shutil.copy(RELEASE / "LOG.md", log)
    before = log.read_text()
    flow = dict.fromkeys((column.title for column in evaluate._FLOW), "1")
    figures = {"tum": {"abs_rel": 0.2, "d1": 0.7, "spread": 0.12}, "scale": {"alone": 1.234, "both": 0.5}}
    depth = evaluate.depth_cells(figures)
    assert depth == {"tum": "0.200/0.70/12", "07, alone, both": "1.23/0.50"}
    for name, cells in (("a", flow), ("b", depth), ("c", flow), ("d", depth)):
        evaluate.append(log, name, "row", ["data", "100", "64x64"], cells)
    rest = iter(log.read_text().splitlines())
    assert all(line in rest for line in before.splitlines()), "all lines are still there, in their order"
    tables = [part.splitlines() for part in log.read_text().split("\n\n") if part.startswith("| date")]
    ends = [[line.split(" | ")[1] for line in table[-2:]] for table in tables]
    assert [end for end in ends if set(end) & set("abcd")] == [["a", "c"], ["b", "d"]]
    for table in tables:
        assert len({line.count("|") for line in table}) == 1


def test_a_log_begins_with_what_it_is(evaluate: ModuleType, tmp_path: Path) -> None:
    for name in ("one", "two"):
        evaluate.append(tmp_path / "LOG.md", name, "pwc full", ["synthetic", "100", "64x64"], {"epe": "1.0"})
    lines = (tmp_path / "LOG.md").read_text().splitlines()
    assert lines[0] == "# Figures of the weights as they were trained"
    assert [line.split(" | ")[1] for line in lines if line.startswith("| 2")] == ["one", "two"]


def test_depth_is_scaled_by_image_and_the_spread_is_that_of_the_scales(measures: ModuleType, tmp_path: Path) -> None:
    """A network that gives half and three quarters of the depth in two images, and is up to 10 % off in a third."""
    (tmp_path / "depth").mkdir()
    truth = np.full((20, 30), 8.0)
    truth[:, :10] = 0  # unknown, whatever the network says
    truth[:, 10:12] = 90  # too far to count
    factors = []
    for i, factor in enumerate((0.5, 0.75, 0.6)):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((20, 30), 10 * i, np.uint8))
        cv2.imwrite(str(tmp_path / "depth" / f"{i}.png"), (256 * truth).astype(np.uint16))
        factors.append(np.where(truth > 0, factor, 100.0))
    factors[2][:9] *= 1.1
    factors[2][9:11] *= 1.05  # so that the median is between the two
    network = SimpleNamespace(depth=lambda image: (factors[int(image.ravel()[0]) // 10] * 8).astype(np.float32))
    found = measures.depth_figures(network, tmp_path, 256.0)
    middle = 0.6 * 1.05
    off = (9 * abs(0.66 / middle - 1) + 9 * abs(0.6 / middle - 1)) / 20
    assert found["abs_rel"] == pytest.approx(off / 3, rel=1e-3)
    assert found["d1"] == 1
    scales = 1 / np.array([0.5, 0.75, middle])
    assert found["spread"] == pytest.approx(scales.std() / np.median(scales), rel=1e-3)
