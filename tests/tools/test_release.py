"""The tools that make the bundled weights: publishing, and pieces that fit through a small door."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from trianflow.config import load_settings
from trianflow.depth.network import DepthNet
from trianflow.errors import TrianflowError
from trianflow.flow.pwc import PWCNet
from trianflow.training.config import TrainConfig
from trianflow.weights import load_weights, save_weights

RELEASE = Path(__file__).parents[2] / "tools" / "release"


def tool(name: str) -> ModuleType:
    """A program of the folder as a module."""
    spec = importlib.util.spec_from_file_location(f"release_{name}", RELEASE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def flow() -> PWCNet:
    torch.manual_seed(0)
    return PWCNet(normalize_features=True)


@pytest.mark.parametrize("channels", ["bgr", "rgb"])
def test_what_is_published_takes_rgb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: PWCNet, channels: str
) -> None:
    """An import that takes BGR is turned round once, and neither file nor card sends it back."""
    source, assets = tmp_path / "import.safetensors", tmp_path / "assets"
    save_weights(source, flow, None, {"channels": channels, "data": "KITTI"})
    publish = tool("publish")
    measured = tmp_path / "measured"
    measured.mkdir()
    sha256 = json.loads(source.with_suffix(".json").read_text())["sha256"]
    (measured / f"pwc-{sha256[:12]}-full.json").write_text('{"06/1": {"rot": 0.1}}')
    (measured / "pwc-000000000000-full.json").write_text('{"06/1": {"rot": 0.2}}')
    monkeypatch.setattr(publish, "STATE", measured)
    monkeypatch.setattr(publish, "ASSETS", assets)
    words = [str(source), "default", "--description", "of a test", "--licence", "CC0-1.0", "--limits", "all"]
    monkeypatch.setattr(sys, "argv", ["publish.py", *words])
    for _ in range(2):
        publish.main()
    file = assets / "default.safetensors"
    entry = json.loads((assets / "manifest.json").read_text())["default"]
    assert entry == {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    published = load_weights(file)
    assert {key: published.card[key] for key in ("name", "data", "licence", "limits")} == {
        "name": "default",
        "data": "KITTI",
        "licence": "CC0-1.0",
        "limits": "all",
    }
    assert published.card["recipe"]["run"] == "import"
    assert re.fullmatch(r"[0-9a-f]{40}\+?", published.card["recipe"]["commit"])
    assert published.card["figures"] == {"pwc": {"06/1": {"rot": 0.1}}}
    for with_card in (True, False):
        if not with_card:
            file.with_suffix(".json").unlink()
        found = load_weights(file).rgb().flow
        assert found is not None
        first, original = (net.get_parameter("pyramid.conv1.0.weight") for net in (found, flow))
        expected = original.flip(1) if channels == "bgr" else original
        torch.testing.assert_close(first, expected, rtol=1e-3, atol=1e-6)


def test_flow_and_depth_of_two_runs_are_published_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: PWCNet
) -> None:
    """With the figures of both, and what differs by network."""
    publish, measured, depth = tool("publish"), tmp_path / "measured", DepthNet(1, 64)
    save_weights(tmp_path / "2_flow.safetensors", flow, None, {"data": ["a", "b"], "steps": 7, "size": [128, 64]})
    save_weights(tmp_path / "5_depth.safetensors", None, depth, {"data": ["b", "c"], "steps": 9, "size": [64, 64]})
    measured.mkdir()
    for name, part in (("2_flow", "pwc"), ("5_depth", "depth")):
        sha256 = json.loads((tmp_path / f"{name}.json").read_text())["sha256"]
        (measured / f"{part}-{sha256[:12]}-full.json").write_text(f'{{"of": "{name}"}}')
    monkeypatch.setattr(publish, "STATE", measured)
    monkeypatch.setattr(publish, "ASSETS", tmp_path / "assets")
    words = ["--depth", str(tmp_path / "5_depth.safetensors"), "--description", "x", "--licence", "x", "--limits", "x"]
    monkeypatch.setattr(sys, "argv", ["publish.py", str(tmp_path / "2_flow.safetensors"), "both", *words])
    publish.main()
    published = load_weights(tmp_path / "assets" / "both.safetensors")
    assert published.flow is not None
    assert isinstance(published.depth, DepthNet)
    assert published.depth.deepest == 64
    card = published.card
    assert card["data"] == ["a", "b", "c"]
    assert card["steps"] == {"flow": 7, "depth": 9}
    assert card["size"] == {"flow": [128, 64], "depth": [64, 64]}
    assert (card["recipe"]["run"], card["recipe"]["depth_run"]) == ("2_flow", "5_depth")
    assert card["figures"] == {"pwc": {"of": "2_flow"}, "depth": {"of": "5_depth"}}
    monkeypatch.syspath_prepend(str(RELEASE))
    evaluate = tool("evaluate")
    assert evaluate.facts_of(card, "depth") == ["9", "64x64"]
    assert evaluate.facts_of({"steps": 3, "size": [8, 4]}, "flow") == ["3", "8x4"]
    assert evaluate.facts_of({}, "flow") == ["-", "-"]


def test_weights_that_are_too_many_leave_everything_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flow: PWCNet
) -> None:
    source, assets, publish = tmp_path / "run.safetensors", tmp_path / "assets", tool("publish")
    save_weights(source, flow, None, {})
    monkeypatch.setattr(publish, "ASSETS", assets)
    monkeypatch.setattr(publish, "LARGEST", 15_000_000)  # one of 10 MB, not two
    words = ["--description", "of a test", "--licence", "CC0-1.0", "--limits", "all"]
    for name in ("first", "first"):  # the second time in its own place
        monkeypatch.setattr(sys, "argv", ["publish.py", str(source), name, *words])
        publish.main()
    before = {file.name: file.read_bytes() for file in assets.iterdir()}
    monkeypatch.setattr(sys, "argv", ["publish.py", str(source), "second", *words])
    with pytest.raises(SystemExit):
        publish.main()
    assert "20.6 MB, more than 15" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in assets.iterdir()} == before


def test_pieces_join_to_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: PWCNet) -> None:
    """Also where pieces of an earlier, longer file lie in the folder, and those of another one."""
    source, folder, joined = tmp_path / "run.safetensors", tmp_path / "pieces", tmp_path / "new" / "run.safetensors"
    save_weights(source, flow, None, {"description": "of a test"}, torch.float16)
    train = tool("train")
    monkeypatch.setattr(train, "PIECE", 3_000_000)
    folder.mkdir()
    for stale in ("run.safetensors.07", "other.safetensors.00"):
        (folder / stale).write_bytes(b"of another day")
    train.split(source, folder)
    pieces = sorted(folder.glob("run.safetensors.*"))
    assert [piece.name[-2:] for piece in pieces] == ["00", "01", "02", "03"]
    assert max(piece.stat().st_size for piece in pieces) == 3_000_000
    train.join(folder, joined)
    assert joined.read_bytes() == source.read_bytes()
    assert load_weights(joined).card["description"] == "of a test"
    pieces[1].unlink()
    with pytest.raises(TrianflowError, match="damaged"):
        train.join(folder, joined)
    with pytest.raises(SystemExit, match=r"no pieces of run\.safetensors"):
        train.join(tmp_path, joined)


def test_the_queue_is_made_of_training_configurations_each_begun_with_an_earlier_one() -> None:
    """Or with the bundled weights; and none trains on what the weights are measured with."""
    files = tool("train").queue()
    assert [int(file.stem.split("_")[0]) for file in files] == list(range(1, len(files) + 1))
    for number, file in enumerate(files):
        config = load_settings(TrainConfig(), file, [])
        assert config.listed_stages()
        earlier = {f"runs/release/{before.stem}" for before in files[:number]}
        bundled = config.init in (None, "driving")
        assert bundled or str(config.init).removesuffix(".safetensors").removesuffix("/flow") in earlier
        for held_out in ("kitti_odom_07", "kitti_mini_10", "kitti_mini_depth/10", "tum_"):
            assert held_out not in file.read_text()


def test_a_run_is_taken_up_where_the_earlier_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = tool("train")
    taken: list[str] = []

    class Stopped:
        def __init__(self, config: TrainConfig, out: Path, minutes: float) -> None:
            taken.append(out.name)
            raise KeyboardInterrupt

    monkeypatch.setattr(train, "Trainer", Stopped)
    monkeypatch.setattr(train, "WORK", tmp_path)
    for first in ("", "3_flow_large", "10_depth_indoor_offices"):
        with pytest.raises(KeyboardInterrupt):
            train.slices(1.0, [], first)
        assert taken.pop() == (first or "1_flow_small")
    with pytest.raises(SystemExit, match="no run '3_typo' in the queue: take one of 1_flow_small, "):
        train.slices(1.0, [], "3_typo")
    (tmp_path / "1_flow_small").mkdir()
    (tmp_path / "1_flow_small" / "done").touch()
    with pytest.raises(KeyboardInterrupt):
        train.slices(1.0, [])
    assert taken == ["2_flow_truth"]


def test_a_run_that_cannot_begin_does_not_take_the_one_before_it_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: PWCNet, capsys: pytest.CaptureFixture[str]
) -> None:
    train = tool("train")

    class Trained:
        def __init__(self, config: TrainConfig, out: Path, minutes: float) -> None:
            if out.name != "1_flow_small":
                raise TrianflowError("no data")
            out.mkdir()
            save_weights(out / "flow.safetensors", flow, None, {})

        def run(self) -> SimpleNamespace:
            return SimpleNamespace(steps=3, finished=True)

    monkeypatch.setattr(train, "Trainer", Trained)
    monkeypatch.setattr(train, "WORK", tmp_path)
    assert train.slices(1.0, []) == tmp_path / "1_flow_small.safetensors"
    assert capsys.readouterr().err == "2_flow_truth: no data\n"
    with pytest.raises(SystemExit) as stopped:
        train.slices(1.0, [])
    assert stopped.value.code == 1
