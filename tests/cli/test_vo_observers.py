"""What `trianflow vo` makes beside the trajectory, by its options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import CAMERA, FPS
from tests.cli.vo_results import FILES, FRAMES, report_of
from trianflow.data.depth import write_depth
from trianflow.data.synthetic import SyntheticSequence


def test_all_at_once(drive: Path, tmp_path: Path, trianflow) -> None:
    pytest.importorskip("open3d")
    (drive / "depth").mkdir()
    sequence = SyntheticSequence.make("street", "driving", FRAMES, CAMERA, FPS, seed=3)  # as `drive` has it
    for i, frame in enumerate(sequence.frames()):
        write_depth(drive / "depth" / f"{i:04d}.png", frame.depth[0, 0].numpy(), 256)
    out, other = tmp_path / "out", tmp_path / "other"
    words = ["--cloud", other / "cloud.ply", "--mesh", other / "mesh.ply", "--colmap", other / "model", "--report"]
    words += ["--overlay", other / "seen.mp4", "--depth", drive / "depth", "--depth-scale", 256, "--out", out]
    result = trianflow("vo", drive / "images", "--preset", "fast", *words, "--json")
    assert (result.code, result.errors) == (0, [])
    files = set(json.loads(result.out)["files"])
    assert FILES | {"report.html", str(other / "cloud.ply"), str(other / "mesh.ply"), f"{other / 'model'}/"} <= files
    made = {"cloud.ply", "mesh.ply", "model", "seen.mp4"}
    assert {path.name for path in other.iterdir()} == made
    assert {path.name for path in out.iterdir()} == {*FILES, "report.html"}
    assert (other / "model" / "points3D.txt").is_file()


def test_a_report_has_a_cloud_beside_it(drive: Path, tmp_path: Path, trianflow) -> None:
    assert trianflow("vo", drive / "images", "--preset", "fast", "--report", "--out", tmp_path / "out").code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*FILES, "report.html", "cloud.ply"}
    assert report_of(tmp_path / "out")["state"] == "complete"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--mesh", "a.ply"], 2, "--mesh: a mesh needs depth: measured with --depth DIR"),
        (["--cloud", "a.pcd"], 2, "--cloud a.pcd: the name must end in .ply"),
        (["--cloud", "folder.ply"], 2, "is a folder; name a file"),
        (["--cloud", "calib.yaml/a.ply"], 1, "cannot write the results there"),
        (["--live"], 1, "--live: "),
        (["--colmap", "calib.yaml"], 1, "cannot write the results there: it is a file"),
    ],
)
def test_refused_before_any_work(
    drive: Path, monkeypatch: pytest.MonkeyPatch, trianflow, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(drive)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    (drive / "folder.ply").mkdir()
    result = trianflow("vo", "images", *words)
    assert result.code == code
    assert len(result.errors) == 1
    assert said in result.errors[0]
    assert not list((drive / "out").rglob("*.tum"))
