"""Networks to begin a run with: an encoder that knows ImageNet, those of a weight file."""

from __future__ import annotations

from trianflow.checkpoint import fill
from trianflow.depth.resnet import load_imagenet_weights
from trianflow.errors import UsageError
from trianflow.systems.trianflow import TrianFlow
from trianflow.weights import load_weights


def initialize(system: TrianFlow, init: str | None) -> None:
    """Give the networks of a new run what they know from elsewhere.

    Args:
        system: changed in place; its `config.imagenet` is read.
        init: weights to begin with, as for `load_initial`; what they hold comes in place of the rest.

    Raises:
        UsageError, TrianflowError, CheckpointError: as `load_initial`; and a file for `imagenet` that does not fit.
    """
    if system.config.imagenet is not None:
        load_imagenet_weights(system.depth.encoder.encoder, system.config.imagenet)
    if init is not None:
        load_initial(system, init)


def load_initial(system: TrianFlow, name: str) -> None:
    """Fill the networks of a system that a weight file holds; the others stay.

    Args:
        system: changed in place.
        name: of bundled weights, or a .safetensors file.

    Raises:
        UsageError: no such weights, or they were trained with another `normalize_features`.
        TrianflowError: a file that cannot be read.
        CheckpointError: tensors of other networks.
    """
    weights = load_weights(name).rgb()
    if weights.flow is not None:
        theirs = weights.flow.decoder.normalize_features
        if theirs != system.config.normalize_features:
            raise UsageError(f"the weights {name} need system.normalize_features={str(theirs).lower()}")
    for network, given in ((system.flow, weights.flow), (system.depth, weights.depth)):
        if given is not None:
            fill(network, given.state_dict(), name)
