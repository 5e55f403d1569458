"""`trianflow eval flow`."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.cli import eval_flow
from trianflow.data.flow_files import read_flow, write_flow
from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.published import published_rows
from trianflow.flow.dis import DISFlow
from trianflow.visualization import flow_plot

W, H = 96, 64


def evaluate(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    parser.set_defaults(quiet=True, verbose=0)
    eval_flow.add_parser(parser.add_subparsers())
    args = parser.parse_args(["flow", *map(str, words)])
    return int(args.run(args))


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """Three scenes whose second frame is the first moved by (3, 1) pixels."""
    training = tmp_path / "data_scene_flow" / "training"
    for name in ("image_2", "flow_occ", "flow_noc", "obj_map", "calib_cam_to_cam"):
        (training / name).mkdir(parents=True)
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 255, (H + 8, W + 8, 3), np.uint8)
        noise = cv2.GaussianBlur(noise, (0, 0), 2)
        noise = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)
        cv2.imwrite(str(training / "image_2" / f"{i:06d}_10.png"), noise[4 : 4 + H, 4 : 4 + W])
        cv2.imwrite(str(training / "image_2" / f"{i:06d}_11.png"), noise[3 : 3 + H, 1 : 1 + W])
        flow = np.full((H, W, 2), (3.0, 1.0), np.float32)
        write_flow(training / "flow_occ" / f"{i:06d}_10.png", flow)
        flow[-1] = flow[:, -3:] = np.nan
        write_flow(training / "flow_noc" / f"{i:06d}_10.png", flow)
        objects = np.zeros((H, W), np.uint8)
        objects[20:30, 20:30] = 3
        cv2.imwrite(str(training / "obj_map" / f"{i:06d}_10.png"), objects)
        text = f"P_rect_02: 90 0 48 0 0 90 32 0 0 0 1 0\nS_rect_02: {W} {H}\n"
        (training / "calib_cam_to_cam" / f"{i:06d}.txt").write_text(text)
    return training.parent


def predictions(folder: Path, shift: float, scenes: int = 3) -> Path:
    folder.mkdir()
    for i in range(scenes):
        write_flow(folder / f"{i:06d}_10.png", np.full((H, W, 2), (3.0 + shift, 1.0), np.float32))
    return folder


def test_a_table_with_its_files(kitti: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [predictions(tmp_path / f"seed{i}", shift) for i, shift in enumerate((0.5, 1.0, 4.0))]
    files = [tmp_path / f"out.{s}" for s in ("csv", "tex", "png")]
    assert evaluate(kitti, *runs, "--median", *zip_options(("--csv", "--latex", "--plot"), files)) == 0
    out = capsys.readouterr().out
    assert "KITTI 2015" in out
    assert "mean over the images" in out
    row = next(line.split() for line in out.splitlines() if line.startswith("seed2"))
    assert row[1:] == ["3", *["4.000"] * 5, *["100.00"] * 5]
    assert "1.000 ± 1.750" in out
    table = list(csv.DictReader(files[0].open()))
    assert [float(r["epe_noc"]) for r in table] == [0.5, 1.0, 4.0, 1.0]
    assert r"\toprule" in files[1].read_text()
    picture = cv2.imread(str(files[2]))
    assert min(picture.shape[:2]) > 500


def zip_options(options: tuple[str, ...], files: list[Path]) -> list[str | Path]:
    return [word for pair in zip(options, files) for word in pair]


def test_json_and_both_protocols(kitti: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pred = predictions(tmp_path / "pred", 0.0)
    write_flow(pred / "000000_10.png", np.full((H, W, 2), (9.0, 1.0), np.float32))
    smaller = np.full((H, W, 2), np.nan, np.float32)
    smaller[: H // 4] = 3.0, 1.0
    write_flow(kitti / "training" / "flow_occ" / "000000_10.png", smaller)
    figures = {}
    for protocol in ("images", "pixels"):
        assert evaluate(kitti, pred, "--json", "--protocol", protocol) == 0
        out = json.loads(capsys.readouterr().out)
        assert out["protocol"] == protocol
        figures[protocol] = out["table"][0]["epe_all"], out["table"][0]["fl_all"]
    assert figures["images"] == pytest.approx((2.0, 100 / 3))
    assert figures["pixels"] == pytest.approx((6 * 0.25 / 2.25, 100 * 0.25 / 2.25))
    assert out["predictions"]["pred"]["images"]["000000_10"]["epe_all"] == 6


def test_faults_are_named_with_exit_code_1(kitti: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pred = predictions(tmp_path / "pred", 1.0, scenes=2)
    (pred / "000001_10.png").write_bytes((pred / "000001_10.png").read_bytes()[:50])
    assert evaluate(kitti, pred) == 1
    captured = capsys.readouterr()
    assert "000001_10.png: truncated" in captured.err
    assert "000002_10.png or .flo: missing" in captured.err
    assert len(captured.err.splitlines()) == 2
    assert next(line for line in captured.out.splitlines() if line.startswith("pred ")).split()[1] == "1"
    assert "different images" not in captured.out
    assert evaluate(kitti, pred, predictions(tmp_path / "whole", 1.0)) == 1
    assert "the rows are of different images" in capsys.readouterr().out
    shutil.rmtree(pred)
    pred.mkdir()
    with pytest.raises(TrianflowError, match=r"nothing could be scored: .*000000_10"):
        evaluate(kitti, pred)


def test_wrong_use(kitti: Path, tmp_path: Path) -> None:
    pred = predictions(tmp_path / "pred", 1.0)
    with pytest.raises(UsageError, match="--median"):
        evaluate(kitti, pred, "--median")
    images = kitti / "training" / "image_2"
    with pytest.raises(UsageError, match="--predict writes one PRED, and there are 2"):
        evaluate(kitti, pred, tmp_path / "new", "--predict", images)
    with pytest.raises(UsageError, match="lies in the truth"):
        evaluate(kitti, kitti / "training" / "flow_occ", "--predict", images)
    with pytest.raises(UsageError, match="nowhere: no such folder of images"):
        evaluate(kitti, tmp_path / "new", "--predict", tmp_path / "nowhere")
    with pytest.raises(UsageError, match="--weights is for --predict IMAGES"):
        evaluate(kitti, pred, "--weights", "driving")
    write_flow(pred / "000000_10.flo", np.zeros((H, W, 2), np.float32))
    with pytest.raises(UsageError, match="pred holds other things"):
        evaluate(kitti, pred, "--predict", images)
    with pytest.raises(TrianflowError, match="cannot write the picture"):
        evaluate(kitti, pred, "--plot", tmp_path / "plot.xyz")


def test_predict_then_score(kitti: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "dis"
    predict = ("--predict", kitti / "training" / "image_2")
    assert evaluate(kitti, out, *predict, "--json") == 0
    first = json.loads(capsys.readouterr().out)["table"]
    assert sorted(p.name for p in out.iterdir()) == [f"{i:06d}_10.png" for i in range(3)]
    assert np.median(np.abs(read_flow(out / "000000_10.png") - (3, 1))) < 0.2
    assert first[0]["epe_noc"] < 0.5
    assert evaluate(kitti, out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["table"] == first, "the files alone give the same figures"
    (kitti / "training" / "image_2" / "000001_11.png").unlink()
    assert evaluate(kitti, out, *predict) == 1
    assert not (out / "000001_10.png").exists(), "the prediction of an earlier run is not scored"
    assert "000001_11.png: missing" in capsys.readouterr().err


def test_rows_of_papers_stand_below_the_whole_of_kitti_2015(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flow = np.zeros((4, 6, 2), np.float32)
    for name in ("gt/training/flow_occ", "gt/training/obj_map", "pred"):
        (tmp_path / name).mkdir(parents=True)
    for i in range(200):
        write_flow(tmp_path / "gt" / "training" / "flow_occ" / f"{i:06d}_10.png", flow)
        cv2.imwrite(str(tmp_path / "gt" / "training" / "obj_map" / f"{i:06d}_10.png"), np.zeros((4, 6), np.uint8))
        write_flow(tmp_path / "pred" / f"{i:06d}_10.png", flow + 1)
    assert evaluate(tmp_path / "gt", tmp_path / "pred") == 0
    lines = capsys.readouterr().out.splitlines()
    ours = next(line.split() for line in lines if line.startswith("pred "))
    assert ours == ["pred", "200", "1.414", "1.414", "0.00", "0.00"]
    paper = next(line.split() for line in lines if line.startswith("TrianFlow "))
    assert [w if w == "-" else float(w) for w in paper[1:]] == ["-", 5.72, "-", 18.05, "-"]
    source = published_rows("kitti2015_flow")[0].source
    assert any(source in line for line in lines)
    (tmp_path / "gt" / "training" / "flow_occ" / "000199_10.png").unlink()
    for i in range(20):
        (tmp_path / "pred" / f"{i:06d}_10.png").unlink()
    assert evaluate(tmp_path / "gt", tmp_path / "pred") == 1
    captured = capsys.readouterr()
    assert source not in captured.out, "199 images are not the 200 of the papers"
    assert len(captured.err.splitlines()) == 11
    assert "10 more like these" in captured.err


def test_disparities(
    kitti: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    training, pred = kitti / "training", tmp_path / "pred"
    for folder in (training / "disp_occ_0", training / "disp_noc_0", pred):
        folder.mkdir()
    for i in range(3):
        truth = np.full((H, W), 40 * 256, np.uint16)
        truth[:4] = 0
        cv2.imwrite(str(training / "disp_occ_0" / f"{i:06d}_10.png"), truth)
        found = truth + np.uint16(256)
        found[20:25, 20:30] += 3 * 256
        found[-2:] = 0
        cv2.imwrite(str(pred / f"{i:06d}_10.png"), found)
        truth[-2:] = 0
        cv2.imwrite(str(training / "disp_noc_0" / f"{i:06d}_10.png"), truth)
    assert evaluate(kitti, pred, "--disparity", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["table"]
    pixels = (H - 4) * W
    assert row["d1_fg"] == pytest.approx(50)
    assert row["d1_bg"] == pytest.approx(100 * 2 * W / (pixels - 100))
    assert row["d1_all"] == pytest.approx(100 * (2 * W + 50) / pixels)
    assert row["d1_noc"] == pytest.approx(100 * 50 / (pixels - 2 * W))
    assert row["error_all"] == pytest.approx((4 * 50 + (pixels - 2 * W - 50)) / (pixels - 2 * W))
    assert row["density"] == pytest.approx(100 * (1 - 2 * W / pixels))
    assert evaluate(kitti, pred, "--disparity", "--protocol", "pixels") == 0
    out = capsys.readouterr().out
    assert "prediction, over all pixels" in out
    assert "D1 fg %" in out
    assert "protocol      pixels: over all pixels of all images, as KITTI 2015's server" in out.splitlines()
    assert "every pixel; averaging not stated, they stand beside --protocol pixels" in out
    titles: list[str] = []
    monkeypatch.setattr(flow_plot, "plot_flow_errors", lambda *given: titles.extend(p.title for p in given[2]))
    assert evaluate(kitti, pred, "--disparity", "--plot", tmp_path / "a.png") == 0
    assert "mean error" in titles[0]
    assert "D1" in titles[0]
    assert "EPE" not in titles[0]
    capsys.readouterr()
    with pytest.raises(UsageError, match="--predict"):
        evaluate(kitti, pred, "--disparity", "--predict", training / "image_2")
    shutil.rmtree(training / "disp_occ_0")
    with pytest.raises(TrianflowError, match="disp_occ_0: missing"):
        evaluate(kitti, pred, "--disparity")


@pytest.mark.data
def test_dis_on_rubberwhale(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reference figure; of the colour images, whose grey differs by up to one level, 0.2255."""
    folder = shared_data / "flow_middlebury_rubberwhale"
    dis = DISFlow("medium")
    gt = tmp_path / "other-gt-flow" / "RubberWhale" / "flow10.flo"
    gt.parent.mkdir(parents=True)
    shutil.copyfile(folder / "flow_gt.flo", gt)
    for name, flag in (("grey", cv2.IMREAD_GRAYSCALE), ("colour", cv2.IMREAD_COLOR_RGB)):
        a, b = (dis.encode(cv2.imread(str(folder / f"img{i}.png"), flag)) for i in (1, 2))
        (tmp_path / name).mkdir()
        write_flow(tmp_path / name / "RubberWhale.flo", dis.flow(a, b).flow_ab[0].permute(1, 2, 0).numpy())
    assert evaluate(tmp_path / "other-gt-flow", tmp_path / "grey", tmp_path / "colour", "--json") == 0
    grey, colour = json.loads(capsys.readouterr().out)["table"]
    assert grey["epe_all"] == pytest.approx(0.2235, abs=5e-5)
    assert colour["epe_all"] == pytest.approx(0.2255, abs=5e-5)


