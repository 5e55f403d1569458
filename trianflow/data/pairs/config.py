"""Configuration of the training data: where the pairs come from and what is done to them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from trianflow.config import Settings

_MOST_PAIRS = 1_000_000  # of a synthetic source: the numbers of its pairs stay apart from those of the next seed

LONGEST_STRIDE = 6  # of synthetic drives


class PathSource(Settings):
    """Recorded frames; a pair is a frame and the one `stride` frames later."""

    path: str = Field(description="video, folder, dataset sequence or glob pattern; of folders: a source for each")
    exclude: tuple[str, ...] = Field((), description="of a pattern, folders to leave out: whole names in their paths")
    calib: str | None = Field(None, description="calibration file; default: the one found beside the frames")
    stride: PositiveInt = Field(1, description="frames from the first to the second image of a pair")
    start: int = Field(0, ge=0, description="first frame")
    end: int | None = Field(None, description="frame to stop before; default: all")
    poses: str | None = Field(None, description="trajectory (KITTI or TUM): true motion, in metres")
    depth: str | None = Field(None, description="folder of depth images or .npy files: true depth")
    depth_scale: float | None = Field(
        None, gt=0, description="stored depth units per metre; default: depth_scale of the calibration"
    )
    instances: str | None = Field(
        None, description="folder of instance masks: for every image a file or folder of its name, of any segmenter"
    )
    instance_layout: Literal["labels", "cityscapes", "kitti"] = Field(
        "labels", description="what the numbers in its files mean"
    )

    times: PositiveInt = Field(1, description="how often an epoch has its pairs: a few beside many from elsewhere")

    @model_validator(mode="after")
    def _holds_a_pair(self) -> PathSource:
        if self.end is not None and self.end <= self.start + self.stride:
            raise ValueError(f"start {self.start}, end {self.end} and stride {self.stride} leave no pair of frames")
        if self.depth_scale is not None and self.depth is None:
            raise ValueError("depth_scale without a depth folder")
        return self


class SyntheticSource(Settings):
    """Pairs of random synthetic scenes with exact truth."""

    synthetic: int = Field(gt=0, le=_MOST_PAIRS, description="number of pairs")
    seed: int = Field(0, ge=0, le=1_000_000, description="another seed gives other scenes")
    scene: Literal["room", "office"] | None = Field(
        None, description="office: desks full of things, from near; default: two thirds streets, the others rooms"
    )


class DriveSource(Settings):
    """Pairs or triples of random synthetic drives in streets, villages or the country, with exact truth and speeds."""

    drives: int = Field(gt=0, le=_MOST_PAIRS, description="number of pairs")
    seed: int = Field(0, ge=0, le=1_000_000, description="another seed gives other streets")
    stride: int = Field(1, ge=1, le=LONGEST_STRIDE, description="frames from the first to the second image")
    fps: float = Field(10.0, ge=8, le=100, description="frames a second, at 8 or 15 metres a second")
    movers: int = Field(3, ge=0, description="cars that drive, at most")
    scene: Literal["street", "village", "country"] = Field(
        "street",
        description="village: a narrow road between hedges, walls, trees and small houses;"
        " country: between slopes, meadows, fields and woods",
    )


class WarpedSource(Settings):
    """Pairs of real images and the same images warped by random flows, which are known exactly; no calibration."""

    warped: str = Field(description="video, folder or dataset sequence")
    pairs: PositiveInt | None = Field(None, description="number of pairs; default: one of every frame")
    seed: int = Field(0, ge=0, le=1_000_000, description="another seed gives other flows")
    motion: float = Field(0.2, gt=0, le=1, description="largest usual motion, share of the width")


def _kind(value: Any) -> str:
    for kind, source in (("synthetic", SyntheticSource), ("drives", DriveSource), ("warped", WarpedSource)):
        if kind in value if isinstance(value, dict) else isinstance(value, source):
            return kind
    return "path"


Source = Annotated[
    Annotated[PathSource, Tag("path")]
    | Annotated[SyntheticSource, Tag("synthetic")]
    | Annotated[DriveSource, Tag("drives")]
    | Annotated[WarpedSource, Tag("warped")],
    Discriminator(_kind),
]


def frames_of(source: Source) -> str | None:
    """Where the frames of a source lie; None of one that is rendered."""
    if isinstance(source, WarpedSource):
        return source.warped
    return source.path if isinstance(source, PathSource) else None


def _world(source: Source) -> tuple[str, int] | None:
    """What is rendered for a source: kind of scenes, seed."""
    if isinstance(source, SyntheticSource):
        return "office" if source.scene == "office" else "scenes", source.seed  # two thirds streets, the rest rooms
    return (source.scene, source.seed) if isinstance(source, DriveSource) else None


class DataConfig(Settings):
    """Pairs of frames for training and validation."""

    size: tuple[PositiveInt, PositiveInt] = Field((832, 256), description="width and height of the pairs, pixels")
    fit: Literal["stretch", "crop"] = Field(
        "stretch",
        description="stretch resizes each axis on its own; crop scales to cover and cuts a window (random in training)",
    )
    views: Literal[2, 3] = Field(2, description="3: the frame before the first as well, for photometric learning")
    speeds: bool = Field(
        False, description="read speeds.txt of prepared sequences, one a frame: the length of a motion in metres"
    )
    root: str | None = Field(None, description="folder from which relative paths of the sources start")
    train: tuple[Source, ...] = Field((), description="sources of the training pairs")
    val: tuple[Source, ...] = Field((), description="sources of the validation pairs")
    flip: float = Field(0.5, ge=0, le=1, description="probability of mirroring a training pair left to right")
    jitter: float = Field(
        0.2, ge=0, lt=1, description="strength of brightness, contrast, saturation and gamma changes; 0 is off"
    )
    grey: float = Field(
        0.0, ge=0, le=1, description="probability of taking the colours from a training pair: some cameras have none"
    )
    zoom: float = Field(
        1.0,
        ge=1,
        le=4,
        description="largest magnification of a random window of a training pair, as of a longer lens; 1 is off",
    )
    shadow: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability of random shadows on what the networks see of a training pair, for depth from true"
        " depth: they do not move with the scene",
    )
    blur: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability that the networks see a training pair as of a camera with up to three times fewer"
        " pixels: depth should not go by how fine a texture looks",
    )
    min_motion: float = Field(
        0.002,
        ge=0,
        lt=1,
        description="recorded pairs that move less are left out (median flow, share of the width); 0 keeps all",
    )
    cache: str | None = Field(
        None,
        description="folder for decoded frames and rendered pairs; without one only videos are cached, in runs/cache",
    )

    @model_validator(mode="after")
    def _synthetic_seeds_differ(self) -> DataConfig:
        train, val = ({key for s in part if (key := _world(s))} for part in (self.train, self.val))
        if train & val:
            raise ValueError(f"the synthetic seed {min(train & val)[1]} stands in train and in val: the same pairs")
        if self.views == 3 and any(isinstance(s, SyntheticSource) for s in (*self.train, *self.val)):
            raise ValueError("synthetic scenes have two views: take drives for three")
        if self.views == 3 and any(isinstance(s, WarpedSource) for s in (*self.train, *self.val)):
            raise ValueError("warped images make pairs, no triples: set views to 2")
        return self
