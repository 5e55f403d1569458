"""What `tools/bench_odometry.py` computes by itself: drift, false loops, claims, and runs that are not made again."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trianflow.evaluation.table import Row
from trianflow.odometry.loops import Closed
from trianflow.trajectory import Trajectory

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def tool():
    """A function that imports one of the program's files."""
    sys.path.insert(0, str(TOOLS))
    yield importlib.import_module
    sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def cells(tool):
    return tool("odometry_cells")


def straight(steps):
    T_wc = np.tile(np.eye(4), (len(steps) + 1, 1, 1))
    T_wc[1:, 2, 3] = np.cumsum(steps)
    return Trajectory(np.arange(len(T_wc)), T_wc)


def test_drift_by_hand(cells):
    """The unit is half a metre for 150 m, then 3 % less of one."""
    truth = straight([1.0] * 400)
    estimate = straight([2.0] * 150 + [2 * 1.03] * 250)
    found = cells.drift(truth, estimate)
    assert found == pytest.approx({"ratio": 1.03, "end": 0.03 * 250})
    moved = Trajectory(estimate.times, np.diag([1.0, -1.0, -1.0, 1.0]) @ estimate.T_wc)
    assert cells.drift(truth, moved) == pytest.approx(found)
    assert cells.drift(straight([1.0] * 150), straight([1.0] * 150)) == {"ratio": None, "end": None}


@pytest.mark.parametrize(("metres", "degrees", "far"), [(14, 19, False), (16, 0, True), (1, 21, True), (1, 180, True)])
def test_what_cannot_be_a_loop(cells, metres, degrees, far):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    T_wb = np.array([[c, 0, s, metres], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]])
    assert cells.far_apart(np.eye(4), T_wb) is far


def test_what_loops_did(cells):
    truth = straight([1.0] * 300)
    rows = np.array([[0, 10], [100, 116], [290, 300]])
    found = cells.what_loops_did(truth, Closed(straight([3.0] * 300), rows, np.array([True, False, True])))
    expected = {"loops": 3, "kept": 2, "false": 1, "closed_ratio": 1.0, "closed_end": 0.0}
    assert found == pytest.approx(expected, abs=1e-9)
    assert cells.what_loops_did(truth, None) == {"loops": 0, "kept": 0, "false": 0}


def test_speeds_of_the_true_poses(cells, tmp_path):
    truth = straight([0.8] * 10)
    truth.save(tmp_path / "poses.txt", "kitti")
    cells.write_speeds(tmp_path, tmp_path / "speed.txt")
    rows = np.loadtxt(tmp_path / "speed.txt")
    np.testing.assert_allclose(rows, np.stack([np.arange(11) / 10, np.full(11, 8.0)], 1))
    np.savetxt(tmp_path / "times.txt", np.arange(12) * 0.2)
    cells.write_speeds(tmp_path, tmp_path / "speed.txt")
    np.testing.assert_allclose(np.loadtxt(tmp_path / "speed.txt")[:, 1], 4.0)


def test_a_run_is_made_once_for_each_setting(cells, tmp_path, monkeypatch):
    made = []

    def run(cell, data=None):
        made.append(cell)
        return {"t_err": float(len(made))}

    monkeypatch.setattr(cells, "run_real", run)
    monkeypatch.setattr(cells, "run_drive", run)
    asked = [
        cells.Cell("07", "window", 0),
        cells.Cell("07", "window", 1),
        cells.Cell("07", "window", 0, "fast"),
        cells.Cell("07", "front", 0),
        cells.Cell("06/1", "window", 0),
        cells.Cell("open", "window", 0, frames=20),
        cells.Cell("open", "window", 0, frames=30),
    ]
    first = [cells.figures_of(cell, tmp_path, tmp_path, 1) for cell in asked]
    again = [cells.figures_of(cell, tmp_path, tmp_path, 1) for cell in asked]
    assert first == again == [{"t_err": n + 1.0} for n in range(len(asked))]
    assert made == asked
    assert {cell.file(tmp_path) for cell in asked} == set(tmp_path.iterdir())
    assert json.loads(asked[0].file(tmp_path).read_text())["variant"] == "window"
    monkeypatch.setattr(cells, "_code", lambda: "edited")
    assert cells.figures_of(asked[0], tmp_path, tmp_path, 1) == {"t_err": len(asked) + 1.0}


def test_variants(cells):
    configs = {variant: cells.Cell("07", variant, 3).config() for variant in cells.ALIGNMENT}
    assert configs["front"].window.frames == 0
    assert configs["height"].camera_height == 1.65
    assert configs["fused"].scale == "depth"
    assert [configs[name].flow for name in cells.LEARNED] == ["pwc", "pwc+dis"]
    assert {config.seed for config in configs.values()} == {3}
    assert cells.Cell("07", "speed", 0).config(Path("v.txt")).speed == "v.txt"
    assert cells.Cell("loop", "window", 4).config().loops
    assert cells.Cell("loop", "window", 4).config().seed == 0
    assert not cells.Cell("open", "front", 0).config().loops


