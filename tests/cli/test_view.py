"""`trianflow view`: what it shows, and inputs that cannot be right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from trianflow.cli import view
from trianflow.data.ply import write_ply
from trianflow.trajectory import Trajectory
from trianflow.visualization import viewer


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with a trajectory and a cloud of five points."""
    folder = tmp_path / "run"
    folder.mkdir()
    T_wc = np.tile(np.eye(4), (4, 1, 1))
    T_wc[:, 2, 3] = np.arange(4)
    Trajectory(np.arange(4.0), T_wc).save(folder / "trajectory.tum")
    write_ply(folder / "cloud.ply", np.random.default_rng(0).uniform(-2, 2, (5, 3)), np.zeros((5, 3), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("words", "poses", "points"),
    [
        (["."], 4, 5),
        (["cloud.ply"], 0, 5),
        (["trajectory.tum"], 4, 0),
        (["trajectory.tum", "--cloud", "cloud.ply", "--cloud", "cloud.ply"], 4, 10),
    ],
)
def test_what_is_shown(
    run: Path, monkeypatch: pytest.MonkeyPatch, trianflow, words: list[str], poses: int, points: int
) -> None:
    pytest.importorskip("open3d")
    shown: list[viewer.Scene] = []
    monkeypatch.setattr(viewer, "show", shown.append)
    monkeypatch.chdir(run)
    assert trianflow("view", *words).code == 0
    (scene,) = shown
    assert (len(scene.T_wc), len(scene.points)) == (poses, points)


@pytest.mark.parametrize(
    ("report", "shown"),
    [
        ({"files": ["trajectory.tum", "cloud.ply", "elsewhere/mesh.ply"]}, ["cloud.ply"]),
        ({"files": ["trajectory.tum"]}, []),
        ({"state": "complete"}, ["cloud.ply", "mesh.ply"]),
        ("half a repo", ["cloud.ply", "mesh.ply"]),
        (None, ["cloud.ply", "mesh.ply"]),
    ],
)
def test_of_a_run_what_it_has_made_is_shown(run: Path, report: Any, shown: list[str]) -> None:
    (run / "mesh.ply").write_text("of an earlier run")
    (run / ".mesh.part.ply").write_text("of a run that was killed")
    if report is not None:
        (run / "report.json").write_text(report if isinstance(report, str) else json.dumps(report))
    assert [path.name for path in view._of_the_run(run)] == shown


def test_screenshot(run: Path, trianflow) -> None:
    pytest.importorskip("open3d")
    result = trianflow("view", run, "--screenshot", run / "picture.png")
    assert (result.code, result.errors) == (0, [])
    assert str(run / "picture.png") in result.out
    assert cv2.imread(str(run / "picture.png")).std() > 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere"], 2, "nowhere: no such file or folder"),
        (["empty"], 1, "not the folder of a run: no trajectory.tum"),
        (["trajectory.tum", "--cloud", "nowhere.ply"], 1, "nowhere.ply: no such file"),
        (["notes.txt"], 1, "columns"),
    ],
)
def test_refused(run: Path, monkeypatch: pytest.MonkeyPatch, trianflow, words: list[str], code: int, said: str) -> None:
    pytest.importorskip("open3d")
    monkeypatch.chdir(run)
    (run / "empty").mkdir()
    (run / "notes.txt").write_text("some words\n")
    result = trianflow("view", *words)
    assert result.code == code
    assert len(result.errors) == 1
    assert said in result.errors[0]


def test_several_clouds_are_one_scene(run: Path) -> None:
    pytest.importorskip("open3d")
    assert len(view._scene(run, [run / "cloud.ply"]).points) == 5
