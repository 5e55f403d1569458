"""`trianflow eval ... --predict IMAGES`: predictions become files, and the files alone give the same figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import FRAMES
from trianflow.data.depth import read_depth, write_depth
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.evaluation.snippets import score_snippets
from trianflow.trajectory import Trajectory


@pytest.fixture
def true_depth(tmp_path: Path) -> Path:
    """A ramp for each image of `rendered`, times 256."""
    folder = tmp_path / "gt"
    folder.mkdir()
    ramp = np.tile(np.linspace(2, 60, 96)[:, None], (1, 160))
    for i in range(FRAMES):
        write_depth(folder / f"{i:04d}.png", ramp + i, 256)
    return folder


def test_depth(rendered: Path, true_depth: Path, weights: Path, tmp_path: Path, trianflow: Callable) -> None:
    out = tmp_path / "new" / "depth_of_ours"
    words = ("eval", "depth", true_depth, out, "--gt-scale", 256, "--protocol", "plain", "--json")
    predict = ("--predict", rendered / "images", "--weights", weights)
    first = trianflow(*words, *predict)
    assert (first.code, first.errors) == (0, [])
    assert "frames  8 written, 0 skipped" in first.err, "what the command says is no part of the result"
    errors = []
    for i in range(FRAMES):
        truth = read_depth(true_depth / f"{i:04d}.png", 256)
        depth = read_depth(out / "depth" / f"{i:04d}.png", 500)
        depth *= np.median(truth) / np.median(depth)
        errors.append(np.mean(np.abs(depth - truth) / truth))
    (row,) = json.loads(first.out)["table"]
    assert row["abs_rel"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert json.loads(trianflow(*words).out)["table"] == [row], "the files alone give the same figures"
    assert trianflow(*words, *predict).code == 0, "an earlier prediction is replaced"
    write_depth(out / "depth" / "0099.png", np.ones((96, 160)), 500)
    again = trianflow(*words, *predict)
    assert (again.code, again.out) == (1, "")
    assert "0099.png is an earlier prediction that was not made again: name a new folder" in again.errors[0]


def test_odometry(rendered: Path, tmp_path: Path, trianflow: Callable) -> None:
    pytest.importorskip("evo")
    truth, out = rendered / "truth.tum", tmp_path / "out"
    first = trianflow("eval", "odometry", truth, out, "--predict", rendered, "--json")
    assert (first.code, first.errors) == (0, [])
    (row,) = json.loads(first.out)["table"]
    assert row["poses"] == FRAMES
    expected = evaluate_odometry(Trajectory.load(truth), Trajectory.load(out / "trajectory.tum"))
    assert expected.ate is not None
    assert row["ate"] == pytest.approx(expected.ate.rmse)
    assert row["ate"] < 0.1 * expected.path_length
    assert json.loads(trianflow("eval", "odometry", truth, out, "--json").out)["table"] == [row]


def test_odometry_of_every_second_frame(rendered: Path, tmp_path: Path, trianflow: Callable) -> None:
    pytest.importorskip("evo")
    words = ("eval", "odometry", rendered / "truth.tum", tmp_path / "out", "--stride", 2, "--json")
    first = trianflow(*words, "--predict", rendered)
    assert (first.code, first.errors) == (0, [])
    assert len(Trajectory.load(tmp_path / "out" / "trajectory.tum")) == FRAMES // 2
    result = json.loads(first.out)
    assert (result["table"][0]["poses"], result["estimates"]["out"]["resampled"]) == (FRAMES // 2, False)


def test_odometry_by_networks(rendered: Path, weights: Path, tmp_path: Path, trianflow: Callable) -> None:
    pytest.importorskip("evo")
    words = ("--predict", rendered / "images", "--weights", weights, "--network-size", 128, 64, "--json")
    result = trianflow("eval", "odometry", rendered / "truth.tum", tmp_path / "out", *words)
    assert result.errors == []
    config = json.loads((tmp_path / "out" / "report.json").read_text())["config"]
    assert (config["flow"], config["scale"], config["weights"]) == ("pwc", "depth", str(weights))
    assert config["network_size"] == [128, 64]
    assert json.loads(result.out)["table"][0]["poses"] == FRAMES


def test_pose(rendered: Path, tmp_path: Path, trianflow: Callable) -> None:
    truth, out = rendered / "truth.tum", tmp_path / "out"
    words = ("eval", "pose", truth, out, "--length", 3, "--json")
    first = trianflow(*words, "--predict", rendered)
    assert (first.code, first.errors) == (0, [])
    (row,) = json.loads(first.out)["table"]
    expected = score_snippets(Trajectory.load(truth), Trajectory.load(out / "trajectory.tum"), 3).errors
    assert (row["snippets"], row["ate"]) == (FRAMES - 2, pytest.approx(expected.mean))
    assert json.loads(trianflow(*words).out)["table"] == [row]


def test_what_must_not_be_written_over(rendered: Path, true_depth: Path, tmp_path: Path, trianflow: Callable) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "me.jpg").write_bytes(b"precious")
    images = rendered / "images"
    for words, said in (
        (("depth", true_depth, photos), "photos holds other things: name a new folder, or leave out --predict"),
        (("depth", photos, true_depth), "no depth files"),
        (("depth", true_depth, true_depth / "ours"), "ours lies in the truth"),
        (("depth", true_depth, true_depth), "gt lies in the truth"),
        (("odometry", rendered / "truth.tum", photos), "photos holds other things"),
        (("pose", rendered / "truth.tum", photos / "me.jpg"), "me.jpg holds other things"),
    ):
        result = trianflow("eval", *words, "--predict", images, *(["--gt-scale", 256] if words[0] == "depth" else []))
        assert result.code in (1, 2)
        assert said in result.errors[0]
    assert sorted(path.name for path in photos.iterdir()) == ["me.jpg"]
    assert len(list(true_depth.iterdir())) == FRAMES


def test_images_and_weights_that_are_not_there(rendered: Path, tmp_path: Path, trianflow: Callable) -> None:
    truth, out = rendered / "truth.tum", tmp_path / "out"
    for words in (("--predict", tmp_path / "nowhere"), ("--predict", rendered, "--weights", "nowhere.safetensors")):
        result = trianflow("eval", "pose", truth, out, *words)
        assert (result.code > 0, result.out) == (True, "")
        assert "nowhere" in result.errors[0]
    assert not out.exists()
