"""Networks to begin a run with: an encoder that knows ImageNet, those of a weight file."""

from __future__ import annotations

from trianflow.checkpoint import fill
from trianflow.depth.network import DepthNet
from trianflow.depth.resnet import load_imagenet_weights
from trianflow.errors import UsageError
from trianflow.systems.trianflow import TrianFlow
from trianflow.training.engine import AnySystem
from trianflow.weights import load_weights


def initialize(system: AnySystem, init: str | None) -> None:
    """Give the networks of a new run what they know from elsewhere.

    Args:
        system: changed in place; of TrianFlow, its `config.imagenet` is read.
        init: weights to begin with, as for `load_initial`; what they hold comes in place of the rest.

    Raises:
        UsageError, TrianflowError, CheckpointError: as `load_initial`; and a file for `imagenet` that does not fit.
    """
    if isinstance(system, TrianFlow) and system.config.imagenet is not None:
        load_imagenet_weights(system.depth.encoder.encoder, system.config.imagenet)
    if init is not None:
        load_initial(system, init)


def load_initial(system: AnySystem, name: str) -> None:
    """Fill the networks of a system that a weight file holds; the others stay.

    Args:
        system: changed in place.
        name: of bundled weights, or a .safetensors file.

    Raises:
        UsageError: no such weights, they were trained with another `normalize_features` or `deepest`, or hold nothing
            for it.
        TrianflowError: a file that cannot be read.
        CheckpointError: tensors of other networks.
    """
    weights = load_weights(name).rgb()
    if weights.flow is not None and system.flow is not None:
        theirs, ours = (network.decoder.normalize_features for network in (weights.flow, system.flow))
        if theirs != ours:
            raise UsageError(f"the weights {name} need system.normalize_features={str(theirs).lower()}")
    held = (("flow", weights.flow), ("depth", weights.depth), ("pose", weights.pose), ("objects", weights.objects))
    own = dict(system.named_children())
    depth = own.get("depth")
    if isinstance(weights.depth, DepthNet) and isinstance(depth, DepthNet) and weights.depth.deepest != depth.deepest:
        raise UsageError(f"the weights {name} need system.deepest={weights.depth.deepest}")
    given = [(own[kind], network) for kind, network in held if network is not None and kind in own]
    if not given:
        raise UsageError(f"the weights {name} hold none of the networks that are to be trained")
    for network, theirs_of_kind in given:
        fill(network, theirs_of_kind.state_dict(), name)
