"""Flow files against their truth: the errors of all of them, and what could not be scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.flow import ErrorMaps, GroupError, enlarged, error_maps, group_errors
from trianflow.evaluation.flow_truth import TrueFlow, TrueFlows, files_below, read_motion

# Edges of the bins that errors are counted in, pixels; what is larger counts in the last bin.
HISTOGRAM = np.concatenate([[0.0], np.logspace(-2, 3, 251)])


@dataclass
class FlowScores:
    """How one set of predictions did.

    Attributes:
        path: where it lies.
        errors: by image and group.
        histogram: number of pixels by error, bins of `HISTOGRAM`; the last one holds unknown estimates too.
        problems: what could not be scored and why, one line each.
        notes: what a reader of the figures must know, one line each.
    """

    path: Path
    errors: dict[str, dict[str, GroupError]] = field(default_factory=dict)
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(len(HISTOGRAM), np.int64))
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def score_flows(
    truth: TrueFlows, predictions: Mapping[str, str | Path], done: Callable[[str], None] = lambda name: None
) -> dict[str, FlowScores]:
    """Score sets of predictions; a file that is missing or damaged is a problem of its set, the rest is scored.

    Args:
        truth: of `flow_truth.open_true_flows`.
        predictions: by name: a folder with files named as the truth (other sizes are enlarged), or for one image one
            file.
        done: called with the name of each image after it was scored.

    Returns:
        By name of the set.

    Raises:
        UsageError: no such path, or one file for several images.
    """
    found = {name: _predictions(Path(path).expanduser(), truth) for name, path in predictions.items()}
    scores = {name: FlowScores(Path(path)) for name, path in predictions.items()}
    other_sizes: dict[str, list[str]] = {name: [] for name in predictions}
    for image in truth.images:
        for name, text in _score_image(truth, image, found, scores).items():
            other_sizes[name].append(text)
        done(image.name)
    for name, score in scores.items():
        _note(score, other_sizes[name])
    return scores


def _score_image(
    truth: TrueFlows, image: TrueFlow, found: Mapping[str, Mapping[str, Path]], scores: Mapping[str, FlowScores]
) -> dict[str, str]:
    """Add the errors of an image, or why there are none, to the scores of all sets; a note for those of other sizes."""
    try:
        true, moving = image.read()
    except TrianflowError as error:
        for score in scores.values():
            score.problems.append(f"truth {error}; {image.name} is not scored")
        return {}
    if not np.isfinite(true.flow_ab).any():
        for score in scores.values():
            score.problems.append(f"truth {image.file}: not one pixel is known; {image.name} is not scored")
        return {}
    height, width = true.flow_ab.shape[:2]
    other_sizes = {}
    for name, score in scores.items():
        file = _file_of(image, found[name])
        if file is None:
            suffix = ".png" if truth.disparity else ".png or .flo"
            score.problems.append(f"{score.path / image.name}{suffix}: missing, so the image is not scored")
            continue
        try:
            flow = read_motion(file, truth.disparity)
        except TrianflowError as error:
            score.problems.append(f"{error}; not scored: write it again")
            continue
        if flow.shape != true.flow_ab.shape:
            other_sizes[name] = "{}: {}x{} enlarged to {}x{}".format(file, *flow.shape[1::-1], width, height)
        maps = error_maps(enlarged(flow, width, height), true.flow_ab)
        score.errors[image.name] = group_errors(maps, true.visible, moving)
        counted = np.minimum(maps.error[~np.isnan(maps.error)], HISTOGRAM[-1])
        score.histogram += np.bincount(np.searchsorted(HISTOGRAM, counted, "right") - 1, minlength=len(HISTOGRAM))
    return other_sizes


def error_maps_of(truth: TrueFlows, image: str, prediction: str | Path) -> ErrorMaps:
    """The errors by pixel of an image that has been scored.

    Args:
        truth: of `flow_truth.open_true_flows`.
        image: its name.
        prediction: the set, as for `score_flows`.

    Raises:
        TrianflowError: a file that could be read then cannot be now.
    """
    true = next(i for i in truth.images if i.name == image)
    file = _file_of(true, _predictions(Path(prediction).expanduser(), truth))
    if file is None:
        raise TrianflowError(f"{prediction}: the prediction of {image} has gone")
    flow_ab = true.read()[0].flow_ab
    return error_maps(enlarged(read_motion(file, truth.disparity), flow_ab.shape[1], flow_ab.shape[0]), flow_ab)


def _file_of(image: TrueFlow, files: Mapping[str, Path]) -> Path | None:
    return next((files[name] for name in image.names if name in files), None)


def _note(score: FlowScores, other_sizes: Sequence[str]) -> None:
    if other_sizes:
        more = f", and {len(other_sizes) - 1} more" if len(other_sizes) > 1 else ""
        score.notes.append(f"{other_sizes[0]}{more}")
    groups = [image["all"] for image in score.errors.values()]
    pixels, estimated = sum(g.pixels for g in groups), sum(g.estimated for g in groups)
    if estimated < pixels:
        score.notes.append(
            f"{100 * (1 - estimated / pixels):.3g} % of the pixels have no estimate: the mean error is without them,"
            " and they count as outliers"
        )


def _predictions(path: Path, truth: TrueFlows) -> dict[str, Path]:
    """The files of one set by name."""
    if path.is_file():
        if len(truth.images) > 1:
            raise UsageError(f"{path}: one file for {len(truth.images)} images: name the folder of the predictions")
        return {truth.images[0].name: path}
    if not path.is_dir():
        raise UsageError(f"{path}: no such file or folder of predictions")
    return files_below(path, truth.disparity)
