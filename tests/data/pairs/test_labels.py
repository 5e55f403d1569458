"""Instances of pairs: rendered, recorded with masks beside the frames, mirrored, cut and batched."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from trianflow.data.pairs.augment import crop_pair, flip_pair
from trianflow.data.pairs.batch import collate
from trianflow.data.pairs.config import DataConfig, DriveSource, PathSource
from trianflow.data.pairs.dataset import open_dataset
from trianflow.data.pairs.drives import RenderedDrives
from trianflow.data.pairs.labels import shared_labels
from trianflow.data.pairs.recorded import RecordedPairs
from trianflow.data.pairs.sources import UnreadablePair
from trianflow.data.synthetic import SyntheticSequence
from trianflow.errors import UsageError
from trianflow.geometry.camera import Camera

SIZE = (160, 64)
CAMERA = Camera.from_fov(320, 128, 80)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames of a street with cars that drive, and their instances under numbers that change."""
    folder = tmp_path_factory.mktemp("street")
    for name in ("images", "instances"):
        (folder / name).mkdir()
    lines = [f"{n}: {getattr(CAMERA, n)}" for n in ("fx", "fy", "cx", "cy", "width", "height")]
    (folder / "calib.yaml").write_text("\n".join(lines))
    sequence = SyntheticSequence.make("street", "driving", 3, CAMERA, seed=0, moving_objects=3)
    for i, frame in enumerate(sequence.frames()):
        image = frame.image[0].permute(1, 2, 0).mul(255).round().byte().numpy()
        cv2.imwrite(str(folder / "images" / f"{i:06d}.png"), image[..., ::-1])
        labels = frame.instance[0].numpy()
        stored = np.where(labels > 0, 1000 * (5 - labels) + 7 * i, 0).astype(np.uint16)
        cv2.imwrite(str(folder / "instances" / f"{i:06d}.png"), stored)
    return folder


def recorded(folder: Path, instances: Path, path: Path | None = None) -> RecordedPairs:
    source = PathSource(path=str(path or folder / "images"), instances=str(instances))
    return RecordedPairs(source, SIZE, "stretch", 0.0, None)


def true_labels() -> np.ndarray:
    """Of the first pair, at half the size."""
    pair = next(iter(SyntheticSequence.make("street", "driving", 3, CAMERA, seed=0, moving_objects=3)))
    return shared_labels(pair)[:, 1::2, 1::2]


def test_recorded_instances_are_matched_and_prepared(street: Path) -> None:
    found = recorded(street, street / "instances").read(0).labels
    assert found is not None
    assert found.shape == (2, 64, 160)
    truth = true_labels()
    sizes = [np.count_nonzero(truth[0] == k) for k in (1, 2, 3)]
    for k, other in enumerate(np.argsort(sizes)[::-1] + 1, 1):
        if sizes[other - 1] > 40:
            for view in range(2):
                np.testing.assert_array_equal(found[view] == k, truth[view] == other)
    assert ((found == 0) == (truth == 0)).all()


def test_masks_that_are_missing_or_do_not_fit(street: Path, tmp_path: Path) -> None:
    first = cv2.imread(str(street / "instances" / "000000.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(tmp_path / "000000.png"), first)
    cv2.imwrite(str(tmp_path / "000002.png"), first[:100])
    (tmp_path / "000001").mkdir()
    pairs = recorded(street, tmp_path)
    labels = pairs.read(0).labels
    assert labels is not None
    assert (labels[1] == 0).all(), "an empty folder has none"
    assert set(np.unique(labels[0])) == {-1, 0}
    with pytest.raises(UnreadablePair, match=r"instances of 000002\.png are 320x100, the images are 320x128"):
        pairs.read(1)
    (tmp_path / "000001").rmdir()
    with pytest.raises(UnreadablePair, match=r"no instances of the frame 000001\.png"):
        recorded(street, tmp_path).read(0)
    data = DataConfig(
        size=SIZE, min_motion=0, train=(PathSource(path=str(street / "images"), instances=str(street / "instances")),)
    )
    batch = collate([open_dataset(data, "train", 0, False)[i] for i in range(2)])
    assert batch.labels is not None
    assert batch.labels.shape == (2, 2, 64, 160)
    assert batch.labels.dtype == torch.int64
    np.testing.assert_array_equal(batch.labels[0], recorded(street, street / "instances").read(0).labels)


def test_a_video_has_no_names(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 128))
    for shade in (40, 90, 140):
        writer.write(np.full((128, 320, 3), shade, np.uint8))
    writer.release()
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "0.png"), np.zeros((128, 320), np.uint8))
    source = PathSource(path=str(tmp_path / "a.avi"), instances=str(tmp_path / "masks"), calib=calib(tmp_path))
    with pytest.raises(UsageError, match="take a folder of images, not a video"):
        RecordedPairs(source, SIZE, "stretch", 0.0, tmp_path / "cache")


def calib(folder: Path) -> str:
    (folder / "calib.yaml").write_text("fx: 200\nfy: 200\ncx: 160\ncy: 64\nwidth: 320\nheight: 128\n")
    return str(folder / "calib.yaml")


def test_labels_of_rendered_drives_follow_every_change(tmp_path: Path) -> None:
    source = DriveSource(drives=4, movers=6, seed=3)
    drives = RenderedDrives(source, SIZE, 2, tmp_path)
    pairs = [drives.read(i) for i in range(4)]
    number, pair = max(enumerate(pairs), key=lambda item: np.count_nonzero(item[1].labels))
    assert pair.labels is not None
    for view in range(2):
        assert set(np.unique(pair.labels[view])) - {-1, 0} == set(np.unique(pair.labels[1 - view])) - {-1, 0}
    assert (pair.labels > 0).sum() > 50
    np.testing.assert_array_equal(RenderedDrives(source, SIZE, 2, None).read(number).labels, pair.labels)
    mirrored = flip_pair(pair)
    np.testing.assert_array_equal(mirrored.labels, pair.labels[..., ::-1])
    window = crop_pair(pair, (100, 40), 0.5, 1.0)
    np.testing.assert_array_equal(window.labels, pair.labels[:, 24:, 30:130])


def test_a_batch_with_and_without_labels() -> None:
    data = DataConfig(size=(96, 48), train=(DriveSource(drives=2, seed=1),))
    dataset = open_dataset(data, "train", 0, False)
    items = [dataset[i] for i in range(2)]
    assert items[1].labels is not None
    without = type(items[0])(**{**vars(items[0]), "labels": None})
    batch = collate([without, items[1]])
    assert batch.labels is not None
    assert (batch.labels[0] == 0).all()
    assert torch.equal(batch.labels[1:], items[1].labels)
    assert collate([without, without]).labels is None
    moved = batch.to("cpu")
    assert moved.labels is not None
    assert torch.equal(moved.labels, batch.labels)
    assert without.to("cpu").labels is None
