"""Weight files and cards, bundled weights by name, and the import of published checkpoints."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.oracle_weights import oracle_state
from trianflow import weights
from trianflow.checkpoint import CheckpointError
from trianflow.depth.network import DepthNet
from trianflow.errors import TrianflowError, UsageError
from trianflow.flow.pwc import PWCNet
from trianflow.weights import Weights, import_checkpoint, list_weights, load_weights, save_weights

CARD = {"description": "of a test", "data": "none", "licence": "CC0-1.0", "steps": 3, "metrics": {"epe": 1.5}}
NETWORKS = {"flow": {"normalize_features": True}}
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


@pytest.fixture(scope="module")
def flow() -> PWCNet:
    torch.manual_seed(0)
    return PWCNet(normalize_features=True)


@pytest.fixture
def small(tmp_path: Path, flow: PWCNet) -> Path:
    """A weight file with its card."""
    save_weights(tmp_path / "small.safetensors", flow, None, CARD, torch.float16)
    return tmp_path / "small.safetensors"


def test_round_trip_of_both_networks(tmp_path: Path, flow: PWCNet) -> None:
    torch.manual_seed(1)
    depth = DepthNet(2).to(memory_format=torch.channels_last)
    depth.train()(torch.rand(2, 3, 64, 64))  # statistics and counters
    path = tmp_path / "both.safetensors"
    card = save_weights(path, flow, depth, CARD)
    found = load_weights(path)
    assert isinstance(found.flow, PWCNet)
    assert isinstance(found.depth, DepthNet)
    for ours, original in ((found.flow, flow), (found.depth, depth)):
        assert not any(m.training for m in ours.modules())
        for (key, value), expected in zip(ours.state_dict().items(), original.state_dict().values(), strict=True):
            assert torch.equal(value, expected), key
    assert found.flow.decoder.normalize_features
    assert found.depth.scales == 2
    assert found.name == "both"
    assert found.card == card == json.loads(path.with_suffix(".json").read_text())
    assert {key: found.card[key] for key in CARD} == CARD
    assert found.card["networks"] == {"flow": {"normalize_features": True}, "depth": {"scales": 2}}
    assert found.card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["both.json", "both.safetensors"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.name = "x"  # type: ignore[misc]


def test_half_is_half_the_size_and_loads_as_float32(small: Path, flow: PWCNet) -> None:
    assert 2 * flow_parameters(flow) < small.stat().st_size < 2.02 * flow_parameters(flow)
    found = load_weights(small)
    assert found.depth is None
    assert found.flow is not None
    for (key, value), original in zip(found.flow.state_dict().items(), flow.state_dict().values(), strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(value, original.half().float() if original.ndim > 1 else original), key
    assert any(not torch.equal(a, b) for a, b in zip(found.flow.parameters(), flow.parameters()))


def flow_parameters(flow: PWCNet) -> int:
    count = sum(p.numel() for p in flow.parameters())
    assert count == 5_134_324
    return count


def test_file_without_its_card_knows_its_networks(small: Path) -> None:
    small.with_suffix(".json").unlink()
    found = load_weights(str(small))
    assert found.card == {}
    assert found.flow is not None
    assert found.flow.decoder.normalize_features


@pytest.mark.parametrize("with_card", [True, False])
def test_order_of_the_colours(tmp_path: Path, flow: PWCNet, with_card: bool) -> None:
    path = tmp_path / "bgr.safetensors"
    depth = DepthNet()
    save_weights(path, flow, depth, {**CARD, "channels": "bgr"})
    if not with_card:
        path.with_suffix(".json").unlink()
    found = load_weights(path)
    turned = found.rgb()
    assert (found.channels, turned.channels) == ("bgr", "rgb")
    assert turned.rgb() is turned
    assert turned.card == found.card | {"channels": "rgb"}
    for bgr, rgb, original, first in (
        (found.flow, turned.flow, flow, "pyramid.conv1.0.weight"),
        (found.depth, turned.depth, depth, "encoder.encoder.conv1.weight"),
    ):
        assert bgr is not None
        assert rgb is not None
        for key, value in original.state_dict().items():
            assert torch.equal(bgr.state_dict()[key], value), key
            assert torch.equal(rgb.state_dict()[key], value.flip(1) if key == first else value), key


def test_file_of_the_same_content_is_the_same(tmp_path: Path, flow: PWCNet) -> None:
    """And its metadata is one entry, as the order of several would be drawn by chance."""
    sums = {save_weights(tmp_path / f"{i}.safetensors", flow, None, CARD)["sha256"] for i in range(3)}
    assert len(sums) == 1
    with safe_open(tmp_path / "0.safetensors", framework="pt") as file:
        assert file.metadata() == {"trianflow": json.dumps({"channels": "rgb", "networks": NETWORKS}, sort_keys=True)}


def test_older_files_are_read(tmp_path: Path, flow: PWCNet) -> None:
    """Their metadata are two entries."""
    told = {"networks": json.dumps(NETWORKS), "channels": '"bgr"'}
    save_file({f"flow.{k}": v for k, v in flow.state_dict().items()}, tmp_path / "old.safetensors", told)
    found = load_weights(tmp_path / "old.safetensors")
    assert found.channels == "bgr"
    assert found.flow is not None
    assert found.flow.decoder.normalize_features


def test_rgb_is_the_rule(small: Path) -> None:
    found = load_weights(small)
    assert found.channels == "rgb"
    assert found.rgb() is found
    small.with_suffix(".json").write_text('{"channels": "cmyk"}')
    with pytest.raises(TrianflowError, match="channels are rgb or bgr, not 'cmyk'"):
        load_weights(small)


def test_file_of_another_program(tmp_path: Path, flow: PWCNet) -> None:
    """Tensors by our names are enough; the networks are then the published ones."""
    save_file({f"flow.{k}": v.bfloat16() for k, v in flow.state_dict().items()}, tmp_path / "x.safetensors")
    found = load_weights(tmp_path / "x.safetensors").flow
    assert found is not None
    assert not found.decoder.normalize_features
    assert torch.equal(found.decoder.dc_conv7.weight, flow.decoder.dc_conv7.weight.bfloat16().float())


def test_wrong_or_damaged_files(small: Path, flow: PWCNet) -> None:
    content = bytearray(small.read_bytes())
    content[-5] ^= 1
    small.write_bytes(content)
    with pytest.raises(TrianflowError, match=r"damaged, or not the file of its card \(sha256 is "):
        load_weights(small)
    small.with_suffix(".json").unlink()
    assert load_weights(small).flow is not None, "without card there is nothing to compare with"
    small.write_bytes(content[:1000])
    with pytest.raises(TrianflowError, match="no safetensors file, or a damaged one"):
        load_weights(small)
    small.write_bytes(b"")
    with pytest.raises(TrianflowError, match="no safetensors file, or a damaged one"):
        load_weights(small)
    small.unlink()
    with pytest.raises(TrianflowError, match="cannot read: "):
        load_weights(small)


def test_tensors_that_are_not_those_of_the_networks(small: Path) -> None:
    small.with_suffix(".json").unlink()
    state = load_file(small)
    state["pose.weight"] = state.pop("flow.decoder.dc_conv7.weight")
    save_file(state, small)
    with pytest.raises(CheckpointError) as caught:
        load_weights(small)
    assert caught.value.missing == ("flow.decoder.dc_conv7.weight",)
    assert caught.value.extra == ("pose.weight",)
    save_file({}, small)
    with pytest.raises(TrianflowError, match="holds no weights"):
        load_weights(small)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"small\.json: not JSON"),
        ("[]", r"small\.json: not a JSON object"),
        ('{"networks": {"flow": {"levels": 9}}}', "made for other networks than those of this version"),
        ('{"networks": {"nerf": {}}}', "made for other networks than those of this version"),
        ('{"networks": 5}', "made for other networks than those of this version"),
        ('{"networks": {"flow": {}, "depth": {"scales": 1}}}', r"\d+ missing \(depth\.encoder\.encoder\.conv1"),
    ],
)
def test_cards_that_cannot_be(small: Path, text: str, message: str) -> None:
    small.with_suffix(".json").write_text(text)
    with pytest.raises(TrianflowError, match=message) as caught:
        load_weights(small)
    assert "\n" not in str(caught.value)


def test_save_refuses(tmp_path: Path, flow: PWCNet) -> None:
    with pytest.raises(UsageError, match=r"end in \.safetensors"):
        save_weights(tmp_path / "x.pth", flow, None, CARD)
    with pytest.raises(UsageError, match="at least one network"):
        save_weights(tmp_path / "x.safetensors", None, None, CARD)
    with pytest.raises(TrianflowError, match="cannot write the weights: No such file or directory"):
        save_weights(tmp_path / "nowhere" / "x.safetensors", flow, None, CARD)
    large = PWCNet()
    large.decoder.dc_conv7.weight.data[0, 0, 0, 0] = 1e6
    with pytest.raises(TrianflowError, match=r"flow\.decoder\.dc_conv7\.weight holds .* not finite in torch\.float16"):
        save_weights(tmp_path / "x.safetensors", large, None, CARD, torch.float16)
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file(small: Path, flow: PWCNet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = small.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(TrianflowError, match="No space left"):
            save_weights(small, flow, None, CARD)
    assert small.read_bytes() == before
    assert load_weights(small).flow is not None
    save_weights(small, flow, None, CARD)
    assert len(small.read_bytes()) > 1.9 * len(before), "replaced"


@pytest.fixture
def bundle(tmp_path: Path, flow: PWCNet, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of assets with one set of weights, `tiny`."""
    folder = tmp_path / "assets"
    (folder / "weights").mkdir(parents=True)
    card = save_weights(folder / "weights" / "tiny-1.safetensors", flow, None, {"name": "tiny", **CARD}, torch.float16)
    manifest = {"tiny": {"file": "tiny-1.safetensors", "sha256": card["sha256"]}}
    (folder / "weights" / "manifest.json").write_text(json.dumps(manifest))

    def find(name: str) -> Path:
        if not (folder / name).is_file():
            raise TrianflowError(f"{folder / name}: not found")
        return folder / name

    monkeypatch.setattr(weights, "find_asset", find)
    return folder / "weights"


