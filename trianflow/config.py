"""Typed configuration: pydantic models read from YAML and `key=value`, in which a wrong key is an error with a hint."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator
from pydantic_core import ErrorDetails

from trianflow.errors import UsageError


class Settings(BaseModel):
    """Base of all configurations: immutable, and unknown keys are refused.

    Attributes:
        whole: a mapping in a file is all there is: what it does not name has the default of its class, not that of the
            place where it stands.
    """

    whole: ClassVar[bool] = False
    model_config = ConfigDict(extra="forbid", frozen=True)


class TwoViewConfig(Settings):
    """The two-view solver. Lengths are pixels."""

    threshold: float = Field(1.5, gt=0, description="largest Sampson distance of an inlier")
    hypotheses: int = Field(
        320, ge=32, description="eight-point samples; a quarter as many for a homography, an eighth for a rotation"
    )
    subset: int = Field(512, ge=64, description="matches that judge the hypotheses")
    candidates: int = Field(8, ge=1, le=16, description="hypotheses that are locally optimised")
    local_steps: tuple[PositiveInt, PositiveInt] = Field(
        (3, 3), description="Gauss-Newton steps of a candidate, coarse then fine"
    )
    final_steps: tuple[PositiveInt, ...] = Field(
        (3, 3), min_length=1, description="Gauss-Newton steps on all matches, the noise measured anew before each group"
    )
    noise_floor: float = Field(
        0.25,
        ge=0,
        description="smallest noise that model selection believes in: what a dense flow errs coherently",
    )


class MatchConfig(Settings):
    """Dense flow to matches."""

    count: int = Field(6000, ge=8, description="matches of a pair (paper: 6000)")
    ratio: float = Field(0.3, gt=0, le=1, description="share of the pixels that qualify, by score (paper: 0.2)")
    cell: int = Field(32, ge=4, description="side of the cells that give equally many matches, pixels")
    stride: int = Field(
        4, ge=1, description="every n-th row and column is scored at most; more of a small image, to choose from"
    )
    refine: bool = Field(True, description="bring matches to a fraction of a pixel by aligning patches of the images")
    alpha: float = Field(3.0, gt=0, description="forward-backward difference of a consistent pixel, pixels (paper)")
    beta: float = Field(0.05, ge=0, description="the same as a share of the flow's length (paper)")

    def stride_for(self, height: int, width: int) -> int:
        """The stride at which well over `count` pixels of an image qualify, so that they can be spread evenly."""
        return max(1, min(self.stride, math.isqrt(int(height * width * self.ratio / (1.4 * self.count)))))


class NetworkConfig(Settings):
    """The networks, where one is used."""

    weights: str = Field("driving", description="name of bundled weights, or a .safetensors file")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto is CUDA where there is one")
    network_size: tuple[PositiveInt, PositiveInt] | None = Field(
        None,
        description="width and height to work at (default: about the area the weights were trained at, never more than"
        " the image has)",
    )


class WindowConfig(Settings):
    """Key frames that are adjusted together."""

    frames: int = Field(8, ge=0, description="key frames adjusted together; 0: each pair by itself")
    points: int = Field(400, ge=50, description="points tracked through them")
    noise: float = Field(0.15, gt=0, description="of a tracked point whose patches align, pixels")
    radial_sigma: float = Field(
        0.01, ge=0, description="radial distortion that a calibration may have left, in focal lengths; 0: none"
    )


class OdometryConfig(NetworkConfig):
    """Frames to trajectory."""

    flow: Literal["dis", "pwc", "pwc+dis"] = Field(
        "dis", description="optical flow: OpenCV's DIS, the network, or the network's carried on by DIS"
    )
    flow_preset: Literal["ultrafast", "fast", "medium"] = Field("medium", description="effort of DIS")
    matches: MatchConfig = MatchConfig()
    two_view: TwoViewConfig = TwoViewConfig()
    pose: Literal["geometry", "direct", "posenet"] = Field(
        "geometry",
        description="two-view geometry; direct alignment, where there is depth; or the pose network of the weights",
    )
    scale: Literal["auto", "depth", "structure", "unit"] = Field(
        "auto",
        description="where the length of a step comes from; auto is measured depth alone where it is at hand, else"
        " structure; depth is measured depth in the window, else that of the network fused with what it carries",
    )
    points: int = Field(3000, ge=50, description="points of the structure that is carried from pair to pair")
    window: WindowConfig = WindowConfig()
    key_parallax: float = Field(
        0.01, gt=0, description="parallax of near points that makes a new key frame, share of the width"
    )
    key_motion: float = Field(0.08, gt=0, description="displacement that makes a new key frame, share of the width")
    key_overlap: float = Field(
        0.6,
        gt=0,
        le=1,
        description="share of the image, and of what its triangulated points know of depth, that keeps a key frame",
    )
    depth_noise: float = Field(0.03, gt=0, description="error of measured depth, share of the depth")
    learned_depth_noise: float = Field(0.15, gt=0, description="error of the network's depth, share of the depth")
    pnp_threshold: float = Field(2.0, gt=0, description="reprojection error of an inlier, pixels")
    camera_height: float | None = Field(
        None, gt=0, description="of a car's camera over the road, metres: gives the trajectory metres"
    )
    speed: str | None = Field(None, description="file of the car's speed, or OXTS folder: gives the trajectory metres")
    loops: bool = Field(False, description="close loops")
    seed: int = Field(0, ge=0, description="of everything drawn at random")

    @model_validator(mode="after")
    def _has_one_unit(self) -> OdometryConfig:
        if self.scale == "unit" and (self.camera_height is not None or self.speed is not None):
            raise ValueError("scale unit gives every step the same length: leave it out for metres")
        return self

    @classmethod
    def preset(cls, name: str) -> OdometryConfig:
        """`accurate` (the default) or `fast` (real time on two cores at KITTI's size)."""
        if name == "accurate":
            return cls()
        if name == "fast":
            return cls(
                flow_preset="ultrafast",
                matches=MatchConfig(count=2000),
                two_view=TwoViewConfig(
                    hypotheses=160, subset=384, candidates=8, local_steps=(2, 2), final_steps=(2, 2)
                ),
                points=1200,
                window=WindowConfig(frames=6, points=200),
            )
        raise UsageError(f"unknown preset '{name}': take accurate or fast")


S = TypeVar("S", bound=Settings)
_BASE = "base"  # key of the file that a file is based on
_LONGEST_VALUE = 60  # characters of a wrong value that are shown
# of errors that pydantic finds, by their kind: what the value is not, or what is wrong with it
_NOT_OF_KIND = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "model": "a group of settings",
}
_OUT_OF_RANGE = {
    "greater_than": "is not above {gt:g}",
    "greater_than_equal": "is below {ge:g}",
    "less_than": "is not below {lt:g}",
    "less_than_equal": "is above {le:g}",
    "literal_error": "is unknown; take {expected}",
}
_WITHOUT_VALUE = {
    "missing": "missing",
    "too_short": "{actual_length} values, where at least {min_length} are needed",
    "too_long": "{actual_length} values, where at most {max_length} are taken",
    "value_error": "{error}",
}


