"""Weights of the networks by name: one .safetensors file with a JSON card beside it; import of published checkpoints.

The tensors are called `flow.*` (of `PWCNet`), `depth.*` (of `DepthNet`) or `dispnet.*`, `pose.*` (of `PoseNet`), and
`objects.*` (of `ObjPoseNet`).
What the networks are built with stands in the file itself as well as in the card, so that it works without one; so does
the order of the colours that they were trained on.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from trianflow.assets import find_asset
from trianflow.checkpoint import CheckpointError, fill, read_state_dict
from trianflow.depth.dispnet import DispNet
from trianflow.depth.network import DepthNet
from trianflow.depth.resnet import CHANNELS
from trianflow.errors import TrianflowError, UsageError
from trianflow.files import replacing
from trianflow.flow.pwc import PWCNet
from trianflow.pose.objects import ObjPoseNet
from trianflow.pose.posenet import PoseNet

AnyDepthNet = DepthNet | DispNet

_FOLDER = "weights"  # of the assets
_SUFFIX = ".safetensors"
_CHECKPOINTS = (".pth", ".pt", ".ckpt", ".tar")
_KINDS = {"flow": PWCNet, "depth": DepthNet, "dispnet": DispNet, "pose": PoseNet, "objects": ObjPoseNet}

# Our prefix, the published one by default, and its forms. The flow network lies at the top (stage 1), below
# `model_pose.model_flow` (stages 2 and 3) or `model_flow` (FlowPoseNet baseline).
_PUBLISHED = (
    ("flow.pyramid.", "fpyramid.", re.compile(r"((?:model_pose\.)?(?:model_flow\.)?fpyramid\.)(.+)")),
    ("flow.decoder.", "pwc_model.", re.compile(r"((?:model_pose\.)?(?:model_flow\.)?(?:pwc_model|pwc)\.)(.+)")),
    ("depth.", "depth_net.", re.compile(r"((?:depth_net\.)?)((?:encoder\.encoder|decoder)\..+)")),
)
_CLASSIFIER = "depth.encoder.encoder.fc."  # in published checkpoints, never used
_CHANNELS = ("rgb", "bgr")
_METADATA = "trianflow"  # of the file: `networks` and `channels`, which older files have as two entries


@dataclass(frozen=True)
class Weights:
    """Networks in eval mode on the CPU, float32, and where they come from.

    Attributes:
        name: of the bundled weights, else the file's stem.
        card: what is known of them: `name`, `description`, `networks` (by name, the arguments of the constructor),
            `data`, `licence`, `sha256`, and further entries, as what `tools/release` adds: `limits`, `recipe` (run and
            commit) and `figures` (as measured); empty where a file has no card.
        flow, depth, pose, objects: None where the file does not hold them.
        channels: order of the colours that the networks take: `rgb`, or `bgr` of published checkpoints.
    """

    name: str
    card: dict[str, Any]
    flow: PWCNet | None
    depth: AnyDepthNet | None
    channels: str = "rgb"
    pose: PoseNet | None = None
    objects: ObjPoseNet | None = None

    def rgb(self) -> Weights:
        """The same networks, but taking RGB: with the first layers turned round where they take BGR."""
        if self.channels == "rgb":
            return self
        flow, depth = copy.deepcopy(self.flow), copy.deepcopy(self.depth)
        first = [] if flow is None else [flow.get_parameter("pyramid.conv1.0.weight")]
        first += [] if depth is None else [depth.get_parameter("encoder.encoder.conv1.weight")]
        for weight in first:
            weight.data = weight.data.flip(1)
        return replace(self, card=self.card | {"channels": "rgb"}, flow=flow, depth=depth, channels="rgb")


@dataclass(frozen=True)
class BundledWeights:
    """Weights in the repository: name, file, and card (see `Weights`)."""

    name: str
    path: Path
    card: dict[str, Any]


def from_pretrained(name_or_path: str | Path) -> Weights:
    """Networks that take RGB, by the name of bundled weights or from a .safetensors file.

    Raises:
        UsageError, TrianflowError, CheckpointError: as `load_weights`, which leaves the order of the colours as it is.

    Example:
        >>> from_pretrained("driving").channels
        'rgb'
    """
    return load_weights(name_or_path).rgb()


def load_weights(name_or_path: str | Path) -> Weights:
    """Networks by the name of bundled weights or from a .safetensors file.

    Raises:
        UsageError: no weights are called so, or a checkpoint that must be imported first.
        TrianflowError: the file cannot be read, or is not the one whose sha256 is known.
        CheckpointError: its tensors are not those of the networks; all are named.
    """
    path = Path(name_or_path)
    checksums = []
    if path.suffix.lower() in _CHECKPOINTS:
        if path.suffix.lower() == ".ckpt":
            raise UsageError(f"{path}: no weights; those of a training run are the .safetensors files beside it")
        raise UsageError(f"{path}: import this checkpoint first: trianflow weights import {path}")
    if path.suffix == _SUFFIX:
        name = path.stem
    else:
        name = str(name_or_path)
        entry = _bundled_entry(name)
        path = find_asset(f"{_FOLDER}/{entry['file']}")
        checksums.append(entry["sha256"])
    card = _read_card(path)
    if "sha256" in card:
        checksums.append(card["sha256"])
    state, told = _read(path, checksums)
    arguments = card.get("networks", told.get("networks"))
    channels = card.get("channels", told.get("channels", "rgb"))
    if channels not in _CHANNELS:
        raise TrianflowError(f"{path}: channels are {' or '.join(_CHANNELS)}, not {channels!r}")
    if arguments is None:
        arguments = {kind: {} for kind in ("flow", "depth") if any(key.startswith(f"{kind}.") for key in state)}
    networks = _build(arguments, path)
    fill(networks, state, path)
    if not networks:
        raise TrianflowError(f"{path}: holds no weights (tensors {', '.join(f'{kind}.*' for kind in _KINDS)})")
    flow, depth = _pair(networks)
    pose, objects = (dict(networks.items()).get(kind) for kind in ("pose", "objects"))
    assert pose is None or isinstance(pose, PoseNet)
    assert objects is None or isinstance(objects, ObjPoseNet)
    return Weights(name, card, flow, depth, channels, pose, objects)


def save_weights(
    path: str | Path,
    flow: PWCNet | None,
    depth: AnyDepthNet | None,
    card: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    pose: PoseNet | None = None,
    objects: ObjPoseNet | None = None,
) -> dict[str, Any]:
    """Write a weight file and its card; files of these names are replaced at once, never half.

    Args:
        path: ends in .safetensors; the card gets the same name with .json.
        flow, depth, pose, objects: at least one; on any device.
        card: see `Weights`; `networks`, `sha256` and, where it is missing, `name` are filled in. `channels` is to be
            `bgr` for networks that take BGR.
        dtype: of the weights in the file; vectors (biases, statistics) stay float32, which costs nothing.

    Returns:
        The card as written.

    Raises:
        UsageError: no network, or another suffix.
        TrianflowError: numbers that are not finite, or too large for the type; a file that cannot be written.
    """
    path = Path(path)
    if path.suffix != _SUFFIX:
        raise UsageError(f"{path}: weight files end in {_SUFFIX}")
    depth_kind = "dispnet" if isinstance(depth, DispNet) else "depth"
    held = (("flow", flow), (depth_kind, depth), ("pose", pose), ("objects", objects))
    networks = nn.ModuleDict({kind: network for kind, network in held if network is not None})
    if not networks:
        raise UsageError(f"{path}: weights need at least one network")
    arguments: dict[str, Any] = {}
    if flow is not None:
        arguments["flow"] = {"normalize_features": flow.decoder.normalize_features}
    if depth is not None:
        arguments[depth_kind] = {"scales": depth.scales}
    if isinstance(depth, DepthNet) and depth.deepest != CHANNELS[-1]:
        arguments[depth_kind]["deepest"] = depth.deepest
    if pose is not None:
        arguments["pose"] = pose.arguments
    if objects is not None:
        arguments["objects"] = objects.arguments
    state = {key: _stored(value, dtype) for key, value in networks.state_dict().items()}
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise TrianflowError(f"{path}: not saved: {broken[0]} holds numbers that are not finite in {dtype}")
    told = {"networks": arguments, "channels": card.get("channels", "rgb")}
    # One entry, as several would stand in the file in any order, and its checksum could not be repeated.
    content = save(state, {_METADATA: json.dumps(told, sort_keys=True)})
    full = {"name": path.stem, **card, "networks": arguments, "sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps(full, indent=2, ensure_ascii=False) + "\n"
    try:
        # The old card goes first: killed in between, the file is one without a card, not one of a wrong checksum.
        _card_path(path).unlink(missing_ok=True)
        for target, data in ((path, content), (_card_path(path), text.encode())):
            with replacing(target) as beside:
                beside.write_bytes(data)
    except OSError as e:
        raise TrianflowError(f"{path}: cannot write the weights: {e.strerror}") from e
    return full


def import_checkpoint(path: str | Path) -> tuple[PWCNet | None, AnyDepthNet | None]:
    """The networks of a checkpoint of the published implementation, of any of its stages.

    They take BGR images: saved with `channels: bgr` in the card, they are turned by `Weights.rgb` when they are used.

    Args:
        path: .pth file; a state dict, bare or under `model_state_dict`, `state_dict` or `model`, with or without
            `module.` before its keys.

    Returns:
        Flow and depth, in eval mode on the CPU, float32; None for what the file does not hold.

    Raises:
        CheckpointError: keys are missing, unknown or of another shape; all are named as in the file. The unused
            classifier of the depth encoder is no error.
        TrianflowError: the file cannot be read, or holds one network twice.
    """
    prefixes = {ours: theirs for ours, theirs, _ in _PUBLISHED}
    seen: dict[str, str] = {}
    state: dict[str, Tensor] = {}
    extra = []
    for key, value in read_state_dict(path).items():
        found = ((ours, match) for ours, _, pattern in _PUBLISHED if (match := pattern.fullmatch(key)))
        ours, match = next(found, ("", None))
        if match is None:
            extra.append(key)
        elif not (ours + match[2]).startswith(_CLASSIFIER):
            before = seen.setdefault(ours, match[1])
            if before != match[1]:
                both = f"`{before}*` and `{match[1]}*`"
                raise TrianflowError(f"{path}: holds a network twice, as {both}: take one of them out")
            prefixes[ours] = match[1]
            state[ours + match[2]] = value
    if not state:
        raise CheckpointError(path, [f"{prefix}*" for prefix in prefixes.values()], extra, [])
    arguments: dict[str, dict[str, Any]] = {}
    if any(key.startswith("flow.") for key in state):
        arguments["flow"] = {}
    if any(key.startswith("depth.") for key in state):
        heads = {key.split(".")[3] for key in state if key.startswith("depth.decoder.dispconvs.")}
        arguments["depth"] = {"scales": min(max(len(heads), 1), 4)}

    def original(key: str) -> str:
        ours = next(ours for ours in prefixes if key.startswith(ours))
        return prefixes[ours] + key.removeprefix(ours)

    networks = _build(arguments, path)
    fill(networks, state, path, extra, original)
    return _pair(networks)


def list_weights() -> list[BundledWeights]:
    """The weights that come with the repository, by name; none where only the package is installed."""
    found = []
    for name, entry in sorted(_manifest().items()):
        path = find_asset(f"{_FOLDER}/{entry['file']}")
        found.append(BundledWeights(name, path, _read_card(path)))
    return found


def _bundled_entry(name: str) -> dict[str, str]:
    manifest = _manifest()
    if name in manifest:
        return manifest[name]
    near = difflib.get_close_matches(name, manifest, 1)
    known = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(manifest)) or 'none'}"
    raise UsageError(
        f"no bundled weights are called '{name}' ({known}); give a {_SUFFIX} file,"
        " which `trianflow weights import FILE.pth` makes of a published checkpoint"
    )


def _manifest() -> dict[str, dict[str, str]]:
    try:
        path = find_asset(f"{_FOLDER}/manifest.json")
    except TrianflowError:
        return {}
    return _read_json(path)


def _card_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_card(path: Path) -> dict[str, Any]:
    card = _card_path(path)
    return _read_json(card) if card.is_file() else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise TrianflowError(f"{path}: cannot read: {e.strerror}") from e
    except ValueError as e:
        raise TrianflowError(f"{path}: not JSON: {e}") from e
    if not isinstance(content, dict):
        raise TrianflowError(f"{path}: not a JSON object")
    return content


def _read(path: Path, checksums: list[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, and what the file tells of the networks; after a check of its sha256."""
    try:
        if checksums:
            checksum = hashlib.sha256(path.read_bytes()).hexdigest()
            wrong = [expected for expected in checksums if expected != checksum]
            if wrong:
                what = f"sha256 is {checksum[:16]}..., not {wrong[0][:16]}..."
                raise TrianflowError(f"{path}: damaged, or not the file of its card ({what}); get both files again")
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
            told = file.metadata() or {}
        if _METADATA in told:
            return state, dict(json.loads(told[_METADATA]))
        return state, {key: json.loads(told[key]) for key in ("networks", "channels") if key in told}
    except OSError as e:
        raise TrianflowError(f"{path}: cannot read: {e.strerror or e}") from e
    except (SafetensorError, ValueError) as e:
        raise TrianflowError(f"{path}: no safetensors file, or a damaged one ({e}); get it again") from e


def _build(arguments: Any, path: Path | str) -> nn.ModuleDict:
    """Networks from the constructors' arguments by kind."""
    try:
        return nn.ModuleDict({kind: _KINDS[kind](**kwargs) for kind, kwargs in arguments.items()}).eval()
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise TrianflowError(f"{path}: made for other networks than those of this version: {arguments}") from e


def _pair(networks: nn.ModuleDict) -> tuple[PWCNet | None, AnyDepthNet | None]:
    found = dict(networks.items())
    flow, depth = found.get("flow"), found.get("depth", found.get("dispnet"))
    assert flow is None or isinstance(flow, PWCNet)
    assert depth is None or isinstance(depth, (DepthNet, DispNet))
    return flow, depth


def _stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    value = value.detach().cpu().contiguous()
    if not value.is_floating_point():
        return value
    return value.to(dtype if value.ndim > 1 else torch.float32)
