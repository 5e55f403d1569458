"""Configuration of a training run: data, networks, and the stages with their losses and schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from trianflow.config import Settings
from trianflow.data.pairs.config import DataConfig, PathSource, WarpedSource
from trianflow.systems.config import LossWeights, SystemConfig
from trianflow.systems.instance_config import InstanceConfig, InstanceWeights
from trianflow.systems.photometric_config import PhotometricConfig, PhotometricWeights

Network = Literal["flow", "depth"]


class Schedule(Settings):
    """How long a stage is, and how fast it learns."""

    epochs: float = Field(20, gt=0, description="length in passes over the data (paper: 20, 20, 10)")
    steps: PositiveInt | None = Field(None, description="length in steps, in place of epochs")
    lr: float = Field(1e-4, gt=0, description="learning rate of Adam (paper)")
    warmup: int = Field(0, ge=0, description="steps in which the rate rises to lr")
    lr_end: float = Field(1.0, gt=0, le=1, description="share of lr at the end, reached along a cosine; 1 is constant")

    def length(self, pairs: int, batch_size: int) -> int:
        """Steps of the stage with so many training pairs."""
        if self.steps is not None:
            return self.steps
        return max(1, round(self.epochs * max(1, pairs // batch_size)))

    def rate(self, step: int, length: int) -> float:
        """Learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        way = (step - self.warmup) / max(1, length - self.warmup)
        return self.lr * (self.lr_end + (1 - self.lr_end) * (1 + math.cos(math.pi * min(way, 1))) / 2)


class StageConfig(Schedule):
    """One stage of TrianFlow."""

    train: tuple[Network, ...] = Field(min_length=1, description="networks that learn; the others are frozen")
    losses: LossWeights
    shift: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="largest shift of second images, share of their size, for flow alone: motion that the data lack."
        " Every other pair has one, from the second quarter of the stage on, in which it grows",
    )

    @model_validator(mode="after")
    def _teaches(self) -> StageConfig:
        if not any(self.losses.model_dump().values()):
            raise ValueError("all losses have weight zero")
        if "flow" in self.train and not self.losses.reach_flow:
            raise ValueError("the flow network is to learn, but no loss reaches it")
        if "depth" in self.train and not self.losses.need_depth:
            raise ValueError("the depth network is to learn, but no loss looks at depth")
        if self.shift > 0 and self.losses.need_geometry:
            raise ValueError("shift is for flow alone: with it, camera and poses do not fit the images")
        return self

    def shift_at(self, way: float) -> float:
        """The largest shift after a share of the stage: flow that begins at nothing first learns what is near."""
        return self.shift * min(max(4 * way - 1, 0.0), 1.0)


class PhotometricStage(Schedule):
    """Photometric depth-pose learning: one stage in which all networks learn."""

    system: PhotometricConfig = PhotometricConfig()
    losses: PhotometricWeights = PhotometricWeights(smooth=1e-3)
    mask_after: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="share of the stage after which the auto-mask works: from nothing, it would hide what contradicts"
        " the depth and motion that the networks begin with, which then stay. 0 for trained weights (init)",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> PhotometricStage:
        self.system.require(self.losses)
        return self

    @property
    def train(self) -> tuple[str, ...]:
        """Networks that learn: pose and flow only where something teaches them."""
        pose = ("pose",) if self.system.alignment != "identity" else ()
        return ("depth", *pose, *(("flow",) if self.losses.flow > 0 else ()))


class InstanceStage(Schedule):
    """Insta-DM: one stage in which all networks learn."""

    system: InstanceConfig = InstanceConfig()
    losses: InstanceWeights = InstanceWeights()
    objects_after: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="share of the stage after which the motions of objects learn; until then their pixels are left out,"
        " as motions of their own before depth is known teach it that all is far. 0 for trained weights (init)",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> InstanceStage:
        self.system.require(self.losses)
        return self

    @property
    def train(self) -> tuple[str, ...]:
        """Networks that learn."""
        return ("depth", "pose", *(("objects",) if self.system.objects else ()))


AnyStage = StageConfig | PhotometricStage | InstanceStage

_FLOW = LossWeights(pixel=0.15, ssim=0.85, flow_smooth=10.0)


class Stages(Settings):
    """The stages in their order; null leaves one out. Defaults are the published KITTI odometry settings."""

    flow: StageConfig | None = StageConfig(train=("flow",), epochs=20, losses=_FLOW)
    depth: StageConfig | None = StageConfig(
        train=("depth",),
        epochs=20,
        losses=LossWeights(triangulation=1.0, depth_consistency=0.1, depth_smooth=1e-4),
    )
    joint: StageConfig | None = StageConfig(
        train=("flow", "depth"),
        epochs=10,
        losses=_FLOW.model_copy(
            update={
                "epipolar": 0.002,
                "rigid_flow": 0.01,
                "triangulation": 0.1,
                "depth_consistency": 0.01,
                "depth_smooth": 1e-4,
            }
        ),
    )

    def listed(self) -> list[tuple[str, StageConfig]]:
        """Names and settings of the stages that are to run."""
        stages = [(name, getattr(self, name)) for name in type(self).model_fields]
        return [(name, stage) for name, stage in stages if stage is not None]