def load_settings(base: S, file: str | Path | None = None, overrides: Iterable[str] = ()) -> S:
    """`base` with the values of a YAML file and of `key=value` words, dotted keys reaching inside.

    What is not given stays as in `base`, but for mappings in a file that are given as a whole (`Settings.whole`).
    A file may name another with `base: other.yaml`, from its own folder on: it has the values of that one, and its own
    in their place.

    Raises:
        UsageError: unknown key (with the nearest right one), wrong value, unreadable file.
    """
    values = {} if file is None else _read_file(type(base), Path(file), ())
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"'{word}' is not of the form key=value")
        place = values
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UsageError(f"'{key}': {parent} is a single value, not a group")
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"'{word}': {text!r} is not a value") from error
    _refuse_unknown(type(base), values, "")
    try:
        return type(base).model_validate(_merge(base.model_dump(), values))
    except ValidationError as error:
        raise UsageError(f"configuration: {_complaint(error.errors()[0])}") from error


def _read_file(model: type[BaseModel], file: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The values of a file and of those that it is based on; `above` are the files that are based on it."""
    try:
        values = yaml.safe_load(file.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        wanted = f", the base of {above[-1]}" if above else ""
        raise UsageError(f"cannot read the configuration {file}{wanted}: {_reason(error)}") from error
    if not isinstance(values, dict):
        raise UsageError(f"the configuration {file} is not a mapping of keys to values")
    name = values.pop(_BASE, None)
    _complete(model, values)
    if name is None:
        return values
    if not isinstance(name, str):
        raise UsageError(f"the configuration {file}: {_BASE} names another YAML file, not {name!r}")
    below = file.parent / name
    chain = (*above, file)
    if below.resolve() in {path.resolve() for path in chain}:
        raise UsageError(f"the configuration {file} is based on itself: {' -> '.join(map(str, (*chain, below)))}")
    return _merge(_read_file(model, below, chain), values)


def _complaint(found: ErrorDetails) -> str:
    """What pydantic found, in one line."""
    # of a list, the kind of an item stands behind its number: data.train, 0, path, stride is data.train[0].stride
    parts = [part for before, part in zip((None, *found["loc"]), found["loc"]) if not isinstance(before, int)]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    kind, limits, value = found["type"], found.get("ctx", {}), found["input"]
    text = "null" if value is None else repr(value)
    text = text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
    if kind in _WITHOUT_VALUE:
        words = _WITHOUT_VALUE[kind].format(**limits)
    elif kind in _OUT_OF_RANGE:
        words = f"{text} {_OUT_OF_RANGE[kind].format(**limits)}"
    elif (wanted := _NOT_OF_KIND.get(kind.split("_")[0])) is not None:
        words = f"{text} is not {wanted}"
    else:
        words = f"{found['msg']} (got {text})"
    return f"{place}: {words}" if place else words


def _reason(error: Exception) -> str:
    """Why a file is no YAML, with the place, or cannot be read."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return "it is not text" if isinstance(error, UnicodeDecodeError) else str(error).splitlines()[0]


def _complete(model: type[BaseModel], values: dict[str, Any]) -> None:
    """Fill in, in place, what mappings that are given as a whole do not name."""
    for key, value in values.items():
        if not isinstance(value, dict) or key not in model.model_fields:
            continue
        for inner in _models_in(model.model_fields[key].annotation):
            if issubclass(inner, Settings) and inner.whole:
                values[key] = inner().model_dump() | value
            else:
                _complete(inner, value)


def _merge(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in values.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


def _refuse_unknown(model: type[BaseModel], values: dict[str, Any], prefix: str) -> None:
    for key, value in values.items():
        if key not in model.model_fields:
            near = _nearest(model, key)
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known: {', '.join(model.model_fields)}"
            raise UsageError(f"configuration: unknown key '{prefix}{key}'; {hint}")
        inner = _models_in(model.model_fields[key].annotation)
        for number, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, dict) and inner:
                place = f"{prefix}{key}[{number}]." if isinstance(value, list) else f"{prefix}{key}."
                # of several kinds, the one that knows the most keys, or such as they are spelt, is meant
                _refuse_unknown(max(inner, key=lambda kind: _familiarity(kind, item)), item, place)


def _familiarity(model: type[BaseModel], values: dict[str, Any]) -> int:
    """How well a model knows keys: two for one that it has, one for one that it nearly has."""
    return sum((key in model.model_fields) + bool(_nearest(model, key)) for key in values)


def _nearest(model: type[BaseModel], key: Any) -> list[str]:
    """The key of a model that is the most like this one, if any is."""
    return difflib.get_close_matches(str(key), model.model_fields, 1, 0.5)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type mentions: itself, or those inside of `X | None`, `tuple[X, ...]`, `Annotated`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
