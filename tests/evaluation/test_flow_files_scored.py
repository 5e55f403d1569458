"""Files of flow matched to their truth and scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.data.datasets.kitti_flow import KITTI_2012, KITTI_2015, KittiFlowFolder
from trianflow.data.flow_files import write_flow
from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.flow import GroupError
from trianflow.evaluation.flow_files import HISTOGRAM, FlowScores, error_maps_of, score_flows
from trianflow.evaluation.flow_table import comparable_rows, flow_figures, flow_table
from trianflow.evaluation.flow_truth import TrueFlows, open_true_flows
from trianflow.evaluation.table import Row

W, H = 30, 12


def truth(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).integers(-600, 600, (H, W, 2)) / 64).astype(np.float32)


def save_flow(path: Path, flow: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_flow(path, flow)


def save_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def write_kitti(root: Path, scenes: int) -> None:
    """Column 0 is unknown, the last five are occluded, rows 2 to 4 move."""
    for i in range(scenes):
        flow = truth(i)
        flow[:, 0] = np.nan
        save_flow(root / "training" / "flow_occ" / f"{i:06d}_10.png", flow)
        flow[:, -5:] = np.nan
        save_flow(root / "training" / "flow_noc" / f"{i:06d}_10.png", flow)
        objects = np.zeros((H, W), np.uint8)
        objects[2:5] = 1
        save_png(root / "training" / "obj_map" / f"{i:06d}_10.png", objects)


def test_kitti_by_group(tmp_path: Path) -> None:
    write_kitti(tmp_path / "gt", 2)
    for i in range(2):
        flow = truth(i)
        flow[:, -5:, 0] += 10
        flow[2:5, :-5, 1] += 2
        save_flow(tmp_path / "pred" / f"{i:06d}_10.png", flow)
    true = open_true_flows(tmp_path / "gt")
    assert true.label.startswith("KITTI 2015")
    assert [i.name for i in true.images] == ["000000_10", "000001_10"]
    score = score_flows(true, {"mine": tmp_path / "pred"})["mine"]
    assert score.problems == score.notes == []
    for errors in score.errors.values():
        assert {name: group.pixels for name, group in errors.items()} == {
            "all": 29 * 12,
            "noc": 24 * 12,
            "occ": 5 * 12,
            "moving": 29 * 3,
            "static": 29 * 9,
        }
        assert errors["noc"].epe == pytest.approx(2 * 3 / 12)
        assert errors["occ"].epe == pytest.approx(10)
        assert errors["static"].epe == pytest.approx(10 * 5 / 29)
        assert (errors["noc"].outliers, errors["occ"].outliers) == (0, 1)
    assert score.histogram.sum() == 2 * 29 * 12
    bins = np.flatnonzero(score.histogram)
    assert [HISTOGRAM[b] <= e < HISTOGRAM[b + 1] for b, e in zip(bins, (0, 2, 10))] == [True] * 3
    maps = error_maps_of(true, "000001_10", tmp_path / "pred")
    assert np.nanmax(maps.error) == 10


def test_names_that_predictions_may_have(tmp_path: Path) -> None:
    write_kitti(tmp_path / "gt", 1)
    true = open_true_flows(tmp_path / "gt")
    for name in ("000000_10.png", "000000_10.flo", "000000.flo"):
        folder = tmp_path / name
        save_flow(folder / name, truth(0))
        save_png(folder / "000000_10_color.png", np.zeros((H, W, 3), np.uint8))
        assert score_flows(true, {"x": folder})["x"].errors["000000_10"]["all"].epe == 0
    assert score_flows(true, {"x": tmp_path / "000000.flo" / "000000.flo"})["x"].errors


def test_sintel_with_its_masks(tmp_path: Path) -> None:
    training = tmp_path / "training"
    for scene in ("alley_1", "market_2"):
        save_flow(training / "flow" / scene / "frame_0001.flo", truth(1))
        occluded, invalid = np.zeros((2, H, W), np.uint8)
        occluded[:, :4] = 255
        invalid[:, -2:] = 255
        save_png(training / "occlusions" / scene / "frame_0001.png", occluded)
        save_png(training / "invalid" / scene / "frame_0001.png", invalid)
    flow = truth(1)
    flow[:, :4, 0] += 1
    flow[:, -2:] += 100
    save_flow(tmp_path / "pred" / "alley_1" / "frame_0001.flo", flow)
    true = open_true_flows(tmp_path)
    assert [i.name for i in true.images] == ["alley_1/frame_0001", "market_2/frame_0001"]
    score = score_flows(true, {"x": tmp_path / "pred"})["x"]
    errors = score.errors["alley_1/frame_0001"]
    assert errors["all"].pixels == 28 * H
    assert errors["occ"].epe == pytest.approx(1, abs=1e-5)
    assert errors["noc"].epe == 0
    assert len(score.problems) == 1
    assert "market_2/frame_0001" in score.problems[0]
    (training / "occlusions" / "alley_1" / "frame_0001.png").unlink()
    problems = score_flows(true, {"x": tmp_path / "pred"})["x"].problems
    assert "occlusions/alley_1/frame_0001.png" in problems[0]


def test_archives_that_were_unpacked_are_no_hindrance(tmp_path: Path) -> None:
    save_flow(tmp_path / "training" / "flow" / "alley_1" / "frame_0001.flo", truth(0))
    (tmp_path / "MPI-Sintel-complete.zip").write_bytes(b"PK")
    assert open_true_flows(tmp_path).images[0].name == "alley_1/frame_0001"
    save_flow(tmp_path / "hd1k" / "flow_occ" / "000000_0010.png", truth(0))
    assert open_true_flows(tmp_path / "hd1k").kitti is None


def test_middlebury_folders(tmp_path: Path) -> None:
    flow = truth(0)
    flow[0] = np.nan
    save_flow(tmp_path / "gt" / "RubberWhale" / "flow10.flo", flow)
    save_flow(tmp_path / "pred" / "RubberWhale.flo", truth(0))
    true = open_true_flows(tmp_path / "gt")
    errors = score_flows(true, {"x": tmp_path / "pred"})["x"].errors["RubberWhale/flow10"]
    assert (errors["all"].pixels, errors["all"].epe) == ((H - 1) * W, 0)
    assert list(errors) == ["all"]


def test_other_sizes_are_enlarged_and_noted(tmp_path: Path) -> None:
    constant = np.full((H, W, 2), (4.0, -2.0), np.float32)
    save_flow(tmp_path / "gt.flo", constant)
    save_flow(tmp_path / "small.flo", np.full((H // 2, W // 3, 2), (4 / 3, -1), np.float32))
    score = score_flows(open_true_flows(tmp_path / "gt.flo"), {"x": tmp_path / "small.flo"})["x"]
    assert score.errors["gt"]["all"].epe == pytest.approx(0, abs=1e-6)
    assert "10x6 enlarged to 30x12" in score.notes[0]


def test_missing_and_damaged_files_are_named_and_the_rest_is_scored(tmp_path: Path) -> None:
    write_kitti(tmp_path / "gt", 5)
    for i in (0, 1, 3, 4):
        save_flow(tmp_path / "pred" / f"{i:06d}_10.png", truth(i))
    file = tmp_path / "pred" / "000001_10.png"
    file.write_bytes(file.read_bytes()[:-30])
    (tmp_path / "gt" / "training" / "flow_noc" / "000003_10.png").write_bytes(b"")
    save_png(tmp_path / "gt" / "training" / "obj_map" / "000004_10.png", np.zeros((H, W - 1), np.uint8))
    score = score_flows(open_true_flows(tmp_path / "gt"), {"x": tmp_path / "pred"})["x"]
    assert list(score.errors) == ["000000_10"]
    damaged, missing, truth_noc, objects = score.problems
    assert "000001_10.png: truncated" in damaged
    assert "000002_10.png or .flo: missing" in missing
    assert "flow_noc/000003_10.png: the file is empty" in truth_noc
    assert "obj_map/000004_10.png" in objects


def test_unknown_estimates_are_noted(tmp_path: Path) -> None:
    save_flow(tmp_path / "gt.flo", truth(0))
    flow = truth(0)
    flow[:3] = np.nan
    save_flow(tmp_path / "pred.flo", flow)
    score = score_flows(open_true_flows(tmp_path / "gt.flo"), {"x": tmp_path / "pred.flo"})["x"]
    assert (score.errors["gt"]["all"].epe, score.errors["gt"]["all"].outliers) == (0, 0.25)
    assert score.notes == [
        "25 % of the pixels have no estimate: the mean error is without them, and they count as outliers",
    ]
    assert score.histogram[-1] == 3 * W
    table = flow_table({"x": score}, "images", median=True)
    assert [c.key for c in table.columns] == ["images", "density", "epe_all", "fl_all"]
    assert table.rows[0].values["density"] == table.rows[1].values["density"] == 75
    save_flow(tmp_path / "pred.flo", truth(0) * np.nan)
    score = score_flows(open_true_flows(tmp_path / "gt.flo"), {"x": tmp_path / "pred.flo"})["x"]
    assert score.notes[0].startswith("100 % of the pixels have no estimate")
    save_flow(tmp_path / "gt.flo", truth(0) * np.nan)
    assert "not one pixel" in score_flows(open_true_flows(tmp_path / "gt.flo"), {"x": tmp_path})["x"].problems[0]


def test_papers_stand_only_beside_what_was_computed_alike() -> None:
    def score(images: int = 200, estimated: int = 10) -> FlowScores:
        known, some = GroupError(10, 10, 1.0, 0.1), GroupError(10, estimated, 0.1, 0.1)
        return FlowScores(Path("x"), {str(i): {"all": some if i == 7 else known} for i in range(images)})

    kitti, older = (TrueFlows("", (), KittiFlowFolder(Path("x"), edition)) for edition in (KITTI_2015, KITTI_2012))
    (best, *others) = comparable_rows(kitti, [score(), score()], "images")
    assert (best.name, best.values["epe_all"]) == ("TrianFlow", 5.72)
    assert len(comparable_rows(kitti, [score()], "images", "all")) > len(others) + 1
    assert comparable_rows(kitti, [score()], "images", "none") == []
    for truth_of, scores, protocol in (
        (older, [score()], "images"),
        (TrueFlows("", ()), [score()], "images"),
        (kitti, [score()], "pixels"),
        (kitti, [score(), score(images=199)], "images"),
        (kitti, [score(), score(estimated=9)], "images"),
    ):
        assert comparable_rows(truth_of, scores, protocol) == []
    disparities = replace(kitti, disparity=True)
    first, *_ = comparable_rows(disparities, [score()], "pixels")  # as KITTI defines D1; the paper does not say
    assert first.values["d1_all"] == 27.4
    assert first.source.endswith("table 3 (averaging not stated)")
    assert comparable_rows(disparities, [score()], "images") == []
    assert comparable_rows(disparities, [score(estimated=9)], "pixels") == []


def test_disparities_by_hand(tmp_path: Path) -> None:
    values = {"gt": [100, 100, 20, 0, 2, 50], "pred": [104, 106, 16.5, 9, 0, 0]}
    for name, row in values.items():
        save_png(tmp_path / f"{name}.png", (np.array([row]) * 256).astype(np.uint16))
    score = score_flows(open_true_flows(tmp_path / "gt.png", disparity=True), {"x": tmp_path / "pred.png"})["x"]
    errors = score.errors["gt"]["all"]  # 4 of 100 pixels are no outlier, 2 and 50 without an estimate are
    assert errors == GroupError(5, 3, pytest.approx((4 + 6 + 3.5) / 3), 0.8)
    table = flow_table({"x": score}, "pixels", disparity=True)
    assert table.label == "prediction, over all pixels"
    assert table.rows[0].values == {
        **{"images": 1, "density": 60, "d1_all": 80, "error_all": 4.5},
        **dict.fromkeys(("d1_noc", "d1_bg", "d1_fg")),
    }
    assert [column.key for column in table.columns] == ["images", "density", "d1_all", "error_all"]
    assert score.notes == [
        "40 % of the pixels have no estimate: the mean error is without them, and they count as outliers"
    ]


def test_unknown_disparities_are_not_mixed_into_enlarged_ones(tmp_path: Path) -> None:
    save_png(tmp_path / "gt.png", np.full((4, 12), 20 * 256, np.uint16))
    small = np.full((2, 6), 10 * 256, np.uint16)
    small[:, 0] = 0
    save_png(tmp_path / "pred.png", small)
    score = score_flows(open_true_flows(tmp_path / "gt.png", disparity=True), {"x": tmp_path / "pred.png"})["x"]
    assert score.errors["gt"]["all"] == GroupError(48, 36, 0.0, 0.25)  # columns 0 to 2 of 12


def test_what_cannot_be_scored(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder of true flow"):
        open_true_flows(tmp_path / "nowhere")
    with pytest.raises(TrianflowError, match="no flow files"):
        open_true_flows(tmp_path)
    (tmp_path / "data_scene_flow.zip").write_bytes(b"PK")
    with pytest.raises(TrianflowError, match="not unpacked"):
        open_true_flows(tmp_path)
    write_kitti(tmp_path / "gt", 2)
    true = open_true_flows(tmp_path / "gt")
    save_flow(tmp_path / "one.flo", truth(0))
    with pytest.raises(UsageError, match="one file for 2 images"):
        score_flows(true, {"x": tmp_path / "one.flo"})
    with pytest.raises(UsageError, match="no such file or folder of predictions"):
        score_flows(true, {"x": tmp_path / "nothing"})


def test_the_table(tmp_path: Path) -> None:
    write_kitti(tmp_path / "gt", 2)
    for name, shift in (("a", 1.0), ("b", 2.0), ("c", 6.0)):
        for i in range(2):
            save_flow(tmp_path / name / f"{i:06d}_10.flo", truth(i) + np.float32(shift) * np.array([0, 1], np.float32))
    scores = score_flows(open_true_flows(tmp_path / "gt"), {n: tmp_path / n for n in "abc"})
    paper = Row("paper", {"epe_noc": 3.6, "epe_all": 5.72, "fl_all": 18.05}, source="somewhere")
    table = flow_table(scores, "images", median=True, published=[paper])
    assert [c.key for c in table.columns] == [
        "images",
        *(f"epe_{g}" for g in ("noc", "occ", "all", "moving", "static")),
        *(f"fl_{g}" for g in ("noc", "occ", "all", "moving", "static")),
    ]
    a, b, c, median, published = table.rows
    assert [row.values["epe_all"] for row in (a, b, c)] == pytest.approx([1, 2, 6], rel=1e-5)
    assert [row.values["fl_occ"] for row in (a, b, c)] == [0, 0, 100]
    assert a.values["images"] == 2
    assert median.name == "median of 3"
    assert table.label == "prediction, mean over the images"
    assert median.values["epe_all"] == pytest.approx(2, rel=1e-5)
    assert median.spread["epe_all"] == pytest.approx(2.5, rel=1e-5)
    assert published is paper
    assert set(flow_figures({}).values()) == {None}