class TrainConfig(Settings):
    """A training run. Defaults are the published settings where there are any."""

    data: DataConfig = DataConfig()
    system: SystemConfig = SystemConfig()
    stages: Stages = Stages()
    photometric: PhotometricStage | None = Field(
        None, description="learn depth and pose photometrically, in place of system and stages"
    )
    instance: InstanceStage | None = Field(
        None, description="learn with the motions of objects (Insta-DM), in place of system and stages"
    )
    init: str | None = Field(None, description="weights to begin with: a name or a .safetensors file")
    batch_size: PositiveInt = Field(8, description="pairs of a step, over all processes (paper)")
    workers: int = Field(4, ge=0, description="processes that load data, for each training process")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto",
        description="of the networks; auto is bf16-mixed where the processor multiplies in it, else 32-true: a run that"
        " goes on elsewhere takes what is best there, and is the same to the bit on one machine only",
    )
    clip: float = Field(10.0, gt=0, description="largest norm of the gradient; the published code has no limit")
    max_skipped: PositiveInt = Field(10, description="steps in a row without a finite gradient that end the run")
    log_every: PositiveInt = Field(20, description="steps between two rows of metrics.csv")
    val_every: PositiveInt = Field(1000, description="steps between two validations")
    val_pairs: PositiveInt = Field(200, description="validation pairs that are used, evenly spread")
    save_every: PositiveInt = Field(200, description="steps between two checkpoints: what a killed run loses")
    seed: int = Field(0, ge=0, description="of weights, order, augmentation and matches")
    accelerator: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="what computes; auto is a GPU if there is one"
    )
    devices: PositiveInt = Field(1, description="processes of a machine; torchrun overrides it")
    nodes: PositiveInt = Field(1, description="machines")

    @model_validator(mode="after")
    def _has_views(self) -> TrainConfig:
        if self.photometric is not None and self.instance is not None:
            raise ValueError("photometric and instance are two methods: give one of them")
        if self.photometric is None and self.data.views > 2:
            raise ValueError("data.views 3 is for photometric: other methods learn from pairs")
        if (method := self.photometric) is not None:
            recorded = all(isinstance(source, PathSource) for source in self.data.train)
            if method.losses.velocity > 0 and recorded and not self.data.speeds:
                raise ValueError("losses.velocity needs to know how fast the camera was: set data.speeds")
            if method.system.pose == "flow" and method.losses.flow == 0 and self.init is None:
                raise ValueError("pose: flow has no flow to learn from: give losses.flow a weight, or init")
        return self

    @model_validator(mode="after")
    def _has_truth(self) -> TrainConfig:
        losses, sources = [stage.losses for stage in self._own_stages()], self.data.train
        if any(x.truth > 0 for x in losses) and all(isinstance(source, PathSource) for source in sources):
            raise ValueError("losses.truth needs true flow: give data.train a source synthetic, drives or warped")
        unknown = [isinstance(s, WarpedSource) or (isinstance(s, PathSource) and s.depth is None) for s in sources]
        if any(x.depth_truth > 0 for x in losses) and all(unknown):
            raise ValueError("losses.depth_truth needs true depth: give a source one, or take synthetic or drives")
        if any(x.need_geometry for x in losses) and any(isinstance(source, WarpedSource) for source in sources):
            raise ValueError("warped images have no camera: take them in a run whose losses need no geometry")
        return self

    def _own_stages(self) -> list[StageConfig]:
        """The stages of TrianFlow that are to run."""
        return [stage for _, stage in self.stages.listed()] if self.method is None else []

    @property
    def method(self) -> PhotometricStage | InstanceStage | None:
        """The method that stands in place of TrianFlow, if one does."""
        return self.photometric or self.instance

    def listed_stages(self) -> Sequence[tuple[str, AnyStage]]:
        """Names and settings of the stages that are to run."""
        if self.method is None:
            return self.stages.listed()
        return [("instance" if self.photometric is None else "photometric", self.method)]

    def used(self, stage: str) -> set[str]:
        """The networks that learn in a stage and those before it, and the flow where it teaches depth."""
        found: set[str] = set()
        for name, part in self.listed_stages():
            found |= set(part.train)
            if isinstance(part, StageConfig) and part.losses.need_flow:
                found.add("flow")
            if name == stage:
                break
        return found
