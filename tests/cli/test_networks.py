"""`trianflow flow`, `trianflow depth` and `trianflow vo --flow pwc`: on weights of no use, but with true files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from trianflow.data.decoding import decode_image
from trianflow.data.depth import read_depth, write_depth
from trianflow.data.flow_files import read_flow
from trianflow.data.frames import open_frames
from trianflow.depth.learned import LearnedDepth
from trianflow.depth.network import DepthNet
from trianflow.flow.dis import DISFlow
from trianflow.flow.learned import LearnedFlow
from trianflow.flow.pwc import PWCNet
from trianflow.weights import load_weights, save_weights

CARD = {"description": "random", "channels": "bgr"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`both.safetensors`, taking BGR, and `flow.safetensors`; not to be written to."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    flow, depth = PWCNet(), DepthNet()
    save_weights(folder / "both.safetensors", flow, depth, CARD)
    save_weights(folder / "flow.safetensors", flow, None, {"description": "random"})
    return folder


@pytest.fixture
def both(folder: Path) -> Path:
    return folder / "both.safetensors"


def picture(path: Path) -> np.ndarray:
    return decode_image(path.read_bytes())


# --- flow ---------------------------------------------------------------------------------------------------


def test_flow_of_two_images(drive: Path, both: Path, tmp_path: Path, trianflow) -> None:
    a, b = (drive / "images" / f"000{i}.png" for i in (0, 1))
    out = tmp_path / "new" / "a.flo"
    result = trianflow("flow", a, b, "--weights", both, "--device", "cpu", "--out", out)
    assert (result.code, result.err) == (0, "")
    network = load_weights(both).flow
    assert network is not None
    network.pyramid.get_parameter("conv1.0.weight").data = network.pyramid.conv1[0].weight.data.flip(1)
    estimator = LearnedFlow(network, "cpu")
    expected = estimator.flow(*(estimator.encode(picture(path)) for path in (a, b))).flow_ab
    flow = read_flow(out)
    np.testing.assert_allclose(flow, expected[0].permute(1, 2, 0).numpy(), atol=1e-4)
    assert picture(out.with_name("a_color.png")).shape == (96, 160 + 72, 3), "with the wheel on a margin"
    lines = result.out.splitlines()
    assert lines[0] == "flow    160x96 pixels, by pwc"
    assert f"median {np.median(np.linalg.norm(flow, axis=-1)):.2f}," in lines[1]
    assert "% of the pixels agree" in lines[2]
    assert str(out) in lines[3]


def test_flow_by_dis_needs_no_weights(drive: Path, tmp_path: Path, trianflow) -> None:
    a, b = (drive / "images" / f"000{i}.png" for i in (0, 1))
    out = tmp_path / "kitti"
    result = trianflow("flow", a, b, "--method", "dis", "--out", out, "--format", "png", "--json")
    assert (result.code, result.err) == (0, "")
    told = json.loads(result.out)
    assert told["files"] == [str(out / "flow.png"), str(out / "flow_color.png")]
    assert told["consistent"] > 0.5
    dis = DISFlow()
    expected = dis.flow(*(dis.encode(picture(path)) for path in (a, b))).flow_ab[0].permute(1, 2, 0).numpy()
    assert np.abs(read_flow(out / "flow.png") - expected).max() <= 1 / 128
    assert told["mean"] == pytest.approx(np.linalg.norm(expected, axis=-1).mean(), rel=1e-5)


def test_flow_of_a_folder(drive: Path, tmp_path: Path, trianflow) -> None:
    (drive / "images" / "0004.png").write_bytes(b"no picture")
    out = tmp_path / "a"
    result = trianflow("flow", drive / "images", "--method", "dis", "--out", out)
    assert result.code == 0
    assert "frame 4 (0004.png) skipped" in result.err
    assert sorted(path.stem for path in (out / "flow").iterdir()) == ["000000", "000001", "000002", "000005", "000006"]
    assert sorted(path.name for path in (out / "color").iterdir())[-1] == "000006.png"
    assert result.out.splitlines()[0] == "frames  8, 1 skipped; 5 flows"
    assert np.isfinite(read_flow(out / "flow" / "000005.flo")).all()
    result = trianflow("flow", drive / "images", "--method", "dis", "--out", out, "--stride", 3, "--json")
    assert [(row["from"], row["to"]) for row in json.loads(result.out)["flows"]] == [(0, 3), (3, 6)]


def test_flow_of_mostly_bad_frames_fails(drive: Path, tmp_path: Path, trianflow) -> None:
    for i in range(5):
        (drive / "images" / f"000{i}.png").write_bytes(b"no picture")
    result = trianflow("flow", drive / "images", "--method", "dis", "--out", tmp_path / "a", "-q")
    assert (result.code, result.out) == (1, "")
    assert "5 of 8 frames could not be read" in result.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["images/0000.png", "images/0001.png"], 2, "flow by pwc needs weights (--weights): no bundled weights"),
        (["images/0000.png", "small.png", "--method", "dis"], 2, "images/0000.png has 160x96, small.png 80x48"),
        (["images/0000.png"], 2, "flow needs two images"),
        (["images/0000.png", "images"], 2, "both must be image files"),
        (["images/0000.png", "nowhere.png"], 2, "no such file"),
        (["images/0000.png", "bad.png", "--method", "dis"], 1, "bad.png"),
        (["images", "--out", "a.flo"], 2, "give a folder"),
        (["images/0000.png", "images/0001.png", "--start", "1"], 2, "--start chooses frames of a video or folder"),
        (["images/0000.png", "images/0001.png", "--end", "0"], 2, "--end chooses frames of a video or folder"),
        (["images/0000.png", "images/0001.png", "--stride", "2"], 2, "--stride chooses frames of a video or folder"),
        (["images/0000.png", "images/0001.png", "--fps", "5"], 2, "--fps chooses frames of a video or folder"),
        (["images", "--method", "dis", "--out", "images"], 2, "would become frames"),
        (["images/0000.png", "images/0001.png", "--out", "images/0001.png"], 2, "overwrite the input"),
        (["images/0000.png", "images/0001.png", "--method", "dis", "--out", "calib.yaml"], 1, "it is a file"),
        (["images/0000.png", "images/0001.png", "--network-size", "0", "5"], 2, "network_size"),
        (["images/0000.png", "images/0001.png", "--weights", "x.pth"], 2, "trianflow weights import x.pth"),
    ],
)
def test_flow_refuses(
    drive: Path, monkeypatch: pytest.MonkeyPatch, trianflow, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(drive)
    monkeypatch.setattr("trianflow.weights.list_weights", lambda: [])
    monkeypatch.setattr("trianflow.weights._manifest", lambda: {})
    (drive / "bad.png").write_bytes(b"no picture")
    cv2.imwrite(str(drive / "small.png"), np.zeros((48, 80, 3), np.uint8))
    result = trianflow("flow", *words)
    assert (result.code, result.out) == (code, "")
    assert len(result.errors) == 1
    assert said in result.errors[0]


# --- depth --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "npy"])
def test_depth_of_a_folder(drive: Path, both: Path, tmp_path: Path, trianflow, kind: str) -> None:
    (drive / "images" / "0002.png").write_bytes(b"no picture")
    out = tmp_path / "a"
    words = ("depth", drive / "images", "--end", 4, "--weights", both, "--device", "cpu", "--format", kind)
    result = trianflow(*words, "--out", out)
    assert result.code == 0
    assert "frame 2 (0002.png) skipped" in result.err
    facts = json.loads((out / "depth.json").read_text())
    assert (facts["unit"], facts["written"], facts["format"]) == ("network", 3, kind)
    assert [row["name"] for row in facts["skipped"]] == ["0002.png"]
    assert sorted(path.name for path in (out / "depth").iterdir()) == [f"000{i}.{kind}" for i in (0, 1, 3)]
    assert sorted(path.name for path in (out / "color").iterdir()) == [f"000{i}.png" for i in (0, 1, 3)]
    weights = load_weights(both).rgb()
    assert weights.depth is not None
    expected = LearnedDepth(weights.depth, "cpu").depth(picture(drive / "images" / "0003.png"))
    depth = read_depth(out / "depth" / f"0003.{kind}", facts["scale"])
    np.testing.assert_allclose(depth, expected, atol=0.51 / 500 if kind == "png" else 1e-5)
    assert expected.std() > 0
    frames = open_frames(drive / "images")
    frames.attach_depth(out / "depth", facts["scale"])  # by name, the missing one too
    assert [frame.depth is not None for frame in frames.select(range(4))] == [True, True, False, True]


def test_depth_refuses(drive: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trianflow) -> None:
    monkeypatch.setattr("trianflow.weights._manifest", lambda: {})
    flow_only = folder / "flow.safetensors"
    for words, code, said in (
        (["images"], 2, "no bundled weights are called 'driving'"),
        (["images", "--weights", flow_only], 2, "hold no depth network"),
        (["nowhere"], 2, "no such file"),
        (["images", "--weights", folder / "both.safetensors", "--out", "."], 2, "would become frames"),
        (["images", "--weights", folder / "both.safetensors", "--out", "calib.yaml"], 1, "cannot write"),
    ):
        monkeypatch.chdir(drive)
        if "." in words:
            (drive / "images").rename(drive / "color")
            words = ["color", *words[1:]]
        result = trianflow("depth", *words)
        assert (result.code, result.out) == (code, ""), words
        assert len(result.errors) == 1
        assert said in result.errors[0]
        if "." in words:
            (drive / "color").rename(drive / "images")


def test_depth_of_prepared_sequences(drive: Path, both: Path, tmp_path: Path, trianflow) -> None:
    """What `trianflow prepare` wrote is done in one call, and `trianflow eval depth` finds what belongs together."""
    prepared = tmp_path / "prepared"
    for name, number in (("day/one", 2), ("two", 3)):
        (prepared / name / "images").mkdir(parents=True)
        (prepared / name / "depth").mkdir()
        for i in range(number):
            source = drive / "images" / f"000{i}.png"
            (prepared / name / "images" / f"00000{i}.png").write_bytes(source.read_bytes())
            write_depth(prepared / name / "depth" / f"00000{i}.png", np.full((96, 160), 2.0 + i, np.float32), 256)
        (prepared / name / "calib.yaml").write_text("fx: 1\nfy: 1\ncx: 1\ncy: 1\ndepth_scale: 256\n")
        (prepared / name / "prepared.json").write_text("{}")
    (prepared / "prepare.json").write_text("{}")
    (prepared / "two" / "images" / "000002.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    words = ("depth", prepared, "--weights", both, "--device", "cpu", "--out", out)
    result = trianflow(*words)
    assert result.code == 0
    assert "frame 2 (000002.png) skipped" in result.err
    assert result.out.splitlines()[:2] == ["input   2 sequences", "frames  4 written, 1 skipped"]
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("depth/*.png"))
    assert files == [f"day/one/depth/00000{i}.png" for i in (0, 1)] + [f"two/depth/00000{i}.png" for i in (0, 1)]
    facts = json.loads((out / "two" / "depth.json").read_text())
    assert (facts["written"], [row["name"] for row in facts["skipped"]]) == (2, ["000002.png"])
    alone = trianflow(
        "depth", prepared / "two" / "images", "--weights", both, "--device", "cpu", "--out", tmp_path / "b"
    )
    assert alone.code == 0
    one, other = (read_depth(folder / "depth" / "000001.png", 500) for folder in (out / "two", tmp_path / "b"))
    np.testing.assert_array_equal(one, other)
    told = json.loads(trianflow(*words, "--json", "-q").out)
    assert {name: facts["written"] for name, facts in told["sequences"].items()} == {"day/one": 2, "two": 2}
    scored = json.loads(trianflow("eval", "depth", prepared, out, "--protocol", "plain", "--json", "-q").out)
    assert scored["problems"] == {"out": {"two/000002": "no prediction of this name"}}
    for folder in (prepared, prepared / "results"):
        refused = trianflow(*words[:-1], folder)
        assert (refused.code, refused.out) == (2, "")
        assert "lies in the prepared data" in refused.errors[0]


# --- vo -----------------------------------------------------------------------------------------------------


def test_odometry_on_both_networks(drive: Path, both: Path, tmp_path: Path, trianflow) -> None:
    """Weights of no use give no trajectory, but every frame its row."""
    words = ("vo", drive / "images", "--flow", "pwc", "--scale", "depth", "--weights", both, "--device", "cpu")
    result = trianflow(*words, "--out", tmp_path / "a")
    assert result.code in (0, 1)
    assert result.errors == []
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["state"] == "complete"
    assert len(report["frames"]) == 8
    assert set(report["networks"]) == {"flow", "depth"}
    assert report["networks"]["flow"]["device"] == "cpu"
    assert report["networks"]["flow"]["precision"] in ("float32", "bfloat16")
    assert report["config"]["weights"] == str(both)
    assert report["summary"]["unit"] in ("network", "arbitrary")


def test_odometry_on_predicted_depth_and_dis(drive: Path, both: Path, tmp_path: Path, trianflow) -> None:
    words = ("vo", drive / "images", "--scale", "depth", "--weights", both, "--gt", drive / "truth.tum")
    result = trianflow(*words, "--out", tmp_path / "a")
    assert result.errors == []
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert set(report["networks"]) == {"depth"}
    assert {row["scale_source"] for row in report["frames"][1:]} & {"network"}
    assert report["summary"]["unit"] == "network"
    assert report["evaluation"]["alignment"] == "sim3"
    assert "in the unit of the depth network" in result.out


def test_odometry_refuses_before_anything_is_written(
    drive: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, trianflow
) -> None:
    monkeypatch.setattr("trianflow.weights._manifest", lambda: {})
    monkeypatch.chdir(drive)
    for words, said in (
        (["--flow", "pwc"], "flow by pwc needs weights (--weights): no bundled weights are called 'driving'"),
        (["--scale", "depth"], "--scale depth without --depth DIR needs weights (--weights): no bundled"),
        (["--scale", "depth", "--weights", folder / "flow.safetensors"], "hold no depth network"),
        (["--flow", "raft"], "flow: 'raft' is unknown; take 'dis', 'pwc' or 'pwc+dis'"),
    ):
        result = trianflow("vo", "images", "--out", "result", *words)
        assert (result.code, result.out) == (2, "")
        assert said in result.errors[0]
        assert not (drive / "result").exists()
    if not torch.cuda.is_available():
        words = ["--flow", "pwc", "--weights", folder / "flow.safetensors", "--device", "cuda"]
        assert "no cuda device" in trianflow("vo", "images", *words).errors[0]