def test_bundled_weights_by_name(bundle: Path) -> None:
    found = load_weights("tiny")
    assert (found.name, found.card["name"]) == ("tiny", "tiny")
    assert found.flow is not None
    (entry,) = list_weights()
    assert (entry.name, entry.path, entry.card) == ("tiny", bundle / "tiny-1.safetensors", found.card)


def test_bundled_weights_are_verified(bundle: Path, flow: PWCNet) -> None:
    """Against the manifest, even where file and card agree."""
    save_weights(bundle / "tiny-1.safetensors", flow, None, CARD)
    with pytest.raises(TrianflowError, match="damaged, or not the file of its card"):
        load_weights("tiny")
    (bundle / "tiny-1.safetensors").unlink()
    with pytest.raises(TrianflowError, match="not found"):
        load_weights("tiny")


def test_unknown_name(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"called 'tini' \(did you mean 'tiny'\?\); give a \.safetensors file"):
        load_weights("tini")
    with pytest.raises(UsageError, match=r"called 'large' \(there are tiny\)"):
        load_weights("large")
    with pytest.raises(UsageError, match=r"import this checkpoint first: trianflow weights import last\.pth"):
        load_weights("last.pth")
    (bundle / "manifest.json").unlink()
    assert list_weights() == []
    with pytest.raises(UsageError, match=r"called 'tiny' \(there are none\)"):
        load_weights("tiny")


def test_the_bundled_weights_load() -> None:
    for entry in list_weights():
        found = load_weights(entry.name)
        assert {"name", "description", "networks", "data", "licence", "sha256"} <= set(found.card)
        assert found.card["name"] == entry.name
        assert found.flow is not None or found.depth is not None
