"""`trianflow eval depth`: rows, exit codes, files."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trianflow.cli import eval_depth
from trianflow.data.decoding import decode_image
from trianflow.data.depth import write_depth
from trianflow.data.prepared import FACTS
from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.depth import depth_errors
from trianflow.evaluation.depth_protocols import CROPS, PROTOCOLS
from trianflow.evaluation.depth_scores import SCALINGS

H, W = 40, 64


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Code, stdout and stderr of the sub-command."""

    def call(*words: object) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser()
        parser.set_defaults(verbose=0, quiet=False)
        eval_depth.add_parser(parser.add_subparsers())
        args = parser.parse_args(["depth", *map(str, words)])
        code = args.run(args)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """`gt` in 256ths of a metre, `good` and `poor` predictions of another unit and size, `perfect` disparities."""
    rng = np.random.default_rng(0)
    for name in ("gt", "good", "poor", "perfect"):
        (tmp_path / name).mkdir()
    for i in range(4):
        truth = np.round(rng.uniform(2, 60, (H, W)) * 256) / 256
        write_depth(tmp_path / "gt" / f"{i:06d}.png", truth, 256)
        write_depth(tmp_path / "good" / f"{i:06d}.npy", truth * rng.uniform(0.9, 1.1, (H, W)) / 30, 1)
        write_depth(tmp_path / "poor" / f"{i:06d}.png", np.ones((H // 2, W // 2)), 1000)
        np.save(tmp_path / "perfect" / f"{i:06d}.npy", (5 / truth).astype(np.float32))
    return tmp_path


def table(out: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}


def test_rows_and_what_they_are_of(scene: Path, evaluate) -> None:
    code, out, err = evaluate(scene / "gt", scene / "good", scene / "poor", "--gt-scale", 256)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].endswith("gt, 4 images")
    assert lines[1] == "protocol      eigen: crop garg, 0.001 to 80 m"
    assert lines[2] == "scaling       each image by its medians, then clamped to the caps"
    rows = table(out)
    assert float(rows["good"][1]) < 0.06 < 0.5 < float(rows["poor"][1])
    window = np.zeros((H, W), bool)
    window[int(0.40810811 * H) : int(0.99189189 * H), int(0.03594771 * W) : int(0.96405229 * W)] = True
    assert rows["good"][-2:] == ["4", str(4 * window.sum())]
    assert "figures of papers are of a test set of 697 images, these of 4" in out
    assert "papers" not in evaluate(scene / "gt", scene / "good", "--gt-scale", 256, "--published", "none")[1]


def test_rows_of_papers_below_a_whole_test_set(tmp_path: Path, evaluate) -> None:
    truth = np.random.default_rng(0).uniform(2, 60, (697, 8, 12)).astype(np.float32)
    np.save(tmp_path / "gt.npy", truth)
    np.save(tmp_path / "ours.npy", truth * 2)
    paths = (tmp_path / "gt.npy", tmp_path / "ours.npy")
    _, few, _ = evaluate(*paths)
    assert "Zhao et al., CVPR 2020 (TrianFlow), table 1" in few
    assert [float(x) for x in table(few)["TrianFlow"][1:4]] == [0.113, 0.704, 4.581]
    assert len(few.splitlines()) < len(evaluate(*paths, "--published", "all")[1].splitlines()) - 20
    assert "TrianFlow" not in evaluate(*paths, "--published", "none")[1]
    assert "TrianFlow" not in evaluate(*paths, "--scaling", "none")[1]


def test_truth_of_the_size_of_the_pictures_is_told(scene: Path, evaluate) -> None:
    sequence = scene / "prepared" / "drive"
    sequence.mkdir(parents=True)
    (scene / "gt").rename(sequence / "depth")
    (sequence / FACTS).write_text("{}")
    words = (scene / "prepared", scene / "good", "--gt-scale", 256)
    assert "the truth has the size of the small pictures" in evaluate(*words)[1]
    assert any("prepare --truth" in note for note in json.loads(evaluate(*words, "--json")[1])["notes"])
    (sequence / "depth").rename(sequence / "truth")
    assert "small pictures" not in evaluate(*words)[1]


def test_disparities_are_inverted(scene: Path, evaluate) -> None:
    code, out, _ = evaluate(scene / "gt", scene / "perfect", "--gt-scale", 256, "--disparity", "--protocol", "plain")
    assert code == 0
    assert table(out)["perfect"][1:9] == ["0.000"] * 5 + ["1.000"] * 3
    _, out, _ = evaluate(scene / "gt", scene / "perfect", "--gt-scale", 256, "--protocol", "plain")
    assert float(table(out)["perfect"][1]) > 0.5


def test_json_has_every_image(scene: Path, evaluate) -> None:
    words = (scene / "gt", scene / "poor", "--gt-scale", 256, "--scale", 1000, "--scaling", "none", "--json")
    code, out, _ = evaluate(*words, "--protocol", "plain", "--max-depth", 50)
    assert code == 0
    result = json.loads(out)
    found = result["predictions"]["poor"]
    assert (found["scaling"], found["crop"], found["largest"]) == ("none", "none", 50)
    from trianflow.data.depth import read_depth

    truth = read_depth(scene / "gt" / "000002.png", 256)
    truth = truth[truth < 50]
    image = found["images"][2]
    assert image["name"] == "000002"
    assert image["rmse"] == pytest.approx(depth_errors(np.ones_like(truth), truth).rmse)
    assert result["problems"] == {"poor": {}}
    assert result["table"][0]["name"] == "poor"


def test_runs_of_one_method_and_files(scene: Path, evaluate) -> None:
    files = {name: scene / f"t.{name}" for name in ("csv", "latex", "plot")}
    files["plot"] = scene / "t.png"
    words = [word for name, path in files.items() for word in (f"--{name}", path)]
    code, out, _ = evaluate(scene / "gt", scene / "good", scene / "poor", "--gt-scale", 256, "--median", *words)
    assert code == 0
    assert "median: ± is half the range" in out
    rows = list(csv.DictReader(files["csv"].open()))
    assert [row["abs_rel_spread"] != "" for row in rows] == [False, False, True]
    assert "median of 2 & " in files["latex"].read_text()
    assert "0.001 to 80 m; scaling: each image by its medians" in files["latex"].read_text()
    picture = decode_image(files["plot"].read_bytes())
    assert picture.shape[0] > 300
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    with pytest.raises(UsageError, match="--median is of several PRED"):
        evaluate(scene / "gt", scene / "good", "--gt-scale", 256, "--median")


def test_missing_and_damaged_predictions(scene: Path, evaluate) -> None:
    (scene / "poor" / "000001.png").unlink()
    (scene / "poor" / "000002.png").write_bytes((scene / "poor" / "000000.png").read_bytes()[:30])
    code, out, err = evaluate(scene / "gt", scene / "poor", scene / "good", "--gt-scale", 256)
    assert code == 1
    (warning,) = err.splitlines()
    assert warning.endswith(
        "poor: 2 of 4 images NOT SCORED, the figures are of the other 2:"
        " 000001 (no prediction of this name), 000002 (the prediction: truncated PNG (ends after 30 bytes))"
    )
    assert (table(out)["poor"][-2], table(out)["good"][-2]) == ("2", "4")


def test_a_prediction_that_is_nothing(scene: Path, evaluate) -> None:
    for path in (scene / "poor").iterdir():
        path.write_bytes(b"nothing")
    code, out, err = evaluate(scene / "gt", scene / "poor", scene / "good", "--gt-scale", 256)
    assert code == 1
    assert "poor: no image could be read; the first: 000000 the prediction: a text file" in err
    assert "good" in table(out)
    assert "poor" not in table(out)
    with pytest.raises(TrianflowError, match="poor: no image could be read"):
        evaluate(scene / "gt", scene / "poor", "--gt-scale", 256)
    np.save(scene / "three.npy", np.ones((3, H, W)))
    with pytest.raises(TrianflowError, match="nothing could be scored"):
        evaluate(scene / "gt", scene / "poor", scene / "three.npy", "--gt-scale", 256)


def test_holes_are_told(scene: Path, evaluate) -> None:
    stack = np.ones((4, H, W), np.float32)
    stack[1, 20:] = 0
    np.save(scene / "holes.npy", stack)
    _, out, err = evaluate(scene / "gt", scene / "holes.npy", "--gt-scale", 256, "--protocol", "plain")
    assert f"{20 * W} of {4 * H * W} pixels have no prediction and count as 0.001 m" in err
    assert "holes" in table(out)


def test_a_stack_in_the_order_of_a_list(scene: Path, evaluate) -> None:
    drive = scene / "prepared" / "2011_09_26" / "drive_2" / "image_02"
    drive.mkdir(parents=True)
    (scene / "gt").rename(drive / "truth")
    (drive / "calib.yaml").write_text("depth_scale: 256\n")
    order = [2, 0, 3, 1]
    np.save(scene / "disps.npy", np.stack([np.load(scene / "perfect" / f"{i:06d}.npy") for i in order]))
    (scene / "list.txt").write_text("".join(f"2011_09_26/drive_2 {i:010d} l\n" for i in order))
    words = (scene / "prepared", scene / "disps.npy", "--disparity", "--protocol", "plain")
    code, out, err = evaluate(*words, "--order", scene / "list.txt")
    assert (code, err, table(out)["disps"][1]) == (0, "", "0.000")
    assert "paired in order" not in out
    code, out, _ = evaluate(*words)
    assert (code, table(out)["disps"][1] > "0.5") == (0, True)
    assert "disps: paired in order: 2011_09_26/drive_2/image_02/000000 with #0, ..., " in out
    with pytest.raises(TrianflowError, match="4 images, but its list names 697"):
        evaluate(*words, "--order", "eigen_test")
    with pytest.raises(UsageError, match="no PRED is one: leave it out"):
        evaluate(scene / "prepared", scene / "poor", "--order", scene / "list.txt")


def test_the_table_is_printed_before_a_picture_fails(scene: Path, evaluate, capsys: pytest.CaptureFixture[str]) -> None:
    (scene / "file").write_text("")
    with pytest.raises(TrianflowError, match="cannot write the picture"):
        evaluate(scene / "gt", scene / "good", "--gt-scale", 256, "--plot", scene / "file" / "a.png")
    assert "good" in table(capsys.readouterr().out)


def test_choices_are_those_of_the_protocols() -> None:
    parser = argparse.ArgumentParser()
    eval_depth.add_parser(parser.add_subparsers(dest="kind"))
    for option, choices in (("--protocol", PROTOCOLS), ("--crop", CROPS), ("--scaling", SCALINGS)):
        for choice in choices:
            parser.parse_args(["depth", "gt", "pred", option, choice])


def test_wrong_use(scene: Path, evaluate) -> None:
    with pytest.raises(UsageError, match=r"gt: the depth is stored in integers.*--gt-scale"):
        evaluate(scene / "gt", scene / "good")
    with pytest.raises(UsageError, match=r"poor: the depth is stored in integers.*--scale"):
        evaluate(scene / "gt", scene / "poor", "--gt-scale", 256, "--scaling", "none")
    with pytest.raises(UsageError, match="gt: 000000: truth of 64x40 pixels: the crop of NYUv2"):
        evaluate(scene / "gt", scene / "good", "--gt-scale", 256, "--protocol", "nyuv2")
    with pytest.raises(UsageError, match="--max-depth must be above"):
        evaluate(scene / "gt", scene / "good", "--gt-scale", 256, "--max-depth", -3)
    with pytest.raises(TrianflowError, match="cannot write"):
        evaluate(scene / "gt", scene / "good", "--gt-scale", 256, "--csv", scene / "no" / "t.csv")
    with pytest.raises(TrianflowError, match="cannot write"):
        evaluate(scene / "gt", scene / "good", "--gt-scale", 256, "--plot", scene / "no" / "t.png")


@pytest.mark.data
def test_a_constant_depth_on_kitti(shared_data: Path, tmp_path: Path, evaluate) -> None:
    gt = shared_data / "kitti_mini_depth" / "04"
    np.save(tmp_path / "constant.npy", np.full((10, 32, 104), 7, np.float32))
    code, out, _ = evaluate(gt, tmp_path / "constant.npy", "--gt-scale", 256)
    assert code == 0
    assert table(out)["constant"][1:8] == ["0.521", "6.858", "15.426", "0.650", "0.250", "0.466", "0.657"]
