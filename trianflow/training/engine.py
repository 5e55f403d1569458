"""The engine under training: the networks, and Lightning Fabric with our own idea of what autocast is for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from lightning.fabric.strategies import DDPStrategy
from torch import Tensor, nn

from trianflow.data.pairs.batch import PairBatch
from trianflow.errors import UsageError
from trianflow.inference import choose_precision, keep_freed_memory
from trianflow.systems.config import LossWeights
from trianflow.systems.instance import InstaDM
from trianflow.systems.instance_config import InstanceWeights
from trianflow.systems.photometric import Photometric
from trianflow.systems.photometric_config import PhotometricWeights
from trianflow.systems.result import StepResult
from trianflow.systems.trianflow import TrianFlow
from trianflow.training.config import InstanceStage, TrainConfig

# One process of a machine reads all data for the first time, or validates, while the others wait for it.
_PATIENCE = timedelta(hours=6)

AnySystem = TrianFlow | Photometric | InstaDM
AnyWeights = LossWeights | PhotometricWeights | InstanceWeights


class _Autocast(MixedPrecision):
    """Mixed precision that leaves images and intrinsics as they are: only the networks run in few bits."""

    def convert_input(self, data: Any) -> Any:
        return data

    def convert_output(self, data: Any) -> Any:
        return data


class TrainingStep(nn.Module):
    """A system as the engine takes it: a batch in, the loss out; the rest of the result is kept aside."""

    def __init__(self, system: AnySystem) -> None:
        super().__init__()
        self.system = system
        self.result: StepResult | None = None

    def forward(self, batch: PairBatch, weights: AnyWeights, seed: int) -> Tensor:
        """The total loss of a batch."""
        self.result = self.system(batch, weights, seed)
        return self.result.total


def untrained_system(config: TrainConfig) -> AnySystem:
    """The networks of a run, as its seed draws them."""
    torch.manual_seed(config.seed)
    method = config.method
    if method is None:
        return TrianFlow(config.system)
    return InstaDM(method.system) if isinstance(method, InstanceStage) else Photometric(method.system)


def let_learn(system: AnySystem, names: Sequence[str]) -> None:
    """Let these networks of a system learn, and freeze the others, their statistics too."""
    for name, network in system.named_children():
        network.requires_grad_(name in names).train(name in names)


def _accelerator(config: TrainConfig) -> str:
    if config.accelerator != "auto":
        return config.accelerator
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_training_precision(config: TrainConfig) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """The precision of the configuration; for `auto` what is fast on this machine."""
    if config.precision != "auto":
        return config.precision
    native = choose_precision(torch.device(_accelerator(config))) == torch.bfloat16
    return "bf16-mixed" if native else "32-true"


def make_fabric(config: TrainConfig) -> Fabric:
    """The engine for this machine: one process, or as many as the configuration or torchrun says.

    Raises:
        UsageError: a GPU is asked for where there is none.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", config.devices))
    nodes = max(int(os.environ.get("WORLD_SIZE", local * config.nodes)) // local, 1)
    accelerator = _accelerator(config)
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise UsageError("accelerator=cuda, but torch sees no GPU: set accelerator=auto, or install torch with CUDA")
    if accelerator == "cpu":
        keep_freed_memory()
    precision = choose_training_precision(config)
    plugins: list[Any] = [] if precision == "32-true" else [_Autocast(precision, accelerator)]
    return Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=nodes,
        strategy=DDPStrategy(timeout=_PATIENCE) if local * nodes > 1 else "auto",
        plugins=plugins or None,
    )


def scaler_of(fabric: Fabric) -> Any:
    """The scaler of the gradients with float16; None otherwise."""
    return getattr(fabric.strategy.precision, "scaler", None)
