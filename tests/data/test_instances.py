"""Instance masks of every layout, files that are none, and instances matched along the flow."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.turning_car import turning_car
from trianflow.data.instances import InstanceFolder, match_instances, read_instances
from trianflow.errors import TrianflowError, UsageError

LABELS = np.array([[0, 7, 7, 0], [3, 7, 7, 0], [3, 3, 0, 0]])
CONSECUTIVE = [[0, 2, 2, 0], [1, 2, 2, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_of_8_and_16_bits(tmp_path: Path, dtype: type) -> None:
    stored = LABELS * (9000 if dtype == np.uint16 else 1)
    cv2.imwrite(str(tmp_path / "a.png"), stored.astype(dtype))
    found = read_instances(tmp_path / "a.png")
    assert found.dtype == np.int32
    assert found.tolist() == CONSECUTIVE


def test_a_palette_gives_its_numbers_and_not_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(LABELS.astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, *range(90, 90 + 3 * 20)])
    image.save(tmp_path / "a.png")
    assert read_instances(tmp_path / "a.png").tolist() == CONSECUTIVE


def test_arrays_of_labels_and_of_masks(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", LABELS.astype(np.int64))
    np.save(tmp_path / "masks.npy", np.stack([LABELS == 3, LABELS == 7]))
    np.save(tmp_path / "none.npy", np.zeros((0, 3, 4), bool))
    assert read_instances(tmp_path / "labels.npy").tolist() == CONSECUTIVE
    assert read_instances(str(tmp_path / "masks.npy")).tolist() == CONSECUTIVE
    assert read_instances(tmp_path / "none.npy").size == 0


def test_a_folder_of_masks_has_the_smallest_in_front(tmp_path: Path) -> None:
    folder = tmp_path / "000010"
    folder.mkdir()
    large, small = np.zeros((2, 6, 8), np.uint8)
    large[1:5, 1:7], small[2:4, 3:5] = 255, 1
    cv2.imwrite(str(folder / "mask_2.png"), small)
    cv2.imwrite(str(folder / "mask_10.png"), large)
    (folder / "scores.txt").write_text("0.9 0.8")
    expected = np.where(small > 0, 1, np.where(large > 0, 2, 0))
    np.testing.assert_array_equal(read_instances(folder), expected)
    (tmp_path / "empty").mkdir()
    assert read_instances(tmp_path / "empty").shape == (0, 0)


def test_layouts_of_datasets(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "c.png"), np.array([[7, 26, 26000, 26001], [24000, 0, 11, 999]], np.uint16))
    assert read_instances(tmp_path / "c.png", "cityscapes").tolist() == [[0, 0, 2, 3], [1, 0, 0, 0]]
    cv2.imwrite(str(tmp_path / "k.png"), np.array([[7 * 256, 26 * 256 + 1], [26 * 256 + 2, 0]], np.uint16))
    assert read_instances(tmp_path / "k.png", "kitti").tolist() == [[0, 1], [2, 0]]


def test_files_that_are_no_instances(tmp_path: Path) -> None:
    def wrong(name: str, words: str) -> None:
        with pytest.raises(TrianflowError, match=words) as caught:
            read_instances(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)

    cv2.imwrite(str(tmp_path / "colour.png"), np.zeros((4, 4, 3), np.uint8))
    wrong("colour.png", "3 channels of uint8; instances are one of 8 or 16 bits")
    data = (tmp_path / "colour.png").read_bytes()
    (tmp_path / "short.png").write_bytes(data[:-20])
    wrong("short.png", "truncated")
    wrong("missing.png", "No such file")
    np.save(tmp_path / "float.npy", np.zeros((4, 4)))
    wrong("float.npy", "float64 \\(4, 4\\); labels")
    (tmp_path / "text.npy").write_text("no array")
    wrong("text.npy", "not an array")
    np.savez(tmp_path / "several", a=LABELS)
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    wrong("several.npy", "several arrays")
    (tmp_path / "masks").mkdir()
    for side in (4, 5):
        cv2.imwrite(str(tmp_path / "masks" / f"{side}.png"), np.ones((side, 4), np.uint8))
    wrong("masks", "5.png: a mask of 4x5, others 4x4")


def test_frames_are_found_by_name(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "000001.png"), LABELS.astype(np.uint8))
    (tmp_path / "000002").mkdir()
    cv2.imwrite(str(tmp_path / "000002" / "0.png"), (LABELS == 7).astype(np.uint8))
    (tmp_path / "._000003.png").write_bytes(b"")
    (tmp_path / "readme.txt").write_text("")
    folder = InstanceFolder(tmp_path)
    assert len(folder) == 2
    assert folder.read("000001.jpg").tolist() == CONSECUTIVE
    np.testing.assert_array_equal(folder.read("000002.png"), LABELS == 7)
    with pytest.raises(TrianflowError, match=r"no instances of the frame 000003\.png among 2 \(000001\.png, \.\.\.\)"):
        folder.read("000003.png")


def test_frames_of_cityscapes(tmp_path: Path) -> None:
    for kind in ("instanceIds", "labelIds", "color"):
        number = 26001 if kind == "instanceIds" else 26
        cv2.imwrite(str(tmp_path / f"aachen_000000_000019_gtFine_{kind}.png"), np.full((2, 2), number, np.uint16))
    folder = InstanceFolder(tmp_path, "cityscapes")
    assert folder.read("aachen_000000_000019_leftImg8bit.png").tolist() == [[1, 1], [1, 1]]


def test_folders_without_instances(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder of instance masks"):
        InstanceFolder(tmp_path / "nowhere")
    (tmp_path / "scores.txt").write_text("")
    with pytest.raises(TrianflowError, match=r"no instance masks; a \.png, a \.npy or a folder"):
        InstanceFolder(tmp_path)
    with pytest.raises(TrianflowError, match=r"instanceIds\.png is expected"):
        InstanceFolder(tmp_path, "cityscapes")


def test_matches_by_overlap() -> None:
    a, b = np.zeros((2, 10, 20), np.int64)
    a[1:5, 1:5], a[6:9, 2:12], a[1:3, 15:17] = 4, 9, 2
    b[1:5, 2:6], b[6:9, 3:13], b[8:10, 17:19] = 1, 6, 3
    b[0, 0] = -1
    found = match_instances(a, b)
    assert found.count == 2
    np.testing.assert_allclose(found.overlap, [27 / 33, 12 / 20])
    assert (found.labels_a[a == 9] == 1).all(), "the largest first"
    assert (found.labels_b[b == 6] == 1).all()
    assert (found.labels_a[a == 4] == 2).all()
    assert (found.labels_b[b == 1] == 2).all()
    assert (found.labels_a[a == 2] == -1).all()
    assert (found.labels_b[(b == 3) | (b == -1)] == -1).all()
    assert ((found.labels_a == 0) == (a == 0)).all()
    one = match_instances(a, b, most=1)
    assert one.count == 1
    assert (one.labels_a[a == 4] == -1).all()
    strict = match_instances(a, b, least=0.7)
    assert strict.count == 1


def test_the_best_pairing_of_all_and_not_of_each() -> None:
    a, b = np.zeros((2, 1, 12), np.int64)
    a[0, :4], a[0, 4:8] = 1, 2
    b[0, 2:6], b[0, 6:10] = 1, 2  # 1 overlaps both by a third, 2 only the second
    found = match_instances(a, b)
    assert found.count == 2
    assert found.labels_b[0].tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0]


def test_matches_along_the_flow() -> None:
    a, b = np.zeros((2, 12, 30), np.int64)
    a[2:6, 2:6], a[2:6, 12:16] = 1, 2
    b[3:7, 12:16], b[3:7, 22:26] = 5, 6  # ten to the right and one down: one hides where two was
    flow = np.tile(np.array([10.2, 0.8], np.float32), (12, 30, 1))
    flow[5, 5] = np.nan
    found = match_instances(a, b, flow)
    assert (found.labels_a[a == 1] == 1).all()
    assert (found.labels_b[b == 5] == 1).all()
    assert (found.labels_b[b == 6] == 2).all()
    np.testing.assert_allclose(found.overlap, [15 / 16, 1.0])
    assert match_instances(a, b).labels_b[4, 13] == 1, "where nothing moves, two is what was one"
    away = match_instances(a, b, flow + 100)
    assert away.count == 0
    assert (away.labels_a[a > 0] == -1).all()


def test_true_instances_match_along_true_flow() -> None:
    pair = turning_car(2, 6.0, -0.4).pair
    a, b = pair.instance_a[0].numpy(), pair.instance_b[0].numpy() * 40
    found = match_instances(a, b, pair.flow_ab[0].permute(1, 2, 0).numpy(), least=0.8)
    assert found.count == 1
    np.testing.assert_array_equal(found.labels_a, a)
    np.testing.assert_array_equal(found.labels_b, b // 40)


def test_nothing_to_match() -> None:
    nothing = np.zeros((4, 5), np.int64)
    found = match_instances(nothing, nothing)
    assert found.count == 0
    assert found.labels_a.shape == (4, 5)
    with pytest.raises(ValueError, match="do not match"):
        match_instances(nothing, nothing[:3])