def test_other_weights_are_another_run(cells, tmp_path, monkeypatch):
    learned, plain = cells.Cell("07", "pwc", 0), cells.Cell("07", "window", 0)
    before = learned.file(tmp_path), plain.file(tmp_path)
    load = cells.load_weights
    monkeypatch.setattr(cells, "load_weights", lambda name: replace(load(name), card={"sha256": "other"}))
    assert learned.file(tmp_path) != before[0]
    assert plain.file(tmp_path) == before[1]


def test_learned_variants_only_where_they_are_asked_for(tool, monkeypatch):
    bench = tool("bench_odometry")

    def variants(*words):
        monkeypatch.setattr(sys, "argv", ["bench_odometry.py", "tum", "--data", ".", "--seeds", "1", *words])
        return [cell.variant for cell in bench.cells(bench.arguments())]

    assert variants() == ["front", "window", "depth", "fused"]
    assert variants("--variant", "pwc+dis", "window", "speed") == ["window", "pwc+dis"]


@pytest.mark.slow
def test_a_short_drive(cells):
    """One without a turn, and too short for loops; its scale holds."""
    found = cells.run_drive(cells.Cell("open", "window", 0, frames=60))
    assert found["lost"] == found["loops"] == found["false"] == 0
    assert found["rot"] < 0.05
    assert found["ratio"] is None


def lines(claims):
    return {claim.text: (claim.holds, claim.limit) for claim in claims}


def test_claims_of_sequences(tool):
    front = {"t_err": 1.0, "ate": 0.04, "rot": 0.10, "dir": 0.30}
    window = {"t_err": 0.7, "ate": 0.02, "rot": 0.102, "dir": 0.31}
    height = {"t_err": 2.0, "ate": 0.2, "rot": 0.1, "dir": 0.3}
    names = ("07", "01/2", "7scenes", "tum")
    runs = {(name, key): [row] for name in names for key, row in (("front", front), ("window", window))}
    found = lines(tool("odometry_claims").claims_of_sequences(runs | {("07", "height"): [height]}))
    assert found.pop("07 with window, t_err %") == (True, 0.8)
    assert found.pop("07 by camera height, scale not aligned, t_err %") == (True, 3.0)
    assert found.pop("01/2 t_err %, window less front end, seed by seed") == (True, 0.0)
    assert found.pop("7scenes without depth, ATE m, half of the front end's") == (True, 0.02)
    for name in names:
        assert found.pop(f"{name} rotation, degrees a pair")[0]
        assert not found.pop(f"{name} direction, degrees a pair")[0]
    assert found == {}
    cases = (
        ((-0.2, -0.1, 0.5), True),
        ((-0.9, 0.1, 0.2), False),
        ((None, -0.2, -0.1), True),
        ((None, None, -0.1), False),
    )
    for gains, holds in cases:
        several = [front | {"t_err": 1 + k} for k in range(3)]  # seeds differ by more than the variants do
        other = [row | {"t_err": gain and row["t_err"] + gain} for row, gain in zip(several, gains)]
        both = {("01/2", "front"): several, ("01/2", "window"): other}
        assert lines(tool("odometry_claims").claims_of_sequences(both))[
            "01/2 t_err %, window less front end, seed by seed"
        ][0] is holds


@pytest.mark.parametrize(
    ("kind", "change", "holds"),
    [
        ("open", {}, True),
        ("open", {"ratio": 0.969}, False),
        ("open", {"ratio": None}, False),
        ("open", {"false": 1}, False),
        ("loop", {}, True),
        ("loop", {"ratio": 0.5}, True),
        ("loop", {"closed_end": 2.1}, False),
        ("loop", {"closed_end": None}, False),
    ],
)
def test_claims_of_drives(tool, kind, change, holds):
    values = {"rot": 0.1, "dir": 0.3, "ratio": 1.02, "end": 10.0, "closed_end": 2.0, "false": 0}
    front = Row("front", {"rot": 0.1, "dir": 0.3, "ratio": 0.5, "end": 50.0})
    rows = {(f"{kind} 0", "front"): front, (f"{kind} 0", "window"): Row("window", values | change)}
    claims = tool("odometry_claims").claims_of_drives(rows)
    assert len(claims) == 4
    assert all(claim.holds for claim in claims) is holds
    assert sum(claim.line().startswith("FAILS") for claim in claims) == (not holds)


@pytest.mark.slow
def test_cost_of_the_window(tool):
    text, claims = tool("odometry_cost").cost_of_window(100)
    assert "100 key frames in" in text
    assert "400 points tracked" in text
    assert [claim.text for claim in claims] == ["window, ms a key frame", "window, last 50 key frames by the first 50"]
    assert all(claim.value > 0 for claim in claims)


def test_the_passage_repeats_itself(tool):
    """So that its pairs may follow each other without end; and the flow between its frames is that of the depths."""

    cost = tool("odometry_cost")
    T_wa, T_wb = torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    T_wb[2, 3] = cost.PERIOD
    torch.testing.assert_close(cost.depths(T_wa), cost.depths(T_wb))
    T_wb[2, 3] = 0.5
    flow = cost.flow_between(T_wa, T_wb)[0]
    v, u = 170, 400  # on the floor 1.65 m below, so that z is its height over the slope
    z = 1.65 * 360 / (v - 93.5)
    there = 93.5 + (v - 93.5) * z / (z - 0.5)
    assert float(flow[1, v, u]) == pytest.approx(there - v, abs=1e-3)
