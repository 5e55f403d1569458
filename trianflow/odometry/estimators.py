"""The flow and the depth that a configuration names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trianflow.config import NetworkConfig, OdometryConfig
from trianflow.depth.interface import DepthEstimator
from trianflow.depth.learned import LearnedDepth
from trianflow.errors import UsageError
from trianflow.flow.dis import DISFlow
from trianflow.flow.interface import FlowEstimator
from trianflow.flow.learned import LearnedFlow
from trianflow.flow.refined import RefinedFlow
from trianflow.inference import THREADS, size_of
from trianflow.pose.learned import LearnedPose, PoseEstimator
from trianflow.weights import Weights, load_weights


def learned_flow(config: NetworkConfig, weights: Weights | None = None) -> LearnedFlow:
    """The flow network of a configuration.

    Args:
        config: weights, device, size.
        weights: those of the configuration, where they have been loaded already.

    Raises:
        UsageError: no such weights or device, or no flow network in them.
        TrianflowError: the weights cannot be read.
    """
    weights = (weights or load_weights(config.weights)).rgb()
    if weights.flow is None:
        raise UsageError(f"the weights '{config.weights}' hold no flow network; take --weights FILE with one")
    return LearnedFlow(weights.flow, config.device, size_of(weights.card, "flow"), config.network_size)


def flow_of(config: OdometryConfig, weights: Weights | None = None) -> FlowEstimator:
    """The flow that a configuration names; arguments and errors as of `learned_flow`."""
    if config.flow == "dis":
        return DISFlow(config.flow_preset)
    network = learned_flow(config, weights)
    return network if config.flow == "pwc" else RefinedFlow(network, config.flow_preset)


def learned_depth(config: NetworkConfig, weights: Weights | None = None) -> LearnedDepth:
    """The depth network of a configuration; arguments and errors as of `learned_flow`."""
    weights = (weights or load_weights(config.weights)).rgb()
    if weights.depth is None:
        raise UsageError(f"the weights '{config.weights}' hold no depth network; take --weights FILE with one")
    return LearnedDepth(weights.depth, config.device, size_of(weights.card, "depth"), config.network_size)


def learned_pose(config: NetworkConfig, weights: Weights | None = None) -> LearnedPose:
    """The pose network of a configuration; arguments and errors as of `learned_flow`."""
    weights = (weights or load_weights(config.weights)).rgb()
    if weights.pose is None:
        raise UsageError(f"the weights '{config.weights}' hold no pose network; take --weights FILE with one")
    size = size_of(weights.card, "pose")
    return LearnedPose(weights.pose, weights.flow, config.device, size, config.network_size)


def wants_network_depth(config: OdometryConfig) -> bool:
    """Whether a network is to predict depth where none is measured.

    Its unit is its own: a window that has metres by camera height or speed does without it.
    """
    metres = config.camera_height is not None or config.speed is not None
    return config.scale == "depth" and not (metres and config.window.frames)


@dataclass(frozen=True)
class Estimators:
    """What the odometry computes from images by itself.

    Attributes:
        flow: between two images.
        depth: of one image; None where depth is measured, or not wanted.
        pose: of two images; None where geometry or alignment finds it.
    """

    flow: FlowEstimator
    depth: DepthEstimator | None = None
    pose: PoseEstimator | None = None

    @classmethod
    def of(cls, config: OdometryConfig, measured_depth: bool = False) -> Estimators:
        """What a configuration asks for.

        Args:
            config: networks are loaded for the flows `pwc` and `pwc+dis`, the pose `posenet`, and for the scale `depth`
                without measured depth, as far as `wants_network_depth`.
            measured_depth: whether the frames carry depth.

        Raises:
            UsageError, TrianflowError: as of `learned_flow`.
        """
        wants_depth = wants_network_depth(config) and not measured_depth
        needs = "--scale depth without --depth DIR" if wants_depth else ""
        needs = "pose by a network" if config.pose == "posenet" else needs
        needs = needs if config.flow == "dis" else f"flow by {config.flow}"
        weights = None
        if needs:
            try:
                weights = load_weights(config.weights)
            except UsageError as error:
                raise UsageError(f"{needs} needs weights (--weights): {error}") from None
        flow = flow_of(config, weights)
        depth = learned_depth(config, weights) if wants_depth else None
        return cls(flow, depth, learned_pose(config, weights) if config.pose == "posenet" else None)

    @classmethod
    def pretrained(cls, weights: str, config: OdometryConfig) -> tuple[OdometryConfig, Estimators]:
        """The flow and the depth of weights, as far as they have them, with the configuration that uses both.

        The flow is `pwc+dis`, unless the configuration asks for `pwc`.

        Raises:
            UsageError, TrianflowError: as of `learned_flow`, where the weights hold neither.
        """
        loaded = load_weights(weights)
        changes = {"weights": str(weights)}
        if config.flow == "dis" and (loaded.flow is not None or loaded.depth is None):
            changes["flow"] = "pwc+dis"
        if loaded.depth is not None:
            changes["scale"] = "depth"
        config = config.model_copy(update=changes)
        flow = flow_of(config, loaded)
        return config, cls(flow, None if loaded.depth is None else learned_depth(config, loaded))

    def facts(self) -> dict[str, Any]:
        """Which networks there are, and how they run: for the report."""
        flow = self.flow.network if isinstance(self.flow, RefinedFlow) else self.flow
        networks = {"flow": flow, "depth": self.depth, "pose": self.pose}
        return {
            name: {"device": str(n.device), "precision": str(n.dtype).removeprefix("torch."), "threads": THREADS}
            for name, n in networks.items()
            if isinstance(n, (LearnedFlow, LearnedDepth, LearnedPose))
        }