@pytest.mark.data
def test_dis_on_a_pair_of_kitti(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reference figure, of grey images."""
    folder, training = shared_data / "flow_kitti2015_pair", tmp_path / "training"
    for name in ("image_0", "flow_occ"):
        (training / name).mkdir(parents=True)
    for i in (1, 2):
        grey = cv2.imread(str(folder / f"img{i}.png"), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(training / "image_0" / f"000000_1{i - 1}.png"), grey)
    shutil.copyfile(folder / "flow_gt.png", training / "flow_occ" / "000000_10.png")
    assert evaluate(training, tmp_path / "dis", "--predict", training / "image_0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["table"][0]["epe_all"] == pytest.approx(23.7, abs=0.05)


@pytest.mark.data
def test_example_of_the_development_kit(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared_data / "kitti2015_devkit_flow_disp"
    assert evaluate(folder / "flow_gt.png", folder / "flow_est.png") == 0
    row = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("flow_est"))
    assert row == ["flow_est", "1", "12.201", "20.69"]
    assert evaluate(folder / "disp_gt.png", folder / "disp_est.png", "--disparity", "--json") == 0
    row = json.loads(capsys.readouterr().out)["table"][0]
    assert row["d1_all"] == pytest.approx(13.623, abs=5e-4)
    true, found = (cv2.imread(str(folder / f"disp_{kind}.png"), cv2.IMREAD_UNCHANGED) / 256 for kind in ("gt", "est"))
    error, known = np.abs(found - true), true > 0
    assert error[known].mean() == pytest.approx(2.36967, abs=5e-6)  # the reference, which takes unknown for 0
    assert row["error_all"] == pytest.approx(error[known & (found > 0)].mean(), abs=5e-6)
    assert row["density"] == pytest.approx(100 * (found[known] > 0).mean())
