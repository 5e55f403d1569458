"""The import of published checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.oracle_weights import oracle_state
from trianflow.checkpoint import CheckpointError
from trianflow.depth.network import DepthNet
from trianflow.errors import TrianflowError
from trianflow.flow.pwc import PWCNet
from trianflow.weights import Weights, import_checkpoint

State = dict[str, Tensor]


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def part(name: str) -> State:
    """The oracle's tensors of one published network."""
    if name == "depth":
        classifier = {"encoder.encoder.fc.weight": (1000, 512), "encoder.encoder.fc.bias": (1000,)}
        return oracle_state({**shapes(DepthNet()), **classifier}, "depth")
    flow = PWCNet()
    return oracle_state(shapes(flow.pyramid if name == "fpyramid" else flow.decoder), name)


@pytest.fixture(scope="module")
def parts() -> dict[str, State]:
    """The oracle's tensors by published network; not to be changed."""
    return {name: part(name) for name in ("fpyramid", "pwc", "depth")}


def renamed(parts: dict[str, State], **prefixes: str) -> State:
    return {prefixes[name] + key: value for name in prefixes for key, value in parts[name].items()}


def stage_3(parts: dict[str, State], first: str = "") -> State:
    flow = f"{first}model_pose.model_flow."
    return renamed(parts, depth=f"{first}depth_net.", fpyramid=f"{flow}fpyramid.", pwc=f"{flow}pwc_model.")


def stage_1(parts: dict[str, State]) -> State:
    return renamed(parts, fpyramid="fpyramid.", pwc="pwc_model.")


def assert_published(parts: dict[str, State], flow: PWCNet | None, depth: DepthNet | None) -> None:
    """Equal to the oracle's tensors."""
    for module, name in ((flow and flow.pyramid, "fpyramid"), (flow and flow.decoder, "pwc"), (depth, "depth")):
        for key, value in (module.state_dict() if module else {}).items():
            assert torch.equal(value, parts[name][key]), key


@pytest.mark.parametrize("wrap", [dict, lambda s: {"model_state_dict": s, "iteration": 7, "optimizer_state_dict": {}}])
@pytest.mark.parametrize("first", ["", "module."])
def test_import_of_stage_3(tmp_path: Path, parts, first: str, wrap: Callable[[State], Any]) -> None:
    torch.save(wrap(stage_3(parts, first)), tmp_path / "last.pth")
    flow, depth = import_checkpoint(tmp_path / "last.pth")
    assert flow is not None
    assert depth is not None
    assert not flow.training
    assert not depth.training
    assert not flow.decoder.normalize_features
    assert_published(parts, flow, depth)


def test_import_of_stage_1_in_old_format_and_half(tmp_path: Path, parts) -> None:
    state = {key: value.half() for key, value in stage_1(parts).items()}
    torch.save({"state_dict": state}, tmp_path / "flow.pth", _use_new_zipfile_serialization=False)
    flow, depth = import_checkpoint(tmp_path / "flow.pth")
    assert depth is None
    assert flow is not None
    assert_published({name: {k: v.half().float() for k, v in s.items()} for name, s in parts.items()}, flow, None)


@pytest.mark.parametrize("depth_prefix", ["depth_net.", ""])
def test_import_of_bare_names_and_four_scales(tmp_path: Path, parts, depth_prefix: str) -> None:
    four = oracle_state(shapes(DepthNet(4)), "depth")
    state = renamed({**parts, "depth": four}, depth=depth_prefix, fpyramid="fpyramid.", pwc="pwc.")
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save({"model": state}, tmp_path / "bare.pth")
    flow, depth = import_checkpoint(tmp_path / "bare.pth")
    assert depth is not None
    assert depth.scales == 4
    assert_published({**parts, "depth": four}, flow, depth)


@pytest.mark.data
@torch.no_grad()
def test_imported_networks_give_the_published_outputs(tmp_path: Path, parts, shared_data: Path) -> None:
    """With the keys of the oracle's list; the oracle's images count as BGR. Once turned, they take RGB."""
    keys = json.loads((shared_data / "oracle" / "state_keys.json").read_text())
    assert {key: list(value.shape) for key, value in parts["fpyramid"].items()} == keys["fpyramid"]
    assert {key: list(value.shape) for key, value in parts["pwc"].items()} == keys["pwc"]
    assert {key: list(value.shape) for key, value in parts["depth"].items()} == keys["depth_scale1"]
    torch.save({"model_state_dict": stage_3(parts)}, tmp_path / "last.pth")
    imported = Weights("last", {}, *import_checkpoint(tmp_path / "last.pth"), "bgr")
    for found, turn in ((imported, []), (imported.rgb(), [1])):
        assert found.flow is not None
        assert found.depth is not None
        with np.load(shared_data / "oracle" / "04_pwc_forward.npz") as o:
            images = [(torch.from_numpy(o[f"img{i}_u8"]) / 255).flip(turn) for i in (1, 2)]
            for level, pair in enumerate(found.flow(*images)):
                for ours, theirs in ((pair.flow_ab, "fwd"), (pair.flow_ba, "bwd")):
                    expected = torch.from_numpy(o[f"{theirs}_flow_s{level}"])
                    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)
        with np.load(shared_data / "oracle" / "05_depth_net.npz") as o:
            (disparity,) = found.depth((torch.from_numpy(o["img_u8"]) / 255).flip(turn))
            torch.testing.assert_close(disparity, torch.from_numpy(o["disp_eval"]), rtol=0, atol=1e-4)


