"""Weight files and cards, and bundled weights by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from trianflow import weights
from trianflow.checkpoint import CheckpointError
from trianflow.depth.network import DepthNet
from trianflow.errors import TrianflowError, UsageError
from trianflow.flow.pwc import PWCNet
from trianflow.weights import list_weights, load_weights, save_weights

CARD = {"description": "of a test", "data": "none", "licence": "CC0-1.0", "steps": 3, "metrics": {"epe": 1.5}}
NETWORKS = {"flow": {"normalize_features": True}}


@pytest.fixture(scope="module")
def flow() -> PWCNet:
    torch.manual_seed(0)
    return PWCNet(normalize_features=True)


@pytest.fixture
def small(tmp_path: Path, flow: PWCNet) -> Path:
    """A weight file with its card."""
    save_weights(tmp_path / "small.safetensors", flow, None, CARD, torch.float16)
    return tmp_path / "small.safetensors"


def test_from_pretrained_takes_rgb_whatever_the_file_does(tmp_path: Path, flow: PWCNet) -> None:
    path = tmp_path / "bgr.safetensors"
    save_weights(path, flow, None, CARD | {"channels": "bgr"})
    found = weights.from_pretrained(path)
    assert found.channels == found.card["channels"] == "rgb"
    assert found.flow is not None
    name = "pyramid.conv1.0.weight"
    assert torch.equal(found.flow.get_parameter(name), flow.get_parameter(name).flip(1))
    assert weights.from_pretrained("driving").name == "driving"
    with pytest.raises(UsageError, match="no bundled weights are called 'drivng'"):
        weights.from_pretrained("drivng")


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


def test_a_narrower_depth_network_comes_back_and_is_half_as_large(tmp_path: Path) -> None:
    sizes = {}
    for deepest in (512, 256):
        path, depth = tmp_path / f"{deepest}.safetensors", DepthNet(deepest=deepest)
        card = save_weights(path, None, depth, CARD, torch.float16)
        path.with_suffix(".json").unlink()
        found = load_weights(path).depth
        assert isinstance(found, DepthNet)
        assert found.deepest == deepest
        assert found.state_dict().keys() == depth.state_dict().keys()
        sizes[deepest] = path.stat().st_size
    assert card["networks"] == {"depth": {"scales": 1, "deepest": 256}}
    assert sizes[256] < 0.55 * sizes[512]


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
