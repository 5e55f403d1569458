"""Triples: the frame before, the ways in metres, augmentation and batches of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from tests.data.pairs.conftest import FRAMES, Drive
from trianflow.config import load_settings
from trianflow.data.pairs.augment import flip_pair
from trianflow.data.pairs.batch import collate
from trianflow.data.pairs.config import DataConfig, DriveSource, PathSource
from trianflow.data.pairs.dataset import PairDataset, open_dataset
from trianflow.data.pairs.drives import RenderedDrives
from trianflow.data.pairs.recorded import RecordedPairs
from trianflow.data.pairs.speeds import read_frame_speeds
from trianflow.errors import TrianflowError, UsageError
from trianflow.geometry.warping import inverse_warp

SIZE = (96, 48)


def recorded(drive: Drive, views: int, speeds: bool = False, stride: int = 1) -> RecordedPairs:
    source = PathSource(path=str(drive.folder / "images"), poses=str(drive.folder / "poses.txt"), stride=stride)
    return RecordedPairs(source, SIZE, "stretch", 0.0, None, views, speeds)


def known(array: np.ndarray | None) -> np.ndarray:
    assert array is not None
    return array


def test_the_frame_before_is_the_last_picture(drive: Drive) -> None:
    pairs, triples = recorded(drive, 2), recorded(drive, 3)
    assert (len(pairs), len(triples)) == (FRAMES - 1, FRAMES - 2)
    for number in range(len(triples)):
        a, before = pairs.read(number + 1), pairs.read(number)
        triple = triples.read(number)
        assert triple.images.shape == (3, 48, 96, 3)
        assert np.array_equal(triple.images[:2], a.images)
        assert np.array_equal(triple.images[2], before.images[0])
        assert np.array_equal(known(triple.T_ba), known(a.T_ba))
    with pytest.raises(TrianflowError, match="no three frames of it lie 2 apart"):
        recorded(drive, 3, stride=2)


def test_ways_from_the_speeds_of_a_prepared_sequence(drive: Drive, tmp_path: Path) -> None:
    copy = tmp_path / "prepared"
    copy.mkdir()
    for name in ("images", "calib.yaml", "poses.txt"):
        (copy / name).symlink_to(drive.folder / name)
    moved = replace(drive, folder=copy)
    with pytest.raises(UsageError, match=r"no speeds\.txt beside .*data.speeds"):
        recorded(moved, 3, True)
    (copy / "times.txt").write_text("0.0\n0.1\n0.2\n0.3\n")
    (copy / "speeds.txt").write_text("8.0\n-10.0\n12.0\nnan\n")
    triples = recorded(moved, 3, True)
    gaps = np.diff(triples._frames.times)
    np.testing.assert_allclose(known(triples.read(0).lengths), [11.0 * gaps[1], 9.0 * gaps[0]], rtol=1e-6)
    far = known(triples.read(1).lengths)
    assert np.isnan(far[0])
    assert far[1] == pytest.approx(11.0 * gaps[1])
    assert recorded(drive, 3).read(0).lengths is None


def test_speed_files_that_cannot_be_right(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "speeds.txt").write_text("1.0\n2.0\n3.0\n")
    assert read_frame_speeds(tmp_path / "images", 1, 2).tolist() == [2.0, 3.0]
    with pytest.raises(TrianflowError, match="3 speeds for 4 frames"):
        read_frame_speeds(tmp_path / "images", 1, 3)
    (tmp_path / "speeds.txt").write_text("1.0 2.0\n")
    with pytest.raises(TrianflowError, match="one speed a line"):
        read_frame_speeds(tmp_path / "images", 0, 1)


@pytest.mark.parametrize("scene", ["street", "village", "country"])
def test_drives_are_what_their_truth_says(scene: Literal["street", "village", "country"]) -> None:
    """The frame a warped out of b along the true flow is a; ways are those of the poses; nothing depends on views."""
    source = DriveSource(drives=2, seed=5, movers=0, scene=scene)
    triples, pairs = (RenderedDrives(source, SIZE, views, None) for views in (3, 2))
    for number in range(2):
        triple, pair = triples.read(number), pairs.read(number)
        assert triple.images.shape == (3, 48, 96, 3)
        assert np.abs(triple.images[:2].astype(int) - pair.images).mean() < 4, "but for the noise"
        lengths = known(triple.lengths)
        assert np.linalg.norm(known(triple.T_ba)[:3, 3]) == pytest.approx(lengths[0], rel=1e-5)
        assert lengths[1] == pytest.approx(lengths[0], rel=0.1)
        b = torch.from_numpy(triple.images[1].transpose(2, 0, 1)[None] / np.float32(255))
        warped, _ = inverse_warp(b, torch.from_numpy(known(triple.flow_ab)[None]))
        off = (warped[0].permute(1, 2, 0).numpy() * 255 - triple.images[0])[known(triple.visible_a)[0] > 0]
        still = triple.images[1].astype(float) - triple.images[0]
        assert np.abs(off).mean() < 0.7 * np.abs(still).mean()
        # the frame before shows what has come nearer since
        assert np.abs(triple.images[2].astype(int) - triple.images[0]).mean() > 4


def test_a_longer_stride_sees_the_same_images_a() -> None:
    sources = (DriveSource(drives=1, seed=5, stride=stride, movers=0) for stride in (1, 3))
    near, far = (RenderedDrives(source, SIZE, 2, None).read(0) for source in sources)
    assert np.array_equal(known(near.depth_a), known(far.depth_a), equal_nan=True)
    assert known(far.lengths)[0] == pytest.approx(3 * known(near.lengths)[0], rel=0.1)


def test_a_faster_camera_comes_less_far_between_two_frames() -> None:
    ways = [
        known(RenderedDrives(DriveSource(drives=1, seed=5, fps=fps, movers=0), SIZE, 2, None).read(0).lengths)[0]
        for fps in (8.0, 10.0, 40.0)
    ]
    assert ways[0] == pytest.approx(ways[1] * 10 / 8, rel=0.1)
    assert ways[2] == pytest.approx(ways[1] / 4, rel=0.1)


def test_drives_come_from_the_cache_as_they_were_rendered(tmp_path: Path) -> None:
    source = DriveSource(drives=2, seed=6)
    fresh, first = (RenderedDrives(source, SIZE, 3, folder) for folder in (None, tmp_path))
    again = RenderedDrives(source, SIZE, 3, tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 1
    for number in range(2):
        for other in (first, again):
            assert np.array_equal(fresh.read(number).images, other.read(number).images)
            assert np.array_equal(known(fresh.read(number).lengths), known(other.read(number).lengths))
    RenderedDrives(source, SIZE, 2, tmp_path)
    village = RenderedDrives(source.model_copy(update={"scene": "village"}), SIZE, 2, tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 3
    assert np.abs(village.read(0).images.astype(int) - fresh.read(0).images[:2]).mean() > 10


def test_what_stands_along_a_village_road_is_nearer() -> None:
    """Halfway between the horizon and the lower border, to the left and to the right."""
    near = []
    for scene in ("street", "village"):
        source = RenderedDrives(DriveSource(drives=12, seed=8, movers=0, scene=scene), SIZE, 2, None)
        depth = np.stack([known(source.read(number).depth_a)[0, 24:30] for number in range(12)])
        near.append(float(np.nanmedian(np.concatenate([depth[..., :12], depth[..., -12:]], -1))))
    assert near[1] < 0.8 * near[0]


def test_triples_are_mirrored_coloured_and_put_together() -> None:
    source = RenderedDrives(DriveSource(drives=3, seed=7), SIZE, 3, None)
    raw = source.read(0)
    assert np.array_equal(flip_pair(raw).images, raw.images[:, :, ::-1])
    data = load_settings(DataConfig(), None, ["train=[{drives: 3, seed: 7}]", f"size={list(SIZE)}", "views=3"])
    plain, changed = (open_dataset(data, "train", 0, augment) for augment in (False, True))
    batch = collate([plain[i] for i in range(3)])
    assert batch.image_c is not None
    assert batch.lengths is not None
    assert batch.image_c.shape == (3, 3, 48, 96)
    assert batch.input_c is batch.image_c
    assert batch.lengths.shape == (3, 2)
    torch.testing.assert_close(batch.image_c[0], torch.from_numpy(raw.images[2].transpose(2, 0, 1) / np.float32(255)))
    moved = collate([changed[i] for i in range(3)]).to("cpu")
    assert moved.image_c is not None
    assert moved.input_c is not None
    assert (moved.input_c - moved.image_c).abs().mean() > 0.001
    assert moved.input_c.shape == moved.image_c.shape


def test_ways_that_one_source_knows_are_unknown_for_the_other(drive: Drive) -> None:
    pairs = PairDataset([RenderedDrives(DriveSource(drives=1, seed=7), SIZE, 3, None), recorded(drive, 3)], SIZE, 0)
    batch = collate([pairs[0], pairs[1]])
    assert batch.lengths is not None
    assert batch.lengths.isfinite().tolist() == [[True, True], [False, False]]


def test_the_motion_is_forward() -> None:
    """The drive goes ahead: what is in front comes nearer."""
    raw = RenderedDrives(DriveSource(drives=1, seed=8), SIZE, 3, None).read(0)
    assert known(raw.T_ba)[2, 3] < -0.3


def test_configuration() -> None:
    with pytest.raises(UsageError, match="take drives for three"):
        load_settings(DataConfig(), None, ["train=[{synthetic: 4}]", "views=3"])
    with pytest.raises(UsageError, match="stands in train and in val"):
        load_settings(DataConfig(), None, ["train=[{drives: 4}]", "val=[{drives: 4}]"])
    with pytest.raises(UsageError, match="stride"):
        load_settings(DataConfig(), None, ["train=[{drives: 4, stride: 7}]"])
    with pytest.raises(UsageError, match=r"did you mean .*movers"):
        load_settings(DataConfig(), None, ["train=[{drives: 4, mover: 7}]"])