def test_import_names_every_key_that_is_amiss(tmp_path: Path, parts) -> None:
    state = stage_3(parts, "module.")
    gone = [key for key in state if ".conv3_" in key]
    for key in gone:
        del state[key]
    state["module.pose_net.conv1.weight"] = torch.zeros(1)
    state["module.depth_net.decoder.upconvs.7.0.conv.conv.bias"] = torch.zeros(1)
    state["module.depth_net.encoder.encoder.bn1.bias"] = torch.zeros(65)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(tmp_path / "other.pth")
    error = caught.value
    assert error.missing == tuple(key.removeprefix("module.") for key in gone)
    assert len(gone) == 10
    assert error.extra == ("depth_net.decoder.upconvs.7.0.conv.conv.bias", "pose_net.conv1.weight")
    assert error.misshapen == ("depth_net.encoder.encoder.bn1.bias (65,) for (64,)",)
    assert "\n" not in str(error)
    assert f"10 missing ({gone[0].removeprefix('module.')}, " in str(error)
    assert "and 8 more); 2 extra (depth_net.decoder" in str(error)
    assert "1 of another shape (depth_net.encoder.encoder.bn1.bias (65,) for (64,))" in str(error)


def test_import_of_half_a_flow_network(tmp_path: Path, parts) -> None:
    torch.save(renamed(parts, fpyramid="model_flow.fpyramid."), tmp_path / "half.pth")
    with pytest.raises(CheckpointError, match="74 missing") as caught:
        import_checkpoint(tmp_path / "half.pth")
    assert set(caught.value.missing) == {f"pwc_model.{key}" for key in parts["pwc"]}


@pytest.mark.parametrize("reverse", [False, True])
def test_import_of_two_flow_networks(tmp_path: Path, parts, reverse: bool) -> None:
    state = stage_3(parts) | renamed(parts, fpyramid="fpyramid.")
    torch.save(dict(sorted(state.items(), reverse=reverse)), tmp_path / "two.pth")
    with pytest.raises(TrianflowError, match="holds a network twice") as caught:
        import_checkpoint(tmp_path / "two.pth")
    assert "`fpyramid.*`" in str(caught.value)
    assert "`model_pose.model_flow.fpyramid.*`" in str(caught.value)


def test_import_of_another_network(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "vgg.pth")
    with pytest.raises(CheckpointError, match=r"3 missing \(fpyramid\.\*, .*1 extra \(features\.0\.weight\)"):
        import_checkpoint(tmp_path / "vgg.pth")


def test_import_of_a_diverged_network(tmp_path: Path, parts) -> None:
    state = stage_1(parts)
    state["pwc_model.dc_conv7.bias"] = torch.tensor([0.0, torch.nan])
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(TrianflowError, match=r"NaN or infinite numbers in pwc_model\.dc_conv7\.bias; "):
        import_checkpoint(tmp_path / "nan.pth")


class Unsafe:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise AssertionError('code of the file was run')",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read: No such file"),
        (b"", "the file is empty"),
        (b"this is no checkpoint", "no checkpoint of torch"),
        (b"PK\x03\x04 damaged archive", "no checkpoint of torch, or a damaged one"),
        ({"fpyramid.conv1.0.weight": Unsafe()}, "could run code and is refused"),
        ({"epoch": 3}, "holds no state dict"),
        ([torch.zeros(3)], "holds no state dict"),
        ({}, "holds no state dict"),
    ],
)
def test_import_of_what_is_no_checkpoint(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "x.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(TrianflowError, match=message) as caught:
        import_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_import_of_a_folder_and_a_cut_file(tmp_path: Path, parts) -> None:
    with pytest.raises(TrianflowError, match="cannot read: Is a directory"):
        import_checkpoint(tmp_path)
    torch.save(renamed(parts, fpyramid="fpyramid."), tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:100_000])
    with pytest.raises(TrianflowError, match="no checkpoint of torch, or a damaged one"):
        import_checkpoint(tmp_path / "cut.pth")
